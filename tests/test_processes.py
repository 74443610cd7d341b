"""Who lives, and whose death is theirs too."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from everlearn.processes import PARENT, identity, is_dead, pid_lives

CHILD = """
import time
from everlearn.processes import die_with_parent
die_with_parent()
print("alive", flush=True)
time.sleep(60)
"""
PARENT_PROCESS = f"""
import os, subprocess, sys, time
environment = {{**os.environ, {PARENT!r}: str(os.getpid())}}
child = subprocess.Popen([sys.executable, "-c", {CHILD!r}], env=environment, stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
time.sleep(60)
"""


def test_this_process_is_not_dead() -> None:
    assert not is_dead(identity())


def test_a_process_that_ended_is_dead() -> None:
    code = "from everlearn.processes import identity; print(identity())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert is_dead(done.stdout.strip())


def test_a_reused_number_is_another_process() -> None:
    place, pid, _ = identity().rsplit(":", 2)
    assert is_dead(f"{place}:{pid}:1")


def test_a_process_of_another_container_is_not_known_to_be_dead() -> None:
    """Containers that share a host's name count their processes alike, and cannot see each other's."""
    assert not is_dead(f"{socket.gethostname()}/1:{os.getpid()}:1")


@pytest.mark.parametrize("owner", [None, "", "me", "elsewhere:1:1", f"{socket.gethostname()}:x:1"])
def test_what_cannot_be_known_is_not_called_dead(owner: str | None) -> None:
    assert not is_dead(owner)


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_a_zombie_does_not_live() -> None:
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    deadline = time.monotonic() + 20
    while pid_lives(child.pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not pid_lives(child.pid)
    child.wait()


def test_a_child_dies_with_its_killed_parent() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT_PROCESS], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert pid_lives(child)
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        deadline = time.monotonic() + 5
        while pid_lives(child) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not pid_lives(child)
