"""``everlearn jobs``: the background work of a model; end a job, or have it tried again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from everlearn.cli.options import Data, Json, Key, Model, Url, Why

if TYPE_CHECKING:
    from everlearn.client import Client

app = typer.Typer(
    help="Show the background work of a model; cancel a job, or have it tried again.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

JobId = Annotated[
    str, typer.Argument(help="The job, as 'jobs list' names it.", metavar="JOB", show_default=False)
]


@app.command("list")
def list_jobs(
    model: Model,
    state: Annotated[
        str | None, typer.Option("--state", help="Only queued, running, done, failed, dead or cancelled.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many at most.")] = 20,
    url: Url = None,
    key: Key = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """List a model's jobs, newest first."""
    from everlearn.cli.connection import connect
    from everlearn.cli.output import moment, show_json, table

    with connect(url, key, data) as client:
        found = client.jobs(model, limit=1000 if state else min(limit, 1000))
        items = list(islice((job for job in found if state in (None, job["state"])), limit))
    if as_json:
        show_json({"items": items})
        return
    rows = [
        (
            job["id"],
            job["kind"],
            job["queue"],
            job["state"],
            f"{job['progress']:.0%}",
            job["attempts"],
            moment(job["created_at"]),
            job["error"],
        )
        for job in items
    ]
    table(("job", "kind", "queue", "state", "done", "attempts", "asked for", "error"), rows)


@app.command()
def show(
    model: Model, job: JobId, url: Url = None, key: Key = None, data: Data = None, as_json: Json = False
) -> None:
    """Show one job, with where its last error came from."""
    _tell(lambda client: client.job(model, job), url, key, data, as_json)


@app.command()
def cancel(
    model: Model,
    job: JobId,
    why: Why = None,
    url: Url = None,
    key: Key = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """End a job that waits or runs."""
    _tell(lambda client: client.cancel_job(model, job, why), url, key, data, as_json)


@app.command()
def retry(
    model: Model, job: JobId, url: Url = None, key: Key = None, data: Data = None, as_json: Json = False
) -> None:
    """Have a job tried again that is dead, failed or cancelled."""
    _tell(lambda client: client.retry_job(model, job), url, key, data, as_json)


def _tell(
    verb: Callable[[Client], Mapping[str, Any]],
    url: str | None,
    key: str | None,
    data: Path | None,
    as_json: bool,
) -> None:
    from everlearn.cli.connection import connect
    from everlearn.cli.output import moment, pairs, show_json

    with connect(url, key, data) as client:
        job = verb(client)
    if as_json:
        show_json(job)
        return
    facts = {name: job[name] for name in ("id", "kind", "queue", "state", "attempts", "version", "error")}
    times = {name: moment(job[f"{name}_at"]) for name in ("created", "started", "finished")}
    pairs({**facts, "progress": f"{job['progress']:.0%}", **times})
    if job["traceback"]:
        typer.echo(job["traceback"].rstrip())
