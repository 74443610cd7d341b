"""Is the candidate proven better? Paired evidence on the same rows, and the verdict on it.

Training gathers the evidence (:func:`compare`) outside the fold; the fold judges it (:func:`judge`)
from its numbers alone, so that a replay of the log repeats the verdict.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from everlearn.loop.scores import Scored, error, log_loss, metrics, right
from everlearn.spec import GateSpec, ModelSpec
from everlearn.types import Task

ROUNDING = 1e-12
"""A gain of this share of all losses is a matter of rounding, and none."""

EXACT_TRIALS = 1000


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a candidate passed, which bar it failed, and the numbers behind it."""

    passed: bool
    reason: str
    numbers: Mapping[str, Any]


def _losses(rows: Sequence[Scored], metric: str) -> list[float]:
    if metric == "log_loss":
        return [log_loss(s.p_truth) for s in rows]
    if metric == "mae":
        return [abs(error(s)) for s in rows]
    return [error(s) ** 2 for s in rows]


def _metrics(rows: Sequence[Scored], task: Task) -> dict[str, float | None]:
    """The metrics that need no baseline: there is none beside these rows."""
    return {name: value for name, value in metrics(rows, task).items() if not name.startswith("kappa")}


def compare(
    champion: Sequence[Scored], candidate: Sequence[Scored], metric: str, task: Task
) -> dict[str, Any]:
    """Evidence from the same rows answered by both: their metrics and the paired differences.

    For 0/1 metrics: ``wins`` (only the candidate is right) and ``losses`` (only the champion is). For
    the others: mean and standard deviation of champion loss − candidate loss, per row.
    """
    evidence: dict[str, Any] = {
        "rows": len(champion),
        "champion": _metrics(champion, task),
        "candidate": _metrics(candidate, task),
    }
    if task == "classification" and metric != "log_loss":
        pairs = [(right(old), right(new)) for old, new in zip(champion, candidate, strict=True)]
        wins, losses = pairs.count((False, True)), pairs.count((True, False))
        return {**evidence, "test": "mcnemar", "wins": wins, "losses": losses}
    old_losses, new_losses = _losses(champion, metric), _losses(candidate, metric)
    gains = [old - new for old, new in zip(old_losses, new_losses, strict=True)]
    mean = math.fsum(gains) / len(gains) if gains else 0.0
    if abs(mean) <= ROUNDING * math.fsum(old_losses):
        mean = 0.0
    variance = math.fsum((gain - mean) ** 2 for gain in gains) / max(1, len(gains) - 1)
    return {**evidence, "test": "paired_t", "mean_gain": mean, "sd_gain": math.sqrt(variance)}


def binomial_tail(successes: int, trials: int) -> float:
    """P(X ≥ successes) for X ~ Binomial(trials, 1/2): summed for few trials, else the beta function.

    >>> binomial_tail(8, 10)
    0.0546875
    """
    if successes == 0:
        return 1.0
    if trials <= EXACT_TRIALS:
        return math.fsum(math.comb(trials, k) / 2**trials for k in range(successes, trials + 1))
    from scipy.special import betainc

    return float(betainc(successes, trials - successes + 1, 0.5))


def p_better(evidence: Mapping[str, Any]) -> float:
    """One-sided p-value of "the candidate is no better than the champion".

    The exact McNemar test (McNemar 1947; the binomial on the discordant rows), or Student's paired t.
    """
    if evidence["test"] == "mcnemar":
        return binomial_tail(evidence["wins"], evidence["wins"] + evidence["losses"])
    return _t_tail(evidence["mean_gain"], evidence["sd_gain"], evidence["rows"])


def p_worse(evidence: Mapping[str, Any]) -> float:
    """One-sided p-value of "the candidate is no worse than the champion"."""
    if evidence["test"] == "mcnemar":
        return binomial_tail(evidence["losses"], evidence["wins"] + evidence["losses"])
    return _t_tail(-evidence["mean_gain"], evidence["sd_gain"], evidence["rows"])


def _t_tail(mean: float, deviation: float, rows: int) -> float:
    if rows < 2 or deviation == 0:
        return 0.0 if mean > 0 and rows >= 2 else 1.0
    from scipy.special import stdtr

    return float(stdtr(rows - 1, -mean / (deviation / math.sqrt(rows))))


def judge(evidence: Mapping[str, Any], gate: GateSpec, *, quick: bool) -> Verdict:
    """The verdict on a candidate. Doubt refuses.

    ``quick`` is the gate of a stream learner's next version, which is its parent plus a few labels:
    it passes unless it is proven worse. Any other candidate must be proven better at ``alpha``.
    """
    rows = evidence["rows"]
    numbers = {"rows": rows, "alpha": gate.alpha, "test": evidence["test"]}
    if not evidence.get("servable", True):
        return Verdict(False, "its stored artifact does not answer as it does", numbers)
    if quick:
        p = p_worse(evidence)
        passed = p >= gate.alpha
        word = "not proven worse" if passed else "proven worse"
        return Verdict(passed, f"{word} on {rows} rows (p = {p:.4g})", {**numbers, "p_worse": p})
    if rows < gate.min_rows:
        return Verdict(False, f"only {rows} unseen rows to compare on, {gate.min_rows} needed", numbers)
    p = p_better(evidence)
    passed = p <= gate.alpha
    word = "proven better" if passed else "not proven better"
    return Verdict(passed, f"{word} on {rows} unseen rows (p = {p:.4g})", {**numbers, "p_better": p})


def headline(evidence: Mapping[str, Any], spec: ModelSpec) -> str:
    """The metric of both sides in words: ``accuracy 0.71 → 0.78``."""
    name = "accuracy" if str(spec.metric).startswith("kappa") else spec.metric
    old, new = (evidence[side].get(name) for side in ("champion", "candidate"))
    words = ["none" if value is None else f"{value:.4g}" for value in (old, new)]
    return f"{name} {words[0]} → {words[1]}"
