"""The way to MLflow: quiet, with time-outs, and with one error for whatever goes wrong."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from everlearn.errors import EverlearnError, InvalidError, MissingExtraError, UnavailableError

DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # the outbox retries, with patience and in order
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_UV_AUTO_DETECT": "false",
}
"""MLflow's own settings, which it reads from the environment, where the environment does not say."""

SQLITE = "sqlite:///"
MOVE_AWAY = "if the file is damaged, stop everlearn and move it away: a new one is made"
PERMANENT = frozenset({"INVALID_PARAMETER_VALUE"})


def connect(uri: str) -> Any:
    """An ``MlflowClient`` of a tracking server or store that also holds the registry.

    Imports MLflow (seconds); a new SQLite store is made, with MLflow's migrations (seconds more), whole
    or not at all. Raises MissingExtraError without MLflow, UnavailableError if the store cannot be made.
    """
    if find_spec("mlflow") is None:
        raise MissingExtraError("The mirror in MLflow", "mlflow")
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    with reached(uri):
        from mlflow import MlflowClient

        if (file := sqlite_file(uri)) is not None:
            make_store(file)
        return MlflowClient(tracking_uri=uri, registry_uri=uri)


def make_store(file: Path) -> None:
    """Make a new SQLite store, unless it is there.

    MLflow makes its tables in hundreds of steps: a crash between two of them, or another process that
    looks in meanwhile, would leave a file that it never opens again. So it makes a draft, which gets
    its name when it is whole; a lock lets one process do so at a time.
    """
    import fcntl

    file.parent.mkdir(parents=True, exist_ok=True)
    if file.exists():
        return
    with file.with_name(f"{file.name}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if file.exists():
            return
        draft = file.with_name(f"{file.name}.draft")
        for left in file.parent.glob(f"{draft.name}*"):
            left.unlink()
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        store = SqlAlchemyStore(f"{SQLITE}{draft}", str(file.parent / "mlartifacts"))
        store.engine.dispose()
        draft.replace(file)


def sqlite_file(uri: str) -> Path | None:
    """The file of a SQLite store, ``None`` for any other.

    >>> sqlite_file("sqlite:////data/mlflow.db"), sqlite_file("http://mlflow:5000")
    (PosixPath('/data/mlflow.db'), None)
    """
    path = uri.removeprefix(SQLITE).partition("?")[0]
    return Path(path) if uri.startswith(SQLITE) and path not in ("", ":memory:") else None


def shown(uri: str) -> str:
    """A URI without its password.

    >>> shown("https://me:secret@mlflow.example/path")
    'https://me:***@mlflow.example/path'
    """
    scheme, mark, rest = uri.partition("://")
    credentials, at, place = rest.rpartition("@")
    user, colon, _ = credentials.partition(":")
    return f"{scheme}{mark}{user}{':***' if colon else ''}{at}{place}"


@contextmanager
def reached(uri: str) -> Iterator[None]:
    """Calls to MLflow: no warnings, and every failure of theirs is an UnavailableError.

    A value that MLflow refuses as invalid, which no retry would mend, is an InvalidError.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except EverlearnError:
            raise
        except Exception as error:
            said = f"{type(error).__name__}: {error}".replace(uri, shown(uri)).splitlines()[0][:400]
            if getattr(error, "error_code", None) in PERMANENT:
                raise InvalidError(f"MLflow at {shown(uri)} refused what everlearn sent: {said}") from error
            mend = "start it, or set MLFLOW_TRACKING_URI" if sqlite_file(uri) is None else MOVE_AWAY
            raise UnavailableError(
                f"MLflow at {shown(uri)} does not answer as it should ({said}): {mend}"
            ) from error
