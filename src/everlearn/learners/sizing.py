"""How many of the newest rows to learn from: many where the world stands still, few where it moves."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from everlearn.types import FloatArray

SHARES = (1.0, 0.5, 0.25, 0.125)
NEWEST = 250
FEWEST = 100


Losses = Callable[[slice, slice], FloatArray]


def rows_to_learn(rows: int, losses: Losses) -> int:
    """How many of the newest of some rows predict the very newest of them best.

    The very newest, at most 250 or a quarter, are answered by what can be learned from all, the newest
    1/2, 1/4 and 1/8 of the rows before them. The share with the least mean loss wins, the longer one
    among equals; with too few rows to tell, all of them. ``losses(learned, asked)`` fits the rows of
    one slice and gives its loss on each row of the other. Costs about two more fits of the window.
    (Klinkenberg & Joachims 2000 adjust a window by an estimate on its newest batch in this way.)
    """
    new = min(NEWEST, rows // 4)
    before = rows - new
    best, least = rows, np.inf
    for share in SHARES:
        learned = int(before * share)
        if learned < FEWEST:
            break
        found = float(losses(slice(before - learned, before), slice(before, rows)).mean())
        if found < least:
            best, least = (rows if share == SHARES[0] else learned + new), found
    return best
