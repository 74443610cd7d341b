"""``everlearn keys``: make, list and revoke API keys. ``everlearn audit``: who did what."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from everlearn.cli.options import Data, Json, Key, Url

app = typer.Typer(help="Make, list and revoke API keys.", no_args_is_help=True, rich_markup_mode=None)

DAY = 86_400.0
Scopes = Annotated[
    list[str] | None,
    typer.Option(
        "--scope", help="predict, label, read, operate or admin; again for more.", show_default=False
    ),
]
Models = Annotated[
    list[str] | None,
    typer.Option("--model", help="A model it is for; again for more [all].", show_default=False),
]


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="What it is for.", metavar="NAME", show_default=False)],
    scope: Scopes = None,
    model: Models = None,
    days: Annotated[
        float | None, typer.Option("--days", min=0, help="Days until it expires [never].", show_default=False)
    ] = None,
    labels_per_day: Annotated[
        int | None,
        typer.Option(
            "--labels-per-day",
            min=1,
            help="Labels and examples that it may give a day [EVERLEARN_LABELS_PER_DAY].",
            show_default=False,
        ),
    ] = None,
    url: Url = None,
    key: Key = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Make a key. It is shown this once, and stored nowhere."""
    from everlearn.cli.connection import connect
    from everlearn.cli.output import show_json
    from everlearn.client.calls import read_record, write

    body: dict[str, object] = {"name": name, "scopes": scope or [], "models": model or None}
    if days is not None:
        body["expires_at"] = time.time() + days * DAY
    if labels_per_day is not None:
        body["labels_per_day"] = labels_per_day
    with connect(url, key, data) as client:
        made = client.run(write("POST", "/v1/keys", body, read_record))
    if as_json:
        show_json(made)
        return
    typer.echo(made["key"])
    typer.echo(f"shown this once; 'everlearn keys revoke {made['id']}' ends it", err=True)


@app.command("list")
def list_keys(url: Url = None, key: Key = None, data: Data = None, as_json: Json = False) -> None:
    """List the keys, never their secrets."""
    from everlearn.cli.connection import connect
    from everlearn.cli.output import moment, show_json, table
    from everlearn.client.calls import Pages, get

    with connect(url, key, data) as client:
        items = list(client.run_pages(Pages(get("/v1/keys", limit=1000))))
    if as_json:
        show_json({"items": items})
        return
    rows = [
        (
            item["id"],
            item["name"],
            item["state"],
            ", ".join(item["scopes"]),
            "all" if item["models"] is None else ", ".join(item["models"]),
            moment(item["expires_at"]),
            moment(item["used_at"]),
            "-" if item["labels_per_day"] is None else item["labels_per_day"],
        )
        for item in items
    ]
    columns = ("id", "name", "state", "scopes", "models", "expires", "last used", "labels a day")
    table(
        columns, rows, empty="no keys but the installation's own: make one with 'everlearn keys create NAME'"
    )


@app.command()
def revoke(
    key_id: Annotated[str, typer.Argument(help="Id of the key.", metavar="ID", show_default=False)],
    url: Url = None,
    key: Key = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Revoke a key."""
    from urllib.parse import quote

    from everlearn.cli.connection import connect
    from everlearn.cli.output import show_json
    from everlearn.client.calls import Call, read_record

    with connect(url, key, data) as client:
        gone = client.run(Call("DELETE", f"/v1/keys/{quote(key_id, safe='')}", read_record))
    if as_json:
        show_json(gone)
    else:
        typer.echo(f"revoked {gone['id']} ({gone['name']})")


def audit(
    who: Annotated[
        str | None, typer.Option("--who", help="Only what this caller did.", show_default=False)
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="How many at most.")] = 50,
    url: Url = None,
    key: Key = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Show who did what, newest first."""
    from everlearn.cli.connection import connect
    from everlearn.cli.output import moment, show_json, table
    from everlearn.client.calls import get

    with connect(url, key, data) as client:
        page = client.run(get("/v1/audit", limit=limit, who=who))
    if as_json:
        show_json(page)
        return
    rows = [
        (item["number"], moment(item["at"]), item["who"], item["action"], item["target"], item["result"])
        for item in page["items"]
    ]
    table(("number", "at", "who", "action", "target", "result"), rows)
