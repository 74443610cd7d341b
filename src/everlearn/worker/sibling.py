"""A worker beside this one, for work that must not wait behind this one's: started again whenever it ends."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Mapping

from loguru import logger

from everlearn.processes import PARENT

PAUSE_SECONDS = 1.0
END_SECONDS = 5.0


class Sibling:
    """Another ``everlearn worker`` with variables of its own."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = {**os.environ, **environment, PARENT: str(os.getpid())}
        self._over = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._keep, name="sibling", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ask it to stop; callable from a signal handler."""
        self._over.set()
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()

    def close(self) -> None:
        """Wait for its end, and kill it if it takes too long."""
        self.stop()
        self._thread.join(END_SECONDS)
        if self._process is not None and self._process.poll() is None:
            self._process.kill()

    def _keep(self) -> None:
        """Run it. It lives no longer than this thread (see :func:`everlearn.processes.die_with_parent`)."""
        while not self._over.is_set():
            self._process = subprocess.Popen(
                [sys.executable, "-m", "everlearn.worker"],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                process_group=0,
            )
            if self._over.is_set():
                self._process.terminate()
            code = self._process.wait()
            if not self._over.is_set():
                logger.warning("the worker for advance ended with {}; starting it again", code)
                self._over.wait(PAUSE_SECONDS)
