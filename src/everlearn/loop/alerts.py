"""Which decisions a person should hear of at once, which say that it is over, and their one line of text.

Pure: drivers log the line, count it, or deliver it elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from everlearn.types import Decision, DecisionKind

KINDS = ("rollback", "freeze", "abstain", "drift", "feedback")
"""The kinds of alert that the loop raises."""

SEVERITIES = ("critical", "warning")
"""How bad an alert is: whether somebody must come at once, or may look in the morning."""


@dataclass(frozen=True, slots=True)
class Alert:
    """Something to tell a person. ``kind`` is one of :data:`KINDS`; ``text`` is one line."""

    kind: str
    decision: Decision
    text: str

    def line(self, model: str) -> str:
        """The line of a log: ``alert: shop: rollback (decision 12): ...``."""
        return f"alert: {model}: {self.text}"


def automatic(decision: Decision) -> bool:
    """Whether the loop decided by itself, not on an operator's command."""
    if decision.evidence.get("automatic") is True:
        return True
    return "by" not in decision.evidence and "by command" not in decision.reason


def alert_kind(decision: Decision) -> str | None:
    """What kind of alert a decision is; ``None`` for one that can wait until somebody looks.

    Automatic rollbacks and freezes, the beginning of abstention, warnings of drift, and sources of labels
    that are warned of or put aside are alerts.
    """
    if decision.kind is DecisionKind.WARN:
        return "feedback" if "source" in decision.evidence else "drift"
    if decision.kind is DecisionKind.QUARANTINE and automatic(decision):
        return "feedback"
    if decision.kind is DecisionKind.ABSTAIN:
        return "abstain" if decision.evidence.get("abstaining", True) else None
    if decision.kind in (DecisionKind.ROLLBACK, DecisionKind.FREEZE) and automatic(decision):
        return decision.kind.value
    return None


def alert_of(decision: Decision) -> Alert | None:
    """The alert that a decision is, or ``None``.

    >>> alert_of(Decision(7, 90, 0.0, DecisionKind.WARN, "drift: the loss rose")).text
    'drift (decision 7): drift: the loss rose'
    """
    kind = alert_kind(decision)
    if kind is None:
        return None
    reason = " ".join(decision.reason.split())
    return Alert(kind, decision, f"{kind} (decision {decision.number}): {reason}")


def alerts_of(decisions: Iterable[Decision]) -> Iterator[Alert]:
    """The alerts among some decisions, in their order."""
    for decision in decisions:
        alert = alert_of(decision)
        if alert is not None:
            yield alert


def severity_of(kind: str) -> str:
    """One of :data:`SEVERITIES`."""
    return "warning" if kind in ("drift", "feedback") else "critical"


def ended_by(decision: Decision) -> tuple[str, ...]:
    """The kinds of alert that a decision says are over.

    >>> ended_by(Decision(8, 95, 0.0, DecisionKind.PROMOTE, "better"))
    ('drift', 'rollback')
    """
    if decision.kind is DecisionKind.PROMOTE:
        return ("drift", "rollback")
    if decision.kind is DecisionKind.UNFREEZE:
        return ("freeze",)
    if decision.kind is DecisionKind.RELEASE:
        return ("feedback",)
    if decision.kind is DecisionKind.ABSTAIN and not decision.evidence.get("abstaining", True):
        return ("abstain",)
    return ()
