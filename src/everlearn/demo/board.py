"""What the demo shows while it plays: a live panel on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from everlearn.demo.stream import DRIFT_AT, PLANTED, THRESHOLD

_BARS = "▁▂▃▄▅▆▇█"
_STYLES = {"promote": "green", "refuse": "yellow", "warn": "red", "update": "cyan", "fail": "bold red"}
_SHOWN = 7
_WIDTH = 48


@dataclass(slots=True)
class Board:
    """What is known at a moment, as the API tells it. ``scores`` is the history of ``score``."""

    model: str
    rows: int
    served: int = 0
    labelled: int = 0
    champion: int = 0
    state: str = "insufficient labels"
    score: float | None = None
    scores: list[float] = field(default_factory=list)
    decisions: list[Mapping[str, Any]] = field(default_factory=list)
    seconds: float = 0.0

    def see(self, model: Mapping[str, Any]) -> None:
        """Take in the answer of ``GET /v1/models/{m}``."""
        self.champion, self.state = model["champion"], model["state"]
        window = model["scores"].get("served", {}).get("window", {})
        self.score = window.get("accuracy") if window.get("rows") else None
        if self.score is not None:
            self.scores.append(self.score)

    def hear(self, decisions: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """Take in the newest decisions, newest first; returns those that were not known, oldest first."""
        known = self.decisions[-1]["number"] if self.decisions else 0
        fresh = [decision for decision in reversed(decisions) if decision["number"] > known]
        self.decisions += fresh
        return fresh


def sparkline(values: Sequence[float]) -> str:
    """Values from 0 to 1 as bars.

    >>> sparkline([0.0, 0.5, 1.0])
    '▁▅█'
    """
    return "".join(_BARS[min(int(value * len(_BARS)), len(_BARS) - 1)] for value in values)


def in_words(decision: Mapping[str, Any]) -> str:
    """A decision as one line: ``#4 promote v2: accuracy 0.55 → 0.93, proven better …``."""
    version = f" v{decision['version']}" if decision.get("version") is not None else ""
    return f"#{decision['number']} {decision['kind']}{version}: {decision['reason']}"


def render(board: Board) -> RenderableType:
    """The live panel."""
    facts = Table.grid(padding=(0, 2))
    facts.add_row("served", f"{board.served:,} of {board.rows:,}", "labelled", f"{board.labelled:,}")
    facts.add_row("champion", f"version {board.champion}", "state", board.state)
    latest = [Text(in_words(d), style=_STYLES.get(d["kind"], "dim")) for d in board.decisions[-_SHOWN:]]
    title = f"everlearn demo · model {board.model} · {board.seconds:.0f} s"
    return Panel(
        Group(facts, _score(board), Text(), *latest, Text(), Text(PLANTED, style="dim")), title=title
    )


def _score(board: Board) -> Text:
    if board.score is None:
        return Text(f"accuracy  no matured labels yet (threshold {THRESHOLD:g})", style="dim")
    style = "bold green" if board.score >= THRESHOLD else "bold red"
    line = Text(f"accuracy  {board.score:.3f} (threshold {THRESHOLD:g})  ", style=style)
    drawn = _thinned(board.scores)
    for value, bar in zip(drawn, sparkline(drawn), strict=True):
        line.append(bar, style="green" if value >= THRESHOLD else "red")
    if board.served > DRIFT_AT:
        line.append("  channels traded", style="dim")
    return line


def _thinned(values: Sequence[float]) -> list[float]:
    """At most ``_WIDTH`` of the values, spread evenly from the first to the newest."""
    if len(values) <= _WIDTH:
        return list(values)
    return [values[round(i * (len(values) - 1) / (_WIDTH - 1))] for i in range(_WIDTH)]


class Screen:
    """Shows a board on a console; ``console`` is ``None`` to show nothing."""

    def __init__(self, console: Console | None, every: float = 5.0) -> None:
        self._console, self._every = console, every
        self._live: Live | None = None
        self._said = 0.0

    @contextlib.contextmanager
    def showing(self, board: Board) -> Iterator[None]:
        """Keep the live panel on a terminal as long as the block runs."""
        if self._console is None or not self._console.is_terminal:
            self.say(PLANTED)
            yield
            return
        with Live(render(board), console=self._console, auto_refresh=False) as self._live:
            yield

    def show(self, board: Board, fresh: Sequence[Mapping[str, Any]]) -> None:
        """Show the board as it is now; ``fresh`` are decisions that are new on it."""
        if self._live is not None:
            self._live.update(render(board), refresh=True)
            return
        for decision in fresh:
            self.say(in_words(decision))
        if board.seconds - self._said >= self._every:
            self._said = board.seconds
            score = "no score yet" if board.score is None else f"accuracy {board.score:.3f}"
            self.say(
                f"{board.seconds:.0f} s: served {board.served:,}, labelled {board.labelled:,}, "
                f"{score} (threshold {THRESHOLD:g}), version {board.champion} answers, {board.state}"
            )

    def say(self, text: str) -> None:
        """Print a line; on a terminal it is broken between words."""
        if self._console is not None:
            whole = not self._console.is_terminal
            self._console.print(text, markup=False, highlight=False, soft_wrap=whole)
