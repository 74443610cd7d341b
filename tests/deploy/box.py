"""A process as a container would run it, made of the kernel's own parts: no engine and no image.

Its root holds the operating system, Python and the product, all read-only, with the mounts that are stated
in their places; it runs as the stated user, as process 1 of its own, without any capability. Needs root.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

HOME = "/opt/everlearn"
TOOLS = ("unshare", "mount", "chroot", "setpriv", "env")
SYSTEM = ("usr", "etc")
LINKS = ("bin", "sbin", "lib", "lib64", "lib32")


def missing() -> str | None:
    """Why this machine cannot make a box, or ``None``."""
    if os.geteuid() != 0:
        return "only root may give a process a root of its own"
    lacking = [tool for tool in TOOLS if shutil.which(tool) is None]
    if lacking:
        return f"not installed: {', '.join(lacking)}"
    done = subprocess.run(["unshare", "--mount", "--pid", "--fork", "true"], capture_output=True, check=False)
    return None if done.returncode == 0 else f"unshare: {done.stderr.decode().strip()}"


@dataclass(frozen=True)
class Box:
    """Where boxes get what they hold: the repository, the user's numbers, and a folder of the test."""

    repository: Path
    user: str
    folder: Path

    def start(
        self,
        argv: Sequence[str],
        environment: Mapping[str, str],
        places: Mapping[str, Path | None],
        read_only: Sequence[str],
        log: Path,
    ) -> Boxed:
        """Start a process. ``places`` maps paths to what is mounted there, ``None`` for scratch."""
        root = self.folder / f"root-{log.stem}"
        root.mkdir(exist_ok=True)
        lines = ["set -eu", "mount --make-rprivate /", f"mount -t tmpfs tmpfs {root}"]
        lines += self._system(root)
        for path, source in places.items():
            lines += _scratch(root, path) if source is None else []
        lines += self._product(root)  # after what is scratch: the repository may lie in /tmp itself
        for path, source in places.items():
            lines += [] if source is None else _bind(source, root, path, path in read_only)
        lines.append(f"mount -o remount,ro {root}")
        lines.append("exec " + shlex.join(self._command(root, argv, environment)))
        with log.open("ab") as output:
            process = subprocess.Popen(
                ["unshare", "--mount", "--pid", "--fork", "/bin/sh", "-c", "\n".join(lines)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={"PATH": os.environ["PATH"]},
            )
        return Boxed(process, log)

    def _system(self, root: Path) -> list[str]:
        lines = [line for name in SYSTEM for line in _bind(Path("/", name), root, f"/{name}", True)]
        for name in LINKS:
            here = Path("/", name)
            if here.is_symlink():
                lines.append(f"ln -s {os.readlink(here)} {root}/{name}")
            elif here.is_dir():
                lines += _bind(here, root, f"/{name}", True)
        lines += [f"mkdir {root}/proc {root}/dev", f"mount -t proc proc {root}/proc"]
        for device in ("null", "zero", "random", "urandom"):
            lines += [f"touch {root}/dev/{device}", f"mount --bind /dev/{device} {root}/dev/{device}"]
        return lines

    def _product(self, root: Path) -> list[str]:
        """Python, the environment in the image's place, and what the Dockerfile copies beside it."""
        real = Path(sys.executable).resolve().parent.parent
        environment = Path(sys.prefix)
        lines = [] if real.is_relative_to("/usr") else _bind(real, root, str(real), True)
        for path in (environment, self.repository / "src"):  # where scripts and an editable install point
            lines += _bind(path, root, str(path), True)
        for name in ("bin", "lib", "pyvenv.cfg"):
            lines += _bind(environment / name, root, f"{HOME}/{name}", True)
        for name in ("entrypoint.sh", "schema.py"):
            lines += _bind(self.repository / "deploy" / "docker" / name, root, f"{HOME}/{name}", True)
        return [*lines, f"mkdir {root}{HOME}/numba"]

    def _command(self, root: Path, argv: Sequence[str], environment: Mapping[str, str]) -> list[str]:
        uid, _, gid = self.user.partition(":")
        drop = ["--clear-groups", "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"]
        variables = [f"{name}={value}" for name, value in environment.items()]
        return [
            *("chroot", str(root), "/usr/bin/setpriv", f"--reuid={uid}", f"--regid={gid}", *drop),
            *("/usr/bin/env", "--ignore-environment", "--chdir=/tmp", *variables, *argv),
        ]


@dataclass
class Boxed:
    """A process in its box."""

    process: subprocess.Popen[bytes]
    log: Path

    def said(self) -> str:
        """The end of what it said."""
        return self.log.read_text(errors="replace")[-3000:]

    def lives(self) -> bool:
        """Whether it runs still."""
        return self.process.poll() is None

    def inside(self) -> int:
        """The number of the process itself, outside its box."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return int(children.read_text().split()[0])

    def stop(self, seconds: float = 20.0) -> tuple[int, float]:
        """SIGTERM, as an engine sends it; returns the exit code and how long it took."""
        started = time.monotonic()
        os.kill(self.inside(), signal.SIGTERM)
        return self.process.wait(seconds), time.monotonic() - started

    def kill(self) -> None:
        """End it, and all that it started, at once."""
        if self.lives():
            try:
                os.kill(self.inside(), signal.SIGKILL)
                self.process.wait(10)
            except (OSError, IndexError, subprocess.TimeoutExpired):
                self.process.kill()
                self.process.wait()


def _bind(source: Path, root: Path, path: str, read_only: bool) -> list[str]:
    make = (
        f"mkdir -p {root}{path}"
        if source.is_dir()
        else f"mkdir -p $(dirname {root}{path}); touch {root}{path}"
    )
    lines = [make, f"mount --bind {shlex.quote(str(source))} {root}{path}"]
    return [*lines, f"mount -o remount,ro,bind {root}{path}"] if read_only else lines


def _scratch(root: Path, path: str) -> list[str]:
    return [f"mkdir -p {root}{path}", f"mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs {root}{path}"]
