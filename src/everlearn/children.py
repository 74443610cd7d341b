"""The processes that a supervisor keeps running: what each is, and how it is started, missed and stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO

STEADY_SECONDS = 30.0
"""Who lives as long as this is not about to die again."""
MAX_PAUSE = 30.0


@dataclass(frozen=True, slots=True)
class Part:
    """A process to keep running: its name, the module it runs, its own variables, its niceness."""

    name: str
    module: str
    environment: Mapping[str, str] = field(default_factory=dict)
    arguments: Sequence[str] = ()
    niceness: int = 0


class Child:
    """One part and the process that runs it now."""

    def __init__(
        self,
        part: Part,
        environment: Mapping[str, str],
        fd: int | None,
        output: IO[bytes] | None,
        url: str | None = None,
    ) -> None:
        self.part = part
        self.url = url
        self._environment = {**environment, **part.environment}
        self._fd, self._output = fd, output
        self.process: subprocess.Popen[bytes] | None = None
        self.deaths = 0
        self.due = 0.0
        self._started = 0.0

    def start(self) -> None:
        """Start the process. Call from the main thread alone: children are bound to the thread's life."""
        command = [sys.executable, "-m", self.part.module, *self.part.arguments]
        self.process = subprocess.Popen(  # noqa: S603 - our own modules
            command,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=self._output,
            pass_fds=() if self._fd is None else (self._fd,),
            process_group=0,  # Ctrl-C on the terminal reaches the supervisor alone, which stops them in order
        )
        if self.part.niceness:
            os.setpriority(os.PRIO_PROCESS, self.process.pid, self.part.niceness)
        self._started = time.monotonic()

    def died(self) -> str | None:
        """How it ended, once for each death, having set when it is due again; ``None`` while it lives."""
        if self.process is None or (code := self.process.poll()) is None:
            return None
        now = time.monotonic()
        if now - self._started > STEADY_SECONDS:
            self.deaths = 0
        pause = 0.0 if self.deaths == 0 else min(0.25 * 2.0**self.deaths, MAX_PAUSE)
        self.deaths += 1
        self.due = now + pause
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        text = f"{self.part.name} (process {self.process.pid}) {how}; starting it again in {pause:.1f} s"
        self.process = None
        return text

    def signal(self, number: int) -> None:
        """Send a signal, if it runs."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    def wait(self, seconds: float) -> bool:
        """Wait for its end; returns whether it has ended."""
        if self.process is None:
            return True
        try:
            self.process.wait(max(seconds, 0.0))
        except subprocess.TimeoutExpired:
            return False
        return True
