"""``everlearn gc``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from everlearn.cli.options import Data, Json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from everlearn.types import Stored

DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")]
GraceHours = Annotated[
    float, typer.Option("--grace-hours", min=1, help="Keep what was stored within so many hours.")
]


ImageDays = Annotated[
    float, typer.Option("--image-days", min=0, help="Keep the images of frames for so many days.")
]


def gc(
    grace_hours: GraceHours = 24.0,
    image_days: ImageDays = 90.0,
    dry_run: DryRun = False,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Remove old images, and stored versions that nothing refers to any more; safe while everything runs."""
    from everlearn.cli.output import show_json
    from everlearn.sweeping import look, sweep
    from everlearn.wiring import Installation

    installation = Installation.load(data=data)
    installation.require_database()
    try:
        found = (look if dry_run else sweep)(installation, grace_hours * 3600.0, image_days * 86400.0)
    finally:
        installation.close()
    said = {
        "kept": _sums(found.kept),
        "young": _sums(found.young),
        "unreachable": _sums(found.garbage),
        "removed": _sums(found.removed),
        "digests": [one.digest for one in (found.garbage if dry_run else found.removed)],
        "dry_run": dry_run,
    }
    if as_json:
        show_json(said)
        return
    typer.echo(f"kept: {_words(found.kept)} that versions, loops or jobs refer to")
    typer.echo(
        f"young: {_words(found.young)}, stored within {grace_hours:g} h (images: within {image_days:g} days)"
    )
    verb = "would be removed" if dry_run else "removed"
    typer.echo(f"{verb}: {_words(found.garbage if dry_run else found.removed)}")


def _sums(held: Sequence[Stored]) -> dict[str, Any]:
    return {"bundles": len(held), "bytes": sum(one.bytes for one in held)}


def _words(held: Sequence[Stored]) -> str:
    return f"{len(held)} bundles, {sum(one.bytes for one in held) / 2**20:.1f} MiB"
