"""The ensemble of :mod:`everlearn.learners.patches`: bagging, drift, stand-ins, votes, the loops over rows.

A *patch* is ``(grove, records, ring, scale, numbers, settings, generator)``:

* the grove of all trees (:class:`~everlearn.learners.patches_grove.Grove`);
* ``records`` float64 (2T, 5): of each tree a drift detector and its fading mean loss;
* ``ring`` float64 (128, d + 2): the newest rows with target and weight, which a new tree learns first;
* ``scale`` float64 (3, d): for standardising columns (:func:`everlearn.learners.kernels.scale_learn`);
* ``numbers`` float64 (4,): of a regression, its origin, the range of its targets, its usual squared error;
* ``settings`` float64 and ``generator`` uint64 (1,).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from everlearn.learners.kernels import compiled, inlined, poisson, scale_learn, scale_row, softmax
from everlearn.learners.patches_grove import (
    AGE,
    LEARNED,
    RING,
    ROOT,
    SEEN,
    TREES,
    VALUES,
    Grove,
    crowded,
    give_tree,
    has_room,
)
from everlearn.learners.patches_models import FLOOR, HIGHEST, LOWEST, ORIGIN, USUAL, look, new_survey
from everlearn.learners.patches_trees import BAG, DRIFT, LOSS, WARNING, learn_tree, plant

ROWS, SUM, LEAST_ROWS, LEAST_SUM = range(4)
"""Of ``records``: errors so far, and as they were when their mean was least; then ``LOSS``."""

PATIENCE = 500  # rows that a stand-in may have learned without being better, once its member has drifted
CLIP = 5.0  # deviations that a standardised column may show
MEMORY_OF_SCALE = 1e4  # rows
MOST_WEIGHT = 64.0  # of a row
VOTE = 10.0  # a member with a mean loss larger by x has a vote smaller by e^(-10 x)
EVEN = 1e-3  # the share of the answer that is spread evenly
CONFIDENCE = math.log(1000.0)  # of the detector's least mean: log of 1 over the risk
USUAL_STEP = 0.002  # of the usual squared error, a member
TINY = 1e-300  # no squared error is usually less


class Patch(NamedTuple):
    """All that a learner has learned; see above."""

    grove: Any
    records: Any
    ring: Any
    scale: Any
    numbers: Any
    settings: Any
    generator: Any


@inlined
def usual_of(numbers: Any) -> Any:
    """The usual squared error of a regression's trees."""
    return max(numbers[USUAL], TINY)


# -- drift: HDDM-A (Frías-Blanco et al. 2015, section 3.1) ----------------------------------------------


@compiled
def note(record: Any, wrong: float) -> None:
    """Take one error, between 0 and 1, into a detector."""
    record[ROWS] += 1.0
    record[SUM] += wrong
    n, m = record[ROWS], record[LEAST_ROWS]
    bound = math.sqrt(0.5 * CONFIDENCE / n)
    if m <= 0.0 or record[SUM] / n + bound <= record[LEAST_SUM] / m + math.sqrt(0.5 * CONFIDENCE / m):
        record[LEAST_ROWS], record[LEAST_SUM] = n, record[SUM]


@compiled
def risen(record: Any, risk: float) -> bool:
    """Whether the mean error is above its least, with a risk of being wrong."""
    n, m = record[ROWS], record[LEAST_ROWS]
    if m <= 0.0 or n <= m:
        return False
    bound = math.sqrt(0.5 * (n - m) / (n * m) * math.log(2.0 / risk))
    return bool(record[SUM] / n - record[LEAST_SUM] / m >= bound)


# -- members -------------------------------------------------------------------------------------------


@compiled
def drawn(settings: Any, generator: Any) -> float:
    """How often a row is drawn, over how often on average (Oza and Russell 2001)."""
    return float(poisson(generator, settings[BAG]) / settings[BAG])


@compiled
def begin(patch: Any, tree: int) -> None:
    """A new tree. There must be room for it."""
    grove, records, ring, scale, _, _, generator = patch
    records[tree, :] = 0.0
    plant(grove, tree, ring, min(grove.pool[RING], ring.shape[0]), scale, generator)


@compiled
def catch_up(patch: Any, tree: int, survey: Any) -> None:
    """A new tree learns the remembered rows, in order."""
    grove, records, ring, scale, numbers, settings, generator = patch
    d, put = ring.shape[1] - 2, grove.pool[RING]
    z = np.zeros(d)
    for i in range(max(put - ring.shape[0], 0), put):
        at = i % ring.shape[0]
        row = ring[at, :d]
        scale_row(scale, row, CLIP, z)
        times = drawn(settings, generator)
        learn_tree(
            grove, records, tree, row, z, ring[at, d], ring[at, d + 1], times, numbers, usual_of(numbers),
            settings, generator, survey,
        )  # fmt: skip


@compiled
def swap(grove: Any, records: Any, m: int) -> None:
    """The stand-in takes its member's place."""
    old, new = 2 * m, 2 * m + 1
    give_tree(grove, old)
    grove.trees[old] = grove.trees[new]
    grove.trees[new] = 0
    grove.trees[new, ROOT] = -1
    grove.spaces[old] = grove.spaces[new]
    grove.mixes[old] = grove.mixes[new]
    records[old, :LOSS] = 0.0
    records[old, LOSS] = records[new, LOSS]


@compiled
def learn_member(patch: Any, m: int, row: Any, y: float, weight: float, z: Any, survey: Any) -> None:
    """A member and its stand-in learn a row; it is replaced when it errs more than it used to.

    A stand-in that is planted in the midst of an abrupt drift knows the old rows too, from the ring; so it is
    given time to become better than its member.
    """
    grove, records, _, _, numbers, settings, generator = patch
    trees, old, new = grove.trees, 2 * m, 2 * m + 1
    for tree in range(old, new + 1):
        if trees[tree, ROOT] < 0:
            continue
        times = drawn(settings, generator)
        wrong = learn_tree(
            grove, records, tree, row, z, y, weight, times, numbers, usual_of(numbers), settings, generator,
            survey,
        )  # fmt: skip
        if tree == new:
            continue
        if grove.limits[VALUES]:
            square = wrong * wrong
            numbers[USUAL] += (square - numbers[USUAL]) * (USUAL_STEP if numbers[USUAL] > 0.0 else 1.0)
            wrong = wrong / (wrong + math.sqrt(usual_of(numbers)))
        note(records[tree], wrong)
    if trees[new, ROOT] < 0:
        if has_room(grove) and risen(records[old], settings[WARNING]):
            begin(patch, new)
            catch_up(patch, new, survey)
    elif risen(records[old], settings[DRIFT]):
        if records[new, LOSS] < records[old, LOSS]:
            swap(grove, records, m)
        elif trees[new, AGE] >= PATIENCE:
            give_tree(grove, new)
            records[old, :LOSS] = 0.0


@compiled
def learn_row(patch: Any, row: Any, y: float, weight: float, z: Any, survey: Any) -> None:
    """All members learn a row; after the first rows they begin anew, as edges and scales were guesses."""
    grove, _, ring, scale, numbers, _, _ = patch
    pool, members, d = grove.pool, grove.limits[TREES], row.shape[0]
    if grove.limits[VALUES]:
        if pool[LEARNED] == 0:
            numbers[ORIGIN] = y
        y -= numbers[ORIGIN]
        numbers[LOWEST], numbers[HIGHEST] = min(numbers[LOWEST], y), max(numbers[HIGHEST], y)
    else:
        pool[SEEN] = max(pool[SEEN], int(y) + 1)
    weight = min(weight, MOST_WEIGHT)
    scale_learn(scale, row, MEMORY_OF_SCALE, CLIP)
    scale_row(scale, row, CLIP, z)
    if pool[LEARNED]:
        for m in range(members):
            learn_member(patch, m, row, y, weight, z, survey)
    at = pool[RING] % ring.shape[0]
    ring[at, :d] = row
    ring[at, d], ring[at, d + 1] = y, weight
    pool[RING] += 1
    pool[LEARNED] += 1
    learned = pool[LEARNED]
    if learned == 1 or learned == 4 or learned == 16 or learned == 64:
        for m in range(members):
            give_tree(grove, 2 * m)
            give_tree(grove, 2 * m + 1)
            begin(patch, 2 * m)
        for m in range(members):
            catch_up(patch, 2 * m, survey)


# -- votes ---------------------------------------------------------------------------------------------


@compiled
def answer_row(patch: Any, row: Any, z: Any, survey: Any, total: Any, out: Any) -> None:
    """The members' answers in the mean, of logarithms for classes, weighted by how well they did lately."""
    grove, records, _, scale, numbers, _, _ = patch
    values, members = grove.limits[VALUES], grove.limits[TREES]
    k = 1 if values else int(grove.pool[SEEN])
    scale_row(scale, row, CLIP, z)
    weights, least = 0.0, records[0, LOSS]
    for m in range(1, members):
        least = min(least, records[2 * m, LOSS])
    total[:] = 0.0
    for m in range(members):
        weight = math.exp(-VOTE * (records[2 * m, LOSS] - least))
        look(grove, 2 * m, row, z, k, numbers, survey)
        for c in range(k):
            said = survey.mixed[0, c]
            total[c] += weight * (said if values else math.log(said + FLOOR))
        weights += weight
    if values:
        out[0] = numbers[ORIGIN] + total[0] / weights
        return
    for c in range(k):
        total[c] *= 1.0 / weights
    softmax(total, k)
    whole = 0.0
    for c in range(k):
        out[c] = (1.0 - EVEN) * total[c] + EVEN / k
        whole += out[c]
    for c in range(k):
        out[c] /= whole


# -- loops over rows -----------------------------------------------------------------------------------


@compiled
def gathered(trees: Any, rest: Any) -> Any:
    """The patch of plain tuples, which Python hands over faster than named ones."""
    grove = Grove(
        trees[0], trees[1], trees[2], trees[3], trees[4], trees[5], trees[6], trees[7], trees[8], trees[9],
        trees[10], trees[11],
    )  # fmt: skip
    return Patch(grove, rest[0], rest[1], rest[2], rest[3], rest[4], rest[5])


@compiled
def answer(trees: Any, rest: Any, rows: Any, answers: Any) -> None:
    """Answer rows (n, d) into ``answers`` (n, k), or (n, 1) for a regression."""
    patch = gathered(trees, rest)
    grove = patch.grove
    if grove.pool[LEARNED] == 0:
        return
    survey, z, total = new_survey(grove), np.zeros(rows.shape[1]), np.zeros(grove.counts.shape[1])
    for i in range(rows.shape[0]):
        answer_row(patch, rows[i], z, survey, total, answers[i])


@compiled
def step(
    trees: Any,
    rest: Any,
    most: Any,
    asked: Any,
    rows: Any,
    targets: Any,
    weights: Any,
    start: int,
    answers: Any,
) -> int:
    """Answer and learn rows from ``start`` on until the pools must grow; the row that comes then.

    ``most`` is how many nodes and histograms there may be.
    """
    patch = gathered(trees, rest)
    grove = patch.grove
    survey, z, total = new_survey(grove), np.zeros(rows.shape[1]), np.zeros(grove.counts.shape[1])
    for i in range(start, rows.shape[0]):
        if crowded(grove, most[0], most[1]):
            return i
        if i < answers.shape[0] and grove.pool[LEARNED] > 0:
            answer_row(patch, asked[i], z, survey, total, answers[i])
        learn_row(patch, rows[i], targets[i], weights[i], z, survey)
    return int(rows.shape[0])
