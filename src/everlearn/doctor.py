"""``everlearn doctor``: looks at what an installation needs, and names the command that mends it.

Looking changes nothing: no folder, key or database is made.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from typing import Any, Literal

from everlearn.errors import EverlearnError
from everlearn.running import is_locked, is_ready, read_server
from everlearn.types import JobState
from everlearn.wiring import Installation, describe_settings

State = Literal["ok", "warn", "fail"]

LITTLE_SPACE = 2 << 30
NO_SPACE = 200 << 20
OVERDUE_SECONDS = 30.0
FUTURE_SECONDS = 300.0
FIRST_SANE_TIME = 1_735_689_600.0  # 2025-01-01: an earlier clock was never set
LOOK_SECONDS = 1.5
MLFLOW_SECONDS = 30.0
OTHER_VARIABLES = {"EVERLEARN_URL", "EVERLEARN_DEBUG", "EVERLEARN_PARENT_PID", "EVERLEARN_LISTEN_FD"}
EXTRAS = {"mlflow": "mlflow", "parquet": "pyarrow", "plot": "matplotlib", "postgres": "psycopg"}


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found about one thing. ``mend`` is the command or change that helps, if one is needed."""

    name: str
    state: State
    text: str
    mend: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The finding as JSON values."""
        return asdict(self)


def examine(installation: Installation) -> Iterator[Finding]:
    """Look at everything, one finding after the other; a check that breaks is a finding too."""
    for name, check in CHECKS.items():
        try:
            yield check(installation)
        except EverlearnError as error:
            yield Finding(name, "fail", error.detail)
        except Exception as error:
            yield Finding(name, "fail", f"{type(error).__name__}: {error}")


def check_data(installation: Installation) -> Finding:
    """Whether the data folder is there and can be written."""
    data = installation.settings.data
    if not data.is_dir():
        return Finding("data folder", "warn", f"{data.absolute()} is not there yet", "everlearn up")
    try:
        with tempfile.TemporaryFile(dir=data):
            return Finding("data folder", "ok", str(data.absolute()))
    except OSError as error:
        mend = f"chown -R $(id -un) {data}"
        return Finding("data folder", "fail", f"{data} cannot be written: {error.strerror}", mend)


def check_disk(installation: Installation) -> Finding:
    """Whether there is room for the log to grow."""
    data = installation.settings.data
    free = shutil.disk_usage(data if data.is_dir() else ".").free
    text = f"{free / 2**30:.1f} GiB free"
    if free < NO_SPACE:
        return Finding("disk", "fail", text, f"free some space on the disk of {data}, or use another --data")
    if free < LITTLE_SPACE:
        return Finding("disk", "warn", text, f"free some space on the disk of {data}")
    return Finding("disk", "ok", text)


def check_key(installation: Installation) -> Finding:
    """Whether there is a key, and only its owner can read it."""
    settings = installation.settings
    if settings.api_key is not None:
        return Finding("key", "ok", f"from EVERLEARN_API_KEY ({len(installation.api_key)} characters)")
    path = settings.key_path
    if not path.is_file() and settings.api_key_file is None:
        return Finding("key", "warn", "none was made yet", "everlearn up")
    key = installation.api_key
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        return Finding("key", "fail", f"{path} can be read by others (mode {mode:03o})", f"chmod 600 {path}")
    return Finding("key", "ok", f"{path}, {len(key)} characters, mode {mode:03o}")


def check_clock(installation: Installation) -> Finding:
    """Whether the clock was set, and the newest events are not from the future."""
    now = installation.clock.now()
    mend = "set the clock: timedatectl set-ntp true"
    if now < FIRST_SANE_TIME:
        return Finding("clock", "fail", f"it says {time.strftime('%Y-%m-%d', time.gmtime(now))}", mend)
    if _has_database(installation):
        newest = max((installation.log.head(name).at for name in installation.model_names()), default=0.0)
        if newest > now + FUTURE_SECONDS:
            text = f"the newest event is {newest - now:.0f} s in the future"
            return Finding("clock", "warn", text, f"{mend}, or mind the times that callers send")
    return Finding("clock", "ok", time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now)))


def check_database(installation: Installation) -> Finding:
    """Whether the database answers and has the newest schema."""
    if not _has_database(installation):
        return Finding("database", "warn", "it was not made yet", "everlearn up")
    try:
        return Finding("database", "ok", installation.store.check())
    except EverlearnError as error:
        return Finding("database", "fail", error.detail, "everlearn up (it brings the schema up to date)")


def check_server(installation: Installation) -> Finding:
    """Whether the API answers and is ready."""
    data = installation.settings.data
    server = read_server(data)
    if server is None or not is_locked(data):
        return Finding("server", "warn", "no server runs on this data folder", "everlearn up")
    if is_ready(server.url):
        return Finding("server", "ok", f"{server.url} is ready (process {server.pid})")
    mend = f"see what it logs, or: kill {server.pid} && everlearn up"
    return Finding("server", "fail", f"{server.url} is not ready (process {server.pid})", mend)


def check_loop(installation: Installation) -> Finding:
    """Whether the loop is at the end of every log, or at least moving there."""
    if not _has_database(installation):
        return Finding("loop", "ok", "nothing to read yet")
    before = _lags(installation)
    if not before:
        return Finding("loop", "ok", "it has read every log to the end")
    time.sleep(LOOK_SECONDS)
    after = _lags(installation)
    events = sum(head - cursor for head, cursor in after.values())
    stuck = [name for name in before if name in after and after[name][1] == before[name][1]]
    if not stuck:
        return Finding("loop", "ok", f"{events} events behind, and moving")
    text = f"stands still on {', '.join(stuck)} ({events} events behind)"
    running = is_locked(installation.settings.data)
    mend = "see what the worker logs" if running else "everlearn up"
    return Finding("loop", "fail" if running else "warn", text, mend)


def check_jobs(installation: Installation) -> Finding:
    """Whether jobs hang or failed."""
    if not _has_database(installation):
        return Finding("jobs", "ok", "none yet")
    now = installation.clock.now()
    newest = [
        job for name in installation.model_names() for job in installation.jobs.list(name, limit=20).items
    ]
    late = [
        job.spec.id
        for job in newest
        if (job.state is JobState.RUNNING and job.lease_until < now - OVERDUE_SECONDS)
        or (job.state is JobState.QUEUED and max(job.not_before, job.created_at) < now - 20 * OVERDUE_SECONDS)
    ]
    if late:
        return Finding(
            "jobs", "fail", f"nobody works on {', '.join(late[:5])}", "everlearn up (or: everlearn worker)"
        )
    failed = [job for job in newest if job.state is JobState.FAILED]
    if failed:
        text = f"{len(failed)} of the newest failed; {failed[0].spec.id}: {failed[0].error}"
        return Finding("jobs", "warn", text, f"everlearn decisions {failed[0].spec.model} --kind fail")
    running = sum(job.state in (JobState.RUNNING, JobState.QUEUED) for job in newest)
    return Finding("jobs", "ok", f"{running} at work or waiting")


def check_mlflow(installation: Installation) -> Finding:
    """Whether MLflow answers; it may be slow, so it is not waited for without end."""
    uri = installation.settings.mlflow_uri
    if uri is None:
        return Finding("MLflow", "ok", "off (MLFLOW_TRACKING_URI)")
    if not installation.mirrors:
        return Finding("MLflow", "ok", "not installed, so nothing is mirrored")
    if not _has_database(installation):
        return Finding("MLflow", "ok", f"nothing to mirror to {uri} yet")
    waiting = installation.outbox.waiting("registry")
    if (
        uri.startswith("sqlite:///")
        and not (installation.settings.data / "mlflow.db").exists()
        and not waiting
    ):
        return Finding("MLflow", "ok", f"nothing was mirrored to {uri} yet")
    registry = installation.registry
    line = None if registry is None else _within(registry.check, MLFLOW_SECONDS)
    if line is None:
        text = f"{uri} does not answer; {waiting} messages wait for it, and nothing else does"
        return Finding(
            "MLflow", "warn", text, "start it, or mend MLFLOW_TRACKING_URI; it catches up by itself"
        )
    return Finding("MLflow", "ok", f"{line}; {waiting} messages wait")


def check_settings(installation: Installation) -> Finding:
    """Whether a variable looks like a setting and is none: a typing error has no effect otherwise."""
    known = {info.variable for info in describe_settings()} | OTHER_VARIABLES
    known |= {f"EVERLEARN_{info.field.upper()}" for info in describe_settings()}
    strange = sorted(name for name in os.environ if name.startswith("EVERLEARN_") and name not in known)
    if strange:
        return Finding("settings", "warn", f"no such setting: {', '.join(strange)}", "everlearn settings")
    return Finding("settings", "ok", f"{len(installation.settings.model_fields_set)} are set")


def check_extras(installation: Installation) -> Finding:
    """Which optional parts are installed, and whether one is missing that the settings ask for."""
    missing = [extra for extra, module in EXTRAS.items() if find_spec(module) is None]
    if "postgres" in missing and (installation.settings.database_url or "").startswith("postgresql"):
        return Finding("extras", "fail", "PostgreSQL needs a driver", "pip install 'everlearn[postgres]'")
    if not missing:
        return Finding("extras", "ok", "all are installed")
    return Finding("extras", "ok", f"not installed: {', '.join(missing)} (pip install 'everlearn[all]')")


CHECKS: dict[str, Callable[[Installation], Finding]] = {
    "data folder": check_data,
    "disk": check_disk,
    "key": check_key,
    "database": check_database,
    "clock": check_clock,
    "server": check_server,
    "loop": check_loop,
    "jobs": check_jobs,
    "MLflow": check_mlflow,
    "settings": check_settings,
    "extras": check_extras,
}


def _has_database(installation: Installation) -> bool:
    settings = installation.settings
    return settings.database_url is not None or (settings.data / "everlearn.db").is_file()


def _lags(installation: Installation) -> dict[str, tuple[int, int]]:
    """The models that are behind, each with the end of its log and how far the loop is."""
    behind = installation.ledger.behind(1000)
    return {
        name: (installation.log.head(name).seq, installation.ledger.checkpoint(name).cursor)
        for name in behind
    }


def _within(ask: Callable[[], str], seconds: float) -> str | None:
    """What ``ask`` says, or ``None`` if it fails or takes longer."""
    said: list[str] = []

    def run() -> None:
        try:
            said.append(ask())
        except Exception:
            return

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    return said[0] if said else None
