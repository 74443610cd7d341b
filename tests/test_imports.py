"""Importing everlearn and asking for help is quick, and touches neither network nor disk."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = (
    "alembic", "fastapi", "httpx", "loguru", "matplotlib", "mlflow", "msgspec", "numpy", "pandas", "pyarrow",
    "pydantic", "pydantic_settings", "river", "scipy", "sklearn", "skops", "sqlalchemy", "uvicorn",
)  # fmt: skip

# An audit hook sees every open for writing, socket and file operation of the interpreter, from C code too.
AUDIT = """
import sys
touched = []
def hook(event, args):
    if event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+"):
        touched.append((event, str(args[0])))
    elif event.split(".")[0] == "socket" or event in {
        "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.link", "os.symlink", "sqlite3.connect",
        "subprocess.Popen", "os.system", "urllib.Request", "http.client.connect",
    }:
        touched.append((event, repr(args)))
sys.dont_write_bytecode = True
sys.addaudithook(hook)
"""
REPORT = """
heavy = sorted(name for name in {heavy!r} if name in sys.modules)
sys.stderr.write("TOUCHED %r HEAVY %r" % (touched, heavy))
"""
IMPORT = "import everlearn\n"
HELP = """
from everlearn.cli import app
try:
    app(["--help"], prog_name="everlearn")
except SystemExit as ended:
    assert not ended.code
"""


def run(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True, timeout=60
    )


@pytest.mark.parametrize("code", [IMPORT, HELP], ids=["import", "help"])
def test_nothing_is_touched_and_nothing_heavy_is_imported(code: str, tmp_path: Path) -> None:
    done = run(AUDIT + code + REPORT.format(heavy=HEAVY), tmp_path)
    assert done.stderr.endswith("TOUCHED [] HEAVY []")
    assert list(tmp_path.iterdir()) == []


def test_the_audit_would_see_a_touch(tmp_path: Path) -> None:
    code = "import pandas, socket\nsocket.socket().close()\nopen('x', 'w').close()\n"
    done = run(AUDIT + code + REPORT.format(heavy=HEAVY), tmp_path)
    assert "socket.__new__" in done.stderr
    assert "'open', 'x'" in done.stderr
    assert "pandas" in done.stderr


def least_work(count: int, command: list[str], folder: Path) -> float:
    """Processor seconds of the run that took fewest: others on the machine do not count."""
    seconds = []
    for _ in range(count):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, cwd=folder, capture_output=True, check=True, timeout=60)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(seconds)


def test_it_is_quick(tmp_path: Path) -> None:
    bare = least_work(5, [sys.executable, "-c", "pass"], tmp_path)
    assert least_work(5, [sys.executable, "-c", IMPORT], tmp_path) - bare < 0.3
    assert least_work(5, [sys.executable, "-m", "everlearn", "--help"], tmp_path) < 1.0


def test_the_command_and_the_module_are_the_same() -> None:
    command = Path(sys.executable).with_name("everlearn")
    environment = {**os.environ, "COLUMNS": "100"}
    said = [
        subprocess.run(
            [*start, "--version"], capture_output=True, text=True, check=True, env=environment
        ).stdout
        for start in ([str(command)], [sys.executable, "-m", "everlearn"])
    ]
    assert said[0] == said[1]
    assert said[0].startswith("everlearn ")
