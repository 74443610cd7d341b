"""``everlearn up``: one installation as a family of processes that start, restart and stop together.

The supervisor binds the listening socket itself and hands it to the API processes, so while one of
them is restarted, callers wait in the socket's queue instead of being refused. A child that dies is
started again, with growing pauses if it keeps dying; a supervisor that dies takes its children along,
even by ``kill -9`` (see :func:`everlearn.processes.die_with_parent`).
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Protocol

from everlearn import __version__
from everlearn.children import Child, Part
from everlearn.errors import EverlearnError, UnavailableError
from everlearn.learners import ahead
from everlearn.processes import PARENT, stop_on_signals
from everlearn.running import DataLock, bind, forget_server, is_ready, record_server, url_of
from everlearn.wiring import Installation

LISTEN_FD = "EVERLEARN_LISTEN_FD"
BACKGROUND_METRICS = "EVERLEARN_BACKGROUND_METRICS"
COMPILER = (
    "from everlearn.processes import die_with_parent; from everlearn.learners.ahead import main;"
    "die_with_parent(); main()"
)
BACKGROUND = 5
"""The niceness of what may wait: learning takes the processor that serving leaves."""
POLL_SECONDS = 0.1
STOP_SECONDS = 4.0
READY_SECONDS = 120.0
MAX_DEATHS_BEFORE_READY = 5
LOOPBACK = ("127.0.0.1", "localhost", "::1")
HARMLESS = ("PATH", "HOME", "LANG", "LC_", "TZ", "TMP", "PYTHON", "VIRTUAL_ENV", "LD_", "SSL_", "NO_PROXY")
"""What the names of variables begin with that a process without secrets gets."""


class Say(Protocol):
    """Tells the operator something: ``text`` to people, ``event`` and ``facts`` to programs."""

    def __call__(self, event: str, text: str, **facts: object) -> None: ...  # noqa: D102


class Supervisor:
    """Runs an installation until it is told to stop."""

    def __init__(
        self, installation: Installation, say: Say, *, demo: bool = False, demo_json: bool = False
    ) -> None:
        self._installation, self._settings = installation, installation.settings
        self._say = say
        self._demo, self._demo_json = demo, demo_json
        self._stop = threading.Event()
        self._children: list[Child] = []
        self._url = ""
        self._dashboard_hint = "off"

    def stop(self) -> None:
        """Ask it to stop; callable from a signal handler. Asked twice, children are not waited for."""
        if self._stop.is_set():
            for child in self._children:
                child.signal(signal.SIGKILL)
        self._stop.set()

    def run(self) -> None:
        """Start everything, keep it running, and stop it cleanly.

        Raises ConflictError when the data folder or the port is in use, and UnavailableError when a
        process cannot start.
        """
        started = time.monotonic()
        data = self._settings.data
        key, is_new = self._installation.prepare()
        with (
            DataLock(data),
            bind(self._settings.host, self._settings.port, data) as listener,
            self._window() as window,
        ):
            self._url = url_of(listener)
            self._announce(key if is_new else None, None if window is None else url_of(window))
            self._installation.migrate()
            self._invite_admin()
            stop_on_signals(self.stop)
            signal.signal(signal.SIGHUP, lambda *_: self.stop())
            self._compile()
            with self._output() as output:
                self._children = self._family(listener, output)
                try:
                    self._keep_running(started, key, None if window is None else self._pane(window, output))
                finally:
                    self._stop_all()
                    forget_server(data)
        self._say("stopped", "stopped")

    def _compile(self) -> None:
        """Compile the learners' hot loops if no one has yet, so that no request waits for it.

        If that fails, each process compiles what it uses itself.
        """
        if not ahead.needed():
            return
        self._say("compiling", "compiling the learners, only this once (two or three minutes) ...")
        quiet = (
            None if sys.stderr.isatty() else subprocess.DEVNULL
        )  # it has been said; a terminal sees progress
        environment = {**os.environ, PARENT: str(os.getpid())}
        compiler = subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-c", COMPILER], env=environment, stderr=quiet, process_group=0
        )
        while compiler.poll() is None and not self._stop.wait(POLL_SECONDS):
            pass
        if self._stop.is_set():
            compiler.terminate()
            compiler.wait()

    def _keep_running(self, started: float, key: str, dashboard: Child | None) -> None:
        if self._stop.is_set():
            return
        for child in self._children:
            child.start()
        self._await_ready()
        if self._stop.is_set():
            return
        record_server(self._settings.data, self._url, dashboard.url if dashboard else None)
        seconds = time.monotonic() - started
        self._say("ready", f"ready in {seconds:.1f} s; stop with Ctrl-C", url=self._url, pid=os.getpid())
        if dashboard is not None:  # it comes last, and serving does not depend on it
            self._children.append(dashboard)
            dashboard.start()
        player = self._play(key) if self._demo else None
        while not self._stop.wait(POLL_SECONDS):
            self._revive()
            if player is not None and player.poll() is not None:
                self._demo_over(player.returncode)
                player = None
        if player is not None:
            player.terminate()

    def _await_ready(self) -> None:
        deadline = time.monotonic() + READY_SECONDS
        next_probe = 0.0
        while not self._stop.wait(POLL_SECONDS):
            self._revive()
            self._give_up_on_the_dying()
            if time.monotonic() >= next_probe:
                if is_ready(self._url):
                    return
                next_probe = time.monotonic() + 0.2
            if time.monotonic() > deadline:
                raise UnavailableError(
                    f"The API did not get ready within {READY_SECONDS:.0f} s{self._where_logs()}: "
                    "run 'everlearn doctor' for what is missing"
                )

    def _give_up_on_the_dying(self) -> None:
        for child in self._children:
            if child.deaths >= MAX_DEATHS_BEFORE_READY:
                raise UnavailableError(
                    f"The {child.part.name} process cannot start: "
                    f"it died {child.deaths} times{self._where_logs()}"
                )

    def _revive(self) -> None:
        for child in self._children:
            if (text := child.died()) is not None:
                self._say("restart", text, part=child.part.name, deaths=child.deaths)
            if child.process is None and time.monotonic() >= child.due and not self._stop.is_set():
                child.start()

    def _stop_all(self) -> None:
        self._stop.set()
        for child in self._children:
            child.signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        for child in self._children:
            if not child.wait(deadline - time.monotonic()):
                child.signal(signal.SIGKILL)
                child.wait(1.0)

    def _family(self, listener: socket.socket, output: IO[bytes] | None) -> list[Child]:
        settings = self._settings
        environment = {**os.environ, **settings.environment(), PARENT: str(os.getpid())}
        listener.set_inheritable(True)
        handed = {LISTEN_FD: str(listener.fileno())}
        ours, theirs = _metrics_folders(settings.data.absolute() / "metrics")
        handed[BACKGROUND_METRICS] = theirs
        if settings.workers > 1:
            handed["PROMETHEUS_MULTIPROC_DIR"] = ours
        names = ["api"] if settings.workers == 1 else [f"api-{i + 1}" for i in range(settings.workers)]
        family = [
            Child(Part(n, "everlearn.api.serve", handed), environment, listener.fileno(), output)
            for n in names
        ]
        names = ["worker", "scheduler", *(["mirror"] if self._installation.mirrors else [])]
        counted = {"PROMETHEUS_MULTIPROC_DIR": theirs, "EVERLEARN_METRICS_PORT": ""}
        others = [Part(name, f"everlearn.{name}", counted, niceness=BACKGROUND) for name in names]
        return family + [Child(part, environment, None, output) for part in others]

    @contextmanager
    def _window(self) -> Iterator[socket.socket | None]:
        """The socket of the dashboard; ``None``, and a hint why, where there is to be none."""
        settings = self._settings
        if not settings.dashboard:
            yield None
        elif find_spec("streamlit") is None:
            self._dashboard_hint = "not installed: pip install 'everlearn[dashboard]'"
            yield None
        else:
            try:
                window = bind(
                    settings.dashboard_host, settings.dashboard_port, settings.data, "--dashboard-port"
                )
            except EverlearnError as error:
                self._dashboard_hint = f"off: {error.detail}"
                yield None
            else:
                with window:
                    yield window

    def _pane(self, window: socket.socket, output: IO[bytes] | None) -> Child:
        """The process of the dashboard. It knows where the API answers, and gets no secret of this one."""
        settings = self._settings
        window.set_inheritable(True)
        arguments = ["--url", self._url, "--host", settings.dashboard_host]
        if settings.api_key is None and settings.dashboard_host in LOOPBACK:
            arguments += ["--key-path", str(settings.key_path.absolute())]
        environment = {name: value for name, value in os.environ.items() if name.startswith(HARMLESS)}
        environment |= {PARENT: str(os.getpid()), LISTEN_FD: str(window.fileno())}
        part = Part("dashboard", "everlearn.dashboard", arguments=arguments, niceness=BACKGROUND)
        return Child(part, environment, window.fileno(), output, url_of(window))

    def _output(self) -> _Output:
        return _Output(self._settings.data / "everlearn.log" if self._demo else None)

    def _where_logs(self) -> str:
        return f"; its log is in {self._settings.data / 'everlearn.log'}" if self._demo else ", see above"

    def _play(self, key: str) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "EVERLEARN_URL": self._url, "EVERLEARN_API_KEY": key}
        arguments = ["--json"] if self._demo_json else []
        return subprocess.Popen([sys.executable, "-m", "everlearn.demo", *arguments], env=environment)  # noqa: S603

    def _demo_over(self, code: int) -> None:
        if code == 0:
            text = f"the demo is over; the server goes on at {self._url}; stop with Ctrl-C"
        else:
            text = (
                f"the demo ended with exit code {code}; the server goes on at {self._url}; stop with Ctrl-C"
            )
        self._say("demo", text, exit_code=code)

    def _announce(self, new_key: str | None, dashboard: str | None) -> None:
        settings, path = self._settings, self._settings.key_path
        self._say(
            "start", f"everlearn {__version__}", version=__version__, pid=os.getpid(), data=str(settings.data)
        )
        self._tell("api", "API", self._url, url=self._url)
        self._tell("docs", "docs", f"{self._url}/docs", url=f"{self._url}/docs")
        self._tell("dashboard", "dashboard", dashboard or self._dashboard_hint, url=dashboard)
        if new_key is not None:
            text = f"{new_key}  (shown this once; it stands in {path})"
            self._tell("key", "key", text, key=new_key, path=str(path))
        elif settings.api_key is not None:
            self._tell("key", "key", "from EVERLEARN_API_KEY")
        else:
            self._tell("key", "key", f"in {path}", path=str(path))
        uri = settings.mlflow_uri if self._installation.mirrors else None
        self._tell("mlflow", "MLflow", self._mlflow_hint(), uri=uri)
        if self._demo:
            log = settings.data / "everlearn.log"
            self._tell("log", "log", str(log), path=str(log))

    def _tell(self, event: str, name: str, text: str, **facts: object) -> None:
        """One line of what there is, the names one below the other."""
        self._say(event, f"  {name:<9}  {text}", **facts)

    def _invite_admin(self) -> None:
        token = self._installation.first_admin()
        if token is not None:
            command = f"everlearn users accept admin {token}"
            self._tell("admin", "admin", f"{command}  (sets a password; shown this once)", invite=token)

    def _mlflow_hint(self) -> str:
        uri = self._settings.mlflow_uri
        if uri is None:
            return "off"
        if not self._installation.mirrors:
            return "not installed: pip install 'everlearn[mlflow]'"
        return f"mlflow ui --backend-store-uri {uri}" if uri.startswith("sqlite:") else uri


def _metrics_folders(folder: Path) -> tuple[str, str]:
    """Empty folders for what the API processes count, and for what the processes beside them do."""
    shutil.rmtree(folder, ignore_errors=True)
    ours, theirs = folder / "api", folder / "background"
    ours.mkdir(parents=True)
    theirs.mkdir()
    return str(ours), str(theirs)


class _Output:
    """Where children write: a file, or what the supervisor itself writes to."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._file: IO[bytes] | None = None

    def __enter__(self) -> IO[bytes] | None:
        if self._path is not None:
            self._file = self._path.open("ab")
        return self._file

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
