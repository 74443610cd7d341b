"""What versions know of regimes: the matrix R[version, regime], and the measures that it gives.

``R`` is a float64 array (versions, regimes) of accuracies on the anchors of each regime, which no
version has learned from, NaN where nothing was measured. The published measures number tasks by the
order in which they are learned, one model a task. Here several versions may learn in one regime, so
``home`` (versions,) names for each version, in order, the column of the regime that it learned last
(-1: no longer remembered), and the measures read "after task i" as *after the last version of the
regime's first stay*.

A measure is NaN when nothing that it needs was measured.

>>> R = np.array([[0.9, 0.5], [0.6, 0.8]])
>>> home = np.array([0, 1])
>>> average_accuracy(R), round(backward_transfer(R, home), 3), round(forgetting(R, home), 3)
(0.7, -0.3, 0.3)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from everlearn.types import FloatArray

Home = NDArray[np.int64]

MOST_VERSIONS = 50
"""How many of the newest versions a :class:`Matrix` keeps."""


def stays(home: Home, regimes: int) -> list[tuple[int, int] | None]:
    """For each regime the first and last version (indices) of its first stay; ``None``: never learned.

    >>> stays(np.array([0, 0, 1, 0]), 3)
    [(0, 1), (2, 2), None]
    """
    found: list[tuple[int, int] | None] = []
    for regime in range(regimes):
        own = np.flatnonzero(home == regime)
        if not len(own):
            found.append(None)
            continue
        gaps = np.flatnonzero(np.diff(own) > 1)
        found.append((int(own[0]), int(own[gaps[0]] if len(gaps) else own[-1])))
    return found


def _earlier(R: FloatArray, home: Home) -> list[tuple[int, int]]:
    """Regimes learned, but for the one that the newest version learned last: (column, end of first stay)."""
    if not len(R):
        return []
    spans = enumerate(stays(home, R.shape[1]))
    return [(j, span[1]) for j, span in spans if span is not None and j != home[-1]]


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")


def average_accuracy(R: FloatArray) -> float:
    """ACC: the mean accuracy of the newest version over the regimes (Lopez-Paz & Ranzato 2017, section 2)."""
    return _mean(list(R[-1])) if len(R) else float("nan")


def backward_transfer(R: FloatArray, home: Home) -> float:
    """BWT: newest accuracy less that right after the regime was learned (Lopez-Paz & Ranzato 2017).

    The mean over the earlier regimes (all but the one that the newest version learned last); negative:
    forgotten.
    """
    return _mean([float(R[-1, j] - R[end, j]) for j, end in _earlier(R, home)])


def forward_transfer(R: FloatArray, home: Home, baseline: FloatArray) -> float:
    """FWT: accuracy before a regime was learned, less ``baseline`` (regimes,) (Lopez-Paz & Ranzato 2017).

    The mean over all regimes but the first learned. They take a randomly initialised model for the
    baseline; everlearn takes the best constant answer (see :func:`constant_accuracy`), which is
    stricter.

    >>> R, home = np.array([[0.9, 0.5], [0.6, 0.8]]), np.array([0, 1])
    >>> round(forward_transfer(R, home, np.array([0.5, 0.4])), 3)
    0.1
    """
    spans = stays(home, R.shape[1])
    later = [(j, span[0] - 1) for j, span in enumerate(spans) if span and span[0] > 0]
    return _mean([float(R[before, j] - baseline[j]) for j, before in later])


def forgetting(R: FloatArray, home: Home) -> float:
    """F: best accuracy that any earlier version had less the newest (Chaudhry et al. 2018, section 3).

    The mean over the earlier regimes. As published it may be negative (backward transfer was positive),
    and the maximum leaves the newest version out.
    """
    return _mean([_most(R[:-1, j]) - float(R[-1, j]) for j, _ in _earlier(R, home)])


def intransigence(R: FloatArray, home: Home, reference: FloatArray) -> float:
    """I: what a reference reaches less what the regime's own versions did (Chaudhry et al. 2018).

    ``reference`` (regimes,) is the accuracy of a model that learned the regime freely (theirs: jointly
    with all data so far). The mean over the regimes learned.
    """
    spans = stays(home, R.shape[1])
    return _mean([float(reference[j] - R[span[1], j]) for j, span in enumerate(spans) if span])


def _most(values: FloatArray) -> float:
    return float("nan") if np.isnan(values).all() else float(np.nanmax(values))


def min_accuracy(R: FloatArray, home: Home) -> float:
    """min-ACC: lowest accuracy on each earlier regime since it was learned, averaged.

    De Lange, van de Ven & Tuytelaars 2023 (section 3), who evaluate after every iteration; here after
    every version, so a dip between two versions (the stability gap) does not show.
    """
    return _mean([-_most(-R[end + 1 :, j]) for j, end in _earlier(R, home)])


def worst_case_accuracy(R: FloatArray, home: Home) -> float:
    """WC-ACC: ``acc_k / k + (1 - 1/k) min-ACC`` over k learned regimes (De Lange et al. 2023, section 3).

    ``acc_k`` is the newest version's accuracy on the regime that it learned last.

    >>> round(worst_case_accuracy(np.array([[0.9, 0.5], [0.6, 0.8]]), np.array([0, 1])), 3)
    0.7
    """
    if not len(R):
        return float("nan")
    newest, low = float(R[-1, home[-1]]), min_accuracy(R, home)
    learned = len(set(home.tolist()) - {-1})
    return newest if learned == 1 else newest / learned + (1 - 1 / learned) * low


def recovery_time(losses: FloatArray, level: float, tolerance: float, window: int) -> int | None:
    """Rows after a change until the mean loss of the next ``window`` rows is back at ``level``.

    ``losses`` (n,) are those of what was served from the change on; back means at most ``level +
    tolerance``. ``None``: not within these rows.

    >>> recovery_time(np.array([1.0] * 30 + [0.0] * 20), level=0.0, tolerance=0.1, window=10)
    29
    """
    if len(losses) < window:
        return None
    sums = np.concatenate([[0.0], np.cumsum(losses)])
    means = (sums[window:] - sums[:-window]) / window
    back = np.flatnonzero(means <= level + tolerance + 1e-12)
    return int(back[0]) if len(back) else None


def constant_accuracy(truths: Sequence[Any]) -> float:
    """What the best constant answer would have scored: the share of the most frequent truth.

    >>> constant_accuracy(["a", "b", "a", "a"])
    0.75
    """
    if not truths:
        return float("nan")
    return max(truths.count(truth) for truth in set(truths)) / len(truths)


def measures(R: FloatArray, home: Home, baseline: FloatArray) -> dict[str, float | None]:
    """All measures of a matrix by name, ``None`` for what cannot be said."""
    found = {
        "average_accuracy": average_accuracy(R),
        "forgetting": forgetting(R, home),
        "backward_transfer": backward_transfer(R, home),
        "forward_transfer": forward_transfer(R, home, baseline),
        "min_accuracy": min_accuracy(R, home),
        "worst_case_accuracy": worst_case_accuracy(R, home),
        "intransigence": intransigence(R, home, _best_of_each(R)),
    }
    return {name: None if np.isnan(value) else value for name, value in found.items()}


def _best_of_each(R: FloatArray) -> FloatArray:
    """The best that any version reached in each regime: the reference that a log of versions has."""
    return np.array([_most(R[:, j]) for j in range(R.shape[1])], dtype=np.float64)


class Measured(msgspec.Struct):
    """A version's row of the matrix: the regime it learned last, and its accuracy by regime number."""

    version: int
    regime: int
    accuracy: dict[str, float] = {}


class Matrix(msgspec.Struct):
    """R as the loop's state keeps it: the newest versions by the remembered regimes.

    Versions stand in the order in which they were first measured, which is that of their training.
    ``baseline`` is by regime number what the best constant answer scores on the anchors.

    >>> matrix = Matrix()
    >>> matrix.put(1, 1, {"1": 0.9, "2": 0.5})
    >>> matrix.put(2, 2, {"1": 0.6, "2": 0.8})
    >>> matrix.to_dict()["measures"]["forgetting"]
    0.3
    """

    rows: list[Measured] = []
    baseline: dict[str, float] = {}

    def put(self, version: int, regime: int, accuracy: Mapping[str, float]) -> None:
        """Put down what a version of a regime scores; later figures replace those for the same anchors."""
        row = next((row for row in self.rows if row.version == version), None)
        if row is None:
            row = Measured(version, regime, {})
            self.rows = [*self.rows, row][-MOST_VERSIONS:]
        row.accuracy = {**row.accuracy, **accuracy}

    def keep(self, regimes: Sequence[int]) -> None:
        """Forget the regimes that are not among these."""
        names = {str(number) for number in regimes}
        self.baseline = {name: value for name, value in self.baseline.items() if name in names}
        for row in self.rows:
            row.accuracy = {name: value for name, value in row.accuracy.items() if name in names}
        self.rows = [row for row in self.rows if row.accuracy]

    def merge(self, gone: int, into: int) -> None:
        """A regime turned out to be another that came back: its column is dropped, its versions move."""
        for row in self.rows:
            row.accuracy.pop(str(gone), None)
            row.regime = into if row.regime == gone else row.regime
        self.baseline.pop(str(gone), None)

    def best(self, regime: int) -> int | None:
        """The version with the highest accuracy on a regime's anchors; the newest of equals."""
        name = str(regime)
        known = [row for row in self.rows if name in row.accuracy]
        return max(reversed(known), key=lambda row: row.accuracy[name]).version if known else None

    def arrays(self) -> tuple[list[int], FloatArray, Home]:
        """The regimes' numbers (columns), R (versions, regimes) and home (versions,; -1: not kept)."""
        numbers = sorted({int(name) for row in self.rows for name in row.accuracy})
        R = np.array(
            [[row.accuracy.get(str(n), np.nan) for n in numbers] for row in self.rows], dtype=np.float64
        ).reshape(len(self.rows), len(numbers))
        home = [numbers.index(row.regime) if row.regime in numbers else -1 for row in self.rows]
        return numbers, R, np.array(home, dtype=np.int64)

    def to_dict(self) -> dict[str, Any]:
        """The matrix and its measures as JSON values, rounded to 6 digits; ``None`` for not measured."""
        numbers, R, home = self.arrays()
        baseline = np.array([self.baseline.get(str(n), np.nan) for n in numbers], dtype=np.float64)
        found = measures(R, home, baseline) if len(R) and home[-1] >= 0 else {}
        return {
            "regimes": numbers,
            "versions": [row.version for row in self.rows],
            "learned_in": [row.regime for row in self.rows],
            "R": [[None if np.isnan(v) else round(float(v), 6) for v in row] for row in R],
            "baseline": [None if np.isnan(v) else round(float(v), 6) for v in baseline],
            "baseline_is": "the best constant answer on the anchors",
            "reference_is": "the best version in each regime (of intransigence)",
            "measures": {name: None if v is None else round(v, 6) for name, v in found.items()},
        }


def accuracies(evidence: Mapping[str, Mapping[str, Any]], side: str) -> dict[str, float]:
    """A row of the matrix from what a job reports of the anchors: ``side`` is champion or candidate.

    ``evidence`` maps a regime's number or name to its mean 0/1 losses and how many anchors they are of.

    >>> accuracies({"regime 3": {"rows": 40, "champion": 0.25, "candidate": 0.5}}, "candidate")
    {'3': 0.5}
    """
    return {
        name.removeprefix("regime "): 1.0 - float(entry[side])
        for name, entry in evidence.items()
        if entry["rows"]
    }
