"""The figures of two runs of benchmarks side by side, as Markdown: how many times larger each has become.

    python bench/ratios.py BASE HEAD

BASE and HEAD are folders with the ``--json`` objects of the same scripts, one file each. A figure whose name
says in which direction it is better (milliseconds, seconds, megabytes; rates) is marked where it is over 1.1
times worse. One machine that does other things too is no scale: look at the larger ratios.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

WORSE = 1.1
LESS = ("_ms", "_mb", "_s", "seconds", "_us")
MORE = ("rps", "per_second", "rate", "rows_per_second")
ASKED = ("seed", "models", "cache_mb", "rate", "zipf", "rounds", "quick")
"""What was asked for and not measured."""


def figures(told: Any, name: str = "") -> Iterator[tuple[str, float]]:
    """Every number of an object by its path, but those that were asked for.

    >>> dict(figures({"seed": 3, "predict": {"p50_ms": 1.5}, "list": [{"name": "a", "rps": 2.0}]}))
    {'predict.p50_ms': 1.5, 'list.a.rps': 2.0}
    """
    if isinstance(told, Mapping):
        for key, value in told.items():
            if name or key not in ASKED or not isinstance(value, (int, float)):
                yield from figures(value, f"{name}.{key}".lstrip("."))
    elif isinstance(told, list):
        for i, item in enumerate(told):
            label = item.get("name", i) if isinstance(item, Mapping) else i
            yield from figures(item, f"{name}.{label}")
    elif isinstance(told, (int, float)) and not isinstance(told, bool):
        yield name, float(told)


def worse(name: str, ratio: float) -> bool:
    """Whether a figure that has become so many times larger is clearly worse.

    >>> worse("p50_ms", 1.5), worse("p50_ms", 0.5), worse("rps", 0.5), worse("rows", 2.0)
    (True, False, True, False)
    """
    if name.endswith(MORE):
        return ratio < 1 / WORSE
    return name.endswith(LESS) and ratio > WORSE


def table(base: Mapping[str, float], head: Mapping[str, float]) -> list[str]:
    """The rows of the figures that both have."""
    rows = ["| figure | before | now | ratio | |", "|---|---:|---:|---:|---|"]
    for name in head:
        if name in base:
            ratio = head[name] / base[name] if base[name] else (1.0 if not head[name] else float("inf"))
            mark = "worse" if worse(name, ratio) else ""
            rows.append(f"| {name} | {base[name]:.4g} | {head[name]:.4g} | {ratio:.2f} | {mark} |")
    return rows


def report(base: Path, head: Path) -> str:
    """All tables. What only one side has, or failed to measure, is named."""
    lines = ["### Benchmarks, this change against its base", ""]
    for file in sorted(head.glob("*.json")):
        before = base / file.name
        lines += [f"<details><summary>{file.stem}</summary>", ""]
        try:
            lines += table(*(dict(figures(json.loads(path.read_text()))) for path in (before, file)))
        except (OSError, ValueError):
            lines.append("There is nothing to compare it with.")
        lines += ["", "</details>", ""]
    return "\n".join(lines)


def main() -> None:
    """Print the report."""
    if len(sys.argv) != 3:
        sys.exit("usage: python bench/ratios.py BASE HEAD")
    print(report(Path(sys.argv[1]), Path(sys.argv[2])))


if __name__ == "__main__":
    main()
