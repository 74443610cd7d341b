"""The database's schema: ``migrate`` it, ``check`` that it is the newest, or ``wait`` until it is.

Exits with 1 and one line where it cannot be reached or is another. ``wait`` gives up after a minute.
"""

from __future__ import annotations

import sys
import time

from everlearn.errors import EverlearnError, UnavailableError
from everlearn.wiring import Installation

WAIT_SECONDS = 60.0


def main(task: str) -> str:
    """Do the task; returns a line that says where the schema is. Raises EverlearnError."""
    installation = Installation.load()
    try:
        if task == "migrate":
            installation.migrate()
        deadline = time.monotonic() + (WAIT_SECONDS if task == "wait" else 0.0)
        while True:
            try:
                return installation.store.check()
            except UnavailableError:
                if time.monotonic() >= deadline:
                    raise
                time.sleep(1.0)
    finally:
        installation.close()


if __name__ == "__main__":
    if sys.argv[1:] not in (["migrate"], ["check"], ["wait"]):
        sys.exit("say one of: migrate, check, wait")
    try:
        sys.stdout.write(f"{main(sys.argv[1])}\n")
    except EverlearnError as error:
        sys.exit(str(error))
