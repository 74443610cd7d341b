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
NoDashboard = Annotated[bool, typer.Option("--no-dashboard", help="Do not start the dashboard.")]
DashboardHost = Annotated[
    str | None, typer.Option("--dashboard-host", help="Address of the dashboard [127.0.0.1].")
]
DashboardPort = Annotated[
    int | None, typer.Option("--dashboard-port", help="Port of the dashboard; 0 picks one [8501].")
]
NoMlflow = Annotated[bool, typer.Option("--no-mlflow", help="Do not mirror to MLflow.")]


def up(
    host: Host = None,
    port: Port = None,
    data: Data = None,
    workers: Workers = None,
    demo: Demo = False,
    no_mlflow: NoMlflow = False,
    no_dashboard: NoDashboard = False,
    dashboard_host: DashboardHost = None,
    dashboard_port: DashboardPort = None,
    as_json: Json = False,
) -> None:
    """Start everything: API, worker, scheduler, dashboard and the MLflow mirror. Stop with Ctrl-C.

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
        dashboard=False if no_dashboard else None,
        dashboard_host=dashboard_host,
        dashboard_port=dashboard_port,
    )
    say = _say_json if as_json else _say_text
    Supervisor(installation, say, demo=demo, demo_json=as_json).run()


def worker(
    data: Data = None,
    queues: Annotated[
        str | None, typer.Option("--queues", help="Work on these alone, with commas between [all].")
    ] = None,
    broker: Annotated[
        str | None,
        typer.Option("--broker", help="Be told of work by redis://… or amqp://… (EVERLEARN_BROKER_URL)."),
    ] = None,
    metrics_port: Annotated[
        int | None,
        typer.Option("--metrics-port", min=1, max=65535, help="Tell Prometheus of its own here [nowhere]."),
    ] = None,
) -> None:
    """Run one more worker: advances models and runs jobs ('up' runs one already).

    The queues are advance, train, vision and maintenance.
    """
    from everlearn.worker.__main__ import main

    main(data, queues, broker, metrics_port)


def scheduler(data: Data = None) -> None:
    """Run a scheduler: puts time into the logs of models that need it ('up' runs one already)."""
    from everlearn.scheduler import main

    main(data)


def mirror(data: Data = None) -> None:
    """Run an MLflow mirror ('up' runs one already)."""
    from everlearn.mirror import main

    main(data)


def dashboard(
    url: Annotated[
        str | None, typer.Option("--url", help="Where the API answers [EVERLEARN_URL, else this machine].")
    ] = None,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", help="Port to listen on; 0 picks one.")] = 8501,
) -> None:
    """Run a dashboard of a server elsewhere ('up' runs one already). Needs the extra dashboard."""
    import os

    from everlearn.dashboard.__main__ import main

    where = url or os.environ.get("EVERLEARN_URL") or "http://127.0.0.1:8000"
    main(["--url", where, "--host", host, "--port", str(port)])


def _say_text(event: str, text: str, **_facts: object) -> None:  # noqa: ARG001
    typer.echo(text)


def _say_json(event: str, text: str, **facts: object) -> None:
    typer.echo(json.dumps({"event": event, "text": text.strip(), **facts}))
