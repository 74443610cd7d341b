"""Stream the electricity market through a running server, over HTTP, and check what it did.

    python bench/live_elec.py [--kills 3] [--quick] [--json]

It starts ``everlearn up`` in a folder of its own, creates the model ``elec`` (``window`` learner,
threshold 0.75, label horizon of 500 rows, the column ``date`` left out), sends all rows in order in
batches, and labels each row 500 rows later. With ``--kills N`` every process of the server is killed
(``kill -9``) at N random moments and the server is started again.

``--pace settle`` (default) waits after each batch until the loop has read everything, no job is
queued or running, and the champion is what answers. In the real stream half an hour lies between two
rows, so a job of half a second ends between two rows; sending 50 rows at once would otherwise make
the updates come too late by as many rows as happen to be sent meanwhile. ``--pace RATE`` sends so
many rows a second, ``none`` all it can.

``--json`` prints one object:

rows            rows streamed
accuracy        prequential accuracy of what was served; no answer, or a failed request, counts as wrong
never_updated   the same if the first trained version had answered ever since it first did
gain            accuracy - never_updated
promotions      promotions in the ledger
unproven        promotions in the ledger without evidence
updates         updates that the loop asked for (retrains), promoted or not
refused         candidates that the gate refused
failed_requests predict and label requests given up
retried         predict and label requests that needed more than one attempt
p50_ms, p99_ms  of the predict requests, batch and all
seconds         of the stream, and rows_per_second
kills           how often the server was killed
lost            acknowledged predictions and labels that the log lacks, or holds otherwise
doubled         acknowledged predictions and labels that the log holds more than once
verify          verdict of ``everlearn replay --recorded elec --verify``: "identical", "different", or null

The exit code is 0 if nothing failed, was lost or doubled, and the verdict is "identical"; else 1.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from everlearn.client import Client
from everlearn.errors import EverlearnError
from live_record import MODEL, Record, count_log, first_digest, never_updated, row_id, share_right, verdict
from live_server import LiveServer, count_first

TARGET = "class"
QUICK_ROWS = 6000
DEFAULT_FILE = Path(__file__).resolve().parents[2] / "shared" / "data" / "elec.csv"
SETTLE_SECONDS = 300.0


def load_rows(file: Path, limit: int | None) -> tuple[list[dict[str, float]], list[str]]:
    import pandas as pd

    if not file.is_file():
        raise SystemExit(f"{file} is not there: give the electricity data with --data FILE")
    frame = pd.read_csv(file, nrows=limit)
    features = frame.drop(columns=["date", TARGET], errors="ignore").astype(float)
    return features.to_dict("records"), frame[TARGET].astype(str).tolist()


def make_spec(columns: list[str], delay: int, seed: int) -> dict[str, Any]:
    return {
        "name": MODEL,
        "task": "classification",
        "target": TARGET,
        "features": dict.fromkeys(columns, "numeric"),
        "learner": {"name": "window"},
        "metric": "accuracy",
        "threshold": 0.75,
        "label_horizon": {"rows": delay},
        "seed": seed,
    }


class Pace:
    """How fast the stream goes: ``settle``, ``none``, or rows a second."""

    def __init__(self, client: Client, pace: str) -> None:
        self._client, self._settles = client, pace == "settle"
        self._rate = None if pace in ("settle", "none") else float(pace)
        self._started = time.monotonic()

    def wait(self, sent: int) -> None:
        """Wait as long as the pace asks after so many rows."""
        if self._settles:
            settle(self._client)
        elif self._rate is not None:
            time.sleep(max(0.0, self._started + sent / self._rate - time.monotonic()))


def settle(client: Client) -> None:
    """Wait until the loop has read the whole log, no job is at work, and the champion answers."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while time.monotonic() < deadline:
        model = client.model(MODEL)
        read = model["cursor"] == model["log"]["seq"] and model["state"] != "updating"
        if read and model["serving"] in (None, model["champion"]):
            return
        time.sleep(0.01)
    raise RuntimeError(f"the loop did not settle within {SETTLE_SECONDS:.0f} s: {client.model(MODEL)}")


class Killer(threading.Thread):
    """Kills the server at random moments of the stream, and starts it again.

    Every other kill, from the first, waits for a predict or label request to be in flight.
    """

    def __init__(self, server: LiveServer, moments: list[int], record: Record, seed: int) -> None:
        super().__init__(daemon=True)
        self._server, self._moments, self._record = server, moments, record
        self._random = random.Random(seed)
        self.error: BaseException | None = None
        self.kills = 0

    def run(self) -> None:  # noqa: D102 - of Thread
        try:
            for moment in self._moments:
                while len(self._record.answers) < moment:
                    time.sleep(0.002)
                time.sleep(self._random.uniform(0.0, 0.3))
                if self.kills % 2 == 0:
                    self._record.in_flight.wait(10)
                    time.sleep(self._random.uniform(0.0, 0.005))
                self._server.kill()
                self.kills += 1
                self._server.start()
        except BaseException as error:
            self.error = error

    def check(self) -> None:
        """Raise what went wrong in the thread."""
        if self.error is not None:
            raise RuntimeError("the server could not be started again") from self.error


def stream(
    client: Client,
    rows: list[dict[str, float]],
    truths: list[str],
    options: argparse.Namespace,
    record: Record,
    killer: Killer,
    console: Console,
) -> None:
    """Send everything: each batch is predicted, then the rows that are ``delay`` older are labelled."""
    pace, size, started = Pace(client, options.pace), len(rows), time.monotonic()
    with Progress(console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("streaming", total=size)
        for start in range(0, size + options.delay, options.batch):
            end = start + options.batch
            predict(client, rows, range(start, min(end, size)), record)
            label(
                client, truths, range(max(start - options.delay, 0), min(end - options.delay, size)), record
            )
            killer.check()
            pace.wait(min(end, size))
            progress.update(task, completed=min(end, size))
    record.seconds = time.monotonic() - started


def predict(client: Client, rows: list[dict[str, float]], which: range, record: Record) -> None:
    if not which:
        return
    started = time.perf_counter()
    record.in_flight.set()
    try:
        served = client.predict(MODEL, [rows[n] for n in which], ids=[row_id(n) for n in which])
    except EverlearnError as error:
        record.failed.append(f"predict {which}: {error}")
        return
    finally:
        record.in_flight.clear()
    record.latencies.append(time.perf_counter() - started)
    record.answers.update((answer.id, answer) for answer in served)


def label(client: Client, truths: list[str], which: range, record: Record) -> None:
    labels = {row_id(n): truths[n] for n in which if row_id(n) in record.answers}
    if not labels:
        return
    record.in_flight.set()
    try:
        receipt = client.label(MODEL, labels)
    except EverlearnError as error:
        record.failed.append(f"label {which}: {error}")
        return
    finally:
        record.in_flight.clear()
    if receipt.conflict or receipt.parked:
        record.failed.append(f"label {which}: {receipt}")
    record.labels.update(labels)


def run(options: argparse.Namespace, folder: Path, console: Console) -> dict[str, Any]:
    rows, truths = load_rows(options.data, QUICK_ROWS if options.quick else None)
    record, retried = Record(), list[str]()
    draw = random.Random(options.seed)
    moments = sorted(
        draw.randrange(len(rows) // 20, len(rows) - len(rows) // 20) for _ in range(options.kills)
    )
    data = folder / "data"
    with (
        LiveServer(data, mlflow=not options.no_mlflow) as server,
        server.client(count_first(retried)) as client,
    ):
        client.create_model(make_spec(list(rows[0]), options.delay, options.seed))
        killer = Killer(server, moments, record, options.seed)
        killer.start()
        stream(client, rows, truths, options, record, killer, console)
        killer.join(600)
        killer.check()
        settle(client)
        decisions = list(islice(client.decisions(MODEL, limit=1000), 100_000))
        digest = first_digest(client, record)
    console.print("checking the log, the first version and the record", style="dim")
    return report(data, rows, truths, record, decisions, digest, len(retried), killer.kills)


def report(
    data: Path,
    rows: list[dict[str, float]],
    truths: list[str],
    record: Record,
    decisions: list[dict[str, Any]],
    digest: str | None,
    retried: int,
    kills: int,
) -> dict[str, Any]:
    kinds = Counter(decision["kind"] for decision in decisions)
    answers = [record.answers.get(row_id(n)) for n in range(len(rows))]
    accuracy = share_right([answer.value if answer else None for answer in answers], truths)
    stale = never_updated(data, digest, rows, truths, record)
    lost, doubled = count_log(data, record)
    p50, p99 = np.percentile(np.array(record.latencies or [0.0]) * 1000, [50, 99])
    for failure in record.failed:
        sys.stderr.write(f"failed: {failure}\n")
    return {
        "rows": len(rows),
        "accuracy": round(accuracy, 4),
        "never_updated": round(stale, 4),
        "gain": round(accuracy - stale, 4),
        "promotions": kinds["promote"],
        "unproven": sum(d["kind"] == "promote" and not d["evidence"] for d in decisions),
        "updates": kinds["update"],
        "refused": kinds["refuse"],
        "failed_requests": len(record.failed),
        "retried": retried,
        "p50_ms": round(float(p50), 2),
        "p99_ms": round(float(p99), 2),
        "seconds": round(record.seconds, 1),
        "rows_per_second": round(len(rows) / max(record.seconds, 1e-9), 1),
        "kills": kills,
        "lost": lost,
        "doubled": doubled,
        "verify": verdict(data),
    }


def show(result: dict[str, Any]) -> None:
    table = Table("figure", "value", title="The electricity market, live over HTTP")
    for name, value in result.items():
        table.add_row(name, f"{value:,}" if isinstance(value, int) else str(value))
    Console().print(table)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=DEFAULT_FILE, help="the electricity CSV")
    parser.add_argument("--batch", type=int, default=50, help="rows a predict request [50]")
    parser.add_argument("--delay", type=int, default=500, help="how many rows late labels are [500]")
    parser.add_argument("--pace", default="settle", help="settle, none, or rows a second [settle]")
    parser.add_argument("--kills", type=int, default=0, help="how often to kill -9 the server [0]")
    parser.add_argument("--seed", type=int, default=0, help="of the learner and of the kills [0]")
    parser.add_argument("--quick", action="store_true", help=f"the first {QUICK_ROWS:,} rows only")
    parser.add_argument("--no-mlflow", action="store_true", help="run the server without its MLflow mirror")
    parser.add_argument("--keep", type=Path, help="use this folder, which must be new, and keep it")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    if options.kills and not Path("/proc").is_dir():
        parser.error("--kills needs Linux: it finds the server's processes in /proc")
    return options


def main() -> int:
    options, console = parse(), Console(stderr=True)
    if options.keep is not None:
        options.keep.mkdir(parents=True)
        result = run(options, options.keep, console)
    else:
        with tempfile.TemporaryDirectory(prefix="everlearn-bench-", ignore_cleanup_errors=True) as folder:
            result = run(options, Path(folder), console)
    if options.json:
        print(json.dumps(result))
    else:
        show(result)
    sound = not (result["failed_requests"] or result["lost"] or result["doubled"] or result["unproven"])
    return 0 if sound and result["verify"] == "identical" else 1


if __name__ == "__main__":
    sys.exit(main())
