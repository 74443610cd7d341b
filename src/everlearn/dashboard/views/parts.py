"""Pieces of HTML that pages share. All text that comes from outside is escaped here, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from everlearn.dashboard.pictures import shape


@dataclass(frozen=True, slots=True)
class Html:
    """Text that is HTML already; everything else is escaped."""

    text: str


LONG = 40
"""Characters above which a cell is text that may be broken into lines."""

Cell = str | int | Html
"""A cell of a table: text, or HTML of ours."""


def html(value: Cell) -> str:
    """A cell as HTML.

    >>> html("<img src=x onerror=alert(1)>"), html(Html("<b>ours</b>"))
    ('&lt;img src=x onerror=alert(1)&gt;', '<b>ours</b>')
    """
    return value.text if isinstance(value, Html) else escape(str(value))


def mark(word: str, tone: str, picture: str = "") -> Html:
    """A state as a word, a shape and a colour."""
    return Html(f'<span class="ev-mark ev-{tone}">{shape(picture) if picture else ""}{escape(word)}</span>')


def marks(items: Iterable[Html]) -> Html:
    """Marks in a row."""
    return Html(f'<div class="ev-marks">{"".join(item.text for item in items)}</div>')


def table(
    heads: Sequence[str], rows: Iterable[Sequence[Cell]], right: Sequence[int] = (), label: str = ""
) -> str:
    """A table that scrolls inside itself where it is too wide; columns in ``right`` hold numbers."""
    side = [' class="ev-right"' if place in right else "" for place in range(len(heads))]
    rows = [list(row) for row in rows]
    for place in range(len(heads)):
        if any(not isinstance(row[place], Html) and len(str(row[place])) > LONG for row in rows):
            side[place] = ' class="ev-text"'
    top = "".join(f'<th scope="col"{side[place]}>{escape(name)}</th>' for place, name in enumerate(heads))
    body = "".join(
        f"<tr>{''.join(f'<td{side[place]}>{html(cell)}</td>' for place, cell in enumerate(row))}</tr>"
        for row in rows
    )
    named = f' aria-label="{escape(label)}"' if label else ""
    return (
        f'<div class="ev-wide" tabindex="0" role="region"{named or " aria-label=Table"}>'
        f'<table class="ev-table"><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def facts(items: Iterable[tuple[str, Cell]]) -> str:
    """Names and values, one below the other."""
    told = "".join(f"<dt>{escape(name)}</dt><dd>{html(value)}</dd>" for name, value in items)
    return f'<dl class="ev-facts">{told}</dl>'


def notice(title: str, text: str, tone: str = "warn", role: str = "status") -> str:
    """A remark in a coloured frame."""
    return f'<div class="ev-notice ev-{tone}" role="{role}"><b>{escape(title)}</b> {escape(text)}</div>'


def empty(title: str, text: str, commands: str = "") -> str:
    """What stands where nothing is yet: why, and what to do next."""
    todo = f"<pre>{escape(commands)}</pre>" if commands else ""
    return f'<div class="ev-empty"><h2>{escape(title)}</h2><p>{escape(text)}</p>{todo}</div>'


def lead(text: str) -> str:
    """The first sentence of a page."""
    return f'<p class="ev-lead">{escape(text)}</p>'
