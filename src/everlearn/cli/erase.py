"""``everlearn erase`` and ``everlearn erasure``: remove a person's rows, and check the certificate of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from everlearn.cli.options import Data, Json, Key, Model, Url

if TYPE_CHECKING:
    from everlearn.client import Client

LOOK_SECONDS = 1.0
_STEPS = {"logged": 1, "forgotten": 2, "done": 3}

app = typer.Typer(
    help="Show erasures, and check their certificates.", no_args_is_help=True, rich_markup_mode=None
)
Erasure = Annotated[str, typer.Argument(help="Id of the erasure.", metavar="ERASURE", show_default=False)]


def erase(
    model: Model,
    subject: Annotated[
        str, typer.Argument(help="Their id, as the rows have it.", metavar="SUBJECT", show_default=False)
    ],
    deadline: Annotated[
        str,
        typer.Option("--deadline", help="How long a champion that learned the rows may still answer."),
    ] = "24h",
    force: Annotated[
        bool,
        typer.Option("--force", help="It goes at once, whatever comes in its place."),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    wait: Annotated[float, typer.Option("--wait", min=0, help="Seconds to wait for the certificate.")] = 60.0,
    url: Url = None,
    key: Key = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Remove all rows of a person, for good: from the log, what the loop remembers, and what was learned."""
    from everlearn.cli.connection import connect
    from everlearn.cli.output import show_json

    if not yes:
        words = f"Erase all rows of {subject!r} from {model}? There is no way back"
        typer.confirm(words, abort=True, err=True)
    with connect(url, key, data) as client:
        found = client.erase(model, subject, deadline=deadline, force=force)
        found = _awaited(client, model, found, wait, quiet=as_json)
    if as_json:
        show_json(found)
    else:
        _show(found)


@app.command("list")
def list_erasures(
    model: Model, url: Url = None, key: Key = None, data: Data = None, as_json: Json = False
) -> None:
    """List the erasures of a model, the newest first."""
    from everlearn.cli.connection import connect
    from everlearn.cli.output import show_json, table

    with connect(url, key, data) as client:
        found = client.erasures(model)
    if as_json:
        show_json(found)
        return
    rows = [
        (one["id"], one["state"], one["asked_at"], one["by"], one["removed"].get("events", 0))
        for one in found["items"]
    ]
    table(("erasure", "state", "asked at", "by", "events"), rows, empty="nothing was erased yet")


@app.command()
def show(
    model: Model,
    erasure: Erasure,
    url: Url = None,
    key: Key = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Show one erasure; with --json its certificate, too, to be kept and checked later."""
    from everlearn.cli.connection import connect
    from everlearn.cli.output import show_json

    with connect(url, key, data) as client:
        found = client.erasure(model, erasure)
    if as_json:
        show_json(found)
    else:
        _show(found)


@app.command()
def verify(
    certificate: Annotated[
        Path,
        typer.Argument(
            help="A file with a certificate, as 'erasure show --json' prints it.",
            metavar="CERTIFICATE", exists=True, dir_okay=False,
        ),
    ],
    image: Annotated[
        Path | None,
        typer.Option("--image", help="Say whether this image is one of those that were removed.",
                     exists=True, dir_okay=False, show_default=False),
    ] = None,
    data: Data = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Prove a certificate again: search everything, and make the record since again. Exits 1 if it fails."""
    from everlearn.cli.output import progress, show_json
    from everlearn.erasing import check, is_removed
    from everlearn.wiring import Installation

    given = _read(certificate)
    installation = Installation.load(data=data)
    installation.require_database()
    try:
        with progress(f"verifying {given['id']}", quiet=as_json) as told:
            found = check(
                installation, installation.seal, given, lambda share: told(round(share * 1000), 1000)
            )
        seen = None if image is None else is_removed(installation, given, image.read_bytes())
    finally:
        installation.close()
    if as_json:
        show_json(
            {
                "id": given["id"],
                "verified": not found.failures,
                "failures": list(found.failures),
                **({} if seen is None else {"image_removed": seen}),
                **found.numbers,
            }
        )
    else:
        typer.echo("verified" if not found.failures else "not verified")
        searched = sum(found.numbers["rows_searched"].values())
        again = found.numbers["versions_made_again"]
        typer.echo(f"{searched} rows searched, {again} results of jobs computed again")
        if seen is not None:
            typer.echo(f"{image} is {'one' if seen else 'none'} of the images that were removed")
        for line in found.numbers["proven_by_search_alone"]:
            typer.echo(f"by the search alone: {line}")
        for failure in found.failures:
            typer.echo(failure, err=True)
    if found.failures:
        raise typer.Exit(1)


def _read(path: Path) -> dict[str, Any]:
    """The certificate in a file: bare, or within what tells of the erasure. Raises InvalidError."""
    import json

    from everlearn.errors import InvalidError

    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidError(f"{path} is no certificate: {error}") from None
    found = found.get("certificate", found) if isinstance(found, dict) else None
    if not isinstance(found, dict) or "signature" not in found:
        raise InvalidError(f"{path} holds no signed certificate: is the erasure done?")
    return found


def _awaited(
    client: Client, model: str, found: dict[str, Any], wait: float, *, quiet: bool
) -> dict[str, Any]:
    """Look until it is done, or the time is over."""
    import time

    from everlearn.cli.output import progress

    until = time.monotonic() + wait
    with progress(f"erasing ({found['state']})", quiet=quiet) as told:
        while True:
            told(_STEPS[found["state"]], 3)
            left = until - time.monotonic()
            if found["state"] == "done" or left <= 0:
                return found
            time.sleep(min(LOOK_SECONDS, left))
            found = dict(client.erasure(model, found["id"]))


def _show(found: dict[str, Any]) -> None:
    counts = ", ".join(f"{count} {name}" for name, count in found["removed"].items())
    typer.echo(f"{found['id']}: {found['state']}")
    typer.echo(f"removed: {counts}")
    if found["state"] == "done":
        typer.echo(
            f"certified at {found['done_at']}: 'everlearn erasure show {found['model']} {found['id']} --json'"
        )
    elif found["state"] == "logged":
        typer.echo("the log holds none of the rows; the loop has not read that yet: does a worker run?")
    else:
        typer.echo(
            f"versions that may have learned the rows are being replaced, until {found['deadline']} at last"
        )
