"""Which rung to climb: the cheapest action that the evidence asks for, within the budget."""

from __future__ import annotations

from dataclasses import replace

from everlearn.loop.budget import room
from everlearn.loop.policies.situation import Action, Advice, Answer, Situation, Standing
from everlearn.spec import PolicySpec

LEAST_ECE = 0.01
"""A calibration error must be over its noise by this before it is worth correcting."""


def climb(policy: PolicySpec, streaming: bool, now: Situation, standing: Standing, answer: Answer) -> Advice:
    """The action for a policy that asks."""
    if streaming:
        return advice_for("incremental", standing, answer)
    suspect = now.warned or answer.key == "threshold"
    if policy.reuse and now.archived and suspect and not now.reuse_tried:
        reason = f"{answer.reason}; first the {now.archived} archived versions are scored on the newest rows"
        return advice_for("reuse", standing, replace(answer, reason=reason))
    return advice_for("fresh", standing, answer)


def miscalibrated(policy: PolicySpec, now: Situation, standing: Standing) -> Answer | None:
    """Whether the answers are as good as ever but their probabilities are off beyond noise."""
    if not policy.recalibrate or now.recalibrate_tried or standing.state != "healthy":
        return None
    if now.ece is None or now.ece_noise is None or now.ece <= now.ece_noise + LEAST_ECE:
        return None
    reason = f"calibration error {now.ece:.3f}, where noise alone would stay under {now.ece_noise:.3f}"
    return Answer(True, "calibration", reason, {"ece": now.ece, "ece_noise": now.ece_noise})


def within_budget(policy: PolicySpec, now: Situation, advice: Advice) -> Advice:
    """The advice, held with the reason where the budget has no room for it.

    Reuse makes nothing, but may end in an update right after: it needs no room of its own.
    """
    if advice.action in ("hold", "reuse") or now.budget is None:
        return advice
    left = room(policy, now.budget, now.now)
    if left.reason is None:
        return replace(advice, seconds_left=left.seconds_left)
    evidence = {**advice.evidence, "updates_left": left.updates_left, "seconds_left": left.seconds_left}
    reason = f"{left.reason}; held back: {advice.reason}"
    return replace(advice, action="hold", key="budget", reason=reason, evidence=evidence)


def advice_for(action: Action, standing: Standing, answer: Answer) -> Advice:
    """Advice with what was said and how the champion stands."""
    evidence = {**standing.evidence, **answer.evidence}
    return Advice(action, standing.state, answer.key, answer.reason, evidence, standing.acting)
