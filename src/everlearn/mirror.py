"""The mirror: delivers what the outbox holds to MLflow, in a process of its own.

MLflow is slow to import and its store may be slow or down; alone in a process it holds up nobody.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

from loguru import logger

from everlearn import logs
from everlearn.processes import die_with_parent, stop_on_signals

DESTINATION = "registry"
STOP_SECONDS = 2.0


def main(data: Path | None = None) -> None:
    """Mirror the installation that the environment describes, until SIGTERM."""
    from everlearn.adapters.outbox import Dispatcher
    from everlearn.wiring import Installation

    installation = Installation.load(data=data)
    settings = installation.settings
    os.nice(5)  # serving and learning come first
    logs.setup("mirror", level=settings.log_level, as_json=settings.log_json)
    stop = threading.Event()
    stop_on_signals(stop.set)
    die_with_parent(stop.set)

    def deliver() -> None:
        registry = installation.registry
        if registry is None:
            logger.info("no mirror: MLflow is off or not installed")
            stop.wait()
            return
        tracer = installation.tracer("mirror")
        mirror = registry.mirror
        Dispatcher(installation.outbox, DESTINATION, mirror, installation.clock, tracer=tracer).run(stop)
        tracer.close()

    # A delivery that hangs in MLflow must not hold up the end of the process.
    thread = threading.Thread(target=deliver, name="deliver", daemon=True)
    thread.start()
    while thread.is_alive() and not stop.wait(0.5):
        pass
    thread.join(STOP_SECONDS)
    sys.stderr.flush()
    os._exit(0 if stop.is_set() else 1)


if __name__ == "__main__":
    main()
