"""Writes the Grafana dashboards: ``python deploy/grafana/build.py``; with ``--check``: are they current?

They are made with grafana-foundation-sdk (``pip install 'everlearn[dev]'``); nobody edits the JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from boards import BOARDS
from boards.parts import told
from grafana_foundation_sdk.cog.encoder import JSONEncoder

FOLDER = Path(__file__).resolve().parent / "dashboards"


def texts() -> dict[str, str]:
    """The JSON of each dashboard by the name of its file."""
    made = {}
    for name, make in BOARDS.items():
        plain = json.loads(JSONEncoder().encode(make().build()))
        made[f"{name}.json"] = json.dumps(told(plain), indent=1, sort_keys=True) + "\n"
    return made


def stale(folder: Path = FOLDER) -> list[str]:
    """The files in a folder that are not what the code makes, and those that no code makes."""
    wanted = texts()
    found = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.json")}
    return sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))


def main(arguments: list[str] | None = None) -> int:
    """Write them, or say which are not current; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit with 1 if one is not current"
    )
    if parser.parse_args(arguments).check:
        old = stale()
        if old:
            sys.stderr.write(f"not current: {', '.join(old)}; run python deploy/grafana/build.py\n")
        return 1 if old else 0
    FOLDER.mkdir(exist_ok=True)
    for name, text in texts().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
