"""Scores of rows whose truth is known: windowed, fading and over all, beside honest baselines.

``scored`` puts one row beside its truth, ``measures`` has the metrics over rows, ``window`` a metric with
its bounds over the newest rows, ``totals`` the sums over all of them, ``reliability`` the calibration.
"""

from everlearn.loop.measures import auc, macro_f1, metrics
from everlearn.loop.reliability import Reliability, brier, ece, ece_noise, reliability
from everlearn.loop.scored import (
    PROBABILITY_FLOOR,
    Scored,
    answerable,
    cost,
    error,
    log_loss,
    loss,
    right,
    score_row,
)
from everlearn.loop.totals import FADING_FACTOR, TERMS, Totals, summed_metrics, terms_of
from everlearn.loop.window import Window, metric_interval

__all__ = [
    "FADING_FACTOR",
    "PROBABILITY_FLOOR",
    "TERMS",
    "Reliability",
    "Scored",
    "Totals",
    "Window",
    "answerable",
    "auc",
    "brier",
    "cost",
    "ece",
    "ece_noise",
    "error",
    "log_loss",
    "loss",
    "macro_f1",
    "metric_interval",
    "metrics",
    "reliability",
    "right",
    "score_row",
    "summed_metrics",
    "terms_of",
]
