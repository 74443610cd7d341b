"""Digits that come class by class: the stream, the models that it is sent to, and what becomes of them.

Used by ``bench/digits.py`` and by the test that does the same with the digits of scikit-learn.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from everlearn.client import Client, Prediction
from everlearn.predictor import Predictor
from everlearn.wiring import Installation

SETTLE_SECONDS = 300.0
PROVEN = 25
"""Answers of every version that are compared with those of its stored artifact."""

CHANGES = ("promote", "rollback")

Row = dict[str, float]


@dataclass(frozen=True)
class Digits:
    """A stream of images as rows of pixels, class by class, and a sample of every class for testing.

    ``X`` (n, d) and ``y`` (n,) in the order of the stream; ``begins`` says at which row each class comes.
    ``test_images`` (m, d) and ``test_truths`` (m,) hold as many images of every class, none of them in the
    stream.
    """

    X: NDArray[np.float64]
    y: NDArray[np.int64]
    test_images: NDArray[np.float64]
    test_truths: NDArray[np.int64]
    begins: Mapping[int, int]
    shape: tuple[int, int, int]
    scale: float

    def rows(self, which: range) -> list[Row]:
        """Rows of the stream as they are sent."""
        return rows_of(self.X[which.start : which.stop])

    def arrived(self, row: int) -> list[int]:
        """The classes that have come before a row."""
        return [digit for digit, begins in self.begins.items() if begins < row]

    def accuracy(self, values: Sequence[Any], classes: Iterable[int]) -> float:
        """Per cent of the test images of some classes that are answered rightly."""
        asked = np.isin(self.test_truths, list(classes))
        right = np.array(
            [value == truth for value, truth in zip(values, self.test_truths.tolist(), strict=True)]
        )
        return 100.0 * float(right[asked].mean())


def rows_of(X: NDArray[np.float64]) -> list[Row]:
    names = [f"p{i:03}" for i in range(X.shape[1])]
    return [dict(zip(names, row, strict=True)) for row in X.tolist()]


def class_by_class(
    X: NDArray[Any],
    y: NDArray[Any],
    shape: tuple[int, int, int],
    scale: float,
    *,
    rows: int,
    test: int,
    seed: int,
) -> Digits:
    """A stream of ``rows`` images a class: the first two classes mixed, then one after another.

    A classifier needs two classes to begin with. ``test`` images a class are kept for testing.
    """
    rng = np.random.default_rng(seed)
    by_class = {int(digit): rng.permutation(np.flatnonzero(y == digit)) for digit in np.unique(y)}
    short = min(len(images) for images in by_class.values())
    if short < rows + test:
        raise ValueError(f"a class has {short} images, and rows + test are {rows + test}: ask for fewer")
    taught = {digit: images[test : test + rows] for digit, images in by_class.items()}
    first = sorted(taught)[:2]
    parts = [rng.permutation(np.concatenate([taught[digit] for digit in first]))]
    parts += [taught[digit] for digit in sorted(taught)[2:]]
    stream, kept = np.concatenate(parts), np.concatenate([images[:test] for images in by_class.values()])
    begins = {digit: place * rows if place > 1 else 0 for place, digit in enumerate(sorted(taught))}
    flat = X.reshape(len(X), -1).astype(np.float64)
    targets = y.astype(np.int64)
    return Digits(flat[stream], targets[stream], flat[kept], targets[kept], begins, shape, scale)


def spec_of(
    name: str,
    digits: Digits,
    learner: Mapping[str, Any],
    *,
    delay: int,
    publish_every: int,
    first_rows: int,
    **more: Any,
) -> dict[str, Any]:
    """A model of the digits that learns from every label and forgets no class: ``regimes.protect: all``.

    The learner publishes its first version after ``first_rows`` labels, which are ``delay`` rows late, and
    the next ones every ``publish_every``.
    """
    return {
        "name": name,
        "target": "digit",
        "features": dict.fromkeys(rows_of(digits.X[:1])[0], "numeric"),
        "learner": {"scale": digits.scale, **learner},
        "label_horizon": {"rows": delay},
        "publish_every": publish_every,
        "policy": {"first_rows": first_rows, "min_labels": 50, "reuse": False, "recalibrate": False},
        "gate": {"holdout": 50, "min_rows": 20, "max_latency_ms": None},  # whatever else the machine does
        "regimes": {"protect": "all", "anchor_every": 4, "anchors": 2000},
        "drift": {"features": False},
        **more,
    }


UNGATED = {"gate": {"name": "open"}, "rollback": {"bake": 0}}
"""How a team would run it that puts every version live: the gate asks only that it can be served."""


@dataclass(frozen=True)
class Change:
    """A version that became champion: when, of what, and accuracy % on the classes that had come by then."""

    row: int
    kind: str
    version: int
    replaces: int
    classes: list[int]
    before: float
    after: float
    reason: str

    @property
    def fall(self) -> float:
        """Points that accuracy on the same classes fell by; negative where it rose."""
        return self.before - self.after


@dataclass
class Pupil:
    """A model that is taught the stream over HTTP, and every version of it that came to answer."""

    name: str
    digits: Digits
    client: Client
    installation: Installation
    changes: list[Change] = field(default_factory=list)
    refused: list[tuple[int, int, str]] = field(default_factory=list)
    compared: int = 0
    different: int = 0
    _answers: dict[int, list[Any]] = field(default_factory=dict)
    _served: dict[int, list[tuple[int, Prediction]]] = field(default_factory=dict)
    _seen: int = 0

    def ask(self, which: range) -> None:
        """Send rows to be predicted, and keep some answers of every version."""
        ids = [str(i) for i in which]
        for i, one in zip(which, self.client.predict(self.name, self.digits.rows(which), ids), strict=True):
            kept = self._served.setdefault(one.version, [])
            if len(kept) < PROVEN:
                kept.append((i, one))

    def tell(self, which: range) -> None:
        """Send the labels of rows."""
        labels = {str(i): int(self.digits.y[i]) for i in which}
        if labels:
            receipt = self.client.label(self.name, labels)
            if receipt.accepted != len(labels):
                raise RuntimeError(f"{self.name}: not every label was taken: {receipt}")

    def settle(self) -> None:
        """Wait until the loop has read the whole log, no job is at work, and the champion answers."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while time.monotonic() < deadline:
            model = self.client.model(self.name)
            read = model["cursor"] == model["log"]["seq"] and model["state"] != "updating"
            if read and model["serving"] in (None, model["champion"]):
                return
            time.sleep(0.02)
        raise RuntimeError(f"{self.name} did not settle in {SETTLE_SECONDS:.0f} s: {model}")

    def look(self, row: int) -> list[Change]:
        """Read what was decided since the last look, and ask every version that became champion."""
        fresh = [
            d for d in self.client.decisions(self.name, ["refuse", *CHANGES]) if d["number"] > self._seen
        ]
        made = []
        for decision in reversed(fresh):
            self._seen = decision["number"]
            if decision["kind"] == "refuse":
                self.refused.append((row, decision["version"], decision["reason"]))
            else:
                made.append(self._change(row, decision))
        self.changes += made
        return made

    def _change(self, row: int, decision: Mapping[str, Any]) -> Change:
        version, old = decision["version"], decision["evidence"]["replaces"]
        classes = self.digits.arrived(row)
        before, after = (self.digits.accuracy(self.answers(number), classes) for number in (old, version))
        return Change(row, decision["kind"], version, old, classes, before, after, decision["reason"])

    def answers(self, version: int) -> list[Any]:
        """What a version answers to the test images, by its stored artifact: no test image is ever sent."""
        if version not in self._answers:
            found = self._load(version)
            rows = rows_of(self.digits.test_images)
            self._answers[version] = [None] * len(rows) if found is None else values(found, rows)
        return self._answers[version]

    def _load(self, version: int) -> Predictor | None:
        digest = self.installation.versions.get(self.name, version).digest
        return None if digest is None else Predictor.from_bundle(self.installation.artifacts.get(digest))

    def prove(self) -> None:
        """Compare answers that were served with those of the artifact of the version that gave them."""
        for version, kept in self._served.items():
            predictor = self._load(version)
            if predictor is None:
                continue
            outputs = predictor.predict([rows_of(self.digits.X[i : i + 1])[0] for i, _ in kept])
            for (_, served), output in zip(kept, outputs, strict=True):
                self.compared += 1
                self.different += not same(served, output)

    def over_http(self, batch: int = 500) -> float:
        """Accuracy % of what is served at the end, asked over HTTP for every test image."""
        rows = rows_of(self.digits.test_images)
        served = [
            one.value for at in range(0, len(rows), batch)
            for one in self.client.predict(self.name, rows[at : at + batch])
        ]  # fmt: skip
        return self.digits.accuracy(served, self.digits.begins)

    def course(self, end: int) -> list[tuple[int, float]]:
        """Accuracy % of the champion on all classes so far, at every row where it or they changed."""
        rows = sorted({*self.digits.begins.values(), *(change.row for change in self.changes), end - 1})
        champion, at, found = 0, iter([*self.changes, None]), []
        change = next(at)
        for row in rows:
            while change is not None and change.row <= row:
                champion, change = change.version, next(at)
            found.append((row, self.digits.accuracy(self.answers(champion), self.digits.arrived(row + 1))))
        return found

    def report(self) -> dict[str, Any]:
        """What became of it, as JSON values."""
        final = self.changes[-1].version if self.changes else 0
        return {
            "promotions": len(self.changes),
            "rollbacks": sum(change.kind == "rollback" for change in self.changes),
            "refused": len(self.refused),
            "refused_forgetful": sum("forgotten" in reason for *_, reason in self.refused),
            "worst_fall": max((change.fall for change in self.changes), default=0.0),
            "best": max((change.after for change in self.changes), default=0.0),
            "final": self.digits.accuracy(self.answers(final), self.digits.begins),
            "final_served": self.over_http(),
            "compared": self.compared,
            "different": self.different,
            "changes": [vars(change) for change in self.changes],
            "refusals": [list(one) for one in self.refused],
            "course": [list(one) for one in self.course(len(self.digits.X))],
        }


def values(predictor: Predictor, rows: Sequence[Row]) -> list[Any]:
    return [output.value for output in predictor.predict(rows)]


def same(served: Prediction, output: Any) -> bool:
    """Whether an answer that was served is the one that a version gives."""
    told, given = dict(served.probabilities or {}), dict(output.probabilities or {})
    close = told.keys() == given.keys() and all(abs(told[key] - given[key]) < 1e-9 for key in told)
    return bool(served.value == output.value and close)


def teach(
    pupils: Sequence[Pupil],
    digits: Digits,
    *,
    delay: int,
    batch: int,
    told: Callable[[Pupil, Change], None],
    progress: Callable[[int], None],
) -> None:
    """Send the stream to every model: each batch is predicted, then the rows ``delay`` older are labelled.

    After each, the loop is let to read all there is, as it would between two rows of a slower stream.
    """
    size = len(digits.X)
    for start, end in pairwise([*range(0, size + delay, batch), size + delay]):
        now = min(end, size)
        for pupil in pupils:
            if start < size:
                pupil.ask(range(start, now))
            pupil.tell(range(max(start - delay, 0), max(min(end - delay, size), 0)))
        for pupil in pupils:
            pupil.settle()
            for change in pupil.look(now):
                told(pupil, change)
        progress(now)
