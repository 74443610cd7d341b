"""Doing jobs in a process of their own, with limits: what a job breaks there, the worker survives.

The memory that is limited is what the process really uses (its resident set), watched from outside. A limit
on its address space would hit compiled code and linear algebra, which reserve far more than they use.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from everlearn.loop.drive import Done
from everlearn.loop.training import Progress
from everlearn.processes import PARENT
from everlearn.types import JobSpec
from everlearn.worker.attempts import Failure, Stopped
from everlearn.worker.channel import Channel
from everlearn.worker.memory import resident

JOB_FD = "EVERLEARN_JOB_FD"
START_SECONDS = 120.0
"""How long the process may take to be ready: it may have to compile. A job's own time begins after that."""

LOOK_SECONDS = 0.05
"""How often a job is looked at: its memory, its time, and whether it still counts."""

GRACE_SECONDS = 0.5
"""How long a job may still go on once the worker is to stop."""

WORN = 0.5
"""A process that keeps more than this share of the memory it may use after a job is replaced."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one job may use: ``seconds`` of time, and MiB of ``memory``. ``None``: as much as it wants."""

    seconds: float | None = None
    memory: int | None = None


class Child:
    """The process that does jobs. It lives no longer than the thread that makes it."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            handed = {JOB_FD: str(theirs.fileno()), PARENT: str(os.getpid())}
            self.process = subprocess.Popen(
                [sys.executable, "-m", "everlearn.worker.child"],
                env={**os.environ, **environment, **handed},
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                process_group=0,  # Ctrl-C on the terminal is the worker's to act on
            )
        self.channel = Channel(ours)

    def end(self) -> None:
        """Kill it."""
        self.process.kill()
        self.process.wait()
        self.channel.close()

    def fate(self) -> str:
        """How it ended, in words."""
        try:
            code = self.process.wait(5.0)
        except subprocess.TimeoutExpired:
            return "hung up"
        if code >= 0:
            return f"ended with exit code {code}"
        name = signal.Signals(-code).name
        return f"was killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")


class Apart:
    """See :class:`everlearn.worker.doing.Doer`. One process, started when first needed, does job after job.

    ``environment`` holds the settings of the installation, beside this process's own variables.
    """

    def __init__(self, environment: Mapping[str, str], limits: Limits) -> None:
        self._environment, self._limits = environment, limits
        self._child: Child | None = None
        self._stopped_at: float | None = None
        self._lock = threading.Lock()

    def start(self) -> None:
        """Start the process, if there is none that lives."""
        with self._lock:
            if self._child is not None and self._child.process.poll() is not None:
                self._drop()
            if self._child is None:
                self._child = Child(self._environment)

    @property
    def pid(self) -> int | None:
        """The process that does jobs now."""
        return None if self._child is None else self._child.process.pid

    def do(self, job: JobSpec, progress: Progress) -> Done:
        """Do a job there. Raises Failure, Stopped, and what ``progress`` raises."""
        self.start()
        child = self._child
        assert child is not None
        answered = False
        try:
            message = self._answer(child, job, progress)
            answered = True
        finally:
            if not answered or self._is_worn(child):
                self.close()
                if self._stopped_at is None:
                    self.start()  # it gets ready while nobody waits for it
        if "failed" in message:
            raise Failure(*message["failed"])
        return msgspec.convert(message["done"], Done)

    def stop(self) -> None:
        """Give up what is being done, shortly."""
        self._stopped_at = self._stopped_at or time.monotonic()

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._drop()

    def _answer(self, child: Child, job: JobSpec, progress: Progress) -> Any:
        """Hand a job over and wait for its end, with an eye on its limits."""
        until, share = time.monotonic() + START_SECONDS, 0.0
        try:
            child.channel.send(job)
            while True:
                message = child.channel.receive(LOOK_SECONDS) or {}
                if "begun" in message:
                    until = time.monotonic() + (self._limits.seconds or float("inf"))
                elif message and "progress" not in message:
                    return message
                share = message.get("progress", share)
                progress(share)  # it ends a job that was cancelled or taken over
                self._check(child, until)
        except (EOFError, OSError) as error:
            fate = child.fate()
            raise Failure(f"the process that did the job {fate}", passing=True) from error

    def _check(self, child: Child, until: float) -> None:
        now, limits = time.monotonic(), self._limits
        if self._stopped_at is not None and now - self._stopped_at > GRACE_SECONDS:
            raise Stopped
        if now > until:
            raise Failure(
                f"it took longer than {limits.seconds or START_SECONDS:.0f} s (EVERLEARN_JOB_SECONDS)"
            )
        used = resident(child.process.pid) if limits.memory else None
        if used is not None and limits.memory and used > limits.memory:
            words = f"it needed more than {limits.memory} MiB of memory (EVERLEARN_JOB_MEMORY_MB)"
            raise Failure(f"{words}: {used} MiB")

    def _is_worn(self, child: Child) -> bool:
        used = resident(child.process.pid) if self._limits.memory else None
        return used is not None and used > WORN * (self._limits.memory or 0)

    def _drop(self) -> None:
        if self._child is not None:
            self._child.end()
            self._child = None
