"""A model on a card: where it stands in a few numbers and one word, written with every step.

A page of all models reads the cards and nothing else: no state is decoded, whatever it holds.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

import msgspec

from everlearn.loop import policy
from everlearn.loop.bounds import Interval
from everlearn.loop.history import bake_evidence, candidate_evidence
from everlearn.loop.scored import Scored
from everlearn.loop.state import LoopState
from everlearn.loop.window import metric_interval
from everlearn.spec import ModelSpec

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
"""The states of a model, worst first: :func:`state_of` says which one it is in."""

TROUBLE, ATTENTION = ("degraded", "rolled back"), ("warning", "frozen")
"""The states that somebody should look at now, and when there is time."""


class Standing(Protocol):
    """The part of the engine that a card is made from."""

    @property
    def state(self) -> LoopState: ...  # noqa: D102
    @property
    def spec(self) -> ModelSpec: ...  # noqa: D102
    @property
    def threshold(self) -> float: ...  # noqa: D102
    def champion_interval(self) -> Interval | None: ...  # noqa: D102


class Card(msgspec.Struct, frozen=True):
    """What the loop says of a model. ``margin``: by how much it keeps its threshold, as a share of it.

    ``score`` with its bounds is the champion's metric on its newest matured rows, or while there are none
    that of the newest rows, whoever answered. ``trend`` holds the scores of the newest windows, of which
    there are ``windows``. ``origin`` is the version whose answers are the never-updated baseline.
    """

    task: str
    metric: str
    lower_is_better: bool
    threshold: float
    score: float | None
    lower: float | None
    upper: float | None
    score_rows: int
    margin: float | None
    trend: list[float | None]
    rows: int
    matured: int
    waiting_labels: int
    state: str
    reason: str
    flags: list[str]
    candidate: dict[str, Any] | None
    bake: dict[str, Any] | None
    windows: int = 0
    origin: int = 0

    @property
    def rank(self) -> tuple[int, float]:
        """Its place among others, the worst first: by state, then by how well it keeps its threshold.

        A frozen model under its threshold stands with the degraded ones: nothing will mend it.
        """
        place = STATES.index("degraded" if self.state == "frozen" and self._under else self.state)
        return place, float("inf") if self.margin is None else self.margin

    @property
    def severity(self) -> str:
        """``trouble``: look now; ``attention``: look when there is time; ``ok``."""
        if self.state in TROUBLE or (self.state == "frozen" and self._under):
            return "trouble"
        return "attention" if self.state in ATTENTION or (self._under and self.state == "updating") else "ok"

    @property
    def _under(self) -> bool:
        return self.margin is not None and self.margin < 0


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Card)


def card_of(engine: Standing) -> bytes:
    """The card of a model at the state of its engine, as JSON; nothing before its spec is known."""
    return _encoder.encode(make_card(engine)) if engine.state.spec else b""


def read_card(card: bytes) -> Card:
    """A card from its JSON."""
    return _decoder.decode(card)


def make_card(engine: Standing) -> Card:
    """The card of a model at the state of its engine."""
    state, spec = engine.state, engine.spec
    own = engine.champion_interval() if state.champion else None
    interval = own or _served(state, spec)
    judged = policy.stand(spec, engine.threshold, own, state.acting).state
    score = None if interval is None else interval.value
    bounds = (None, None) if interval is None else (_finite(interval.lower), _finite(interval.upper))
    word = state_of(state, spec, engine.threshold, own, judged)
    return Card(
        task=spec.task,
        metric=str(spec.metric),
        lower_is_better=spec.lower_is_better,
        threshold=engine.threshold,
        score=score,
        lower=bounds[0],
        upper=bounds[1],
        score_rows=0 if interval is None else interval.rows,
        margin=None if score is None else margin_of(score, engine.threshold, spec.lower_is_better),
        trend=state.history.trend,
        rows=state.rows,
        matured=state.matured,
        waiting_labels=state.learnable - state.loaded - state.matured,
        state=word,
        reason=_reason(word, state, spec, engine.threshold, own, interval),
        flags=_flags(state),
        candidate=candidate_evidence(state),
        bake=bake_evidence(state, spec),
        windows=state.history.closed,
        origin=state.history.origin,
    )


def state_of(
    state: LoopState, spec: ModelSpec, threshold: float, interval: Interval | None, judged: str
) -> str:
    """The model's state in one word: of several that hold, what an operator should know first.

    ``judged`` is how its champion stands, whose metric is ``interval``.
    """
    if state.frozen:
        return "frozen"
    if state.activity is not None:
        return "updating"
    if judged == "degraded":
        return "degraded"
    if came_back(state, judged):
        return "rolled back"
    if _flags(state) or _under(state, spec, threshold, interval):
        return "warning"
    return "in bake" if state.bake is not None else judged


def came_back(state: LoopState, judged: str) -> bool:
    """Whether an earlier version came back, and cannot be judged yet or is cooling down."""
    return state.history.back and (judged == "insufficient labels" or state.learnable < state.quiet_until)


def _under(state: LoopState, spec: ModelSpec, threshold: float, interval: Interval | None) -> bool:
    """Whether the score is under the threshold, on enough rows, without a proof that it is."""
    if interval is None or not state.champion or interval.rows < spec.policy.min_labels:
        return False
    return margin_of(interval.value, threshold, spec.lower_is_better) < 0


def margin_of(score: float, threshold: float, lower_is_better: bool) -> float:
    """By how much a score keeps a threshold, as a share of it; below 0 it does not."""
    gained = threshold - score if lower_is_better else score - threshold
    return gained / abs(threshold) if threshold else gained


def _served(state: LoopState, spec: ModelSpec) -> Interval | None:
    """The metric of the newest matured rows, whoever answered them; only asked before the first version."""
    rows: list[Scored] = state.window[-spec.policy.window :]
    return metric_interval(rows, spec.metric or "", spec.task, spec.policy.confidence) if rows else None


def _flags(state: LoopState) -> list[str]:
    """What is wrong beside the score."""
    blind = state.estimates is not None and state.estimates.record.blind is not None
    said = {
        "drift": state.warned,
        "features moved": state.unlabelled,
        "estimates blind": blind,
        "abstaining": state.abstaining,
    }
    return [name for name, holds in said.items() if holds]


_WARNINGS: Final = {
    "drift": "the champion's loss has risen since the last update",
    "features moved": "features or answers have moved since the last update",
    "estimates blind": "what was expected without labels did not come true: the concept has changed",
    "abstaining": "answers are flagged or withheld: the score does not reach the floor",
}


def _reason(
    word: str,
    state: LoopState,
    spec: ModelSpec,
    threshold: float,
    own: Interval | None,
    interval: Interval | None,
) -> str:
    """Why it is in that state, in one line; ``own`` is the champion's metric, ``interval`` what is shown."""
    if word == "frozen":
        return "no updates until it is unfrozen; it goes on answering"
    if word == "updating" and state.activity is not None:
        return f"version {state.activity.version} is being trained ({state.activity.mode})"
    if word == "rolled back":
        return f"version {state.champion} came back and has not been judged again yet"
    if word == "in bake" and state.bake is not None:
        seen = f"{state.bake.rows:,} of {state.bake.length:,} rows"
        return f"version {state.bake.new} is watched beside version {state.bake.old}: {seen}"
    if word == "insufficient labels":
        return _waits(state, spec, own)
    flags = _flags(state)
    if word == "warning" and flags:
        return "; ".join(_WARNINGS[flag] for flag in flags)
    return _keeps(word, spec, threshold, interval)


def _waits(state: LoopState, spec: ModelSpec, own: Interval | None) -> str:
    if state.champion == 0:
        return f"{state.learnable:,} of {spec.policy.first_rows:,} labels that a first version needs"
    rows = 0 if own is None else own.rows
    return f"{rows:,} of {spec.policy.min_labels:,} matured labels that version {state.champion} is judged by"


def _keeps(word: str, spec: ModelSpec, threshold: float, interval: Interval | None) -> str:
    if interval is None:
        return f"no {spec.metric} yet to hold against the threshold {threshold:g}"
    kept = "is not proven to keep" if word == "degraded" else "keeps"
    side = kept if margin_of(interval.value, threshold, spec.lower_is_better) >= 0 else "does not keep"
    found = f"{interval.value:.4f} [{interval.lower:.4f}, {interval.upper:.4f}]"
    return f"{spec.metric} {found} {side} the threshold {threshold:g}"


def _finite(value: float) -> float | None:
    return value if abs(value) != float("inf") else None
