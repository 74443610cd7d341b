"""The command line: ``everlearn COMMAND``. Every command imports what it needs when it runs."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from everlearn import __version__
from everlearn.cli import (
    alerts,
    backfill,
    continual,
    data,
    doctor,
    erase,
    gc,
    jobs,
    keys,
    learners,
    migrate_db,
    model_report,
    models,
    replay,
    serve,
    show,
    sources,
    steer,
    uptime_kuma,
    users,
    watch,
    what_if,
    why,
)
from everlearn.errors import EverlearnError

FAULTS_SHOWN = 20

app = typer.Typer(
    name="everlearn",
    help="Keeps a deployed model current: serves, joins late labels, learns, promotes what is proven better.",
    epilog="A command that talks to a running server finds it through the data folder; see --url and --key.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"everlearn {__version__}")
        raise typer.Exit


@app.callback()
def _everlearn(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


app.command()(serve.up)
app.command()(data.init)
app.add_typer(models.app, name="models")
app.command()(data.predict)
app.command()(data.label)
app.command()(data.load)
app.command()(watch.watch)
app.command()(replay.replay)
app.command("what-if")(what_if.what_if)
app.command()(backfill.backfill)
app.command()(show.status)
app.command()(show.versions)
app.command()(show.decisions)
app.command()(why.why)
app.command()(model_report.report)
app.command()(steer.promote)
app.command()(steer.rollback)
app.command()(steer.freeze)
app.command()(steer.unfreeze)
app.command()(steer.retrain)
app.add_typer(jobs.app, name="jobs")
app.add_typer(sources.app, name="sources")
app.command()(erase.erase)
app.add_typer(erase.app, name="erasure")
app.add_typer(alerts.app, name="alerts")
app.add_typer(uptime_kuma.app, name="uptime-kuma")
app.add_typer(keys.app, name="keys")
app.add_typer(users.app, name="users")
app.command()(keys.audit)
app.command()(doctor.doctor)
app.command()(gc.gc)
app.command("migrate-db")(migrate_db.migrate_db)
app.command()(learners.learners)
app.command("continual-bench")(continual.continual_bench)
app.command()(show.settings)
app.command()(serve.worker)
app.command()(serve.scheduler)
app.command()(serve.mirror)
app.command()(serve.dashboard)


def main() -> None:
    """Run the command line: exit code 0, 1 for an error (one line says which), 2 for wrong usage."""
    if os.environ.get("EVERLEARN_DEBUG") == "1":
        app()
        return
    try:
        app()
    except EverlearnError as error:
        _fail(error.detail, [f"{fault.field}: {fault.message}" for fault in error.faults])
    except BrokenPipeError:
        os._exit(1)  # the reader of our output left: nothing can be said, and flushing would fail too
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:
        _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error), [])
    except Exception as error:
        _fail(f"Unexpected {type(error).__name__}: {error} (EVERLEARN_DEBUG=1 shows where it came from)", [])


def _fail(detail: str, faults: list[str]) -> None:
    typer.echo(f"error: {detail}", err=True)
    untold = [fault for fault in faults if fault not in detail]
    for fault in untold[:FAULTS_SHOWN]:
        typer.echo(f"  {fault}", err=True)
    sys.exit(1)
