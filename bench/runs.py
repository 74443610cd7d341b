"""Runs jobs in processes of their own: ours in this environment, the peers' in theirs, which are cached."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Self

import numpy as np
from rich.console import Console

from streams import Stream

BENCH = Path(__file__).resolve().parent
CACHE = BENCH / ".cache"
VENV = BENCH.parent / ".bench-venv"
PINS = BENCH / "peers" / "requirements.txt"
PROTOCOL = 1
"""Raise it when what the runners measure changes: cached results of older ones are not used."""


@dataclass(frozen=True)
class Entry:
    """One learner of the comparison."""

    kind: str
    """One of ours, river and capymoa."""
    learner: str
    parameters: dict[str, Any] = field(default_factory=dict)
    slow: bool = False
    """Runs at fewer than 200 rows a second on the larger streams."""

    @property
    def name(self) -> str:
        """As tables name it."""
        values = " ".join(str(value) for value in self.parameters.values())
        own = f"{self.learner} {values}".strip()
        return own if self.kind == "ours" else f"{self.kind} {own}"


class Failed(Exception):
    """A run gave no result; the message says why."""


class Runner:
    """A process that measures one learner, job after job."""

    def __init__(self, python: Path, script: Path, *, core: int | None = None) -> None:
        self._errors = tempfile.TemporaryFile(mode="w+")  # noqa: SIM115 - closed on exit
        with on_core(core):
            self._process = subprocess.Popen(
                [str(python), str(script)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                text=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._process.kill()
        self._process.wait()
        self._errors.close()

    def alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def ask(self, what: Any) -> Any:
        """The answer to a job or to a stretch; raises Failed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(what) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise Failed(self._last_words())
        answer = json.loads(line)
        if isinstance(answer, dict) and "failed" in answer:
            raise Failed(answer["failed"])
        return answer

    def _last_words(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read().strip().splitlines()
        return lines[-1] if lines else "the runner ended without a word"


@contextmanager
def on_core(core: int | None) -> Iterator[None]:
    """Let processes that start meanwhile run on one core alone (Linux)."""
    if core is None or not hasattr(os, "sched_setaffinity"):
        yield
        return
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


class Bench:
    """Where jobs are run, and what is known of earlier ones."""

    def __init__(
        self, console: Console, *, fresh: bool = False, reuse: bool = False, cache: Path = CACHE
    ) -> None:
        self.console, self._fresh, self._reuse, self.cache = console, fresh, reuse, cache
        self._alive: dict[str, Runner] = {}
        self._machine = machine()
        self._python: Path | None = None
        self._versions: dict[str, str] = {}
        self._done: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for runner in self._alive.values():
            runner.__exit__()

    # -- the peers' environment ------------------------------------------------------------------------

    def peers_python(self) -> Path:
        """The interpreter of the peers' environment, which is made on first use.

        ``EVERLEARN_BENCH_PYTHON`` names another one. Raises Failed if it cannot be made.
        """
        if self._python is None:
            named = os.environ.get("EVERLEARN_BENCH_PYTHON")
            self._python = Path(named) if named else self._make_environment()
            self._versions = self._installed(self._python)
        return self._python

    def _make_environment(self) -> Path:
        python = VENV / "bin" / "python"
        mark = VENV / f"installed-{sha256(PINS.read_bytes()).hexdigest()[:12]}"
        if not mark.exists():
            self.console.print(f"making the peers' environment in {VENV} (some minutes, only once)")
            steps = [
                [sys.executable, "-m", "venv", "--clear", str(VENV)],
                [str(python), "-m", "pip", "install", "--quiet", "--requirement", str(PINS)],
            ]
            for step in steps:
                done = subprocess.run(step, capture_output=True, text=True)
                if done.returncode:
                    raise Failed(f"the peers' environment cannot be made: {done.stderr.strip()[-300:]}")
            mark.touch()
        return python

    def _installed(self, python: Path) -> dict[str, str]:
        code = (
            "import importlib.metadata as m, json\n"
            "have = {d.metadata['name'].lower(): d.version for d in m.distributions()}\n"
            "print(json.dumps({n: have.get(n) for n in ('river', 'capymoa')}))"
        )
        done = subprocess.run([str(python), "-c", code], capture_output=True, text=True)
        if done.returncode:
            raise Failed(f"{python} does not run: {done.stderr.strip()[-300:]}")
        return {name: version for name, version in json.loads(done.stdout).items() if version}

    def version(self, entry: Entry) -> str:
        """The version of the library that a peer is of; raises Failed if it cannot run here."""
        self.peers_python()
        if entry.kind not in self._versions:
            raise Failed(f"{entry.kind} is not installed in the peers' environment")
        if entry.kind == "capymoa" and shutil.which("java") is None:
            raise Failed("CapyMOA needs java (17 or newer), which is not on PATH")
        return self._versions[entry.kind]

    # -- running ---------------------------------------------------------------------------------------

    @contextmanager
    def runner(self, entry: Entry, core: int | None = None) -> Iterator[Runner]:
        """A process for a learner: its own, or (``reuse``, quicker) the one of its earlier jobs."""
        kept = self._alive.get(entry.name) if core is None else None
        if kept is not None and kept.alive():
            yield kept
            return
        if entry.kind == "ours":
            python, script = Path(sys.executable), BENCH / "ours_runner.py"
        else:
            self.version(entry)
            python, script = self.peers_python(), BENCH / "peers" / f"{entry.kind}_runner.py"
        started = Runner(python, script, core=core)
        if self._reuse and core is None:
            self._alive[entry.name] = started
            yield started
            return
        with started:
            yield started

    def job(self, entry: Entry, stream: Stream, delay: int, seed: int) -> dict[str, Any]:
        """What a runner is asked."""
        return {
            "learner": entry.learner,
            "parameters": entry.parameters,
            "task": stream.task,
            "data": str(stream.file(self.cache / "streams")),
            "classes": stream.classes,
            "delay": delay,
            "seed": seed,
        }

    def results(self, entry: Entry, stream: Stream, wanted: list[tuple[int, int]]) -> list[dict[str, Any]]:
        """The result of each (delay, seed), with ``picks`` and ``answers``; a peer's from the cache if known.

        Raises Failed if the learner cannot do it.
        """
        found = [self._known(entry, stream, delay, seed) for delay, seed in wanted]
        if all(result is not None for result in found):
            return [result for result in found if result is not None]
        with self.runner(entry) as runner:
            return [
                known if known is not None else self._run(runner, entry, stream, delay, seed)
                for known, (delay, seed) in zip(found, wanted, strict=True)
            ]

    def _run(self, runner: Runner, entry: Entry, stream: Stream, delay: int, seed: int) -> dict[str, Any]:
        name = f"{stream.name}, {delay} late: {entry.name}, seed {seed}"
        self.console.print(name, style="dim")
        place = self._place(entry, stream, delay, seed)
        place.parent.mkdir(parents=True, exist_ok=True)
        out = place.with_name(f"{uuid.uuid4().hex}.npz")
        try:
            result = runner.ask({**self.job(entry, stream, delay, seed), "out": str(out)})
            answers = read(out)
            if entry.kind != "ours":
                place.with_suffix(".json").write_text(json.dumps(result))
                out.replace(place)
                self._done.add(place.stem)
        finally:
            out.unlink(missing_ok=True)
        return {**result, **answers, "cached": False}

    def _known(self, entry: Entry, stream: Stream, delay: int, seed: int) -> dict[str, Any] | None:
        place = self._place(entry, stream, delay, seed)
        again = self._fresh and place.stem not in self._done
        if entry.kind == "ours" or again or not place.exists():
            return None
        return {**json.loads(place.with_suffix(".json").read_text()), **read(place), "cached": True}

    def _place(self, entry: Entry, stream: Stream, delay: int, seed: int) -> Path:
        """Where a result is kept: by all that it depends on."""
        if entry.kind == "ours":
            return self.cache / "ours" / "answers.npz"
        key = [PROTOCOL, entry.name, self.version(entry), stream.digest, delay, seed, self._machine]
        return self.cache / "peers" / f"{sha256(json.dumps(key).encode()).hexdigest()[:24]}.npz"


def read(file: Path) -> dict[str, Any]:
    with np.load(file) as stored:
        return {"picks": stored["picks"], "answers": stored.get("answers")}


def machine() -> dict[str, Any]:
    """What rates depend on."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "cpu": models[0] if models else platform.processor(),
        "cores": cores,
        "python": platform.python_version(),
    }
