"""One function a policy: does it ask for an update? ``None`` where it has nothing to say.

An answer that does not ask says what it waits for; the ladder holds with that reason.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from everlearn.loop.forecast import forecast
from everlearn.loop.policies.situation import Answer, Situation, Standing
from everlearn.spec import PolicySpec, parse_duration

MAX_BACKOFF = 4
"""A cooldown grows by half with every candidate refused in a row, at most this often."""


def ask(policy: PolicySpec, now: Situation, standing: Standing) -> Answer | None:
    """What a policy says of a situation."""
    return _POLICIES[policy.name](policy, now, standing)


def wait_after(policy: PolicySpec, refusals: int) -> int:
    """Labels to wait after an update, longer after candidates that were refused."""
    return round(policy.cooldown * (1 + min(refusals, MAX_BACKOFF) / 2))


def part_of(policy: PolicySpec, part: PolicySpec) -> PolicySpec:
    """A part of ``any_of`` with what it leaves at its default taken from the whole."""
    defaults = PolicySpec()
    own = {
        name: getattr(part, name)
        for name in PolicySpec.model_fields
        if getattr(part, name) != getattr(defaults, name)
    }
    return policy.model_copy(update={**own, "name": part.name, "any_of": ()})


def _never(_policy: PolicySpec, _now: Situation, _standing: Standing) -> Answer | None:
    return None


def _threshold(policy: PolicySpec, now: Situation, standing: Standing) -> Answer | None:
    if not standing.acting or standing.key != "below":
        return None
    return _rested(policy, now, "threshold", standing.reason, standing.evidence)


def _always(_policy: PolicySpec, now: Situation, _standing: Standing) -> Answer | None:
    if not now.since_update:
        return None
    return Answer(True, "always", f"{now.since_update} new labels, and every check updates", {})


def _every(policy: PolicySpec, now: Situation, _standing: Standing) -> Answer | None:
    if isinstance(policy.every, int):
        if now.since_update < policy.every:
            return None
        reason = f"{now.since_update} labels since the last update, every {policy.every}"
        return Answer(True, "every", reason, {})
    passed = now.now - now.updated_at
    if passed < parse_duration(policy.every) or not now.since_update:
        return None
    reason = f"{passed:.0f} s since the last update, every {policy.every}"
    return Answer(True, "every", reason, {"seconds": passed})


def _on_drift(policy: PolicySpec, now: Situation, _standing: Standing) -> Answer | None:
    if not now.warned:
        return None
    rows = now.since_update if now.drift_rows is None else now.drift_rows
    evidence = {"rows_since_change": rows, "needed": policy.min_labels}
    if rows < policy.min_labels:
        reason = f"drift was warned of; fewer than {policy.min_labels} labels have matured since it began"
        return Answer(False, "drift-labels", reason, evidence)
    reason = f"drift was warned of, and labels of {rows} rows since it began are known"
    return _rested(policy, now, "drift", reason, evidence)


def _cost_aware(policy: PolicySpec, now: Situation, _standing: Standing) -> Answer | None:
    if now.cost is None or now.since_update < policy.min_labels:
        return None
    seconds = now.budget.expected if now.budget else 0.0
    price = policy.price + policy.price_per_second * seconds
    said = forecast(now.cost, now.row, now.learnable, price, now.capacity)
    if not said.worth:
        return None
    evidence = {
        "excess_per_row": said.excess,
        "average_per_row": said.average,
        "accumulated": said.accumulated,
        "cost": said.cost,
        "lost": said.lost,
        "cost_rows": said.rows,
    }
    reason = (
        f"in {said.rows} rows since the last update, staying has cost {said.accumulated:.1f} rows answered "
        f"wrongly, and costs {1000 * said.excess:.1f} in every 1,000"
    )
    if not said.pays:
        reason = (
            f"what another update would bring is not known, and {said.lost:.0f} rows were answered wrongly"
        )
    return _rested(policy, now, "cost", f"{reason}; an update costs {said.cost:.1f}", evidence)


def _any_of(policy: PolicySpec, now: Situation, standing: Standing) -> Answer | None:
    answers = [ask(part_of(policy, part), now, standing) for part in policy.any_of]
    given = [answer for answer in answers if answer is not None]
    return next((answer for answer in given if answer.asks), given[0] if given else None)


def unlabelled(policy: PolicySpec, now: Situation) -> Answer | None:
    """Evidence without labels asks only where the spec lets it, and where there is something to learn."""
    if not now.unlabelled or policy.on_unlabelled != "update" or now.since_update < policy.min_labels:
        return None
    reason = f"the features have shifted, and {now.since_update} labels have come since the last update"
    return _rested(policy, now, "unlabelled", reason, {})


def _rested(policy: PolicySpec, now: Situation, key: str, reason: str, evidence: dict[str, Any]) -> Answer:
    """Ask, unless the last update is too recent."""
    wait = wait_after(policy, now.refusals)
    if now.since_update >= wait:
        return Answer(True, key, reason, evidence)
    reason += f"; cooling down for {wait} labels after the last update"
    return Answer(False, "cooldown", reason, evidence)


_POLICIES: dict[str, Callable[[PolicySpec, Situation, Standing], Answer | None]] = {
    "threshold": _threshold,
    "never": _never,
    "every": _every,
    "always": _always,
    "on_drift": _on_drift,
    "cost_aware": _cost_aware,
    "any_of": _any_of,
}
