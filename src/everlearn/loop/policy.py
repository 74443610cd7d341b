"""When to update: pure functions from what is known to what should be done.

The ladder, cheapest rung first: hold, recalibrate, incremental update, reuse of an archived version, a
fresh version; rollback and abstention watch for themselves. ``spec.policy`` says who may ask
(:mod:`everlearn.loop.policies.asking`), this module in which order they are heard.
"""

from __future__ import annotations

from everlearn.loop.bounds import Interval
from everlearn.loop.policies.asking import MAX_BACKOFF, ask, unlabelled, wait_after
from everlearn.loop.policies.ladder import advice_for, climb, miscalibrated, within_budget
from everlearn.loop.policies.situation import Advice, Answer, Situation, Standing
from everlearn.spec import ModelSpec

__all__ = ["MAX_BACKOFF", "Advice", "Situation", "advise", "cooldown", "stand"]


def cooldown(spec: ModelSpec, refusals: int) -> int:
    """Labels to wait after an update, longer after candidates that were refused."""
    return wait_after(spec.policy, refusals)


def advise(spec: ModelSpec, threshold: float, streaming: bool, now: Situation) -> Advice:
    """What the model's policy says in a situation, within its budget."""
    advice = _first(spec, now) if now.champion == 0 else _next(spec, threshold, streaming, now)
    return within_budget(spec.policy, now, advice)


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


def _next(spec: ModelSpec, threshold: float, streaming: bool, now: Situation) -> Advice:
    policy = spec.policy
    routine = None if policy.name == "never" else _routine(spec, streaming, now)
    if routine is not None:
        return routine
    standing = stand(spec, threshold, now.metric, now.acting)
    answer = None
    if not streaming and policy.name != "never":
        answer = ask(policy, now, standing) or unlabelled(policy, now)
    if answer is not None and answer.asks:
        return climb(policy, streaming, now, standing, answer)
    off = None if policy.name == "never" else miscalibrated(policy, now, standing)
    if off is not None:
        return advice_for("recalibrate", standing, off)
    return advice_for("hold", standing, answer or Answer(False, standing.key, standing.reason, {}))


def _routine(spec: ModelSpec, streaming: bool, now: Situation) -> Advice | None:
    """What is due whatever the evidence: the publication of a stream learner, and history in bulk."""
    if streaming and now.since_update >= spec.publish_every:
        reason = f"{now.since_update} new labels to learn"
        return Advice("incremental", "healthy", "publish", reason, {}, now.acting)
    if now.new_history >= max(spec.policy.first_rows, now.at_update):
        reason = f"{now.new_history} examples of history were loaded, more than were known before"
        return Advice("fresh", "healthy", "history", reason, {}, now.acting)
    return None


def stand(spec: ModelSpec, threshold: float, metric: Interval | None, acting: bool) -> Standing:
    """How the champion stands against the threshold; ``acting``: what is done about it goes on."""
    if metric is None or metric.rows < spec.policy.min_labels:
        rows = metric.rows if metric else 0
        reason = f"insufficient labels: fewer than {spec.policy.min_labels} matured for this champion"
        return Standing("insufficient labels", "insufficient", reason, {"matured": rows}, acting)
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
    words = f"{spec.metric} {metric.value:.4f} [{metric.lower:.4f}, {metric.upper:.4f}]"
    if not (failing or (acting and not recovered)):
        return Standing("healthy", "healthy", f"{words} keeps the threshold {threshold:g}", evidence, False)
    reason = f"{words} does not keep the threshold {threshold:g} on {metric.rows} matured rows"
    return Standing("degraded", "below", reason, evidence, True)


def _sides(spec: ModelSpec, threshold: float, metric: Interval) -> tuple[bool, bool]:
    """Whether the metric fails the threshold, and whether it is safely back (hysteresis)."""
    sign = -1.0 if spec.lower_is_better else 1.0
    bounds = sorted((sign * metric.lower, sign * metric.upper))
    bound = bounds[0] if spec.policy.act_on == "doubt" else bounds[1]
    recovered = bounds[0] >= sign * threshold + spec.policy.hysteresis
    return bound < sign * threshold, recovered
