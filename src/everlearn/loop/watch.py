"""The watch over features and predictions: has what the champion is asked, or answers, moved?

The rows after a champion took over become its reference, a window at a time; then every window is
compared with it. It needs no labels, so it can only say that something moved, not that it matters.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from typing import Literal

import msgspec
import numpy as np

from everlearn.loop.cells import Cells, cells_of
from everlearn.loop.serial import autocorrelation_time
from everlearn.loop.shift import adjusted_p_values, chi2_test, homogeneity, ks_test, psi, psi_test
from everlearn.loop.sketches import Sketch, category_sketch, merge, numeric_sketch
from everlearn.spec import ModelSpec
from everlearn.types import Output, Row, Scalar
from everlearn.vision.boxes import parse, sureness

PREDICTION, CONFIDENCE = "(prediction)", "(confidence)"
BOXES, SURENESS = "(boxes)", "(sureness)"
"""Names of what is watched beside the features: the value answered, and its probability. Of a detection: how
many boxes were answered, and their mean score."""

REFERENCE_WINDOWS = 4
"""How many windows make the reference."""

MOST_COLUMNS = 100
"""Columns watched at most: the first by name. It bounds the state."""

UNWATCHED = frozenset({"timestamp", "image"})
"""Kinds that always move: what is measured of an image is watched instead."""

OVERDISPERSED = 0.01
"""Below this p-value the windows of the reference differ by more than independent rows would."""


class Finding(msgspec.Struct, frozen=True):
    """A column that moved: ``p_value`` is adjusted for all columns looked at (Benjamini-Hochberg).

    ``test`` is the one that saw it and ``statistic`` its value; ``psi`` is the size of the shift, and
    ``missing`` the share of missing cells before and now. ``windows`` counts the windows in a row in
    which it was found: 1 is news. ``spread`` is the design effect that was allowed for.
    """

    column: str
    test: Literal["ks", "psi", "chi2"]
    statistic: float
    p_value: float
    psi: float
    missing: tuple[float, float]
    rows: int
    reference_rows: int
    windows: int
    spread: float


class Column(msgspec.Struct):
    """One column: its cells, the rows of the current window in each, and how dependent its rows are."""

    cells: Cells
    window: list[int]
    spread: float = 1.0
    found: int = 0


class Building(msgspec.Struct):
    """A column whose reference is being built: the cells of one window, and the sketch of those before.

    ``surplus`` and ``degrees`` add up the chi² of each window against those before it.
    """

    kind: Literal["numeric", "category"]
    values: list[Scalar] = []
    sketch: Sketch | None = None
    times: list[float] = []
    surplus: float = 0.0
    degrees: int = 0


class FeatureWatch(msgspec.Struct):
    """The state of the watch; :meth:`take` every prediction, then :meth:`look` for what moved.

    ``alpha`` is the probability of any finding in a window while nothing moves: ``false_alarms`` per
    10,000 rows, in windows of ``rows``. A timestamp always moves, so none is watched. ``latest`` is what the
    newest complete window said of every column, moved (``windows`` above 0) or not.
    """

    rows: int
    alpha: float
    building: dict[str, Building]
    columns: dict[str, Column] = {}
    taken: int = 0
    windows: int = 0
    findings: int = 0
    latest: list[Finding] = []

    @classmethod
    def start(cls, spec: ModelSpec) -> FeatureWatch:
        """A watch that has seen nothing yet."""
        alpha = min(0.5, spec.drift.false_alarms * spec.drift.rows / 10_000)
        return cls(spec.drift.rows, alpha, _buildings(spec))

    def restart(self, spec: ModelSpec) -> None:
        """Begin a new reference: another champion answers now."""
        self.building, self.columns = _buildings(spec), {}
        self.taken = self.windows = 0
        self.latest = []

    @property
    def full(self) -> bool:
        """Whether the window is complete, so that :meth:`look` has something to say."""
        return self.taken >= self.rows

    def take(self, row: Row, output: Output) -> None:
        """Take in a prediction; :meth:`look` must be called once the window is full."""
        self.taken += 1
        if self.building:
            for name, building in self.building.items():
                building.values.append(_cell(name, row, output))
            return
        get = row.get
        for name, column in self.columns.items():  # the only work on the way of every row
            value = get(name) if name[0] != "(" else _cell(name, row, output)
            cells = column.cells
            if value is not None and cells.ordered:
                column.window[1 + bisect_left(cells.cuts, value)] += 1
            else:
                column.window[cells.place(value)] += 1

    def look(self) -> list[Finding]:
        """What moved in the window that is now complete, the surest first; empties the window.

        Nothing while the window is not full or the reference is being built.
        """
        if not self.full:
            return []
        self.taken = 0
        self.windows += 1
        if self.building:
            self._refer()
            return []
        findings = self._tested()
        for column in self.columns.values():
            column.window = [0] * column.cells.size
        self.findings += len(findings)
        return findings

    def _refer(self) -> None:
        """Add the window to the reference; it is complete after so many windows."""
        for building in self.building.values():
            _absorb(building)
        if self.windows >= REFERENCE_WINDOWS:
            self.columns = {name: _column(building) for name, building in self.building.items()}
            self.building = {}

    def _tested(self) -> list[Finding]:
        tested = {name: _test(name, column) for name, column in self.columns.items()}
        adjusted = adjusted_p_values([finding.p_value for finding in tested.values()])
        self.latest = []
        for (name, finding), p_value in zip(tested.items(), adjusted, strict=True):
            column = self.columns[name]
            column.found = column.found + 1 if p_value <= self.alpha else 0
            changes = {"p_value": p_value, "windows": column.found}
            self.latest.append(msgspec.structs.replace(finding, **changes))
        findings = [finding for finding in self.latest if finding.windows]
        return sorted(findings, key=lambda finding: (finding.p_value, -finding.psi))


def _buildings(spec: ModelSpec) -> dict[str, Building]:
    kinds = {name: spec.features[name] for name in sorted(spec.features)}
    watched = [name for name, kind in kinds.items() if kind not in UNWATCHED][:MOST_COLUMNS]
    found = {name: Building("numeric" if kinds[name] == "numeric" else "category") for name in watched}
    if spec.task == "regression":
        return {**found, PREDICTION: Building("numeric")}
    if spec.task == "detection":
        return {**found, BOXES: Building("numeric"), SURENESS: Building("numeric")}
    return {**found, PREDICTION: Building("category"), CONFIDENCE: Building("numeric")}


def _cell(name: str, row: Row, output: Output) -> Scalar:
    """The value of a column that is watched: a feature, the prediction, or how sure it is."""
    if name == PREDICTION:
        return output.value
    if name == CONFIDENCE:
        return max(output.probabilities.values()) if output.probabilities else None
    if name == BOXES:
        return len(parse(output.value))
    if name == SURENESS:
        return sureness(output.value)
    return row.get(name)


def _absorb(building: Building) -> None:
    """Put the window's values into the sketch, and learn how much its rows depend on each other."""
    numeric = building.kind == "numeric"
    sketch: Sketch = numeric_sketch(building.values) if numeric else category_sketch(building.values)
    cells = cells_of(sketch if building.sketch is None else building.sketch)
    codes = [cells.place(value) for value in building.values]
    building.times.append(autocorrelation_time(codes, ordered=numeric))
    if building.sketch is not None:
        _compare(building, cells, codes)
        sketch = merge(building.sketch, sketch)
    building.sketch, building.values = sketch, []


def _compare(building: Building, cells: Cells, codes: Sequence[int]) -> None:
    """Add the chi² of this window against those before it, over cells that hold enough rows."""
    table = np.stack([cells.reference, np.bincount(codes, minlength=cells.size).astype(np.float64)])
    order = np.argsort(-table.sum(axis=0), kind="stable") if not cells.ordered else np.arange(cells.size)
    table = table[:, order]
    middle = np.cumsum(table.sum(axis=0)) - table.sum(axis=0) / 2.0
    groups = np.unique((middle / table.sum() * 10.0).astype(np.int64), return_index=True)[1]
    table = np.add.reduceat(table, groups, axis=1)
    table = table[:, table.sum(axis=0) > 0.0]
    if table.shape[1] > 1:
        building.surplus += homogeneity(table)
        building.degrees += table.shape[1] - 1


def _column(building: Building) -> Column:
    assert building.sketch is not None
    cells = cells_of(building.sketch)
    return Column(cells, [0] * cells.size, _rounded(_spread(building)))


def _rounded(spread: float) -> float:
    """Up to the next power of 1.1, so that columns share their nulls."""
    return 1.1 ** math.ceil(math.log(spread) / math.log(1.1) - 1e-9)


def _spread(building: Building) -> float:
    """The design effect: by autocorrelation within windows, or by how much windows differ if that is more."""
    within = sum(building.times) / len(building.times)
    if not building.degrees:
        return within
    from scipy.special import chdtrc

    differ = float(chdtrc(building.degrees, building.surplus)) < OVERDISPERSED
    return max(within, building.surplus / building.degrees) if differ else within


def _test(name: str, column: Column) -> Finding:
    """Test one column: chi² for categories; for numbers KS and PSI, the better of two counted twice."""
    cells = column.cells
    reference, window = cells.reference, [float(count) for count in column.window]
    test: Literal["ks", "psi", "chi2"] = "chi2"
    if cells.ordered:
        ks, stability = (run(reference, window, column.spread) for run in (ks_test, psi_test))
        test, shift = ("ks", ks) if ks.p_value <= stability.p_value else ("psi", stability)
        p_value, size = min(1.0, 2.0 * shift.p_value), stability.statistic
    else:
        shift = chi2_test(reference, window, column.spread, cells.floor)
        p_value, size = shift.p_value, psi(reference, window)
    rows, held = sum(column.window), round(sum(reference))
    missing = (reference[0] / max(held, 1), window[0] / max(rows, 1))
    return Finding(name, test, shift.statistic, p_value, size, missing, rows, held, 0, column.spread)
