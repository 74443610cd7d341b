"""Where each model stands, for Prometheus: read from the store when scraped, the same from every process."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.registry import Collector

from everlearn.api.known import Known, Models
from everlearn.api.parts import Parts
from everlearn.api.queue_gauges import jobs, messages
from everlearn.api.waits import Waits
from everlearn.errors import EverlearnError
from everlearn.ports import Outbox
from everlearn.types import DecisionKind

MAX_MODELS = 200
"""How many models the gauges tell of: labels must stay bounded."""

STATES: Final = (
    "degraded",
    "rolled back",
    "warning",
    "frozen",
    "updating",
    "in bake",
    "insufficient labels",
    "healthy",
)
"""The states of :data:`everlearn.loop.card.STATES`, whose module is too much to import for a scrape alone."""

_GAUGES: Final = {
    "champion_version": "The version that answers",
    "champion_age_seconds": "How long it has answered",
    "log_seq": "The newest position of the log",
    "loop_lag_events": "Events that the loop has not read yet",
    "score": "The model's metric over the newest window",
    "score_lower": "The lower confidence bound of the champion's metric",
    "score_upper": "The upper confidence bound of the champion's metric",
    "threshold": "The performance that the model must keep",
    "margin": "By which share of the threshold the score keeps it; below 0 it does not",
    "margin_upper": "The same by the better one of its confidence bounds",
    "waiting_labels": "Labels whose cohort has not matured yet",
    "parked_labels": "Labels whose prediction has not come",
    "watched_columns": "Features and answers that are watched for drift",
    "drifting_columns": "Those of them that have moved",
    "candidate_version": "The version on trial; none while there is none",
    "candidate_log_e_value": "The log e-value of the version on trial: its evidence so far",
    "candidate_evidence_ratio": "The log e-value of the version on trial over that which promotes it",
    "rollback_evidence_ratio": "The log e-value of the version before over that which brings it back",
    "frozen": "1 while the model is frozen",
    "abstaining": "1 while the model abstains",
}
_COUNTERS: Final = {
    "log_predictions": "Predictions in the log",
    "log_labels": "Predictions in the log that have a label",
    "matured_rows": "Rows whose labels have matured",
    "drift_warnings": "Warnings of drift",
    "updates": "Updates that the loop asked for",
    "promotions": "Versions that became the champion, those that came back included",
    "rollbacks": "Rollbacks",
}


class StoreGauges(Collector):
    """Where each model stands; a store that is down leaves it out. ``outbox``: what waits to be told, too."""

    def __init__(self, parts: Parts, outbox: Outbox | None = None) -> None:
        self._parts, self._models = parts, Models(parts)
        self._waits = None if outbox is None else Waits()

    def describe(self) -> Iterable[Metric]:
        """Nothing is known before a scrape."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Read the gauges."""
        yield from self._of_models()
        yield from jobs(self._parts)
        yield from messages(self._parts, self._waits)

    def _of_models(self) -> Iterator[Metric]:
        families = _families()
        states = GaugeMetricFamily("everlearn_state", "1 for the state of a model", labels=["model", "state"])
        lags = SummaryMetricFamily("everlearn_label_lag_seconds", "How late labels come", labels=["model"])
        alerts = _by_kind("alerts", "Alerts that the loop raised")
        decisions = _by_kind("decisions", "What the loop decided")
        count = GaugeMetricFamily("everlearn_models", f"Models; the first {MAX_MODELS} have gauges")
        try:
            known = self._models.read(MAX_MODELS)
            count.add_metric([], float(self._models.count))
        except (EverlearnError, OSError):
            known = []
        for model in known:
            name = model.tally.name
            for figure, value in _values(model, self._parts.clock.now()).items():
                families[figure].add_metric([name], value)
            for state in STATES:
                states.add_metric([name, state], float(state == model.figures.state))
            _add_lags(lags, name, model)
            for family, counts in ((alerts, model.figures.alerts), (decisions, model.decisions)):
                for kind, number in counts.items():
                    family.add_metric([name, kind], float(number))
        yield from (count, *families.values(), states, lags, alerts, decisions)


def _families() -> dict[str, Any]:
    families: dict[str, Any] = {
        name: GaugeMetricFamily(f"everlearn_{name}", text, labels=["model"]) for name, text in _GAUGES.items()
    }
    for name, text in _COUNTERS.items():
        families[name] = CounterMetricFamily(f"everlearn_{name}", text, labels=["model"])
    return families


def _by_kind(name: str, text: str) -> CounterMetricFamily:
    about = f"{text}, from the model's ledger"
    return CounterMetricFamily(f"everlearn_{name}", about, labels=["model", "kind"])


def _values(model: Known, now: float) -> Mapping[str, float]:
    tally, head = model.tally, model.tally.head
    return {
        "champion_version": float(tally.champion),
        "champion_age_seconds": max(0.0, now - tally.since),
        "log_seq": float(head.seq),
        "loop_lag_events": float(max(0, head.seq - tally.cursor)),
        "log_predictions": float(head.rows),
        "log_labels": float(head.labels),
        "parked_labels": float(head.parked),
        "promotions": float(tally.term),
        "updates": float(model.decisions.get(DecisionKind.UPDATE, 0)),
        "rollbacks": float(model.decisions.get(DecisionKind.ROLLBACK, 0)),
        **model.figures.values,
    }


def _add_lags(family: SummaryMetricFamily, name: str, model: Known) -> None:
    """The quantiles of a summary; the lags of single labels are nowhere, so it has no sum."""
    found = model.figures
    for share, seconds in found.lags.items():
        family.add_sample("everlearn_label_lag_seconds", {"model": name, "quantile": f"{share:g}"}, seconds)
    family.add_sample("everlearn_label_lag_seconds_count", {"model": name}, float(found.labels))
