"""``everlearn uptime-kuma``: has an Uptime Kuma look after this installation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from everlearn.cli.options import Data, Json, Key

if TYPE_CHECKING:
    from everlearn.adapters.uptime_kuma import UptimeKuma
    from everlearn.adapters.uptime_kuma_plan import Change

app = typer.Typer(
    help="Have Uptime Kuma watch this installation.", no_args_is_help=True, rich_markup_mode=None
)

Kuma = Annotated[
    str | None, typer.Option("--url", help="Uptime Kuma (EVERLEARN_UPTIME_KUMA_URL).", show_default=False)
]
Target = Annotated[
    str | None,
    typer.Option("--target", help="The API as Uptime Kuma reaches it [as found here].", show_default=False),
]
Prefix = Annotated[str, typer.Option("--prefix", help="What names and the tag begin with.")]
Interval = Annotated[int, typer.Option("--interval", min=20, help="Seconds between two looks.")]
Code = Annotated[
    str | None, typer.Option("--code", help="The code of the user's second factor.", show_default=False)
]
Prune = Annotated[bool, typer.Option("--prune", help="Delete monitors of ours that nothing needs any more.")]
Dry = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]


@app.callback()
def _group() -> None:
    pass


@app.command("sync")
def sync(
    url: Kuma = None,
    target: Target = None,
    prefix: Prefix = "everlearn",
    interval: Interval = 60,
    code: Code = None,
    prune: Prune = False,
    dry_run: Dry = False,
    key: Key = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Create and update its monitors: health, ready, each model fresh, and a worker's heart-beat by push.

    Says the address that workers push to: EVERLEARN_HEARTBEAT_URL.
    """
    from everlearn.adapters.uptime_kuma import UptimeKuma
    from everlearn.adapters.uptime_kuma_plan import changes, wanted
    from everlearn.wiring import Installation

    account = Installation.load(data=data).uptime_kuma(url)
    models, found = _models(key, data)
    plan = wanted(
        target or found, models, prefix=prefix, interval=interval, key=account.key, beat=account.beat
    )
    with UptimeKuma(account.url) as kuma:
        kuma.log_in(account.user, account.password, code)
        known = [f"model:{model}" for model in models]
        todo = changes(kuma.monitors, plan, prefix, prune=prune, needed=known)
        failed = {} if dry_run else _apply(kuma, todo, prefix)
    push = push_address(account.url, todo, dry_run)
    if as_json:
        from everlearn.cli.output import show_json

        items = [{**change.to_dict(), "error": failed.get(change.key)} for change in todo]
        show_json({"items": items, "heartbeat_url": push, "dry_run": dry_run})
    else:
        _show(todo, failed, dry_run)
        _say_more(push, account.key is not None or not models)
    if failed:
        raise typer.Exit(1)


def _models(key: str | None, data: Path | None) -> tuple[list[str], str]:
    """The names of all models, and where the API answers."""
    from everlearn.cli.connection import connect

    with connect(None, key, data) as client:
        return [str(model["name"]) for model in client.models()], str(client.url)


def _apply(kuma: UptimeKuma, todo: Sequence[Change], tag: str) -> dict[str, str]:
    """Do what is to be done; what went wrong, by the key of the monitor."""
    from everlearn.errors import EverlearnError

    failed: dict[str, str] = {}
    for change in todo:
        try:
            kuma.apply(change, tag)
        except EverlearnError as error:
            failed[change.key] = error.detail
    return failed


def push_address(url: str, todo: Sequence[Change], dry_run: bool) -> str | None:
    """Where a worker pushes to, once the monitor for it is there."""
    for change in todo:
        if change.token and not (dry_run and change.action == "create"):
            return f"{url.rstrip('/')}/api/push/{change.token}"
    return None


def _show(todo: Sequence[Change], failed: Mapping[str, str], dry_run: bool) -> None:
    done = {"create": "created", "update": "updated", "keep": "as it should be", "delete": "deleted"}
    would = {**done, "create": "would create", "update": "would update", "delete": "would delete"}
    for change in todo:
        said = (would if dry_run else done).get(change.action, "not needed any more: --prune deletes it")
        more = f" ({', '.join(sorted(change.fields))})" if change.action == "update" else ""
        typer.echo(f"{change.name}: {failed.get(change.key, said + more)}")


def _say_more(push: str | None, with_models: bool) -> None:
    if push is not None:
        typer.echo(f"have workers push to it: EVERLEARN_HEARTBEAT_URL={push}")
    if not with_models:
        typer.echo(
            "no monitors of models: they need a key that may read, in EVERLEARN_UPTIME_KUMA_KEY "
            "(everlearn keys create uptime-kuma --scope read)",
            err=True,
        )
