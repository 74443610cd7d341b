"""How commands print: JSON for programs, tables for people, progress on standard error."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

from everlearn.access.names import one_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

WIDE = 160
MAX_TEXT = 100_000
"""Characters of one cell."""


def show_json(value: Any) -> None:
    """Print a value as indented JSON; NaN and infinities become null."""
    text = json.dumps(_finite(value), ensure_ascii=False, indent=2, allow_nan=False, default=str)
    # JSON escapes most of what moves a cursor, but not all.
    typer.echo("".join(c if c.isprintable() or c == "\n" else f"\\u{ord(c):04x}" for c in text))


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_finite(item) for item in value]
    return value


def console(*, err: bool = False) -> Console:
    """A console that does not cut lines short when its output goes to a file."""
    from rich.console import Console

    made = Console(stderr=err, highlight=False, emoji=False)
    return made if made.is_terminal else Console(stderr=err, highlight=False, emoji=False, width=WIDE)


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, empty: str = "nothing yet") -> None:
    """Print a table; columns of numbers stand to the right."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    if not rows:
        typer.echo(empty)
        return
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for index, name in enumerate(columns):
        numbers = all(row[index] is None or _is_number(row[index]) for row in rows)
        made.add_column(name, justify="right" if numbers else "left", overflow="fold")
    for row in rows:
        made.add_row(*(Text(cell(value)) for value in row))
    shown = console()
    if shown.is_terminal:
        shown.print(made)
        return
    with shown.capture() as captured:  # rich fills lines up with blanks: of no use in a file or a pipe
        shown.print(made)
    typer.echo("\n".join(map(str.rstrip, captured.get().strip("\n").splitlines())).strip("\n"))


def pairs(facts: Mapping[str, object]) -> None:
    """Print names and values, one pair a line; a long value goes on below itself."""
    from textwrap import wrap

    width = max(map(len, facts), default=0)
    room = max(20, console().width - width - 2)
    for name, value in facts.items():
        first, *more = wrap(cell(value), room, break_on_hyphens=False) or [""]
        typer.echo(f"{name:<{width}}  {first}")
        for line in more:
            typer.echo(f"{'':<{width}}  {line}")


def cell(value: object) -> str:
    """A value as people read it.

    >>> cell(0.123456), cell(None), cell(True), cell({"rows": 500})
    ('0.1235', '-', 'yes', 'rows=500')
    """
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return "-" if math.isnan(value) else f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{cell(key)}={cell(item)}" for key, item in value.items())
    return safe(str(value))


def safe(text: str) -> str:
    r"""A text of whoever sent it, for a terminal: it breaks no line, and sends no escape sequence.

    >>> safe("gone\x1b[2J")
    'gone\\x1b[2J'
    """
    return one_line(text, MAX_TEXT)


def moment(text: str | None) -> str:
    """An ISO time of the API, to the second.

    >>> moment("2025-01-02T03:04:05.678901Z")
    '2025-01-02 03:04:05'
    """
    return "-" if not text else text[:19].replace("T", " ")


@contextmanager
def progress(title: str, *, quiet: bool) -> Iterator[Callable[[int, int | None], None]]:
    """A progress bar on standard error, if that is a terminal; yields ``report(done, total)``."""
    shown = console(err=True)
    if quiet or not shown.is_terminal:
        yield lambda done, total: None  # noqa: ARG005
        return
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=shown, transient=True) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
