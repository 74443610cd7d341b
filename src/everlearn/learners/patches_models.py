"""What the nodes of :mod:`everlearn.learners.patches` say of a row, and how they learn it.

Every node has two models of its rows, inner nodes too: the fading mean (the classes' frequencies) and a
line (multinomial logistic, or least squares). A leaf of a classification adds naive Bayes on its histogram
(Gama et al. 2003). Which one to believe is learned by each node: a *trust* is the log odds of two models, a
fading sum of by how much the first has had the smaller loss; and a node is mixed with what is below it in
the same way, as in context-tree weighting (Willems et al. 1995) with switching.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from everlearn.learners.hoeffding_kernels import find_bins
from everlearn.learners.kernels import compiled, dot, inlined
from everlearn.learners.patches_grove import (
    BINS,
    DEEPEST,
    HIST,
    ROOT,
    TRUST_BAYES,
    TRUST_MEAN,
    TRUST_OWN,
    VALUES,
    descend,
    see,
)

ORIGIN, LOWEST, HIGHEST, USUAL = range(4)
"""Of ``numbers`` (regression): the first target, which is taken from all; the least and the greatest; and the
fading mean of the squared error."""

FLOOR = 1e-4  # under which no probability counts, in losses and votes
TRUST_KEPT, TRUST_MOST, TRUST_STEP = 0.99, 5.0, 2.0  # of a trust: kept from row to row, largest, in one row
TEMPER = 0.2  # by how much naive Bayes counts a column less for each other one
LINE_KEPT = 0.995  # of a line's sums from row to row
MOST_TRACE = 50.0  # of a least-squares line's inverse matrix, a column; then it forgets no more
PER_LOG = 8  # likelihoods multiplied before the logarithm is taken, which costs more than they do
MOST_LOSS = 1e3  # of a regression
BAYES_COUNT = 0.25  # weight that naive Bayes takes every bin to have had


class Survey(NamedTuple):
    """What each node on the way of a row (at most D of them) says; refilled for every row."""

    path: Any
    """int64 (D,): the nodes, from the root on."""
    lines: Any
    """float64 (D, K): answers of the lines."""
    means: Any
    """float64 (D, K): answers of the means."""
    owns: Any
    """float64 (D, K): both mixed."""
    mixed: Any
    """float64 (D, K): mixed with what is below; the first is the tree's answer."""
    bayes: Any
    """float64 (K,): naive Bayes at the leaf."""
    inputs: Any
    """float64 (S - E + 1,): the tree's columns standardised, and a 1."""
    bins: Any
    """int64 (S,): bins of what the tree sees, at the leaf."""
    seen: Any
    """float64 (S,): what the tree sees."""


@compiled
def new_survey(grove: Any) -> Any:
    """Room for a survey."""
    k, s = grove.counts.shape[1], grove.hists.shape[1]
    deep = DEEPEST + 1
    return Survey(
        np.zeros(deep, np.int64),
        np.zeros((deep, k)),
        np.zeros((deep, k)),
        np.zeros((deep, k)),
        np.zeros((deep, k)),
        np.zeros(k),
        np.ones(grove.lines.shape[2]),
        np.zeros(s, np.int64),
        np.zeros(s),
    )


# -- what nodes say ------------------------------------------------------------------------------------


@inlined
def share_of(trust: Any) -> Any:
    """The share that log odds give the first of two."""
    return 1.0 / (1.0 + math.exp(-trust))


@compiled
def bounded_softmax(scores: Any, k: int) -> None:
    """Scores to probabilities, in place; none is more than e^30 times another."""
    top = scores[0]
    for c in range(1, k):
        top = max(top, scores[c])
    total = 0.0
    for c in range(k):
        scores[c] = math.exp(max(scores[c] - top, -30.0))
        total += scores[c]
    for c in range(k):
        scores[c] /= total


@compiled
def line_of_classes(line: Any, inputs: Any, k: int, out: Any) -> None:
    """Probabilities of a multinomial logistic model; class c has its weights in row 1 + c."""
    for c in range(k):
        out[c] = dot(line[1 + c], inputs)
    bounded_softmax(out, k)


@compiled
def line_of_values(line: Any, inputs: Any, numbers: Any) -> float:
    """The estimate of a least-squares line, no farther out than half as much again as targets came."""
    score = 0.0
    for s in range(inputs.shape[0]):
        score += line[0, s] * inputs[s]
    margin = 0.5 * (numbers[HIGHEST] - numbers[LOWEST])
    return float(min(max(score, numbers[LOWEST] - margin), numbers[HIGHEST] + margin))


@compiled
def bayes_of_classes(grove: Any, hist: int, bins: Any, k: int, out: Any) -> None:
    """Naive Bayes on a histogram, its log likelihood ratios tempered as columns are not independent."""
    h = grove.hists[hist]
    whole = np.zeros(k)
    for b in range(BINS + 1):
        for c in range(k):
            whole[c] += h[0, b, c]
    total, used = 0.0, 0
    for c in range(k):
        out[c] = 0.0
        total += whole[c]
    ratio = np.ones(k)
    for s in range(grove.lines.shape[2] - 1):
        b = bins[s]
        if b == BINS:
            continue
        used += 1
        for c in range(k):
            seen = whole[c] - h[s, BINS, c]
            ratio[c] *= (h[s, b, c] + BAYES_COUNT) / (max(seen, 0.0) + BAYES_COUNT * BINS)
        if used % PER_LOG == 0:
            for c in range(k):
                out[c] += math.log(ratio[c])
                ratio[c] = 1.0
    for c in range(k):
        out[c] += math.log(ratio[c])
    power = 1.0 / (1.0 + TEMPER * max(used - 1, 0))
    for c in range(k):
        out[c] = out[c] * power + math.log((whole[c] + 0.5) / (total + 0.5 * k))
    bounded_softmax(out, k)


@compiled
def look(grove: Any, tree: int, row: Any, z: Any, k: int, numbers: Any, survey: Any) -> int:
    """Fill a survey of a row, which is ``z`` standardised; how long the way is."""
    links, nodes, counts = grove.links, grove.nodes, grove.counts
    lines, means, owns, mixed = survey.lines, survey.means, survey.owns, survey.mixed
    inputs, space, values = survey.inputs, grove.spaces[tree], grove.limits[VALUES]
    for s in range(inputs.shape[0] - 1):
        inputs[s] = z[space[s]]
    see(grove, tree, row, survey.seen)
    length = descend(grove, grove.trees[tree, ROOT], survey.seen, survey.path)
    for i in range(length):
        node = survey.path[i]
        if values:
            lines[i, 0] = line_of_values(grove.lines[node], inputs, numbers)
            means[i, 0] = counts[node, 1]
        else:
            line_of_classes(grove.lines[node], inputs, k, lines[i])
            total = 1.0
            for c in range(k):
                total += counts[node, c]
            for c in range(k):
                above = means[i - 1, c] if i else 1.0 / k
                means[i, c] = (counts[node, c] + above) / total
        part = share_of(nodes[node, TRUST_MEAN])
        for c in range(k):
            owns[i, c] = part * means[i, c] + (1.0 - part) * lines[i, c]
    leaf = survey.path[length - 1]
    hist = links[leaf, HIST]
    find_bins(grove, tree, hist, survey.seen, survey.bins)
    part = 0.0
    if not values:
        bayes_of_classes(grove, hist, survey.bins, k, survey.bayes)
        part = share_of(nodes[leaf, TRUST_BAYES])
    for c in range(k):
        mixed[length - 1, c] = part * survey.bayes[c] + (1.0 - part) * owns[length - 1, c]
    for i in range(length - 2, -1, -1):
        part = share_of(nodes[survey.path[i], TRUST_OWN])
        for c in range(k):
            mixed[i, c] = part * owns[i, c] + (1.0 - part) * mixed[i + 1, c]
    return length


# -- what nodes learn ----------------------------------------------------------------------------------


@inlined
def loss_of(said: Any, y: Any, usual: Any, values: Any) -> Any:
    """Log loss of probabilities, or squared error over twice its usual size, up to ``MOST_LOSS``."""
    if values:
        return min(0.5 * (said[0] - y) ** 2 / usual, MOST_LOSS)
    return -math.log(max(said[int(y)], FLOOR))


@compiled
def moved(trust: float, better: float, weight: float) -> float:
    """A trust after one more comparison: by how much the first was better, on a row of a weight."""
    step = weight * min(max(better, -TRUST_STEP), TRUST_STEP)
    return min(max(TRUST_KEPT * trust + step, -TRUST_MOST), TRUST_MOST)


@compiled
def learn_line_classes(line: Any, inputs: Any, k: int, said: Any, y: int, weight: float, rate: float) -> None:
    """One step of AdaGrad (Duchi et al. 2011) whose sums fade."""
    slope = np.empty(k)
    size = 0.0
    for c in range(k):
        slope[c] = weight * (said[c] - (1.0 if c == y else 0.0))
        size += slope[c] * slope[c]
    n, steps = inputs.shape[0], np.empty(inputs.shape[0])
    for s in range(n):
        total = LINE_KEPT * line[0, s] + size * inputs[s] * inputs[s]
        line[0, s] = total
        steps[s] = rate * inputs[s] / math.sqrt(total + 1e-3)
    for c in range(k):
        for s in range(n):
            line[1 + c, s] -= steps[s] * slope[c]


@compiled
def learn_line_values(line: Any, inputs: Any, y: float, weight: float) -> None:
    """One step of recursive least squares that fades: weights in row 0, the inverse matrix in the others."""
    n = inputs.shape[0]
    gain = np.zeros(n)
    spread, score, trace = 1.0 / weight, 0.0, 0.0
    for i in range(n):
        for j in range(n):
            gain[i] += line[1 + i, j] * inputs[j]
        score += line[0, i] * inputs[i]
        trace += line[1 + i, i]
    for i in range(n):
        spread += gain[i] * inputs[i]
    wrong = (y - score) / spread
    kept = LINE_KEPT if trace < MOST_TRACE * n else 1.0
    for i in range(n):
        line[0, i] += gain[i] * wrong
        for j in range(n):
            line[1 + i, j] = (line[1 + i, j] - gain[i] * gain[j] / spread) / kept


@compiled
def learn_mean(counts: Any, y: float, weight: float, k: int, memory: float, values: int) -> None:
    """Fading counts of the classes; or weight, mean and variance of the target."""
    if values:
        count = min(counts[0] + weight, memory)
        step = weight / max(count, weight)
        delta = y - counts[1]
        counts[0] = count
        counts[1] += step * delta
        counts[2] += step * (delta * delta * (1.0 - step) - counts[2])
        return
    kept = 1.0 - min(weight / memory, 1.0)
    for c in range(k):
        counts[c] *= kept
    counts[int(y)] += weight
