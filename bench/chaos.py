"""Break everything, again and again, and count what was promised and not kept.

    python bench/chaos.py [--kills 50] [--seed N] [--plant] [--no-mlflow] [--keep FOLDER] [--quick] [--json]

It starts an installation of its own: two API processes on one address, two Celery workers, a scheduler, an
MLflow mirror, PostgreSQL, Redis and MLflow. Clients send predictions and labels of two models, whose world
changes again and again, while one process at a time, chosen at random, is killed (``kill -9``) and started
again by whoever keeps it running. Meanwhile PostgreSQL is restarted twice (once orderly, once as a crash),
Redis is restarted twice and flushed once (it keeps nothing on disk), and MLflow is down for a third of the
time. At the end the clients' own history is compared with the log, the ledger and the versions, and the
record is folded again.

Needs the programs of PostgreSQL and Redis, and the extras ``celery``, ``postgres`` and ``mlflow``.

``--plant`` puts each of six faults into a copy of the database afterwards, and says whether the checker sees
it. ``--quick`` is three kills, without MLflow. ``--json`` prints one object:

acknowledged     predictions and labels that a client was told are there
lost             of them, those that the log lacks, or holds otherwise
doubled          those that it holds more than once
two_champions    looks at the database at which a model had not exactly one champion, or one term had two
out_of_order     promotions that are not the next one, or that no decision of their own tells of
replay_differs   decisions and versions that the record, folded again, does not give
wrong_version    answers that the version they name does not give
kills            processes killed
killed           {name: how many of its processes}
restarts         {"postgres", "redis", "flushed", "mlflow_down_share"}
failed           requests that a client gave up
promotions, decisions, versions   of both models
unsettled        models whose loop or jobs had not come to rest in two minutes after the end
planted          {fault: whether the checker saw it}, with --plant
rows_per_second, seconds, seed

The exit code is 0 if nothing is wrong, and every planted fault was seen.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

import chaos_check
from chaos_check import PLANTS, History
from chaos_world import Missing, World, until
from everlearn.errors import EverlearnError

FEATURES = ("price", "demand", "hour")
POLICY = {"first_rows": 150, "min_labels": 60, "window": 120, "cooldown": 80, "check_every": 20}
SHARED = {
    "target": "way",
    "features": dict.fromkeys(FEATURES, "numeric"),
    "threshold": 0.85,
    "label_horizon": {"rows": 40},
    "policy": POLICY,
    "gate": {"holdout": 80, "min_rows": 20},
}
SPECS: tuple[dict[str, Any], ...] = (
    {"name": "triggered", "learner": {"name": "window", "size": 600, "estimator": "logistic"}, **SHARED},
    {"name": "stream", "learner": {"name": "linear"}, "update": "stream", **SHARED},
)
CLIENTS = 3
TURN = 1500
"""Rows after which the opposite becomes true."""

DELAY = 120
"""Rows of a client after which it sends their labels."""

PAUSE = (0.5, 4.0)
"""Seconds between two kills: some come while the last one's process is not yet back."""

SETTLE_SECONDS = 120.0


class Clients:
    """Threads that send rows and, later, their labels, and keep what they are told."""

    def __init__(self, world: World, history: History, seed: int) -> None:
        self._world, self._history, self._seed = world, history, seed
        self._over = threading.Event()
        self._rows = 0
        self._threads = [
            threading.Thread(target=self._run, args=(number,), daemon=True) for number in range(CLIENTS)
        ]

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(300)

    @property
    def rows(self) -> int:
        """How many were sent."""
        return self._rows

    def _run(self, number: int) -> None:
        draw = random.Random(self._seed * 1000 + number)
        behind: deque[tuple[str, str]] = deque()
        sent = 0
        with self._world.client() as client:
            while not self._over.is_set():
                rows = [{name: draw.random() for name in FEATURES} for _ in range(draw.randint(1, 20))]
                turned = self._rows // TURN % 2 == 1
                truths = ["up" if (row["price"] > row["demand"]) != turned else "down" for row in rows]
                ids = [f"{number}-{sent + i}" for i in range(len(rows))]
                sent += len(rows)
                with self._history.lock:
                    self._rows += len(rows)
                for spec in SPECS:
                    self._predict(client, spec["name"], rows, ids)
                behind.extend(zip(ids, truths, strict=True))
                while len(behind) > DELAY:
                    some = dict(behind.popleft() for _ in range(min(20, len(behind))))
                    for spec in SPECS:
                        self._label(client, spec["name"], some)
                self._over.wait(draw.uniform(0.0, 0.1))

    def _predict(self, client: Any, model: str, rows: list[dict[str, float]], ids: list[str]) -> None:
        try:
            answers = client.predict(model, rows, ids=ids)
        except EverlearnError as error:
            self._history.failed.append(f"predict {model} {ids[0]}: {error}")
            return
        with self._history.lock:
            for row, answer in zip(rows, answers, strict=True):
                self._history.answers[model, answer.id] = answer
                self._history.features[model, answer.id] = row

    def _label(self, client: Any, model: str, labels: dict[str, str]) -> None:
        known = {key: value for key, value in labels.items() if (model, key) in self._history.answers}
        if not known:
            return
        try:
            receipt = client.label(model, known)
        except EverlearnError as error:
            self._history.failed.append(f"label {model}: {error}")
            return
        if receipt.conflict or receipt.parked:
            self._history.failed.append(f"label {model}: {receipt}")
        with self._history.lock:
            self._history.labels.update(((model, key), value) for key, value in known.items())


class Observer:
    """Looks at who is champion, twenty times a second, whenever the database answers."""

    def __init__(self, world: World, history: History) -> None:
        self._world, self._history = world, history
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Observer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(30)

    def _run(self) -> None:
        while not self._over.is_set():
            with contextlib.suppress(Exception), self._world.postgres.connect() as connection:
                while not self._over.wait(0.05):
                    chaos_check.look(connection, self._history)
            self._over.wait(0.05)


class Breaker:
    """Kills processes at random, and at set moments the servers that they need."""

    def __init__(self, world: World, kills: int, seed: int) -> None:
        self._world, self._wanted = world, kills
        self._draw = random.Random(seed)
        self.killed: Counter[str] = Counter()
        self.restarts: Counter[str] = Counter()
        self._down: float | None = None
        self.seconds = self.seconds_down = 0.0

    @property
    def kills(self) -> int:
        """How many processes are dead by it."""
        return self.killed.total()

    def _moments(self) -> dict[int, list[Callable[[], None]]]:
        """What else happens before which kill."""
        world, n = self._world, self._wanted
        found: dict[int, list[Callable[[], None]]] = {}
        for share, act in (
            (1 / 4, lambda: self._restart("postgres", signal.SIGINT)),
            (3 / 4, lambda: self._restart("postgres", signal.SIGQUIT)),
            (1 / 3, lambda: self._restart("redis", signal.SIGKILL)),
            (2 / 3, lambda: self._restart("redis", signal.SIGTERM)),
            (1 / 2, self._flush),
            *(((1 / 3, self._mlflow_down), (2 / 3, self._mlflow_up)) if world.mlflow else ()),
        ):
            found.setdefault(int(n * share), []).append(act)
        return found

    def run(self, tell: Callable[[int], None]) -> None:
        """Do all of it; ``tell`` is called with each kill."""
        started, moments = time.monotonic(), self._moments()
        while self.kills < self._wanted:
            for act in moments.pop(self.kills, ()):
                act()
            part = self._draw.choice(self._world.parts)
            if part.kill(self._draw) is not None:
                self.killed[part.name] += 1
                tell(self.kills)
            time.sleep(self._draw.uniform(*PAUSE))
        for acts in moments.values():
            for act in acts:
                act()
        self._mlflow_up()
        self.seconds = time.monotonic() - started

    def _restart(self, name: str, number: int) -> None:
        (self._world.postgres if name == "postgres" else self._world.redis).restart(number)
        self.restarts[name] += 1

    def _flush(self) -> None:
        self._world.redis.flush()
        self.restarts["flushed"] += 1

    def _mlflow_down(self) -> None:
        if self._world.mlflow is not None:
            self._world.mlflow.end(signal.SIGKILL)
            self._down = time.monotonic()

    def _mlflow_up(self) -> None:
        if self._world.mlflow is not None and self._down is not None:
            self._world.mlflow.start()
            self.seconds_down, self._down = time.monotonic() - self._down, None


def settle(world: World) -> int:
    """Wait until every loop has read its log and no job waits; how many models have not come so far."""
    query = """
        SELECT count(*) FROM models m WHERE m.cursor < m.last_seq
        OR EXISTS (SELECT 1 FROM jobs j WHERE j.model_id = m.id AND j.state IN ('queued', 'running'))
    """
    deadline, left = time.monotonic() + SETTLE_SECONDS, 1
    while left and time.monotonic() < deadline:
        time.sleep(0.5)
        with contextlib.suppress(Exception), world.postgres.connect() as connection:
            left = int(connection.execute(query).fetchone()[0])
    return left


def warm(world: World) -> None:
    """Wait until each model has promoted a version, so that there is something to lose."""
    with world.postgres.connect() as connection:
        until(lambda: connection.execute("SELECT min(term) FROM models").fetchone()[0] > 0, "a champion")


def counted(world: World) -> dict[str, int]:
    """How much happened."""
    with world.postgres.connect() as connection:
        return {
            "promotions": connection.execute("SELECT coalesce(sum(term), 0) FROM models").fetchone()[0],
            "decisions": connection.execute("SELECT count(*) FROM decisions").fetchone()[0],
            "versions": connection.execute("SELECT count(*) FROM versions WHERE number > 0").fetchone()[0],
        }


def run(options: argparse.Namespace, folder: Path, console: Console) -> dict[str, Any]:
    begun = time.monotonic()
    history = History()
    console.print("starting PostgreSQL, Redis, MLflow and everlearn", style="dim")
    with World(folder, options.seed, mlflow=options.mlflow) as world:
        with world.client() as client:
            for spec in SPECS:
                client.create_model({**spec, "seed": options.seed})
        breaker = Breaker(world, options.kills, options.seed)
        with Progress(console=console, disable=not console.is_terminal) as progress:
            task = progress.add_task("killing", total=options.kills)
            with Observer(world, history):
                started = time.monotonic()
                with Clients(world, history, options.seed) as clients:
                    warm(world)
                    breaker.run(lambda kills: progress.update(task, completed=kills))
                    time.sleep(5.0)
                rate = clients.rows / (time.monotonic() - started)
                console.print("waiting until the loops have come to rest", style="dim")
                unsettled = settle(world)
        world.stop_parts()
        console.print("checking the history, and folding the record again", style="dim")
        result: dict[str, Any] = {"acknowledged": history.acknowledged}
        result |= chaos_check.check(world.postgres.url, world.data, history)
        result |= {
            "kills": breaker.kills,
            "killed": dict(sorted(breaker.killed.items())),
            "restarts": {
                **breaker.restarts,
                "mlflow_down_share": round(breaker.seconds_down / max(breaker.seconds, 1e-9), 2),
            },
            "failed": len(history.failed),
            **counted(world),
            "unsettled": unsettled,
        }
        if options.plant:
            result["planted"] = plant(world, history, console)
    for failure in history.failed[:20]:
        sys.stderr.write(f"failed: {failure}\n")
    result |= {"rows_per_second": round(rate, 1), "seconds": round(time.monotonic() - begun, 1)}
    return {**result, "seed": options.seed}


def plant(world: World, history: History, console: Console) -> dict[str, bool]:
    """Whether the checker sees each fault, put into a copy of the database."""
    seen = {}
    for name in PLANTS:
        console.print(f"planting {name}", style="dim")
        seen[name] = chaos_check.planted(name, world.postgres.copy(name), world.data, history)
    return seen


def wrong(result: dict[str, Any]) -> bool:
    """Whether anything is not as it must be."""
    counts = ("lost", "doubled", "two_champions", "out_of_order", "replay_differs", "wrong_version")
    faults = any(result[name] for name in (*counts, "failed", "unsettled"))
    return faults or not all(result.get("planted", {}).values())


def show(result: dict[str, Any]) -> None:
    table = Table("figure", "value", title="Breaking everything")
    for name, value in result.items():
        if isinstance(value, dict):
            value = ", ".join(f"{key} {count}" for key, count in value.items())
        table.add_row(name, f"{value:,}" if isinstance(value, int) else str(value))
    Console().print(table)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=None, help="processes to kill [50; --quick: 3]")
    parser.add_argument("--seed", type=int, default=0, help="of the clients, the kills and the learners [0]")
    parser.add_argument("--plant", action="store_true", help="see that the checker sees six planted faults")
    parser.add_argument("--no-mlflow", dest="mlflow", action="store_false", help="run without MLflow")
    parser.add_argument("--quick", action="store_true", help="three kills, without MLflow")
    parser.add_argument("--keep", type=Path, help="use this folder, which must be new, and keep it")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    if options.kills is None:
        options.kills = 3 if options.quick else 50
    options.mlflow = options.mlflow and not options.quick
    return options


def main() -> int:
    options, console = parse(), Console(stderr=True)
    folder = options.keep or Path(tempfile.mkdtemp(prefix="everlearn-chaos-"))
    if options.keep is not None:
        folder.mkdir(parents=True)
    try:
        result = run(options, folder, console)
    except Missing as error:
        console.print(str(error), style="red")
        return 2
    finally:
        if options.keep is None:
            shutil.rmtree(folder, ignore_errors=True)
    if options.json:
        print(json.dumps(result))
    else:
        show(result)
    return 1 if wrong(result) else 0


if __name__ == "__main__":
    sys.exit(main())
