"""How a what-if is shown in a terminal, and drawn as a picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from string import ascii_uppercase
from typing import TYPE_CHECKING, Any

import typer

from everlearn.cli.output import table
from everlearn.errors import InvalidError, MissingExtraError

if TYPE_CHECKING:
    from everlearn.loop.whatif import Played, WhatIf

WIDTH = 76
HEIGHT = 14


def title_of(line: Played) -> str:
    """A line's name; the fixed cadence says among which it is the best."""
    among = line.settings.get("best_of")
    return f"{line.name} labels (best of {among})" if among else line.name


def columns_of(report: WhatIf) -> list[str]:
    """The names of the columns after the first."""
    first = ["mae" if report.spec.task == "regression" else "accuracy"]
    more = [] if report.spec.metric in ("accuracy", "mae") else [str(report.spec.metric)]
    return [*first, *more, "regret", "updates", "trained", "refused", "compute s", "labels used"]


def cells_of(report: WhatIf, line: Played) -> list[Any]:
    """One line of the table, after its name."""
    first = line.mean_loss if report.spec.task == "regression" else line.accuracy
    more = [] if report.spec.metric in ("accuracy", "mae") else [line.metric]
    regret = None if line.regret is None else round(line.regret, 1)
    return [
        first,
        *more,
        regret,
        line.updates,
        line.trained,
        line.refused,
        line.compute_seconds,
        line.labels_used,
    ]


def summary(report: WhatIf) -> str:
    """What was compared, in one line."""
    spec = report.spec
    return (
        f"{report.rows} rows, {report.labels} labels, {spec.task} of {spec.target!r}; "
        f"a training costs {report.price:g} rows answered wrongly"
    )


def show(report: WhatIf, title: str, load_seconds: float) -> None:
    """Print a what-if as people read it."""
    typer.echo(f"What if: {title}. {summary(report)}")
    typer.echo(f"  read in {load_seconds:.1f} s, played in {report.seconds:.1f} s")
    for note in report.notes:
        typer.echo(f"  {note}")
    letters = dict(zip(ascii_uppercase, report.lines, strict=False))
    rows = [(letter, title_of(line), *cells_of(report, line)) for letter, line in letters.items()]
    table(("", "settings", *columns_of(report)), rows)
    what = "mean absolute error" if report.spec.task == "regression" else "accuracy"
    typer.echo(f"{what} over time, and below it where another version came (| promoted, R rolled back)")
    typer.echo(overlay({letter: line.course for letter, line in letters.items()}))
    typer.echo(lanes({letter: line.marks for letter, line in letters.items()}, report.rows))


def overlay(curves: dict[str, list[float | None]], width: int = WIDTH, height: int = HEIGHT) -> str:
    """Several lines in one chart, each drawn with its letter; the first ones lie on top.

    >>> print(overlay({"A": [0.0, 1.0], "B": [0.5, 0.5]}, width=2, height=3))
    1.00 │ A
    0.50 │BB
    0.00 │A
    """
    known = [value for curve in curves.values() for value in curve if value is not None]
    if not known:
        return ""
    low, high = min(known), max(known)
    high = high if high > low else low + 1.0
    grid = [[" "] * width for _ in range(height)]
    for letter, curve in reversed(curves.items()):
        for column in range(width):
            value = curve[min(len(curve) - 1, int((column + 0.999) * len(curve) / width))] if curve else None
            if value is not None:
                grid[round((high - value) / (high - low) * (height - 1))][column] = letter
    levels = [high - (high - low) * index / max(1, height - 1) for index in range(height)]
    rows = zip(levels, grid, strict=True)
    return "\n".join(f"{_level(level)} │{''.join(row)}".rstrip() for level, row in rows)


def _level(value: float) -> str:
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.3g}".rjust(4)


def lanes(marks: dict[str, Sequence[tuple[int, str]]], rows: int, width: int = WIDTH) -> str:
    """Where each setting changed the champion, one line a setting.

    >>> print(lanes({"A": [(1, "promote"), (8, "rollback")]}, rows=10, width=10))
       A │|      R
    """
    return "\n".join(_lane(letter, own, rows, width) for letter, own in marks.items())


def _lane(letter: str, marks: Sequence[tuple[int, str]], rows: int, width: int) -> str:
    lane = [" "] * width
    for row, kind in marks:
        lane[min(width - 1, max(0, (row - 1) * width // max(1, rows)))] = "R" if kind == "rollback" else "|"
    return f"   {letter} │{''.join(lane)}".rstrip()


def need_plot(path: Path) -> None:
    """Raise before the work, not after it, if the picture cannot be drawn."""
    if path.suffix.lower() not in (".png", ".svg"):
        raise InvalidError(f"--plot: {path} must end in .png or .svg")
    if find_spec("matplotlib") is None:
        raise MissingExtraError("--plot", "plot")


def plot(report: WhatIf, path: Path) -> None:
    """Draw all lines over time, and below them where each changed its champion, with matplotlib."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 6.0), dpi=150, layout="constrained")
    axes, below = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1.6])
    for place, line in enumerate(report.lines):
        at, values = zip(*_points(line), strict=True)
        asked = line.role == "setting"
        style = {"linewidth": 1.8 if asked else 0.9, "linestyle": "-" if asked else "--"}
        (drawn,) = axes.plot(at, values, label=title_of(line), **style)
        own = [row for row, _ in line.marks]
        below.plot(own, [-place] * len(own), "|", color=drawn.get_color(), markersize=7)
    axes.set_ylabel("mean absolute error" if report.spec.task == "regression" else "accuracy")
    below.set_yticks([-i for i in range(len(report.lines))], [line.name for line in report.lines], fontsize=6)
    below.set_xlabel("row (marks: another version came)")
    figure.legend(loc="outside upper center", ncols=4, fontsize="x-small")
    figure.savefig(path, format=path.suffix[1:].lower())


def _points(line: Played) -> Iterator[tuple[float, float]]:
    count = max(1, len(line.course))
    for place, value in enumerate(line.course):
        yield (place + 1) * line.rows / count, float("nan") if value is None else value
