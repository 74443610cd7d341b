"""Who gives the labels, and what speaks against them: three comparisons of each source with the others.

*Disagreement*: how often its labels say that the answer was wrong. *Distribution*: how often it gives each
class beyond what the answers to the same rows led to expect, so that a source with another mix of cases is
none the worse for it. *Rate*: its share of all labels beside what it was. The first two are held against the
mean of the newest labels of all other sources, as it was known before the row, plus a margin.

The evidence is anytime-valid: each check bets on a mean above its reference, at several stakes (Waudby-Smith
& Ramdas 2024, arXiv:2010.09686), and begins to bet anew at every label, with a share of the stakes that falls
slowly. A mixture of such bets over stakes and beginnings is an e-process as well, so a long honest past hides
nothing, and it costs one multiplication a stake. Alpha is shared over the checks and the sources.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import msgspec

from everlearn.loop.evidence import share
from everlearn.spec import FeedbackSpec
from everlearn.types import Label

MOST_SOURCES = 100
"""Sources that are told apart; those that come later are only counted among the others."""

MOST_CLASSES = 10
"""Classes whose shares are compared, the first that came."""

FEWEST_OTHERS = 200
"""Labels that others must have given before anything is said: nobody is strange against nobody."""

OTHERS = 16
"""The newest labels of others that one is compared with: few, so that no turn of the world comes between."""

FEWEST_NEAR = 8
NEWEST = 200
"""Labels of all sources among which those of others are looked for; with fewer than 8 nothing is compared."""

AHEAD = 5
"""A source is compared on no more labels than others give, but for so many that it may be ahead."""

SHOWN = 100
"""Labels of a source over which its disagreement fades, where it is shown."""

STAKES = (0.1, 0.3, 0.6, 0.9)
"""Shares of what is held that are bet, at odds that are fair where the mean is the reference."""

FLAT = 500
"""So many of the beginnings have nearly equal shares, before those of later ones fall."""

LITTLE = 20.0
"""What is won of beginnings alone, in units of one: what was seen before shows nothing."""

MOST = 1e300
"""Where what is won ends: what is beyond it is of no use, and infinities are no JSON."""

BLOCK = 100
"""Labels, of all sources, that make one measurement of their shares."""

MOST_BLOCKS = 10
"""Blocks that ``most_share`` is held against."""

SETTLED = 20
"""Blocks after which a source has a usual share."""

FLAT_BLOCKS = 50
"""As :data:`FLAT`, for blocks."""

USUAL = 400
"""Blocks over which the usual share fades."""

CHECKS = 3
ANY = -1
"""The slot of sources that are not told apart: it may be any of them."""


class Bets(msgspec.Struct, array_like=True, gc=False):
    """Bets on the mean of values in [0, 1] being above a reference each, that was known before.

    ``won`` by stake. ``rows``, ``total`` and ``reference`` are of the values since that was last nothing.

    >>> honest, strange = Bets(), Bets()
    >>> for i in range(200):
    ...     honest.take(float(i % 4 == 0), 0.3)
    ...     strange.take(float(i % 2 == 0), 0.3)
    >>> honest.log_e() < 0.0, strange.log_e() > 5.0
    (True, True)
    """

    seen: int = 0
    won: list[float] = msgspec.field(default_factory=lambda: [0.0] * len(STAKES))
    rows: int = 0
    total: float = 0.0
    reference: float = 0.0

    def take(self, value: float, reference: float, flat: int = FLAT) -> None:
        """Take in a value."""
        reference = min(reference, 1.0)
        begins = flat / ((self.seen + flat) * (self.seen + flat + 1.0))
        odds = value / reference
        won = [min((x + begins) * (1.0 - s + s * odds), MOST) for x, s in zip(self.won, STAKES, strict=True)]
        self.seen += 1
        self.won = won
        if max(won) <= LITTLE * begins:
            self.rows, self.total, self.reference = 0, 0.0, 0.0
            return
        self.rows += 1
        self.total += value
        self.reference += reference

    def log_e(self) -> float:
        """The logarithm of the e-value of "no mean is above its reference"."""
        return math.log(max(sum(self.won) / len(STAKES), 1e-300))

    def again(self) -> None:
        """Leave what was won behind."""
        self.won = [0.0] * len(STAKES)
        self.rows, self.total, self.reference = 0, 0.0, 0.0


class Source(msgspec.Struct):
    """One source of labels. ``state`` is empty, ``warned``, ``quarantined`` or ``unlearned``.

    ``labels`` and ``examples`` that it gave, ``out`` of them while it was left out; ``first`` and ``last``
    are positions. ``lost`` is its fading disagreement on the ``judged`` labels that were let in. ``room`` is
    how many labels it may be compared on still, of the ``heard`` that others gave.
    ``bets`` are on its disagreement and on each class's excess, too often and too rarely; those of ``rate``
    on its share of blocks beside its ``usual`` one.
    """

    slot: int
    state: str = ""
    labels: int = 0
    examples: int = 0
    out: int = 0
    first: int = 0
    last: int = 0
    judged: int = 0
    lost: float = 0.0
    heard: int = 0
    room: int = 0
    bets: list[Bets] = []
    here: int = 0
    blocks: int = 0
    usual: float = 0.0
    newest: list[int] = []
    rate: Bets = msgspec.field(default_factory=Bets)

    def released(self) -> None:
        """Begin all evidence anew."""
        self.state = ""
        for bets in (*self.bets, self.rate):
            bets.again()


class Found(msgspec.Struct):
    """What is proven of a source: by which check, with which numbers, and of which class (by its place)."""

    check: str
    value: float
    reference: float
    log_e: float
    needed: float
    rows: int
    place: int = 0


class Feedback(msgspec.Struct):
    """All sources of a model.

    ``without`` are those whose labels are left out, with the position from which on; ``unlearned`` those of
    them that no version may have learned from. ``unscored``: after a release, the position up to which the
    labels of a source are not scored any more. ``labels`` counts those of all sources that were let in;
    ``newest`` has the last of them, each with its source's slot (0: none) before its values.
    """

    sources: dict[str, Source] = {}
    without: dict[str, int] = {}
    unlearned: dict[str, int] = {}
    unscored: dict[str, int] = {}
    labels: int = 0
    newest: list[tuple[int, list[float]]] = []
    classes: list[str] = []
    block: int = 0

    def meet(self, name: str, seq: int) -> Source | None:
        """The source of that name, a new one the first time; ``None`` beyond :data:`MOST_SOURCES`."""
        found = self.sources.get(name)
        if found is None:
            if len(self.sources) >= MOST_SOURCES:
                return None
            found = self.sources[name] = Source(len(self.sources) + 1, first=seq)
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
        found = None if source is None else self._compare(source, values, spec)
        self.labels += 1
        self.block += 1
        slot = 0 if source is None else source.slot
        self.newest.append((slot, list(values)))
        if len(self.newest) >= 2 * NEWEST:
            del self.newest[:-NEWEST]
        if source is not None:
            source.here += 1
            source.judged += 1
            source.lost += (values[0] - source.lost) / min(source.judged, SHOWN)
        return found

    def others(self, source: Source, width: int = 1) -> list[float] | None:
        """The means of the newest labels of all other sources; ``None`` while there are too few."""
        if self.labels - source.judged < FEWEST_OTHERS:
            return None
        near: list[list[float]] = []
        for slot, values in islice(reversed(self.newest), NEWEST):
            if slot != source.slot:
                near.append(values)
                if len(near) == OTHERS:
                    break
        if len(near) < FEWEST_NEAR:
            return None
        # Of a class that had not come yet, nothing was in excess, which is 1/2.
        return [sum(v[k] if k < len(v) else 0.5 for v in near) / len(near) for k in range(width)]

    def _compare(self, source: Source, values: Sequence[float], spec: FeedbackSpec) -> Found | None:
        given = self.labels - source.judged
        source.room, source.heard = min(source.room + given - source.heard, AHEAD), given
        if source.state or source.room < 1:
            return None
        others = self.others(source, len(values))
        if others is None:
            return None
        source.room -= 1
        margin, bets = spec.margin, source.bets
        bets += [Bets() for _ in range(2 * len(values) - 1 - len(bets))]
        bets[0].take(values[0], others[0] + margin)
        # Where answers are often wrong, they tell less of a source's cases. (1 + excess) / 2 is half as wide.
        wide = (margin + others[0] / 2.0) / 2.0
        for place, (value, reference) in enumerate(zip(values[1:], others[1:], strict=True)):
            bets[2 * place + 1].take(value, reference + wide)
            bets[2 * place + 2].take(1.0 - value, 1.0 - reference + wide)
        return _proven(source, spec)

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
        source.newest = [*source.newest, round(part * BLOCK)][-MOST_BLOCKS:]
        settled, usual = source.blocks >= SETTLED, source.usual
        source.blocks += 1
        # A mean of all its blocks at first, that fades later.
        source.usual += (part - usual) / (source.blocks if not settled else USUAL)
        if source.state or self.labels - source.judged < FEWEST_OTHERS:
            return None
        if spec.most_share is not None:
            newest = sum(source.newest) / (BLOCK * MOST_BLOCKS)
            if newest > spec.most_share:
                return Found("rate", newest, spec.most_share, 0.0, 0.0, BLOCK * len(source.newest))
            return None
        if not settled:
            return None
        bets = source.rate
        bets.take(part, usual + spec.margin, FLAT_BLOCKS)
        log_e, needed = bets.log_e(), _needed(source, spec)
        if log_e < needed or not bets.rows:
            return None
        own, others = bets.total / bets.rows, bets.reference / bets.rows - spec.margin
        return Found("rate", own, others, log_e, needed, bets.rows * BLOCK)


def table(feedback: Feedback) -> list[dict[str, Any]]:
    """The sources as JSON values for people and the API, in the order in which they came."""
    return [_line(feedback, name, source) for name, source in feedback.sources.items()]


def _line(feedback: Feedback, name: str, source: Source) -> dict[str, Any]:
    newest = feedback.newest[-NEWEST:]
    others = feedback.others(source)
    return {
        "source": name,
        "state": source.state,
        "labels": source.labels,
        "examples": source.examples,
        "left_out": source.out,
        "share": sum(slot == source.slot for slot, _ in newest) / len(newest) if newest else None,
        "disagreement": source.lost if source.judged else None,
        "others": None if others is None else others[0],
        "first": source.first,
        "last": source.last,
        "without_from": feedback.without.get(name),
    }


def _needed(source: Source, spec: FeedbackSpec) -> float:
    """The logarithm of the e-value that proves."""
    return -math.log(share(spec.alpha / CHECKS, source.slot))


def _proven(source: Source, spec: FeedbackSpec) -> Found | None:
    """Disagreement, or a class too frequent or too rare: what has the evidence that its alpha asks for."""
    needed = _needed(source, spec)
    first, *rest = source.bets
    log_e = first.log_e()
    if log_e >= needed and first.rows:
        own, others = first.total / first.rows, first.reference / first.rows - spec.margin
        return Found("disagreement", own, others, log_e, needed, first.rows)
    # The mean of the e-values of all classes, both ways; of those that never came it is 1 or less.
    e = sum(sum(bets.won) for bets in rest) / (len(STAKES) * 2 * MOST_CLASSES)
    if e <= 1.0 or math.log(e) < needed:
        return None
    worst = max(range(len(rest)), key=lambda place: max(rest[place].won))
    bets, sign = rest[worst], -1.0 if worst % 2 else 1.0
    own, reference = (sign * (2.0 * x / bets.rows - 1.0) for x in (bets.total, bets.reference))
    return Found("distribution", own, reference, math.log(e), needed, bets.rows, worst // 2)
