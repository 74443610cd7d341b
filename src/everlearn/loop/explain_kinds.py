"""Each kind of decision and how its story is told."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from everlearn.loop import explain_champion as champion
from everlearn.loop import explain_feedback as feedback
from everlearn.loop import explain_versions as versions
from everlearn.loop.explain_case import Case, Story, quoted
from everlearn.types import DecisionKind


def tell(case: Case) -> Story:
    """The story of a decision."""
    if case.decision.kind is DecisionKind.WARN and "source" in case.facts:
        return feedback.warn(case)
    return _STORIES.get(case.decision.kind, _plain)(case)


def _plain(case: Case) -> Story:
    return Story(f"Decision of kind {case.decision.kind}", [f"{quoted(case.decision)}."], "")


_STORIES: Mapping[DecisionKind, Callable[[Case], Story]] = {
    DecisionKind.CONFIGURE: champion.configure,
    DecisionKind.HOLD: champion.hold,
    DecisionKind.WARN: champion.warn,
    DecisionKind.UPDATE: champion.update,
    DecisionKind.TRIAL: versions.trial,
    DecisionKind.PROMOTE: versions.promote,
    DecisionKind.REFUSE: versions.refuse,
    DecisionKind.ROLLBACK: versions.rollback,
    DecisionKind.FREEZE: champion.freeze,
    DecisionKind.UNFREEZE: champion.unfreeze,
    DecisionKind.REGIME: champion.regime,
    DecisionKind.ABSTAIN: champion.abstain,
    DecisionKind.FAIL: versions.fail,
    DecisionKind.QUARANTINE: feedback.quarantine,
    DecisionKind.RELEASE: feedback.release,
    DecisionKind.UNLEARN: feedback.unlearn,
    DecisionKind.ERASE: feedback.erase,
}
