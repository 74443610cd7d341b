"""A metric over the newest rows with its confidence bounds, cheap enough to be asked at every check.

Of each row only the *item* is kept that the metric needs. The metric without one block of rows, which
the jackknife asks for, comes from sums over the other blocks, so that a look costs one pass over the
items whatever the number of blocks.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from everlearn.loop.bounds import Interval, jackknife_interval, mean_interval, proportion_interval
from everlearn.loop.measures import FLAT, r_squared, ratio
from everlearn.loop.scored import Scored, answerable, error, log_loss, loss, right
from everlearn.spec import REGRESSION_METRICS
from everlearn.types import Task

BLOCKS = 10
"""Blocks of the jackknife."""


class Window:
    """The newest ``size`` rows in one metric. It is what its rows are: refilled, it is the same again.

    >>> window = Window(2, "accuracy")
    >>> for answer in ("no", "yes", "yes"):
    ...     window.add(Scored(1, 1, "yes", answer, None, None, False, None, None))
    >>> window.interval(0.95).value
    1.0
    """

    def __init__(self, size: int, metric: str, rows: Iterable[Scored] = ()) -> None:
        self._metric = metric
        self._item = item_of(metric)
        self._items: deque[Any] = deque(maxlen=size)
        self._counted = metric == "accuracy"
        self._rights = 0
        self.refill(rows)

    def __len__(self) -> int:
        return len(self._items)

    def add(self, scored: Scored) -> None:
        """Take in one more row; the oldest makes room for it."""
        self.add_all((scored,))

    def add_all(self, rows: Iterable[Scored]) -> None:
        """Take in rows, the newest last."""
        items, most, item_of_row = self._items, self._items.maxlen, self._item
        for scored in rows:
            if self._counted:
                right = scored.value == scored.truth
                if len(items) == most:
                    self._rights -= items[0]
                self._rights += right
                items.append(right)
            else:
                items.append(item_of_row(scored))

    def refill(self, rows: Iterable[Scored]) -> None:
        """Hold these rows instead."""
        self._items.clear()
        self._items.extend(map(self._item, rows))
        self._rights = sum(self._items) if self._counted else 0

    def interval(self, confidence: float) -> Interval | None:
        """The metric with its bounds; ``None`` where the rows do not define it."""
        if self._counted:
            rows = len(self._items)
            return proportion_interval(self._rights, rows, confidence) if rows else None
        return _interval(list(self._items), self._metric, confidence)


def metric_interval(rows: Sequence[Scored], metric: str, task: Task, confidence: float) -> Interval | None:
    """A metric with its confidence bounds; ``None`` where the rows do not define it."""
    assert (metric in REGRESSION_METRICS) == (task == "regression")
    return Window(max(1, len(rows)), metric, rows).interval(confidence)


def _error(scored: Scored) -> float | None:
    return abs(error(scored)) if answerable(scored) else None


def _error_and_truth(scored: Scored) -> tuple[float, float] | None:
    return (abs(error(scored)), float(scored.truth)) if answerable(scored) else None


def _log_loss(scored: Scored) -> float | None:
    return log_loss(scored.p_truth) if answerable(scored) else None


_ITEMS: Mapping[str, Callable[[Scored], Any]] = {
    "accuracy": right,
    "log_loss": _log_loss,
    "mae": _error,
    "rmse": _error,
    "r2": _error_and_truth,
    "frame_f1": lambda s: 1.0 - loss(s, "detection"),
    "f1": lambda s: (s.truth, s.value),
    "auc": lambda s: (s.truth, s.p_positive, s.positive),
    "kappa_m": lambda s: (s.value == s.truth, s.majority == s.truth),
    "kappa_t": lambda s: (s.value == s.truth, s.no_change == s.truth),
}


def item_of(metric: str) -> Callable[[Scored], Any]:
    """What a metric needs of a row: a function that takes it."""
    return _ITEMS[metric]


def _interval(items: list[Any], metric: str, confidence: float) -> Interval | None:
    if metric in ("log_loss", "mae", "frame_f1"):
        values = [value for value in items if value is not None]
        return mean_interval(values, confidence) if values else None
    blocks = min(BLOCKS, len(items))
    if blocks < 2:
        return None
    edges = [round(i * len(items) / blocks) for i in range(blocks + 1)]
    whole, left_out = _JACKKNIFES[metric]([items[start:end] for start, end in pairwise(edges)])
    found = [value for value in left_out if value is not None]
    if whole is None or len(found) < blocks:
        return None
    return jackknife_interval(whole, found, len(items), confidence)


_Left = tuple[float | None, list[float | None]]
"""A metric on all blocks, and without each of them in turn."""


def _kappa(blocks: list[list[Any]]) -> _Left:
    """Kappa-M or kappa-T (Bifet et al. 2015): items are whether the answer and the baseline were right."""
    counts = [(len(b), sum(own for own, _ in b), sum(base for _, base in b)) for b in blocks]
    n, own, base = (sum(part) for part in zip(*counts, strict=True))

    def kappa(n: int, own: int, base: int) -> float:
        return ratio(own / n - base / n, 1 - base / n)

    return kappa(n, own, base), [kappa(n - m, own - o, base - b) for m, o, b in counts]


def _f1(blocks: list[list[Any]]) -> _Left:
    totals, hits = [], []
    for block in blocks:
        total = Counter(truth for truth, _ in block)
        total.update(value for _, value in block if value is not None)
        totals.append(total)
        hits.append(Counter(truth for truth, value in block if value == truth))
    whole, right_whole = _summed(totals), _summed(hits)
    none: Counter[Any] = Counter()
    pairs = zip(totals, hits, strict=True)
    return _mean_f1(whole, none, right_whole, none), [_mean_f1(whole, t, right_whole, h) for t, h in pairs]


def _mean_f1(total: Counter[Any], without: Counter[Any], hits: Counter[Any], less: Counter[Any]) -> float:
    left = {label: n - without[label] for label, n in total.items() if n > without[label]}
    scores = [2 * (hits[label] - less[label]) / n for label, n in left.items()]
    return math.fsum(scores) / len(scores) if scores else 0.0


def _summed(counters: list[Counter[Any]]) -> Counter[Any]:
    whole: Counter[Any] = Counter()
    for counter in counters:
        whole.update(counter)
    return whole


def _rmse(blocks: list[list[Any]]) -> _Left:
    squares = [[size * size for size in block if size is not None] for block in blocks]
    counts, sums = [len(block) for block in squares], [math.fsum(block) for block in squares]
    n = sum(counts)

    def root(total: float, rows: int) -> float | None:
        return math.sqrt(total / rows) if rows else None

    whole = root(math.fsum(size for block in squares for size in block), n)
    return whole, [root(math.fsum(_without(sums, i)), n - m) for i, m in enumerate(counts)]


def _r2(blocks: list[list[Any]]) -> _Left:
    pairs = [[pair for pair in block if pair is not None] for block in blocks]
    truths = [truth for block in pairs for _, truth in block]
    whole = r_squared([size * size for block in pairs for size, _ in block], truths)
    if whole is None:
        return None, []
    centre = math.fsum(truths) / len(truths)
    sums = [_moments(block, centre) for block in pairs]
    return whole, [_r2_without(pairs, sums, centre, i) for i in range(len(blocks))]


def _moments(block: list[Any], centre: float) -> tuple[int, float, float, float]:
    """Rows, and sums of the squared errors and of the truths' distances from a centre and their squares."""
    apart = [truth - centre for _, truth in block]
    squares = math.fsum(size * size for size, _ in block)
    return len(block), squares, math.fsum(apart), math.fsum(d * d for d in apart)


def _r2_without(
    pairs: list[list[Any]], sums: list[tuple[int, float, float, float]], centre: float, i: int
) -> float | None:
    rows, squares, apart, spread = (math.fsum(part) for part in zip(*_without(sums, i), strict=True))
    if not rows:
        return None
    shift = apart / rows
    variance = spread / rows - shift * shift
    if variance < 1e-6 * shift * shift:  # too near to the rounding of a difference: over all rows, then
        rest = [pair for block in _without(pairs, i) for pair in block]
        return r_squared([size * size for size, _ in rest], [truth for _, truth in rest])
    return 1 - squares / rows / variance if variance > FLAT * (centre + shift) ** 2 else None


def _auc(blocks: list[list[Any]]) -> _Left:
    """Areas from how often the positives of one block beat the negatives of another, ties halved."""
    truths = [Counter(truth for truth, _, _ in block) for block in blocks]
    above = [np.array([p for _, p, y in b if y and p is not None]) for b in blocks]
    below = [np.sort([p for _, p, y in b if not y and p is not None]) for b in blocks]
    positives, starts = np.concatenate(above), np.cumsum([0, *map(len, above)])
    wins = np.zeros((len(blocks), len(blocks)))
    for j, negatives in enumerate(below):
        sides = np.searchsorted(negatives, positives, "left") + np.searchsorted(negatives, positives, "right")
        wins[:, j] = np.diff(np.concatenate(([0], np.cumsum(sides)))[starts]) / 2
    p, n, every, seen = len(positives), sum(map(len, below)), wins.sum(), _summed(truths)

    def area(won: float, p: int, n: int, classes: int) -> float | None:
        return float(won) / (p * n) if classes == 2 and p and n else None

    left = []
    for i, here in enumerate(truths):
        won = every - wins[i].sum() - wins[:, i].sum() + wins[i, i]
        classes = sum(count > here[truth] for truth, count in seen.items())
        left.append(area(won, p - len(above[i]), n - len(below[i]), classes))
    return area(every, p, n, len(seen)), left


def _without(parts: list[Any], i: int) -> list[Any]:
    return parts[:i] + parts[i + 1 :]


_JACKKNIFES: Mapping[str, Callable[[list[list[Any]]], _Left]] = {
    "f1": _f1,
    "auc": _auc,
    "kappa_m": _kappa,
    "kappa_t": _kappa,
    "rmse": _rmse,
    "r2": _r2,
}
