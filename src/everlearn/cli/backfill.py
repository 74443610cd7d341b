"""``everlearn backfill``: what a version would have answered, worked out by the server's workers."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from everlearn.cli.options import Data, Json, Key, Model, Url
from everlearn.errors import EverlearnError

if TYPE_CHECKING:
    from everlearn.client import Client

POLL_SECONDS = 0.5
SECONDS_A_JOB = 0.005
"""What asking costs more for each part: those of a thousand are looked at every five seconds."""

Record = Mapping[str, Any]


def backfill(
    model: Model,
    version: Annotated[
        int | None, typer.Option("--version", min=1, help="The version that answers [the champion].")
    ] = None,
    since: Annotated[
        str | None, typer.Option("--since", help="Only predictions since: 30d, a date or a time.")
    ] = None,
    until: Annotated[
        str | None, typer.Option("--until", help="Only predictions up to then; like --since.")
    ] = None,
    after: Annotated[int | None, typer.Option("--after", min=0, help="Only after this position.")] = None,
    upto: Annotated[int | None, typer.Option("--upto", min=0, help="Only up to this position.")] = None,
    part_rows: Annotated[
        int | None, typer.Option("--part-rows", min=1, help="Positions of a job [20000].")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Write the rows: .parquet, .csv, .ndjson or .arrow.")
    ] = None,
    url: Url = None,
    key: Key = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Have a version answer the log again, and compare it with what was served.

    The workers of the server do it, a job for each part of the log; this waits for them. Interrupted, it ends
    what is not done.
    """
    from everlearn.cli.connection import connect
    from everlearn.cli.output import show_json
    from everlearn.client.backfills import kind_of

    if out is not None:
        kind_of(out)  # told now, and not after the work
    begin, end = _time("--since", since), _time("--until", until)
    with connect(url, key, data) as client:
        asked = client.backfill(
            model, version, after=after, upto=upto, since=begin, until=end, part_rows=part_rows
        )
        report = _finished(client, model, asked["id"], as_json)
        if out is not None:
            client.backfill_rows(model, asked["id"], out)
    if as_json:
        show_json({"id": asked["id"], "model": model, **report, "out": None if out is None else str(out)})
        return
    _show(model, asked["id"], report, out)


def _time(option: str, text: str | None) -> float | None:
    """A time, a date or so long ago as seconds; ``all`` is no limit."""
    from everlearn.cli.model_report import moment

    return None if text is None else moment(text, time.time(), option)


def _finished(client: Client, model: str, id: str, quiet: bool) -> Record:  # noqa: A002
    """The report; when interrupted, what is not done is cancelled."""
    try:
        return _wait(client, model, id, quiet)
    except BaseException:
        client.cancel_backfill(model, id)
        raise


def _wait(client: Client, model: str, id: str, quiet: bool) -> Record:  # noqa: A002
    from everlearn.cli.output import progress

    with progress(f"backfill: {model}", quiet=quiet) as told:
        while True:
            found = client.backfill_report(model, id)
            told(round(found["progress"] * 1000), 1000)
            if found["state"] == "done":
                report: Record = found["report"]
                return report
            wrong = [job for job in found["jobs"] if job["state"] in ("failed", "dead", "cancelled")]
            if wrong or found["state"] == "erased":
                raise EverlearnError(_why(wrong))
            time.sleep(POLL_SECONDS + SECONDS_A_JOB * len(found["jobs"]))


def _why(wrong: list[Record]) -> str:
    if not wrong:
        return "Rows were erased since it was asked for: ask for a new backfill"
    name, error = wrong[0]["arguments"]["name"], wrong[0]["error"]
    return f"The positions {name} could not be answered: {error}"


def _show(model: str, id: str, report: Record, out: Path | None) -> None:  # noqa: A002
    from everlearn.cli.output import pairs, safe, table

    agreement = report["agreement"]
    pairs(
        {
            "model": model,
            "backfill": id,
            "version": report["version"],
            "positions": f"{report['after'] + 1} to {report['upto']}, in {len(report['parts'])} parts",
            "rows": f"{report['rows']} ({report['labels']} labelled)",
            "same answer": None if agreement is None else f"{agreement:.2%}",
            "took": f"{report['seconds']:.1f} s ({report['compute_seconds']:.1f} s of work)",
        }
    )
    typer.echo("")
    mine, theirs = report["scores"]["version"], report["scores"]["served"]
    rows = [(name, mine[name], theirs[name]) for name in mine]
    table(("", f"version {report['version']}", "as it was served"), rows)
    for note in report["notes"]:
        typer.echo(f"note: {safe(note)}")
    if out is not None:
        typer.echo(f"wrote {report['rows']} rows to {out}")
