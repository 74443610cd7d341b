"""A team's installation in one folder, every process of it ours to break.

Its own PostgreSQL, Redis and MLflow on free ports, and everlearn's processes as they are deployed: two API
processes on one address, two Celery workers, a scheduler and a mirror. A process that dies is started again,
as Kubernetes or systemd would.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Self

from everlearn.client import Client
from live_server import PATIENT, family, free_port

START_SECONDS = 120.0
AGAIN_SECONDS = (0.1, 1.0)
"""How long whoever keeps the processes running takes to start a dead one again: between these."""


class Missing(Exception):
    """A program that is not installed here; the message says which."""


def program(name: str, *places: Path) -> str:
    """Where a program is; raises Missing."""
    found = next((str(place / name) for place in places if (place / name).is_file()), None) or shutil.which(
        name
    )
    if found is None:
        raise Missing(f"{name} is not installed: chaos starts a server of its own")
    return found


def until(condition: Callable[[], object], what: str, seconds: float = START_SECONDS) -> None:
    """Wait until something holds; raises RuntimeError."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(Exception):
            if condition():
                return
        time.sleep(0.05)
    raise RuntimeError(f"{what} did not get ready in {seconds:.0f} s")


class Server:
    """A server of somebody else's: started, stopped and killed at will."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.port, self.folder = name, free_port(), folder / name
        self.folder.mkdir(mode=0o755)
        self.process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        """What runs it in the foreground."""
        raise NotImplementedError

    def answers(self) -> bool:
        """Whether it can be used."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True

    options: Mapping[str, Any] = {}

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with (self.folder.parent / f"{self.name}.log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command(),
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd=self.folder,
                **self.options,
            )
        until(self.answers, self.name)

    def end(self, number: int = signal.SIGTERM, seconds: float = 30.0) -> None:
        """End it by a signal."""
        if self.process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self.process = None

    def restart(self, number: int = signal.SIGTERM) -> None:
        """End it, and start it again."""
        self.end(number)
        self.start()


class Postgres(Server):
    """PostgreSQL. It refuses to run as root, so that it runs as ``postgres`` there."""

    def __init__(self, folder: Path) -> None:
        super().__init__("postgres", folder)
        newest = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: int(p.parent.name))[::-1]
        self._program = program("postgres", *newest)
        if os.geteuid() == 0:
            owner = pwd.getpwnam("postgres")
            os.chown(self.folder, owner.pw_uid, owner.pw_gid)
            self.options = {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}
        made = [program("initdb", *newest), "-D", "data", "-A", "trust", "-U", "postgres", "--no-sync"]
        subprocess.run(made, check=True, capture_output=True, cwd=self.folder, **self.options)
        self.server = f"postgresql://postgres@127.0.0.1:{self.port}"
        self.url = f"{self.server}/everlearn"

    def command(self) -> list[str]:  # noqa: D102
        where = ["-D", "data", "-p", str(self.port), "-k", str(self.folder), "-h", "127.0.0.1"]
        return [self._program, *where, "-c", "max_connections=200"]

    def answers(self) -> bool:  # noqa: D102
        with self.connect("postgres"):
            return True

    @contextlib.contextmanager
    def connect(self, database: str = "everlearn") -> Iterator[Any]:
        """A connection that commits each statement."""
        import psycopg

        with psycopg.connect(f"{self.server}/{database}", autocommit=True, connect_timeout=2) as connection:
            yield connection

    def copy(self, database: str) -> str:
        """A copy of the database, which nobody may be using; its URL."""
        with self.connect("postgres") as connection:
            connection.execute(f"CREATE DATABASE {database} TEMPLATE everlearn")
        return f"{self.server}/{database}"


class Redis(Server):
    """Redis, which keeps nothing on disk: a restart empties it."""

    def __init__(self, folder: Path) -> None:
        super().__init__("redis", folder)
        self._program = program("redis-server")
        self.url = f"redis://127.0.0.1:{self.port}/0"

    def command(self) -> list[str]:  # noqa: D102
        where = ["--port", str(self.port), "--bind", "127.0.0.1"]
        return [self._program, *where, "--save", "", "--appendonly", "no"]

    def flush(self) -> None:
        """Empty it."""
        import redis

        redis.Redis.from_url(self.url).flushall()


class Mlflow(Server):
    """MLflow's tracking server."""

    def __init__(self, folder: Path) -> None:
        super().__init__("mlflow", folder)
        self.url = f"http://127.0.0.1:{self.port}"
        quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        self.options = {"env": {**os.environ, **quiet}}

    def command(self) -> list[str]:  # noqa: D102
        where = ["--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        stored = ["--backend-store-uri", "sqlite:///mlflow.db", "--artifacts-destination", "served"]
        return [sys.executable, "-m", "mlflow", "server", *where, *stored]


class Part:
    """One process of everlearn that is kept running."""

    def __init__(self, name: str, command: list[str], environment: Mapping[str, str], log: Path) -> None:
        self.name, self._command, self._environment = name, command, environment
        self._log = log
        self.fds: tuple[int, ...] = ()
        self.process: subprocess.Popen[bytes] | None = None
        self.due = 0.0

    def start(self) -> None:
        """Start it; it gets ready by itself."""
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *self._command],
                env=dict(self._environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=self.fds,
                start_new_session=True,
            )

    def kill(self, draw: random.Random) -> int | None:
        """``kill -9`` one of its processes (it may have others beside its first), if it lives; which."""
        if self.process is None or self.process.poll() is not None:
            return None
        victim = draw.choice(family(self.process.pid))
        try:
            os.kill(victim, signal.SIGKILL)
        except ProcessLookupError:
            return None
        return victim


class World:
    """The installation. Use as a context manager; all of it ends with it."""

    def __init__(self, folder: Path, seed: int, mlflow: bool = True) -> None:
        folder.chmod(0o755)
        self.folder = folder
        self.data, self.logs = folder / "data", folder / "logs"
        self.logs.mkdir()
        self.postgres, self.redis = Postgres(folder), Redis(folder)
        self.mlflow = Mlflow(folder) if mlflow else None
        self.key = secrets.token_urlsafe(32)
        self._draw = random.Random(seed)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.environment = {
            **os.environ,
            "EVERLEARN_DATA": str(self.data),
            "EVERLEARN_DATABASE_URL": self.postgres.url,
            "EVERLEARN_API_KEY": self.key,
            "EVERLEARN_BROKER_URL": self.redis.url,
            "EVERLEARN_LEASE_SECONDS": "5",
            "EVERLEARN_TICK_SECONDS": "1",
            "MLFLOW_TRACKING_URI": self.mlflow.url if self.mlflow else "off",
        }
        self.parts = self._parts()
        self._over = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="keeper", daemon=True)

    def _parts(self) -> list[Part]:
        found = []
        for name, command in (
            ("api-1", ["everlearn.api.serve"]),
            ("api-2", ["everlearn.api.serve"]),
            ("worker-1", ["everlearn", "worker"]),
            ("worker-2", ["everlearn", "worker"]),
            ("scheduler", ["everlearn", "scheduler"]),
            *([("mirror", ["everlearn", "mirror"])] if self.mlflow else []),
        ):
            environment = dict(self.environment)
            if name.startswith("api"):
                environment["EVERLEARN_LISTEN_FD"] = str(self._listener.fileno())
            part = Part(name, command, environment, self.logs / f"{name}.log")
            part.fds = (self._listener.fileno(),) if name.startswith("api") else ()
            found.append(part)
        return found

    def client(self) -> Client:
        """A client that waits while what it asks is started again."""
        return Client(self.url, self.key, retries=PATIENT, timeout=20.0)

    def __enter__(self) -> Self:
        try:
            self._begin()
        except BaseException:
            self.end()
            raise
        return self

    def _begin(self) -> None:
        self.postgres.start()
        self.redis.start()
        if self.mlflow:
            self.mlflow.start()
        with self.postgres.connect("postgres") as connection:
            connection.execute("CREATE DATABASE everlearn")
        from everlearn.wiring import Installation

        installation = Installation.load(data=self.data, database_url=self.postgres.url, api_key=self.key)
        installation.prepare()
        installation.migrate()
        installation.close()
        for part in self.parts:
            part.start()
        self._keeper.start()
        with self.client() as client:
            until(lambda: client.ready()["status"] == "ready", "the API")

    def _keep(self) -> None:
        """Start dead processes again, a little later."""
        while not self._over.wait(0.05):
            for part in self.parts:
                now = time.monotonic()
                if part.process is not None and part.process.poll() is not None:
                    part.process, part.due = None, now + self._draw.uniform(*AGAIN_SECONDS)
                elif part.process is None and now >= part.due:
                    part.start()

    def stop_parts(self) -> None:
        """Stop everlearn's processes in order; the databases go on."""
        self._over.set()
        if self._keeper.is_alive():
            self._keeper.join()
        running = [part.process for part in self.parts if part.process is not None]
        for process in running:
            process.terminate()
        for process in running:
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def end(self) -> None:
        """Stop all of it."""
        self.stop_parts()
        for server in (self.mlflow, self.redis, self.postgres):
            if server is not None:
                server.end(signal.SIGINT if server is self.postgres else signal.SIGTERM)
        self._listener.close()

    def __exit__(self, *_: object) -> None:
        self.end()


def tail(log: IO[str] | Path, lines: int = 15) -> str:
    """The end of a log."""
    text = log.read_text(errors="replace") if isinstance(log, Path) else log.read()
    return "\n".join(text.splitlines()[-lines:])
