"""A what-if as one HTML file that stands by itself: no script, no picture file, no other host.

The figure is inline SVG. Colours follow the reader's light or dark setting.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from html import escape
from typing import TYPE_CHECKING

from everlearn import __version__
from everlearn.cli.output import cell
from everlearn.cli.what_if_report import cells_of, columns_of, summary, title_of
from everlearn.cli.what_if_style import STYLE

if TYPE_CHECKING:
    from everlearn.loop.whatif import Played, WhatIf

LEFT, RIGHT, TOP, PLOT, LANE = 190, 940, 12, 300, 17
COLOURS = 10
STEPS = 5
NAME = 30

HELP = {
    "Settings": """What was asked for comes first. Each line is the same stream of predictions and labels, in
        the same order and with the same delays, played through the same loop under other settings.""",
    "Regret": """What the line cost beyond the oracle: the sum of its losses (a wrong answer is 1; for numbers
        the absolute error) and the price of each training after the first, less the same of the oracle.
        The oracle updates at the points of a grid only: a line that acts between them can come out below
        0.""",
    "Oracle": """The sequence of updates that costs least, found when all labels were known. Nobody can play
        it.""",
    "Never, best cadence, CUSUM, always": """What teams do without a loop: keep the first version, retrain by
        the calendar (the best cadence is picked in hindsight), after an alarm, or all the time, and put every
        result into service without a gate.""",
    "Updates and trained": "How often another version came to answer, and how many were made.",
    "Compute": "The seconds that the trainings take by themselves on the machine that wrote this.",
    "Labels used": "How many different labelled rows the versions were made from.",
}


def page(report: WhatIf, title: str) -> str:
    """The whole page."""
    name = escape(title)
    parts = [
        f'<header><p class="kind">everlearn what-if</p><h1>{name}</h1>',
        f"<p>{escape(summary(report))}</p></header>",
        f'<p class="lead">{_headline(report)}</p>',
        f"<section><h2>Results</h2>{_table(report)}</section>",
        f"<section><h2>{_what(report)} over time</h2>{figure(report)}{_legend(report)}</section>",
        f"<section><h2>How to read it</h2><dl>{''.join(_help())}</dl></section>",
        f"<section><h2>Settings</h2>{''.join(_settings(report))}</section>",
    ]
    notes = "".join(f"<li>{escape(note)}</li>" for note in report.notes)
    if notes:
        parts.insert(-2, f"<section><h2>Notes</h2><ul>{notes}</ul></section>")
    footer = f"<footer>everlearn {__version__}; {report.events} events a line.</footer>"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>What if: {name}</title><style>{STYLE}</style></head>\n"
        f"<body><main>{''.join(parts)}{footer}</main></body></html>\n"
    )


def _what(report: WhatIf) -> str:
    return "Mean absolute error" if report.spec.task == "regression" else "Accuracy"


def _headline(report: WhatIf) -> str:
    """One sentence: how the best of the settings stands against the best of the references."""
    best = report.best
    rivals = [line for line in report.lines if line.role in ("never", "cadence", "cusum", "always")]
    if not rivals:
        return ""
    rival = min(rivals, key=lambda line: line.cost)
    gap = rival.cost - best.cost
    word = f"{abs(gap):.1f} {'less' if gap > 0 else 'more'} than" if round(gap, 1) else "as much as"
    return (
        f"<strong>{escape(best.name)}</strong> cost {word} the best reference, "
        f"<strong>{escape(title_of(rival))}</strong> ({best.cost:.1f} against {rival.cost:.1f})."
    )


def _table(report: WhatIf) -> str:
    heads = "".join(f"<th>{escape(name)}</th>" for name in columns_of(report))
    rows = []
    for place, line in enumerate(report.lines):
        cells = "".join(f"<td>{escape(cell(value))}</td>" for value in cells_of(report, line))
        rows.append(
            f'<tr class="{_kind(line)}"><th>{_swatch(place)}{escape(title_of(line))}</th>{cells}</tr>'
        )
    body = f"<thead><tr><th></th>{heads}</tr></thead><tbody>{''.join(rows)}</tbody>"
    return f'<div class="wide"><table>{body}</table></div>'


def _swatch(place: int) -> str:
    return f'<i class="swatch c{place % COLOURS}"></i>'


def _kind(line: Played) -> str:
    return "asked" if line.role == "setting" else "beside"


def _legend(report: WhatIf) -> str:
    items = (
        f'<li class="{_kind(line)}">{_swatch(place)}{escape(title_of(line))}</li>'
        for place, line in enumerate(report.lines)
    )
    return (
        f'<ul class="legend">{"".join(items)}</ul><p class="small">Solid: the settings asked for. '
        "Dashed: what they are compared with. Below the lines, a mark where another version came "
        "(long: rolled back).</p>"
    )


# -- the figure --------------------------------------------------------------------------------------


def figure(report: WhatIf) -> str:
    """The courses as lines, and a lane a setting with its changes of champion."""
    known = [value for line in report.lines for value in line.course if value is not None]
    low, high = _range(*((min(known), max(known)) if known else (0.0, 1.0)))
    height = TOP + PLOT + 34 + LANE * len(report.lines)
    parts = [*_axes(low, high, report.rows)]
    for place, line in reversed(list(enumerate(report.lines))):
        parts.append(_line(line, place, low, high))
    for place, line in enumerate(report.lines):
        parts.append(_lane(line, place, report.rows))
    opening = f'<svg viewBox="0 0 960 {height}" role="img" aria-label="{_what(report)} over time">'
    return f'<div class="wide">{opening}{"".join(parts)}</svg></div>'


def _range(low: float, high: float) -> tuple[float, float]:
    """Round bounds around the values, :data:`STEPS` round steps apart.

    >>> _range(0.0, 1.0), _range(0.71, 0.93), _range(12.0, 12.0)
    ((0.0, 1.0), (0.7, 0.95), (12.0, 17.0))
    """
    least = (high - low) / STEPS or max(abs(high), 1.0) / (4 * STEPS)
    for rough in range(2):
        power = 10.0 ** math.floor(math.log10(least)) * 10.0**rough
        for step in (power * n for n in (1, 2, 2.5, 5)):
            bottom = math.floor(low / step + 1e-9) * step
            if step >= least * (1 - 1e-9) and bottom + STEPS * step >= high - 1e-9 * step:
                return round(bottom, 12), round(bottom + STEPS * step, 12)
    return low, high


def _x(share: float) -> float:
    return round(LEFT + (RIGHT - LEFT) * share, 1)


def _y(value: float, low: float, high: float) -> float:
    return round(TOP + PLOT * (high - value) / (high - low), 1)


def _axes(low: float, high: float, rows: int) -> Iterator[str]:
    for step in range(STEPS + 1):
        value = low + (high - low) * step / STEPS
        y = _y(value, low, high)
        yield f'<path class="grid" d="M{LEFT} {y}H{RIGHT}"/>'
        yield f'<text class="tick end" x="{LEFT - 8}" y="{y + 4}">{value:.3g}</text>'
    for step in range(6):
        x = _x(step / 5)
        yield f'<text class="tick mid" x="{x}" y="{TOP + PLOT + 18}">{round(rows * step / 5)}</text>'


def _line(line: Played, place: int, low: float, high: float) -> str:
    count, commands, pen = max(1, len(line.course)), [], "M"
    for i, value in enumerate(line.course):
        if value is None:
            pen = "M"
            continue
        commands.append(f"{pen}{_x((i + 1) / count)} {_y(value, low, high)}")
        pen = "L"
    title = f"<title>{escape(title_of(line))}</title>"
    return f'<path class="line {_kind(line)} c{place % COLOURS}" d="{"".join(commands)}">{title}</path>'


def _lane(line: Played, place: int, rows: int) -> str:
    middle = TOP + PLOT + 34 + LANE * place + LANE / 2
    name = line.name if len(line.name) <= NAME else line.name[: NAME - 1] + "…"
    marks = "".join(_mark(row, kind, middle, rows) for row, kind in line.marks)
    return (
        f'<text class="tick end" x="{LEFT - 8}" y="{middle + 4}">{escape(name)}</text>'
        f'<path class="grid" d="M{LEFT} {middle}H{RIGHT}"/>'
        f'<path class="mark c{place % COLOURS}" d="{marks}"><title>{line.updates} updates</title></path>'
    )


def _mark(row: int, kind: str, middle: float, rows: int) -> str:
    reach = 7 if kind == "rollback" else 5
    return f"M{_x((row - 1) / max(1, rows))} {middle - reach}v{2 * reach}"


# -- words ---------------------------------------------------------------------------------------------


def _help() -> Iterator[str]:
    for term, words in HELP.items():
        yield f"<dt>{escape(term)}</dt><dd>{escape(' '.join(words.split()))}</dd>"


def _settings(report: WhatIf) -> Iterator[str]:
    for line in report.lines:
        told = json.dumps(line.settings, indent=2, ensure_ascii=False)
        yield f"<details><summary>{escape(title_of(line))}</summary><pre>{escape(told)}</pre></details>"
