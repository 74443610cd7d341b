"""``everlearn why``: why something was decided, in words and numbers, and the proof."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from everlearn.cli.options import Data, Json, Key, Model, Url

if TYPE_CHECKING:
    from everlearn.loop.verify import Verification


def why(
    model: Model,
    decision: Annotated[
        int | None,
        typer.Argument(help="Its number; default: the newest promotion, rollback or refusal.", min=1),
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Replay the data folder's log up to it, and compare.")
    ] = False,
    retrain: Annotated[
        bool, typer.Option("--retrain/--no-retrain", help="With --verify: train each version again, too.")
    ] = True,
    url: Url = None,
    key: Key = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Say why a decision was made: in words, in numbers, and what would have turned it.

    With --verify, fold the recorded log up to that decision and compare with the ledger: prints
    "identical" and exits 0, or shows the differences and exits 1.
    """
    from everlearn.cli.connection import connect
    from everlearn.cli.output import show_json

    with connect(url, key, data) as client:
        told = client.why(model, decision)
    found = _proof(model, told["seq"], data, retrain, as_json) if verify else None
    if as_json:
        show_json(told if found is None else {**told, "verification": found.to_dict()})
    else:
        _show(told)
        if found is not None:
            _show_proof(found, retrain)
    if found is not None and not found.identical:
        raise typer.Exit(1)


def _show(told: Mapping[str, Any]) -> None:
    from everlearn.cli.output import table

    for text in (told["headline"], told["paragraph"]):
        _wrapped(text)
        typer.echo("")
    rows = [(n["name"], n["value"], n["meaning"]) for n in told["numbers"]]
    if rows:
        table(("number", "value", "meaning"), rows)
        typer.echo("")
    if told["why_not"]:
        _wrapped(f"Why not? {told['why_not']}")


def _wrapped(text: str) -> None:
    from textwrap import fill

    from everlearn.cli.output import console, safe

    plain = safe(" ".join(text.split()))
    typer.echo(fill(plain, min(100, max(40, console().width)), break_on_hyphens=False))


def _proof(model: str, seq: int, data: Path | None, retrain: bool, quiet: bool) -> Verification:
    """Replay the record up to a position, and compare."""
    from everlearn.cli.output import progress
    from everlearn.loop.verify import verify
    from everlearn.wiring import Installation

    installation = Installation.load(data=data)
    installation.require_database()
    try:
        floor = installation.retention.floor(model)
        with progress(f"verifying {model}", quiet=quiet) as report:
            return verify(
                model,
                log=installation.log,
                ledger=installation.ledger,
                versions=installation.versions,
                artifacts=installation.artifacts,
                floor=None if floor is None else floor.checkpoint,
                kept_from=0 if floor is None else floor.known_from,
                retrain=retrain,
                upto=seq,
                progress=lambda share: report(round(share * 1000), 1000),
            )
    finally:
        installation.close()


def _show_proof(found: Verification, retrain: bool) -> None:
    typer.echo("")
    typer.echo("identical" if found.identical else "different")
    trained = f", {found.artifacts_checked} results of jobs computed again" if retrain else ""
    since = f" after position {found.begins}" if found.begins else ""
    typer.echo(f"{found.events} events, {found.decisions} decisions{since}{trained}")
    for line in found.elsewhere if retrain else ():
        typer.echo(f"not trained again: {line}")
    for difference in found.differences:
        typer.echo(difference, err=True)
