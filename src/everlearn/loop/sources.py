"""Who gives the labels, and what speaks against them: three comparisons of each source with the others.

*Disagreement*: how often its labels say that the answer was wrong. *Distribution*: how often it gives each
class beyond what the answers to the same rows led to expect, so that a source with another mix of cases is
none the worse for it. *Rate*: its share of all labels beside what it was. The first two are held against the
running, fading mean of all other sources, as it was known before the row, plus a margin.

The evidence is anytime-valid (empirical Bernstein, see :mod:`everlearn.loop.evidence`). It begins anew every
:data:`EPOCH` labels of a source, so that a long honest past hides nothing; alpha is shared over the checks,
the sources and the epochs so that all parts together sum to it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import numpy as np

from everlearn.loop.evidence import log_bernstein, share
from everlearn.spec import FeedbackSpec
from everlearn.types import Label

MOST_SOURCES = 100
"""Sources that are told apart; those that come later are only counted among the others."""

MOST_CLASSES = 10
"""Classes whose shares are compared, the first that came."""

FEWEST_OTHERS = 200
"""Labels that others must have given before anything is said: nobody is strange against nobody."""

MEMORY = 1000
"""Labels, of all sources, over which the means of the others fade."""

EPOCH = 600
"""Labels of a source after which its evidence begins anew."""

LOOK = 10
"""Labels of a source between two looks at its evidence."""

BLOCK = 100
"""Labels, of all sources, that make one measurement of their shares."""

NEWEST = 10
"""Blocks that ``most_share`` is held against."""

SETTLED = 20
"""Blocks after which a source has a usual share."""

SPAN = 100
"""Blocks after which the evidence of a share begins anew."""

USUAL = 400
"""Blocks over which the usual share fades."""

CHECKS = 3
ANY = -1
"""The slot of sources that are not told apart: it may be any of them."""


class Gap(msgspec.Struct, array_like=True, gc=False):
    """Values in [0, 1] beside a reference each that was known before: what the evidence needs of them."""

    rows: int = 0
    total: float = 0.0
    spread: float = 0.0
    reference: float = 0.0

    def take(self, value: float, reference: float) -> None:
        """Take in a value."""
        guess = self.total / self.rows if self.rows else min(max(reference, 0.0), 1.0)
        self.spread += (value - guess) ** 2
        self.rows += 1
        self.total += value
        self.reference += reference


class Source(msgspec.Struct):
    """One source of labels. ``state`` is empty, ``warned``, ``quarantined`` or ``unlearned``.

    ``labels`` and ``examples`` that it gave, ``out`` of them while it was left out; ``first`` and ``last``
    are positions. ``weight`` and ``sums`` are its part of the fading means, as of label ``at`` of all.
    ``gaps`` are its disagreement and each class's excess on the ``counted`` labels of an epoch; ``rate`` is
    its share of blocks beside its ``usual`` one.
    """

    slot: int
    state: str = ""
    labels: int = 0
    examples: int = 0
    out: int = 0
    first: int = 0
    last: int = 0
    at: int = 0
    weight: float = 0.0
    sums: list[float] = []
    epoch: int = 1
    counted: int = 0
    gaps: list[Gap] = []
    here: int = 0
    blocks: int = 0
    usual: float = 0.0
    newest: list[int] = []
    rate: Gap = msgspec.field(default_factory=Gap)
    span: int = 1

    def again(self) -> None:
        """Begin an epoch: what was seen before is no evidence any more."""
        self.epoch, self.counted, self.gaps = self.epoch + 1, 0, []

    def released(self) -> None:
        """Begin all evidence anew."""
        self.state, self.span, self.rate = "", self.span + 1, Gap()
        self.again()

    def faded(self, at: int, width: int) -> tuple[float, list[float]]:
        """Its part of the fading means as of a label."""
        factor = (1.0 - 1.0 / MEMORY) ** (at - self.at)
        return self.weight * factor, [x * factor for x in _padded(self.sums, width, self.weight)]


class Found(msgspec.Struct):
    """What is proven of a source: by which check, and with which numbers."""

    check: str
    value: float
    reference: float
    log_e: float
    needed: float
    rows: int


class Feedback(msgspec.Struct):
    """All sources of a model.

    ``without`` are those whose labels are left out, with the position from which on; ``unlearned`` those of
    them that no version may have learned from. ``unscored``: after a release, the position up to which the
    labels of a source are not scored any more. ``labels`` counts those of all sources that were let in.
    """

    sources: dict[str, Source] = {}
    without: dict[str, int] = {}
    unlearned: dict[str, int] = {}
    unscored: dict[str, int] = {}
    labels: int = 0
    weight: float = 0.0
    sums: list[float] = []
    classes: list[str] = []
    block: int = 0

    def meet(self, name: str, seq: int) -> Source | None:
        """The source of that name, a new one the first time; ``None`` beyond :data:`MOST_SOURCES`."""
        found = self.sources.get(name)
        if found is None:
            if len(self.sources) >= MOST_SOURCES:
                return None
            found = self.sources[name] = Source(len(self.sources) + 1, first=seq, at=self.labels)
        found.last = seq
        return found

    def lets_in(self, label: Label) -> bool:
        """Whether a label is learned and scored."""
        source = label.source
        return source is None or (source not in self.without and label.seq > self.unscored.get(source, 0))

    def slots(self, names: Sequence[str]) -> list[int]:
        """The slots of sources; :data:`ANY` for those that are not told apart."""
        found = {self.sources[name].slot if name in self.sources else ANY for name in names}
        return sorted(found)

    def learned(self, slots: Sequence[int], made: int) -> bool:
        """Whether a version with these slots, made at a position, may have learned what is un-learned."""
        return any(
            made >= since and (ANY in slots or self.slots([name])[0] in slots)
            for name, since in self.unlearned.items()
        )

    # -- what is seen ------------------------------------------------------------------------------

    def take(self, source: Source | None, values: Sequence[float], spec: FeedbackSpec) -> Found | None:
        """Take in a label's values (its loss, then each class's excess); what is proven by it."""
        width = len(values)
        found = None if source is None else self._compare(source, values, spec)
        self.labels += 1
        keep = 1.0 - 1.0 / MEMORY
        before = _padded(self.sums, width, self.weight)
        self.sums = [x * keep + y for x, y in zip(before, values, strict=True)]
        self.weight = self.weight * keep + 1.0
        if source is not None:
            weight, sums = source.faded(self.labels, width)
            source.weight, source.at = weight + 1.0, self.labels
            source.sums = [x + y for x, y in zip(sums, values, strict=True)]
            source.here += 1
        self.block += 1
        return found

    def others(self, source: Source, width: int = 1) -> tuple[float, list[float]] | None:
        """Weight and means of all other sources; ``None`` while there are too few of their labels."""
        if not self._has_others(source):
            return None
        own, parts = source.faded(self.labels, width)
        left = self.weight - own
        if left < FEWEST_OTHERS / 4:
            return None
        sums = _padded(self.sums, width, self.weight)
        return left, [min(max((x - y) / left, 0.0), 1.0) for x, y in zip(sums, parts, strict=True)]

    def _has_others(self, source: Source) -> bool:
        return self.labels - (source.labels - source.out) >= FEWEST_OTHERS

    def _compare(self, source: Source, values: Sequence[float], spec: FeedbackSpec) -> Found | None:
        others = self.others(source, len(values)) if not source.state else None
        if others is None:
            return None
        gaps = source.gaps
        gaps += [Gap() for _ in range(len(values) - len(gaps))]
        for gap, value, reference in zip(gaps, values, others[1], strict=True):
            gap.take(value, reference)
        source.counted += 1
        found = None
        if source.counted % LOOK == 0:
            found = _proven(source, spec)
        if source.counted >= EPOCH:
            source.again()
        return found

    def close_block(self, spec: FeedbackSpec) -> Iterator[tuple[str, Found]]:
        """Measure the shares of a block that is full; what is proven by them."""
        if self.block < BLOCK:
            return
        self.block = 0
        for name, source in self.sources.items():
            part, source.here = source.here / BLOCK, 0
            found = self._rate(source, part, spec)
            if found is not None:
                yield name, found

    def _rate(self, source: Source, part: float, spec: FeedbackSpec) -> Found | None:
        source.newest = [*source.newest, round(part * BLOCK)][-NEWEST:]
        settled, usual = source.blocks >= SETTLED, source.usual
        source.blocks += 1
        # A mean of all its blocks at first, that fades later.
        source.usual += (part - usual) / (source.blocks if not settled else USUAL)
        if source.state or not self._has_others(source):
            return None
        if spec.most_share is not None:
            newest = sum(source.newest) / (BLOCK * NEWEST)
            if newest > spec.most_share:
                return Found("rate", newest, spec.most_share, 0.0, 0.0, BLOCK * len(source.newest))
            return None
        if not settled:
            return None
        source.rate.take(part, usual)
        gap = source.rate
        log_e = _log_over(gap, spec.margin)
        needed = -math.log(_alpha(source, source.span, spec))
        if gap.rows >= SPAN:
            source.span, source.rate = source.span + 1, Gap()
        if log_e < needed:
            return None
        return Found("rate", gap.total / gap.rows, gap.reference / gap.rows, log_e, needed, gap.rows * BLOCK)


def table(feedback: Feedback) -> list[dict[str, Any]]:
    """The sources as JSON values for people and the API, in the order in which they came."""
    return [_line(feedback, name, source) for name, source in feedback.sources.items()]


def _line(feedback: Feedback, name: str, source: Source) -> dict[str, Any]:
    weight, sums = source.faded(feedback.labels, 1)
    others = feedback.others(source)
    return {
        "source": name,
        "state": source.state,
        "labels": source.labels,
        "examples": source.examples,
        "left_out": source.out,
        "share": weight / feedback.weight if feedback.weight else None,
        "disagreement": sums[0] / weight if weight >= 1.0 else None,
        "others": None if others is None else others[1][0],
        "first": source.first,
        "last": source.last,
        "without_from": feedback.without.get(name),
    }


def _padded(sums: list[float], width: int, weight: float) -> list[float]:
    """The sums with those of classes that are new: until now nothing was in excess of them, which is 1/2."""
    if len(sums) >= width:
        return sums[:width]
    return [*sums, *[weight / 2.0] * (width - len(sums))]


def _alpha(source: Source, epoch: int, spec: FeedbackSpec) -> float:
    return share(share(spec.alpha / CHECKS, source.slot), epoch)


def _log_over(gap: Gap, margin: float) -> float:
    return float(log_bernstein(gap.rows, gap.total, gap.spread, gap.reference / gap.rows + margin, 1.0))


def _proven(source: Source, spec: FeedbackSpec) -> Found | None:
    """Disagreement, or a class too frequent or too rare: what has the evidence that its alpha asks for."""
    needed = -math.log(_alpha(source, source.epoch, spec))
    first, *rest = source.gaps
    rows = first.rows
    log_e = _log_over(first, spec.margin)
    if log_e >= needed:
        return Found("disagreement", first.total / rows, first.reference / rows, log_e, needed, rows)
    log_e, worst = _log_shift(rest, spec.margin)
    if worst is None or log_e < needed:
        return None
    # Excesses are kept as (1 + excess) / 2.
    own, others = (2.0 * x / worst.rows - 1.0 for x in (worst.total, worst.reference))
    return Found("distribution", own, others, log_e, needed, rows)


def _log_shift(gaps: Sequence[Gap], margin: float) -> tuple[float, Gap | None]:
    """The mean of the e-values of every class's excess, both ways, and the class that shows most."""
    seen = [gap for gap in gaps if gap.rows]
    if not seen:
        return 0.0, None
    rows = np.array([gap.rows for gap in seen], dtype=np.float64)
    total, spread = np.array([gap.total for gap in seen]), np.array([gap.spread for gap in seen])
    null = np.array([gap.reference for gap in seen]) / rows
    logs = np.concatenate(
        (
            log_bernstein(rows, total, spread, null + margin / 2.0, 1.0),
            log_bernstein(rows, rows - total, spread, 1.0 - null + margin / 2.0, 1.0),
        )
    )
    top = max(float(logs.max()), 0.0)
    whole = float(np.exp(logs - top).sum()) + (2 * MOST_CLASSES - len(logs)) * math.exp(-top)
    return top + math.log(whole / (2 * MOST_CLASSES)), seen[int(logs.argmax()) % len(seen)]
