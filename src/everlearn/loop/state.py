"""The loop's state for one model: all that the fold remembers, small and plain enough to store."""

from __future__ import annotations

from bisect import bisect_left
from typing import Any

import msgspec

from everlearn.errors import IntegrityError
from everlearn.loop.bake import Bake, Storm
from everlearn.loop.baselines import Baselines
from everlearn.loop.budget import BudgetState
from everlearn.loop.cost import CostState
from everlearn.loop.drift import DriftState
from everlearn.loop.estimates import LabelFree
from everlearn.loop.history import History
from everlearn.loop.maturity import Watermark
from everlearn.loop.regimes import Regimes
from everlearn.loop.scores import Scored, Totals
from everlearn.loop.shadow import Shadow, ShadowRow
from everlearn.loop.sources import Feedback
from everlearn.loop.transfer import Matrix
from everlearn.loop.trial import Trial
from everlearn.loop.watch import FeatureWatch
from everlearn.spec import ModelSpec, parse_spec
from everlearn.types import Output

FORMAT = 2


class Known(msgspec.Struct):
    """What the fold must know of a version that has answered or may answer again.

    ``stood`` is whether it was ever the champion: a candidate may answer a share of the predictions before.
    ``sources`` are the slots of those who gave what it learned from, ``made`` is where its job ended.
    """

    number: int
    learned_through: int = 0
    learned_upto: int = 0
    stood: bool = False
    sources: list[int] = []
    made: int = 0


class Activity(msgspec.Struct):
    """The training job that runs for a model: at most one.

    ``counted`` is whether the rows that its candidate is compared on when it is made count as evidence:
    not if the champion's losses on them are what led to the job, for then they are chosen to be bad.
    """

    job: str
    version: int
    mode: str
    champion: int
    matured: int = 0
    counted: bool = True


class Candidate(msgspec.Struct):
    """A version on trial. ``result`` is what its job reported, but for the single answers.

    ``opened`` is how many labels were known when its trial began, and ``after`` how many rows had matured
    when it was asked for: rows until then are in the evidence that its job brought. ``scale`` is the unit
    of errors (regression); ``by_brier`` says that probabilities are compared and not answers.
    """

    trial: Trial
    mode: str
    opened: int
    after: int = 0
    result: dict[str, Any] = {}
    scale: float = 0.0
    by_brier: bool = False


class Begun(msgspec.Struct):
    """A trial of an archived version, on rows that matured after the first ``after`` (the last: ``row``)."""

    trial: Trial
    after: int
    row: int


class Archived(msgspec.Struct):
    """Archived versions that are scored beside the champion, with the trials of them that go on.

    ``starts`` and ``warned`` count how often trials were begun, by the way and at a warning. ``newest`` and
    ``until`` count matured rows: when trials were begun last, and until when versions are tried that no
    regime remembers.
    """

    begun: list[Begun] = []
    starts: int = 0
    warned: int = 0
    newest: int = 0
    until: int = 0


class Recent(msgspec.Struct, array_like=True, gc=False):
    """A matured row of the current regime's newest stretch."""

    row: int
    seq: int
    id: str
    truth: bool | int | float | str
    source: str | None = None


class LoopState(msgspec.Struct):
    """Everything the fold remembers of one model. See :mod:`everlearn.loop.engine`.

    ``erased`` are ranges (first, below) of versions that may have learned rows which were erased since.
    """

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
    attempts: int = 0
    candidate: Candidate | None = None
    archived: Archived | None = None
    archived_tried: bool = False
    bake: Bake | None = None
    bake_scale: float = 0.0
    storm: Storm = msgspec.field(default_factory=Storm)
    shadow: Shadow | None = None
    waiting_rows: list[ShadowRow] = []
    prove: bool = False
    quiet_until: int = 0
    withdrawn: list[int] = []
    abstaining: bool = False
    regimes: Regimes = msgspec.field(default_factory=Regimes)
    matrix: Matrix = msgspec.field(default_factory=Matrix)
    recent: list[Recent] = []
    looks: int = 0
    asking: str = ""
    watch: FeatureWatch | None = None
    estimates: LabelFree | None = None
    unlabelled: bool = False
    warned: bool = False
    recalibrate_tried: bool = False
    updated_at: float = 0.0
    cost: CostState = msgspec.field(default_factory=CostState)
    budget: BudgetState = msgspec.field(default_factory=BudgetState)
    ece: tuple[float, float] | None = None
    ece_at: int = 0
    certain: list[tuple[float, bool]] = []
    alerts: dict[str, int] = {}
    at_update: int = 0
    at_check: int = 0
    loaded_at_update: int = 0
    matured: int = 0
    window: list[Scored] = []
    totals: Totals = msgspec.field(default_factory=Totals)
    baselines: Baselines = msgspec.field(default_factory=Baselines)
    watermark: Watermark = msgspec.field(default_factory=Watermark)
    drift: DriftState = msgspec.field(default_factory=DriftState)
    feedback: Feedback = msgspec.field(default_factory=Feedback)
    erased: list[tuple[int, int]] = []
    history: History = msgspec.field(default_factory=History)

    def version(self, number: int) -> Known | None:
        """What is known of a version; ``None`` for one that never existed or was refused."""
        known = self.known  # in the order of their numbers
        place = bisect_left(known, number, key=_number_of)
        return known[place] if place < len(known) and known[place].number == number else None

    def stood(self, number: int) -> bool:
        """Whether a version is the champion or was: what others answer says nothing of the model's state."""
        if number in (0, self.champion) or number in self.previous:
            return True
        known = self.version(number)
        return known is not None and known.stood

    def tainted(self, number: int) -> bool:
        """Whether a version may have learned what is un-learned or erased: it must not come back."""
        if self.has_erased(number):
            return True
        if not self.feedback.unlearned:
            return False
        known = self.version(number)
        return known is not None and self.feedback.learned(known.sources, known.made)

    def has_erased(self, number: int) -> bool:
        """Whether a version may have learned rows that are erased: its artifact goes."""
        return any(first <= number < below for first, below in self.erased)

    @property
    def compares(self) -> bool:
        """Whether rows are kept as they mature, for other versions to answer them too."""
        return any(one is not None for one in (self.candidate, self.bake, self.archived, self.activity))


def _number_of(known: Known) -> int:
    return known.number


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
