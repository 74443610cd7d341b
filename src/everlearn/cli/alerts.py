"""``everlearn alerts``: who is told, what waits to be told, and a test."""

from __future__ import annotations

from typing import Annotated

import typer

from everlearn.cli.options import Data, Json

app = typer.Typer(
    help="Show who is told of alerts, and send a test.", no_args_is_help=True, rich_markup_mode=None
)

Name = Annotated[
    str | None,
    typer.Argument(help="The receiver; default: all of them.", metavar="[RECEIVER]", show_default=False),
]


@app.command("list")
def list_receivers(data: Data = None, as_json: Json = False) -> None:
    """List who is told of which alerts, and how many messages wait for each."""
    from everlearn.adapters.alerts.delivery import place_of
    from everlearn.adapters.alerts.plan import describe
    from everlearn.cli.output import show_json, table
    from everlearn.wiring import Installation

    installation = Installation.load(data=data)
    installation.require_database()
    plan = installation.alert_plan
    found = [
        {**item, "waiting": installation.outbox.waiting(place_of(item["name"]))} for item in describe(plan)
    ]
    installation.close()
    if as_json:
        show_json({"items": found, "next": None})
        return
    rows = [
        (
            item["name"],
            item["kind"],
            ", ".join(item["severities"]),
            ", ".join(item["models"]),
            item["waiting"],
        )
        for item in found
    ]
    empty = f"nobody is told of alerts: write {installation.settings.alerts_path}"
    table(("receiver", "kind", "severities", "models", "waiting"), rows, empty=empty)


@app.command("test")
def send_test(name: Name = None, data: Data = None, as_json: Json = False) -> None:
    """Send a test alert, and its recovery, to the receivers at once; exits 1 if one does not take it."""
    import time
    from dataclasses import replace
    from uuid import uuid4

    from everlearn.adapters.alerts import Notice, send
    from everlearn.adapters.outbox import LaterError
    from everlearn.cli.output import show_json
    from everlearn.errors import EverlearnError, NotFoundError
    from everlearn.wiring import Installation

    installation = Installation.load(data=data)
    plan = installation.alert_plan
    chosen = [receiver for receiver in plan.receivers if name in (None, receiver.name)]
    if not chosen:
        known = ", ".join(receiver.name for receiver in plan.receivers) or "none"
        what = f"no receiver {name!r}" if name else "nobody to tell"
        raise NotFoundError(f"There is {what} in {installation.settings.alerts_path}: it knows {known}")
    text = "This is a test: an alert would look like this."
    notice = Notice(f"test:{uuid4().hex}", "test", "test", time.time(), text, facts={"score": 0.71})
    over = replace(notice, id=f"{notice.id}:over", recovered=True, text="The test is over.")
    results: dict[str, str | None] = {}
    for receiver in chosen:
        results[receiver.name] = None
        try:
            for one in (notice, over):
                send(one, receiver, plan)
        except (EverlearnError, LaterError) as error:
            results[receiver.name] = str(error)
        if not as_json:
            said = results[receiver.name]
            typer.echo(f"{receiver.name}: {'told' if said is None else said}")
    if as_json:
        show_json({"items": [{"name": key, "error": said} for key, said in results.items()]})
    if any(results.values()):
        raise typer.Exit(1)
