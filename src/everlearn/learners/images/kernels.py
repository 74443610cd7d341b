"""Compiled loops over patches of images: cutting them out, and pooling what filters say of them."""

from __future__ import annotations

import math
from typing import Any

from everlearn.learners.kernels import compiled


@compiled
def cut(image: Any, side: int, least: Any, out: Any) -> None:
    """Every patch (side, side) of an image (channels, h, w) as a row of ``out``, contrast-normalised.

    A patch has mean 0; it is divided by the root of its variance plus ``least`` (Coates et al. 2011, 3.1).
    """
    channels, height, width = image.shape
    rows, columns = height - side + 1, width - side + 1
    size = out.shape[1]
    for i in range(rows):
        for j in range(columns):
            patch = out[i * columns + j]
            at = 0
            total = 0.0
            for c in range(channels):
                for a in range(side):
                    for b in range(side):
                        value = image[c, i + a, j + b]
                        patch[at] = value
                        total += value
                        at += 1
            mean = total / size
            spread = 0.0
            for k in range(size):
                patch[k] -= mean
                spread += patch[k] * patch[k]
            unit = 1.0 / math.sqrt(spread / size + least)
            for k in range(size):
                patch[k] *= unit


@compiled
def pool(said: Any, rows: int, columns: int, cells: int, threshold: Any, offset: Any, out: Any) -> None:
    """Sums over cells of what filters say: ``out`` (2, cells, cells, filters) of positive and negative parts.

    ``said`` (rows * columns, filters) less ``offset`` (filters,); what is within ``threshold`` of 0 counts as
    0. Cells of a row are as wide as each other, and lie about its middle: one may share a line with the next.
    """
    filters = said.shape[1]
    out[:] = 0.0
    high, wide = (rows + cells - 1) // cells, (columns + cells - 1) // cells
    for u in range(cells):
        top = (u * (rows - high)) // max(cells - 1, 1)
        for v in range(cells):
            left = (v * (columns - wide)) // max(cells - 1, 1)
            above, below = out[0, u, v], out[1, u, v]
            for i in range(top, top + high):
                for j in range(left, left + wide):
                    line = said[i * columns + j]
                    for k in range(filters):
                        value = line[k] - offset[k]
                        more, less = value - threshold, -value - threshold
                        above[k] += more if more > 0 else 0
                        below[k] += less if less > 0 else 0
