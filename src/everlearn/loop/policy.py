"""When to update: pure functions from what is known to what should be done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from everlearn.loop.bounds import Interval
from everlearn.spec import ModelSpec

MAX_BACKOFF = 4
"""A cooldown grows by half with every candidate refused in a row, at most this often."""


@dataclass(frozen=True, slots=True)
class Situation:
    """What a policy may look at. Counts are of labels; ``metric`` is of the champion's matured rows.

    ``at_update`` is how many labels were known at the last update, ``since_update`` how many have come
    since, and ``new_history`` how many of these were loaded in bulk.
    """

    champion: int
    learnable: int
    since_update: int
    at_update: int
    new_history: int
    refusals: int
    acting: bool
    metric: Interval | None


@dataclass(frozen=True, slots=True)
class Advice:
    """What to do. ``key`` names the reason, so that a repeated *hold* is not written twice.

    ``acting`` is whether the policy goes on trying until the metric has recovered (hysteresis).
    """

    action: Literal["hold", "fresh", "incremental"]
    state: Literal["insufficient labels", "healthy", "degraded"]
    key: str
    reason: str
    evidence: dict[str, Any]
    acting: bool


def cooldown(spec: ModelSpec, refusals: int) -> int:
    """Labels to wait after an update, longer after candidates that were refused."""
    return round(spec.policy.cooldown * (1 + min(refusals, MAX_BACKOFF) / 2))


def advise(spec: ModelSpec, threshold: float, streaming: bool, now: Situation) -> Advice:
    """What the model's policy says in a situation."""
    if now.champion == 0:
        return _first(spec, now)
    if streaming and spec.policy.name != "never" and now.since_update >= spec.publish_every:
        reason = f"{now.since_update} new labels to learn"
        return Advice("incremental", "healthy", "publish", reason, {}, now.acting)
    if spec.policy.name != "never" and now.new_history >= max(spec.policy.first_rows, now.at_update):
        reason = f"{now.new_history} examples of history were loaded, more than were known before"
        return Advice("fresh", "healthy", "history", reason, {}, now.acting)
    if spec.policy.name == "every" and not streaming and now.since_update >= spec.policy.every:
        reason = f"{now.since_update} labels since the last update, every {spec.policy.every}"
        return Advice("fresh", "healthy", "every", reason, {}, now.acting)
    return _against_threshold(spec, threshold, streaming, now)


def _first(spec: ModelSpec, now: Situation) -> Advice:
    needed = spec.policy.first_rows
    evidence = {"examples": now.learnable, "needed": needed}
    if now.learnable < needed:
        reason = f"insufficient labels: fewer than {needed} examples for a first version"
        return Advice("hold", "insufficient labels", "first", reason, evidence, False)
    wait = cooldown(spec, now.refusals) if now.refusals else 0
    if now.since_update < wait:
        reason = "the first candidate was refused: waiting for more examples"
        return Advice("hold", "insufficient labels", "first-cooldown", reason, evidence, False)
    reason = f"first version: {now.learnable} examples are known"
    return Advice("fresh", "insufficient labels", "first-version", reason, evidence, False)


def _against_threshold(spec: ModelSpec, threshold: float, streaming: bool, now: Situation) -> Advice:
    metric = now.metric
    if metric is None or metric.rows < spec.policy.min_labels:
        rows = metric.rows if metric else 0
        reason = f"insufficient labels: fewer than {spec.policy.min_labels} matured for this champion"
        return Advice("hold", "insufficient labels", "insufficient", reason, {"matured": rows}, now.acting)
    evidence = {
        "metric": spec.metric,
        "value": metric.value,
        "lower": metric.lower,
        "upper": metric.upper,
        "rows": metric.rows,
        "threshold": threshold,
        "confidence": spec.policy.confidence,
    }
    failing, recovered = _sides(spec, threshold, metric)
    acting = failing or (now.acting and not recovered)
    words = f"{spec.metric} {metric.value:.4f} [{metric.lower:.4f}, {metric.upper:.4f}]"
    if not acting:
        reason = f"{words} keeps the threshold {threshold:g}"
        return Advice("hold", "healthy", "healthy", reason, evidence, False)
    reason = f"{words} does not keep the threshold {threshold:g} on {metric.rows} matured rows"
    if streaming or spec.policy.name != "threshold":
        return Advice("hold", "degraded", "below", reason, evidence, True)
    wait = cooldown(spec, now.refusals)
    if now.since_update < wait:
        reason += f"; cooling down for {wait} labels after the last update"
        return Advice("hold", "degraded", "cooldown", reason, evidence, True)
    return Advice("fresh", "degraded", "threshold", reason, evidence, True)


def _sides(spec: ModelSpec, threshold: float, metric: Interval) -> tuple[bool, bool]:
    """Whether the metric fails the threshold, and whether it is safely back (hysteresis)."""
    sign = -1.0 if spec.lower_is_better else 1.0
    bounds = sorted((sign * metric.lower, sign * metric.upper))
    bound = bounds[0] if spec.policy.act_on == "doubt" else bounds[1]
    recovered = bounds[0] >= sign * threshold + spec.policy.hysteresis
    return bound < sign * threshold, recovered
