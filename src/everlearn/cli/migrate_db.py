"""``everlearn migrate-db``: another database for an installation, with the proof that it holds the same."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from everlearn.cli.options import Data, Json

if TYPE_CHECKING:
    from everlearn.adapters.sql.database import Database
    from everlearn.adapters.sql.moving import Moved, TableCheck

Source = Annotated[
    str,
    typer.Argument(metavar="SOURCE_URL", help="Where the installation is now, such as sqlite:///PATH."),
]
Target = Annotated[
    str,
    typer.Argument(metavar="TARGET_URL", help="An empty database, such as postgresql://USER@HOST/NAME."),
]


def migrate_db(
    source: Source,
    target: Target,
    ahead: Annotated[
        bool, typer.Option("--ahead", help="Only copy what the logs hold now, beside a running server.")
    ] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Only compare two databases; copy nothing.")
    ] = False,
    batch: Annotated[
        int, typer.Option("--batch", min=1, max=100_000, help="Events that are copied in one transaction.")
    ] = 10_000,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Copy an installation to another database, and compare both; goes on where it was interrupted.

    Stored versions are files of their own and stay where they are; that each is there is checked.
    """
    import time

    from everlearn.adapters.sql.database import Database
    from everlearn.adapters.sql.moving import Mover
    from everlearn.cli.output import progress, show_json

    _refuse_missing(source)
    one, other = Database(source, "NORMAL"), Database(target, "NORMAL")
    started = time.monotonic()
    try:
        with progress("migrating", quiet=as_json) as bar:
            mover = Mover(one, other, lambda _, done, total: bar(done, total), batch=batch)
            if not ahead:
                _refuse_running(source, one)
            if not verify:
                _refuse_running(target, other)
            moved = mover.verify() if verify else mover.run(ahead=ahead)
        missing = [] if ahead else _missing_artifacts(one, data)
    finally:
        one.close()
        other.close()
    said = _said(one, other, moved, time.monotonic() - started, missing)
    if as_json:
        show_json(said)
    else:
        _show(said, ahead)
    if not ahead and (missing or not moved.verified):
        raise typer.Exit(1)


def _said(
    source: Database, target: Database, moved: Moved, seconds: float, missing: list[str]
) -> dict[str, Any]:
    return {
        "source": source.name,
        "target": target.name,
        "events": {"copied": moved.copied, "resumed": moved.resumed},
        "seconds": round(seconds, 3),
        "verified": moved.verified,
        "tables": [_table(check) for check in moved.checks],
        "artifacts_missing": missing,
    }


def _table(check: TableCheck) -> dict[str, Any]:
    return {
        "name": check.name,
        "rows": check.source.rows,
        "target_rows": check.target.rows,
        "sha256": check.source.sha256,
        "equal": check.equal,
    }


def _show(said: dict[str, Any], ahead: bool) -> None:
    from everlearn.cli.output import table

    events, seconds = said["events"], said["seconds"]
    before = f", {events['resumed']} were there" if events["resumed"] else ""
    typer.echo(f"{events['copied']} events copied{before}, {seconds:.1f} s")
    if ahead:
        typer.echo("Stop the server and run the same without --ahead: it copies what is new, and compares.")
        return
    rows = [
        (t["name"], t["rows"], t["sha256"][:16], "equal" if t["equal"] else "DIFFERENT")
        for t in said["tables"]
    ]
    table(("table", "rows", "sha256", ""), rows)
    if said["verified"]:
        typer.echo(f"verified: {said['target']} holds the same. Start with EVERLEARN_DATABASE_URL set to it.")
    else:
        typer.echo("The databases differ: empty the target, and copy again.", err=True)
    for digest in said["artifacts_missing"]:
        typer.echo(f"The files of a version are missing: {digest}", err=True)


def _refuse_missing(source: str) -> None:
    """Raise NotFoundError for a SQLite file that is not there: opening would make it."""
    from everlearn.adapters.sql.dialects import parse_url
    from everlearn.errors import NotFoundError

    url = parse_url(source)
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").is_file():
        raise NotFoundError(
            f"There is no database {url.database}: name the file everlearn.db of a data folder"
        )


def _refuse_running(url: str, database: Database) -> None:
    """Raise ConflictError while processes of everlearn have a database open."""
    from everlearn.adapters.sql.dialects import parse_url
    from everlearn.adapters.sql.moving import sessions
    from everlearn.errors import ConflictError
    from everlearn.running import is_locked

    parsed = parse_url(url)
    own_file = parsed.get_backend_name() == "sqlite"
    running = is_locked(Path(parsed.database or "").parent) if own_file else sessions(database) > 0
    if running:
        raise ConflictError(
            f"Processes of everlearn use {database.name}: stop them first "
            "(--ahead copies most of the logs while they run)"
        )


def _missing_artifacts(source: Database, data: Path | None) -> list[str]:
    """The digests of versions whose files are not in the store of the installation."""
    from sqlalchemy import select

    from everlearn.adapters.sql.tables import versions
    from everlearn.wiring import Installation

    installation = Installation.load(data=data or _folder_of(source))
    with source.read() as connection:
        wanted = set(connection.scalars(select(versions.c.digest).where(versions.c.digest.is_not(None))))
    there = {one.digest for one in installation.artifacts.stored()} if wanted else set()
    return sorted(wanted - there)


def _folder_of(source: Database) -> Path | None:
    """The data folder that a SQLite file lies in."""
    if source.url.get_backend_name() != "sqlite":
        return None
    return Path(source.url.database or "").parent
