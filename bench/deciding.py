"""Streams of paired losses, trials and bakes over them, and the naive tests that stand beside."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from scipy.special import betainc

from everlearn.loop import trial
from everlearn.loop.maturity import Watermark
from everlearn.loop.trial import Columns
from everlearn.spec import GateSpec, ModelSpec

LOOK = 100
BOTH_WRONG = 0.1
Floats = NDArray[np.float64]


def losses(rng: np.random.Generator, rows: int, wins: Any, lost: Any) -> tuple[Floats, Floats]:
    """0/1 losses (rows,) of the old and the new version. Shares of rows: ``wins``, only the new one is
    right; ``lost``, only the old one is (numbers, or arrays of one a row); 10% are wrong for both.
    """
    u = rng.random(rows)
    won, fell = u < wins, (u >= wins) & (u < np.add(wins, lost))
    both = u >= 1.0 - BOTH_WRONG
    return (won | both).astype(np.float64), (fell | both).astype(np.float64)


def streams(seed: int, scenario: int, runs: int, title: str) -> Iterator[np.random.Generator]:
    """A generator of random numbers for every run, with progress on standard error."""
    for run in track(range(runs), description=title, console=Console(stderr=True), transient=True):
        yield np.random.default_rng([seed, scenario, run])


def try_out(
    old: Floats,
    new: Floats,
    gate: GateSpec,
    *,
    attempt: int = 1,
    groups: Mapping[str, NDArray[np.bool_]] | None = None,
    stops: Sequence[int] | None = None,
) -> tuple[str, int]:
    """How a trial over the rows ends, and after how many: the product's, looked at after every ``stops``."""
    on = trial.open_trial(1, attempt, gate, True, groups or ())
    start = 0
    for stop in stops if stops is not None else range(LOOK, len(old) + 1, LOOK):
        part = {name: mask[start:stop] for name, mask in (groups or {}).items()}
        trial.take(on, Columns(old[start:stop], new[start:stop], groups=part))
        end = trial.verdict(on, gate).end
        if end is not None:
            return end, on.rows
        start = stop
    return "open", on.rows


def mcnemar(old: Floats, new: Floats, alpha: float, stops: Sequence[int] | None = None) -> int | None:
    """The first look at which the exact one-sided McNemar test calls the new one better, in rows."""
    at = np.asarray(stops if stops is not None else range(LOOK, len(old) + 1, LOOK), dtype=np.intp)
    at = at[at > 0]
    wins, lost = (np.cumsum(side)[at - 1] for side in (old > new, old < new))
    found = np.flatnonzero((wins > 0) & (betainc(np.maximum(wins, 1), lost + 1.0, 0.5) <= alpha))
    return int(at[found[0]]) if len(found) else None


def summary(ends: Iterable[tuple[str, int]], which: str = "promote") -> tuple[float, float | None]:
    """The share of runs that end so, and the median rows of those."""
    every = list(ends)
    rows = [rows for end, rows in every if end == which]
    return len(rows) / len(every), float(np.median(rows)) if rows else None


def covered(spec: ModelSpec, rows: int) -> Floats:
    """The look (1, 2, …; infinite for none) at which each row's cohort is mature, by the loop's own mark."""
    mark, looks = Watermark(), np.full(rows, np.inf)
    for look in range(1, rows // LOOK + 1):
        before = mark.row
        mark.rise(spec, look * LOOK, 0.0)
        looks[before : mark.row] = look
    return looks


def by_look(looks: Floats) -> tuple[NDArray[np.intp], list[int]]:
    """Rows in the order in which they count, by look and row, and how many count after every look."""
    known = np.isfinite(looks)
    order = np.argsort(looks, kind="stable")[: np.count_nonzero(known)]
    last = int(looks[known].max()) if known.any() else 0
    return order, [int(n) for n in np.cumsum(np.bincount(looks[known].astype(np.intp), minlength=last + 1))]


def finish(
    options: Any, run: Callable[[Any], dict[str, Any]], show: Callable[[dict[str, Any], Console], None]
) -> int:
    """Run, print what was asked for, and give the exit code: 1 if the whole run misses a goal."""
    report = run(options)
    if options.json:
        print(json.dumps(report))
    else:
        show(report, Console())
    return 0 if options.quick or all(goal["met"] for goal in report["goals"]) else 1
