"""The streams that learners are measured on: real ones, ones with planted changes, and made ones."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"

DELAYS = {"elec": 48, "insects": 250, "phishing": 500}
"""A day of half hours for elec; for the others, about as many rows as one lot of labels would take."""
SMALL_DELAY = 50
"""For the small streams, which have no delay of their own: late by 1 to 4% of their rows."""


@dataclass(frozen=True)
class Stream:
    """Rows in order with their labels, and when labels come."""

    name: str
    X: Any
    """float64 (n, d)."""
    y: Any
    """(n,): class numbers int64, or values float64."""
    delay: int
    """How late labels naturally come, in rows."""
    classes: int = 0
    """0: regression."""
    arriving: Mapping[int, int] = field(default_factory=dict)
    """Classes that arrive on the way, and the row from which each is there."""
    changes: tuple[int, ...] = ()
    """The rows at which the concept was made to change."""

    @property
    def task(self) -> str:
        """Classification or regression."""
        return "classification" if self.classes else "regression"

    @cached_property
    def digest(self) -> str:
        """Of the rows and labels."""
        return sha256(self.X.tobytes() + self.y.tobytes()).hexdigest()[:16]

    def first(self, rows: int | None) -> Stream:
        """The first rows of it; classes that are not among them are still counted."""
        if rows is None or rows >= len(self.y):
            return self
        arriving = {label: row for label, row in self.arriving.items() if row + 50 < rows}
        changes = tuple(row for row in self.changes if row < rows)
        delay = min(self.delay, rows // 10)
        return Stream(
            self.name, self.X[:rows].copy(), self.y[:rows].copy(), delay, self.classes, arriving, changes
        )

    def file(self, folder: Path) -> Path:
        """Where it stands as a file, which is written if it is not there."""
        path = folder / f"{self.name}-{self.digest}.npz"
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(suffix=".npz", dir=folder)
            with os.fdopen(handle, "wb") as out:
                np.savez(out, X=self.X, y=self.y)
            Path(temporary).replace(path)
        return path


def make(name: str, rows: Any, labels: Sequence[Any], delay: int, **more: Any) -> Stream:
    """A stream for classification; classes are numbered in the order of their sorted names."""
    names, numbers = np.unique(np.array(labels), return_inverse=True)
    X = np.ascontiguousarray(rows, dtype=np.float64)
    return Stream(name, X, numbers.astype(np.int64), delay, len(names), **more)


class Missing(Exception):
    """A stream cannot be had here; the message says why."""


def from_csv(name: str, data: Path = DATA) -> Stream:
    """A stream from the files beside the repository: the last column is the target."""
    import pandas as pd

    path = data / f"{name}.csv"
    if not path.is_file():
        raise Missing(f"{path.name} is not in {path.parent}")
    frame = pd.read_csv(path)
    labels = frame.iloc[:, -1].astype(str).to_numpy(dtype=str)
    # Class 4 of insects is nearly absent before row 9,000.
    more = {"arriving": {int(np.flatnonzero(np.unique(labels) == "4")[0]): 9000}} if name == "insects" else {}
    return make(name, frame.iloc[:, :-1].to_numpy(dtype=np.float64), labels, DELAYS[name], **more)


def from_river(name: str, kind: str) -> Stream:
    """A stream that River's wheel carries, its columns in their order."""
    from river import datasets

    pairs = list(getattr(datasets, kind)())
    rows = [[number(value) for value in row.values()] for row, _ in pairs]
    return make(name, rows, [label for _, label in pairs], SMALL_DELAY)


def number(value: Any) -> float:
    """A feature as a number: dates as their ordinal."""
    return float(value.toordinal()) if hasattr(value, "toordinal") else float(value)


def growing_digits(seed: int = 0) -> Stream:
    """Scikit-learn's digits, a class more every 8% of the time: digit c is among the rows from then on."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    start = 0.08 * digits.target
    moment = start + (1.0 - start) * np.random.default_rng(seed).random(len(start))
    order = np.argsort(moment, kind="stable")
    labels = digits.target[order]
    arriving = {c: int(np.flatnonzero(labels == c)[0]) for c in range(1, 10)}
    return make("digits", digits.data[order], labels, SMALL_DELAY, arriving=arriving)


# -- planted changes -------------------------------------------------------------------------------------


def concept(kind: str, version: int, seed: int) -> Iterator[tuple[dict[Any, Any], Any]]:
    """Rows of a made concept; versions of a kind differ in what the rows mean."""
    from river.datasets import synth

    makers: dict[str, Callable[[], Any]] = {
        "agrawal": lambda: synth.Agrawal(classification_function=(0, 4, 8)[version], seed=seed),
        "sea": lambda: synth.SEA(variant=(0, 3, 2)[version], seed=seed, noise=0.1),
        "rbf": lambda: synth.RandomRBF(
            seed_model=version + 1, seed_sample=seed, n_classes=4, n_features=8, n_centroids=30
        ),
    }
    return iter(makers[kind]())


def join(name: str, kind: str, plan: Sequence[tuple[int, int]], rows: int, width: int, seed: int) -> Stream:
    """Concepts one after the other: ``plan`` has (first row, version). Over ``width`` rows both occur."""
    draw = np.random.default_rng(seed)
    sources = {version: concept(kind, version, seed + version) for _, version in plan}
    which = np.full(rows, plan[0][1])
    for row, version in plan[1:]:
        ramp = np.clip((np.arange(rows) - row) / width + 0.5, 0.0, 1.0) if width else np.arange(rows) >= row
        which = np.where(draw.random(rows) < ramp, version, which)
    pairs = [next(sources[int(version)]) for version in which]
    changes = tuple(row - width // 2 for row, _ in plan[1:])
    return make(name, [list(row.values()) for row, _ in pairs], [y for _, y in pairs], 100, changes=changes)


def recurring(seed: int = 0, rows: int = 20_000) -> Stream:
    """Two concepts that take turns, 2,500 rows each."""
    plan = [(row, (row // 2500) % 2) for row in range(0, rows, 2500)]
    return join("recurring", "agrawal", plan, rows, 0, seed)


def planted(seed: int = 0, rows: int = 10_000) -> list[Stream]:
    """An abrupt, a gradual and a recurring drift of each kind of concept."""
    half, fifth = rows // 2, rows // 5
    found = []
    for kind in ("agrawal", "sea", "rbf"):
        found += [
            join(f"{kind} abrupt", kind, [(0, 0), (half, 1)], rows, 0, seed),
            join(f"{kind} gradual", kind, [(0, 0), (half, 1)], rows, fifth, seed),
            join(f"{kind} recurring", kind, [(i * fifth, i % 2) for i in range(5)], rows, 0, seed),
        ]
    return found


# -- regression ------------------------------------------------------------------------------------------


def regression(name: str, seed: int = 42) -> Stream:
    """River's streams with a value for target; Friedman's with two gradual drifts (20,000 rows)."""
    from river import datasets
    from river.datasets import synth

    makers: dict[str, Callable[[], Any]] = {
        "trump": datasets.TrumpApproval,
        "chick": datasets.ChickWeights,
        "airline": datasets.AirlinePassengers,
        "friedman": lambda: synth.FriedmanDrift("gra", (7000, 14000), seed=seed).take(20_000),
    }
    pairs = list(makers[name]())
    X = np.array([[number(value) for value in row.values()] for row, _ in pairs])
    return Stream(name, X, np.array([y for _, y in pairs], dtype=np.float64), 0)


def spinning(rows: int, seed: int = 0, block: int = 10_000) -> Iterator[tuple[Any, Any]]:
    """Blocks of rows of 8 features in 3 classes, split by planes that turn slowly, 5% noise; endless kind."""
    draw = np.random.default_rng(seed)
    planes = draw.standard_normal((3, 8))
    for _ in range(0, rows, block):
        planes += 0.05 * draw.standard_normal((3, 8))
        X = draw.standard_normal((block, 8))
        y = (X @ planes.T).argmax(axis=1)
        noisy = draw.random(block) < 0.05
        y[noisy] = draw.integers(0, 3, noisy.sum())
        yield X, y


REAL: dict[str, Callable[[], Stream]] = {
    "elec": lambda: from_csv("elec"),
    "insects": lambda: from_csv("insects"),
    "phishing": lambda: from_csv("phishing"),
    "bananas": lambda: from_river("bananas", "Bananas"),
    "segments": lambda: from_river("segments", "ImageSegments"),
    "phishing1250": lambda: from_river("phishing1250", "Phishing"),
    "digits": growing_digits,
    "recurring": recurring,
}
"""Streams for classification: six real ones, classes that arrive, and concepts that come back."""

REGRESSION = ("trump", "chick", "airline", "friedman")
