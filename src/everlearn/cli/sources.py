"""``everlearn sources``: who gives the labels; put a source aside, let it in again, un-learn it."""

from __future__ import annotations

from typing import Annotated

import typer

from everlearn.cli.options import Data, Json, Key, Model, Url, Wait, Why
from everlearn.cli.steer import ask

app = typer.Typer(
    help="Show who gives the labels; put a source aside, or un-learn it.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Source = Annotated[
    str,
    typer.Argument(help="The source, as 'sources list' names it.", metavar="SOURCE", show_default=False),
]


@app.command("list")
def list_sources(
    model: Model, url: Url = None, key: Key = None, data: Data = None, as_json: Json = False
) -> None:
    """List who gives a model's labels, and what speaks against them."""
    from everlearn.cli.connection import connect
    from everlearn.cli.output import show_json, table

    with connect(url, key, data) as client:
        found = client.sources(model)
    if as_json:
        show_json(found)
        return
    rows = [
        (
            item["source"],
            item["state"] or "let in",
            item["labels"],
            item["examples"],
            item["left_out"],
            _percent(item["share"]),
            _percent(item["disagreement"]),
            _percent(item["others"]),
        )
        for item in found["items"]
    ]
    columns = ("source", "state", "labels", "examples", "left out", "share", "disagrees", "others")
    table(columns, rows, empty="no label came from a known source yet")


@app.command()
def quarantine(
    model: Model,
    source: Source,
    why: Why = None,
    wait: Wait = 10.0,
    url: Url = None,
    key: Key = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Put a source aside: what it gives is stored, but neither learned nor scored."""
    ask(lambda client: client.quarantine(model, source, why, wait=wait), url, key, data, as_json)


@app.command()
def release(
    model: Model,
    source: Source,
    why: Why = None,
    wait: Wait = 10.0,
    url: Url = None,
    key: Key = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Let a source in again."""
    ask(lambda client: client.release(model, source, why, wait=wait), url, key, data, as_json)


@app.command()
def unlearn(
    model: Model,
    source: Source,
    since: Annotated[
        int | None,
        typer.Option("--since", min=0, help="Only from this position of the log on.", show_default=False),
    ] = None,
    why: Why = None,
    wait: Wait = 10.0,
    url: Url = None,
    key: Key = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Take back what a source gave, and ask for a version without it."""
    ask(lambda client: client.unlearn(model, source, since, why, wait=wait), url, key, data, as_json)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"
