"""Streams for the policy bench, and what every version on a grid of update points would have got wrong."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from everlearn import __version__, learners
from runs import CACHE
from streams import Stream, from_river, make

DELAY = 500
"""How many rows late labels are."""
STEP = 250
"""Rows between grid points, at which a policy may update."""
FIRST_ROWS = 300
"""Labels that the first version waits for."""
LEARNER: dict[str, Any] = {
    "size": 5000,
    "estimator": "gradient_boosting",
    "estimator_parameters": {"max_iter": 40},
}
"""The learner ``window``: the newest 5,000 labelled rows, 40 rounds of boosting."""
PROTOCOL = 1
"""Raise it when the meaning of what is cached changes."""


@dataclass(frozen=True)
class Grid:
    """``points`` (V,): rows at which versions were trained; ``wrong`` (V, n) uint8: 1 where one errs.

    Version v learned from labels of rows before ``points[v] - DELAY``, and its answers count from
    row ``points[v]`` on. The stream is played from ``points[0]`` on.
    """

    name: str
    points: Any
    wrong: Any

    @property
    def rows(self) -> int:
        """Rows of the stream."""
        return int(self.wrong.shape[1])

    @property
    def losses(self) -> Any:
        """(V, V): wrong answers of each version on each chunk; the last chunk runs to the stream's end."""
        edges = np.append(self.points, self.rows)
        sums = np.concatenate(
            [np.zeros((len(self.wrong), 1)), np.cumsum(self.wrong, axis=1, dtype=np.float64)], axis=1
        )
        return sums[:, edges[1:]] - sums[:, edges[:-1]]

    def stretch(self, first: int, last: int) -> Grid:
        """The part of it between two grid points, played as a stream of its own."""
        end = self.rows if last >= len(self.points) else int(self.points[last])
        return Grid(self.name, self.points[first:last], self.wrong[first:last, :end])


def grid_points(rows: int, step: int = STEP) -> Any:
    """Where versions are trained: from the first multiple of the step by which enough labels are known."""
    first = -(-(DELAY + FIRST_ROWS) // step) * step
    return np.arange(first, rows, step)


def grid_of(stream: Stream, seed: int, tick: Callable[[], None] = lambda: None) -> Grid:
    """The grid of a stream, from the cache if it was made before."""
    what = (PROTOCOL, __version__, stream.digest, LEARNER, DELAY, STEP, FIRST_ROWS, seed)
    key = sha256(repr(what).encode())
    path = CACHE / f"policy-{stream.name}-{key.hexdigest()[:16]}.npz"
    if path.exists():
        with np.load(path) as kept:
            unpacked = np.unpackbits(kept["wrong"], axis=1, count=len(stream.y))
            return Grid(stream.name, kept["points"], unpacked)
    grid = make_grid(stream, seed, tick)
    CACHE.mkdir(exist_ok=True)
    handle, temporary = tempfile.mkstemp(suffix=".npz", dir=CACHE)
    with os.fdopen(handle, "wb") as out:
        np.savez_compressed(out, points=grid.points, wrong=np.packbits(grid.wrong, axis=1))
    Path(temporary).replace(path)
    return grid


def make_grid(stream: Stream, seed: int, tick: Callable[[], None] = lambda: None) -> Grid:
    """Train a version at every grid point and let it answer every row from there on."""
    points = grid_points(len(stream.y))
    wrong = np.zeros((len(points), len(stream.y)), dtype=np.uint8)
    learner = learners.build("window", seed=seed, **LEARNER)
    learned = 0
    for version, point in enumerate(points):
        known = int(point) - DELAY
        learner.learn(stream.X[learned:known], stream.y[learned:known])
        learned = known
        classes = np.array(learner.classes)
        picks = classes[np.argmax(learner.predict(stream.X[point:]), axis=1)]
        wrong[version, point:] = picks != stream.y[point:]
        tick()
    return Grid(stream.name, points, wrong)


def real_streams(data: Path) -> Iterator[Stream]:
    """Every CSV of a folder, its last column the target; then the small streams of River's wheel."""
    import pandas as pd

    for path in sorted(data.glob("*.csv")):
        frame = pd.read_csv(path)
        labels = frame.iloc[:, -1].astype(str).to_numpy(dtype=str)
        columns = frame.iloc[:, :-1].apply(_numeric)
        yield make(path.stem, columns.to_numpy(dtype=np.float64), labels, DELAY)


def small_streams() -> Iterator[Stream]:
    """The streams of River's wheel that are long enough for a delay of 500."""
    yield from_river("bananas", "Bananas")
    yield from_river("segments", "ImageSegments")


def _numeric(column: Any) -> Any:
    """A column as numbers: text as the codes of its values in the order of their first appearance."""
    import pandas as pd

    return column if pd.api.types.is_numeric_dtype(column) else pd.factorize(column)[0]


def made_streams(seed: int, rows: int = 12_000) -> Iterator[Stream]:
    """Planted changes: none, abrupt, gradual, and two concepts in turns."""
    for kind, weight in {
        "stable": lambda at: np.zeros_like(at),
        "abrupt": lambda at: (at >= 0.55).astype(float),
        "gradual": lambda at: np.clip(2.0 * at - 0.4, 0.0, 1.0),
        "recurring": lambda at: (np.floor(at * 6) % 2).astype(float),
    }.items():
        yield _planes(f"made-{kind}", weight, rows, seed)


def _planes(name: str, weight: Callable[[Any], Any], rows: int, seed: int) -> Stream:
    """Two hyperplanes through 6 features; a row's truth follows their mixture, 8% of it is noise."""
    draw = np.random.default_rng([seed, len(name)])
    X = draw.normal(size=(rows, 6))
    first, second = draw.normal(size=(2, 6))
    share = weight(np.arange(rows) / rows)[:, None]
    side = (X * ((1.0 - share) * first + share * second)).sum(axis=1) + 0.5 * X[:, 0] * X[:, 1] > 0.0
    return make(name, X, (side ^ (draw.random(rows) < 0.08)).astype(int), DELAY)
