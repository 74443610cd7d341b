"""The loop's state for one model: all that the fold remembers, small and plain enough to store."""

from __future__ import annotations

from bisect import bisect_left
from typing import Any

import msgspec

from everlearn.errors import IntegrityError
from everlearn.loop.drift import DriftState
from everlearn.loop.maturity import Watermark
from everlearn.loop.scores import Scored, Totals
from everlearn.predictor import class_key
from everlearn.spec import ModelSpec, parse_spec
from everlearn.types import Output, Scalar

FORMAT = 1

MAX_TURNS = 4000
"""How many changes of the newest label are kept for the no-change baseline."""


class Baselines(msgspec.Struct):
    """What is known of the labels so far, and what was known at earlier positions.

    ``turns`` and ``leads`` are the positions at which the newest label and the most frequent class
    (regression: the mean) changed, newest last: a baseline must not know labels that came later.
    """

    counts: list[tuple[bool | int | float | str, int]] = []
    rows: int = 0
    total: float = 0.0
    turns: list[tuple[int, bool | int | float | str]] = []
    leads: list[tuple[int, bool | int | float | str]] = []

    def learn(self, seq: int, value: Scalar, regression: bool) -> None:
        """Take in a label that arrived at a position."""
        assert value is not None
        self.rows += 1
        if regression:
            self.total += float(value)
            lead: Scalar = self.total / self.rows
        else:
            lead = self._count(value)
        _turn(self.turns, seq, value)
        _turn(self.leads, seq, lead)

    def _count(self, value: bool | int | float | str) -> Scalar:
        for index, (label, count) in enumerate(self.counts):
            if label == value:
                self.counts[index] = (label, count + 1)
                break
        else:
            self.counts.append((value, 1))
        return max(self.counts, key=lambda pair: pair[1])[0]

    def majority(self) -> Output:
        """The running majority class with the classes' shares, or the running mean."""
        if not self.leads:
            return Output(None)
        shares = {class_key(label): count / self.rows for label, count in self.counts}
        return Output(self.leads[-1][1], shares or None)

    def before(self, seq: int) -> tuple[Scalar, Scalar]:
        """What no-change and majority would have answered at a position; ``None`` for not known."""
        return _newest_before(self.turns, seq), _newest_before(self.leads, seq)


def _turn(turns: list[tuple[int, Any]], seq: int, value: Scalar) -> None:
    if not turns or turns[-1][1] != value:
        turns.append((seq, value))
        if len(turns) > 2 * MAX_TURNS:
            del turns[:-MAX_TURNS]


def _newest_before(turns: list[tuple[int, Any]], seq: int) -> Scalar:
    index = bisect_left(turns, (seq,))
    return turns[index - 1][1] if index else None


class Known(msgspec.Struct):
    """What the fold must know of a version that has answered or may answer again."""

    number: int
    learned_through: int = 0
    learned_upto: int = 0


class Activity(msgspec.Struct):
    """The job that runs for a model: at most one."""

    job: str
    version: int
    mode: str
    champion: int


class LoopState(msgspec.Struct):
    """Everything the fold remembers of one model. See :mod:`everlearn.loop.engine`."""

    format: int = FORMAT
    spec: dict[str, Any] = {}
    cursor: int = 0
    now: float = 0.0
    rows: int = 0
    learnable: int = 0
    loaded: int = 0
    corrected: int = 0
    parked: int = 0
    decisions: int = 0
    champion: int = 0
    term: int = 0
    champion_row: int = 0
    previous: list[int] = []
    known: list[Known] = msgspec.field(default_factory=lambda: [Known(0)])
    next_version: int = 1
    frozen: bool = False
    status: str = "insufficient labels"
    held: str = ""
    acting: bool = False
    refusals: int = 0
    activity: Activity | None = None
    at_update: int = 0
    at_check: int = 0
    loaded_at_update: int = 0
    matured: int = 0
    window: list[Scored] = []
    totals: Totals = msgspec.field(default_factory=Totals)
    baselines: Baselines = msgspec.field(default_factory=Baselines)
    watermark: Watermark = msgspec.field(default_factory=Watermark)
    drift: DriftState = msgspec.field(default_factory=DriftState)

    def version(self, number: int) -> Known | None:
        """What is known of a version; ``None`` for one that never existed or was refused."""
        return next((known for known in self.known if known.number == number), None)


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(LoopState)


def dump(state: LoopState) -> bytes:
    """The state as JSON; floats keep every bit."""
    return _encoder.encode(state)


def load(data: bytes) -> LoopState:
    """The state from JSON, a fresh one from nothing; raises IntegrityError."""
    if not data:
        return LoopState()
    try:
        state = _decoder.decode(data)
    except msgspec.DecodeError as error:
        raise IntegrityError(f"The stored state of the loop cannot be read: {error}") from error
    if state.format != FORMAT:
        raise IntegrityError(f"The loop's state has format {state.format}; this everlearn reads {FORMAT}")
    return state


def spec_of(state: LoopState) -> ModelSpec | None:
    """The spec in force, or ``None`` before the first ``configure`` command."""
    return parse_spec(state.spec) if state.spec else None


def majority_of(data: bytes) -> Output:
    """What version 0 answers, from a checkpoint's state."""
    return load(data).baselines.majority()
