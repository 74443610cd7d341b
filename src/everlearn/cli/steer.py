"""Commands that steer the loop: promote, rollback, freeze, unfreeze, retrain."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from everlearn.cli.options import Data, Json, Key, Model, Url, Wait, Why

if TYPE_CHECKING:
    from everlearn.client import Client, CommandAnswer


def promote(
    model: Model,
    version: Annotated[int, typer.Argument(help="Number of the version.", metavar="VERSION")],
    why: Why = None,
    wait: Wait = 10.0,
    url: Url = None,
    key: Key = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Make a version the champion by hand."""
    ask(lambda client: client.promote(model, version, why, wait=wait), url, key, data, as_json)


def rollback(
    model: Model,
    why: Why = None,
    wait: Wait = 10.0,
    url: Url = None,
    key: Key = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Put the champion before this one back."""
    ask(lambda client: client.rollback(model, why, wait=wait), url, key, data, as_json)


def freeze(
    model: Model,
    why: Why = None,
    wait: Wait = 10.0,
    url: Url = None,
    key: Key = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Keep the champion until 'unfreeze'; serving and recording go on."""
    ask(lambda client: client.freeze(model, why, wait=wait), url, key, data, as_json)


def unfreeze(
    model: Model,
    why: Why = None,
    wait: Wait = 10.0,
    url: Url = None,
    key: Key = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Let the model be updated again."""
    ask(lambda client: client.unfreeze(model, why, wait=wait), url, key, data, as_json)


def retrain(
    model: Model,
    force: Annotated[bool, typer.Option("--force", help="Even if the model is good enough.")] = False,
    why: Why = None,
    wait: Wait = 10.0,
    url: Url = None,
    key: Key = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Ask for a retrain; skipped while the model is at or above its threshold."""
    ask(lambda client: client.retrain(model, force, why, wait=wait), url, key, data, as_json)


def ask(
    verb: Callable[[Client], CommandAnswer],
    url: str | None,
    key: str | None,
    data: Path | None,
    as_json: bool,
) -> None:
    """Send a command and say what the loop decided."""
    from everlearn.cli.connection import connect
    from everlearn.cli.output import show_json

    with connect(url, key, data) as client:
        answer = verb(client)
    if as_json:
        facts = {"decision": answer.decision, "skipped": answer.skipped, "seq": answer.seq}
        show_json({**facts, "detail": answer.detail})
    elif answer.decision is None:
        typer.echo(f"accepted at position {answer.seq}, not decided yet: {answer.detail}")
    else:
        skipped = "skipped: " if answer.skipped else ""
        typer.echo(f"{skipped}{answer.decision['kind']}: {answer.decision['reason']}")
