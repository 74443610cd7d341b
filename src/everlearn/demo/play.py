"""Playing the demo: predict, label late, and watch what the loop makes of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import count, islice
from typing import Any

from rich.console import Console

from everlearn.client import Client
from everlearn.demo.board import Board, Screen
from everlearn.demo.stream import DELAY, DRIFT_AT, THRESHOLD, Item, make_spec, make_stream
from everlearn.errors import ConflictError

BATCH = 10
PACE = 40.0
_STRETCH = 300
_WORST = 100
_LOOK_EVERY = 0.5
_FIRST_STOP, _STOP_EVERY = 400, 50
"""The row by which the first version is due, and how many rows later the demo waits for the loop again."""
_PATIENCE = 20.0


@dataclass(frozen=True, slots=True)
class DemoReport:
    """What happened. The three accuracies are of what was served, an unanswered row counting as wrong.

    ``before``: the 300 rows before the change; ``worst``: the worst 100 in a row after it;
    ``after``: the last 300. ``recovered``: ``after`` is at or above the threshold.
    """

    model: str
    rows: int
    seconds: float
    drift_at: int
    threshold: float
    before: float
    worst: float
    after: float
    recovered: bool
    champion: int
    promotions: int
    refused: int

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON values, under the names of its fields."""
        return asdict(self)

    def sentence(self) -> str:
        """The report in words."""
        return (
            f"The demo served {self.rows:,} rows in {self.seconds:.0f} s: accuracy {self.before:.2f} before "
            f"the change at row {self.drift_at}, {self.worst:.2f} at worst after it, and {self.after:.2f} on "
            f"the last {_STRETCH} rows ({_count(self.promotions, 'promotion')}, "
            f"{_count(self.refused, 'candidate')} refused; version {self.champion} answers)."
        )


def run_demo(
    client: Client,
    console: Console | None = None,
    *,
    seed: int = 0,
    pace: float | None = PACE,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> DemoReport:
    """Play the demo on a running server and return what happened.

    ``pace`` is in rows a second (``None``: as fast as it goes); ``console`` is where to show it
    (``None``: nowhere). A demo that was broken off is taken up again: rows that the server knows are
    sent again at full speed and get their recorded answers.
    """
    stream = make_stream(seed)
    name, known = _open_model(client, stream, seed)
    board = Board(name, len(stream))
    player = _Player(client, stream, board, Screen(console), clock, sleep)
    with player.screen.showing(board):
        player.play(known, pace)
        player.settle()
    report = player.report()
    player.screen.say(report.sentence())
    return report


def _open_model(client: Client, stream: Sequence[Item], seed: int) -> tuple[str, int]:
    """The demo's model, new or unfinished, and how many rows it has served already."""
    for number in count(1):
        name = "demo" if number == 1 else f"demo-{number}"
        spec = make_spec(name, list(stream), seed)
        try:
            client.create_model(spec)
        except ConflictError:
            model = client.model(name)
            unfinished = model["log"]["labels"] < len(stream)
            if unfinished and model["spec"]["description"] == spec["description"]:
                return name, int(model["log"]["rows"])
        else:
            return name, 0
    raise AssertionError  # count() does not end


class _Player:
    def __init__(
        self,
        client: Client,
        stream: Sequence[Item],
        board: Board,
        screen: Screen,
        clock: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        self._client, self._stream, self._board = client, stream, board
        self.screen = screen
        self._clock, self._sleep = clock, sleep
        self._started = clock()
        self._looked = -_LOOK_EVERY
        self._paused = 0.0
        self._right: list[bool] = []

    def play(self, known: int, pace: float | None) -> None:
        """Send the whole stream: each row is predicted, and labelled ``DELAY`` rows later."""
        size = len(self._stream)
        for start in range(0, size + DELAY, BATCH):
            self._predict(self._stream[start : start + BATCH])
            self._label(self._stream[max(start - DELAY, 0) : max(start + BATCH - DELAY, 0)])
            self._look()
            if pace is not None and start >= known:
                if start >= _FIRST_STOP and start % _STOP_EVERY == 0:
                    self.settle()  # on a slow machine the stream would be over before the loop could act
                self._wait_until((start + BATCH - known) / pace)

    def settle(self) -> None:
        """Wait until the loop has taken everything in and no job is at work, within reason."""
        began = self._clock()
        while self._clock() < began + _PATIENCE:
            model = self._look(force=True)
            busy = model["state"] == "updating" or model["cursor"] < model["log"]["seq"]
            if not busy:
                break
            self._sleep(_LOOK_EVERY)
        self._paused += self._clock() - began

    def report(self) -> DemoReport:
        """What happened so far."""
        decisions = self._board.decisions
        after = _share(self._right[-_STRETCH:])
        tail = self._right[DRIFT_AT:]
        stretches = [_share(tail[i : i + _WORST]) for i in range(max(len(tail) - _WORST, 0) + 1)]
        return DemoReport(
            model=self._board.model,
            rows=len(self._right),
            seconds=round(self._elapsed(), 1),
            drift_at=DRIFT_AT,
            threshold=THRESHOLD,
            before=_share(self._right[DRIFT_AT - _STRETCH : DRIFT_AT]),
            worst=min(stretches),
            after=after,
            recovered=after >= THRESHOLD,
            champion=self._board.champion,
            promotions=sum(decision["kind"] == "promote" for decision in decisions),
            refused=sum(decision["kind"] == "refuse" for decision in decisions),
        )

    def _elapsed(self) -> float:
        return self._clock() - self._started

    def _predict(self, items: Sequence[Item]) -> None:
        if not items:
            return
        served = self._client.predict(
            self._board.model, [item.row for item in items], ids=[item.id for item in items]
        )
        self._right += [answer.value == item.truth for answer, item in zip(served, items, strict=True)]
        self._board.served += len(items)

    def _label(self, items: Sequence[Item]) -> None:
        if items:
            self._client.label(self._board.model, {item.id: item.truth for item in items})
            self._board.labelled += len(items)

    def _wait_until(self, moment: float) -> None:
        """Wait until so many seconds from the start, but for pauses, looking at the loop meanwhile."""
        while (left := moment + self._paused - self._elapsed()) > 0:
            self._sleep(min(left, _LOOK_EVERY))
            self._look()

    def _look(self, force: bool = False) -> Mapping[str, Any]:
        """Ask the server how it stands, not too often, and show it."""
        elapsed = self._elapsed()
        if not force and elapsed - self._looked < _LOOK_EVERY:
            return {}
        self._looked, self._board.seconds = elapsed, elapsed
        model = self._client.model(self._board.model)
        self._board.see(model)
        newest = list(islice(self._client.decisions(self._board.model, limit=50), 50))
        self.screen.show(self._board, self._board.hear(newest))
        return model


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _share(right: Sequence[bool]) -> float:
    return round(sum(right) / len(right), 4) if right else 0.0
