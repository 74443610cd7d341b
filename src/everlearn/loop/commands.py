"""What operators ask for. Every command ends in exactly one decision at its own position, refusals too."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from everlearn.errors import IntegrityError
from everlearn.loop import erasing, feedback, unlearning
from everlearn.loop.bounds import Interval
from everlearn.spec import ModelSpec, parse_spec
from everlearn.types import Command, DecisionKind

Asked = Mapping[str, Any]


class Commanded(feedback.Guarded, unlearning.Unlearner, erasing.Eraser, Protocol):
    """The part of the engine that commands steer."""

    @property
    def threshold(self) -> float: ...  # noqa: D102
    def champion_interval(self) -> Interval | None: ...  # noqa: D102
    def configure(self, spec: ModelSpec) -> list[str]: ...  # noqa: D102


def obey(engine: Commanded, event: Command) -> None:
    """Carry out a command, or refuse it with the reason. Raises IntegrityError for an unknown one."""
    if event.name not in _HANDLERS:
        raise IntegrityError(f"Command {event.name!r} at position {event.seq} is not known")
    asked = {key: value for key, value in event.arguments.items() if key != "spec"}
    _HANDLERS[event.name](engine, event, asked)


def _configure(engine: Commanded, event: Command, asked: Asked) -> None:
    new = not engine.state.spec
    changed = engine.configure(parse_spec(event.arguments["spec"]))
    reason = "created" if new else f"configured: {', '.join(changed) or 'nothing'} changed"
    engine.decide(DecisionKind.CONFIGURE, reason, {"changed": changed, **asked})


def _retrain(engine: Commanded, event: Command, asked: Asked) -> None:
    state = engine.state
    interval = engine.champion_interval() if state.champion else None
    if state.frozen:
        engine.decide(DecisionKind.REFUSE, "the model is frozen: unfreeze it first", asked)
    elif state.activity is not None:
        engine.decide(DecisionKind.REFUSE, f"{state.activity.job} is already at work", asked)
    elif state.learnable < 2:
        engine.decide(DecisionKind.REFUSE, "there are no examples to learn from yet", asked)
    elif event.arguments.get("force") or state.champion == 0:
        engine.update("fresh", "retrain by command", asked)
    elif interval is None:
        engine.decide(DecisionKind.HOLD, "skipped: no matured labels to judge the champion by", asked)
    elif _keeps(engine, interval):
        reason = (
            f"skipped: {engine.spec.metric} {interval.value:.4f} keeps the threshold {engine.threshold:g}"
        )
        engine.decide(DecisionKind.HOLD, reason, {**asked, "value": interval.value, "rows": interval.rows})
    else:
        reason = f"retrain by command: {engine.spec.metric} {interval.value:.4f}"
        words = f"{reason} is under the threshold {engine.threshold:g}"
        engine.update("fresh", words, asked, looked=True)


def _keeps(engine: Commanded, interval: Interval) -> bool:
    sign = -1.0 if engine.spec.lower_is_better else 1.0
    return sign * interval.value >= sign * engine.threshold


def _promote(engine: Commanded, event: Command, asked: Asked) -> None:
    state, version = engine.state, event.arguments["version"]
    if version == state.champion:
        engine.decide(DecisionKind.REFUSE, f"version {version} is the champion already", asked, version)
    elif state.version(version) is None:
        engine.decide(
            DecisionKind.REFUSE, f"version {version} is not known, or not trained yet", asked, version
        )
    elif state.has_erased(version):
        reason = f"version {version} learned rows that are erased: it cannot come back"
        engine.decide(DecisionKind.REFUSE, reason, asked, version)
    elif state.tainted(version):
        reason = f"version {version} learned from a source that is un-learned: release the source first"
        engine.decide(DecisionKind.REFUSE, reason, asked, version)
    else:
        engine.promote(DecisionKind.PROMOTE, version, "promoted by command", asked)


def _roll_back(engine: Commanded, event: Command, asked: Asked) -> None:  # noqa: ARG001
    state = engine.state
    if not state.previous:
        engine.decide(DecisionKind.REFUSE, "there is no earlier champion to go back to", asked)
        return
    version = state.previous.pop()
    reason = f"rolled back by command from version {state.champion}"
    engine.promote(DecisionKind.ROLLBACK, version, reason, asked)


def _freeze(engine: Commanded, event: Command, asked: Asked) -> None:
    state = engine.state
    state.frozen, state.held = event.name == "freeze", ""
    if not state.frozen:
        state.storm.streak = 0  # a person has looked into it
    kind = DecisionKind.FREEZE if state.frozen else DecisionKind.UNFREEZE
    engine.decide(kind, f"{event.name} by command", asked, state.champion)


_HANDLERS: Mapping[str, Callable[[Commanded, Command, Asked], None]] = {
    "configure": _configure,
    "retrain": _retrain,
    "promote": _promote,
    "rollback": _roll_back,
    "freeze": _freeze,
    "unfreeze": _freeze,
    "quarantine": feedback.quarantine,
    "release": feedback.release,
    "unlearn": unlearning.unlearn,
    erasing.COMMAND: erasing.erase,
}
