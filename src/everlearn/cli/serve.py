"""Commands that run processes: ``up``, and its parts one by one for installations on several machines."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from everlearn.cli.options import Data, Json

Host = Annotated[str | None, typer.Option("--host", help="Address to listen on [127.0.0.1].")]
Port = Annotated[int | None, typer.Option("--port", help="Port to listen on; 0 picks one [8000].")]
Workers = Annotated[int | None, typer.Option("--workers", min=1, max=64, help="API processes [1].")]
Demo = Annotated[bool, typer.Option("--demo", help="Play a drifting stream through the server.")]
NoMlflow = Annotated[bool, typer.Option("--no-mlflow", help="Do not mirror to MLflow.")]


def up(
    host: Host = None,
    port: Port = None,
    data: Data = None,
    workers: Workers = None,
    demo: Demo = False,
    no_mlflow: NoMlflow = False,
    as_json: Json = False,
) -> None:
    """Start everything: API, worker, scheduler and the MLflow mirror. Stop with Ctrl-C.

    With --json each thing that happens is one JSON object a line.
    """
    from everlearn.supervisor import Supervisor
    from everlearn.wiring import Installation

    installation = Installation.load(
        host=host,
        port=port,
        data=data,
        workers=workers,
        mlflow_tracking_uri="off" if no_mlflow else None,
    )
    say = _say_json if as_json else _say_text
    Supervisor(installation, say, demo=demo, demo_json=as_json).run()


def worker(data: Data = None) -> None:
    """Run one more worker: advances models and runs jobs ('up' runs one already)."""
    from everlearn.worker import main

    main(data)


def scheduler(data: Data = None) -> None:
    """Run a scheduler: puts time into the logs of models that need it ('up' runs one already)."""
    from everlearn.scheduler import main

    main(data)


def mirror(data: Data = None) -> None:
    """Run an MLflow mirror ('up' runs one already)."""
    from everlearn.mirror import main

    main(data)


def _say_text(event: str, text: str, **_facts: object) -> None:  # noqa: ARG001
    typer.echo(text)


def _say_json(event: str, text: str, **facts: object) -> None:
    typer.echo(json.dumps({"event": event, "text": text.strip(), **facts}))
