"""``python -m everlearn.demo [--url URL] [--key KEY] [--json]`` plays the demo on a running server."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from rich.console import Console

from everlearn.client import Client
from everlearn.demo.play import PACE, run_demo
from everlearn.errors import EverlearnError


def main(arguments: Sequence[str] | None = None) -> int:
    """Play the demo; returns the exit code. ``--json`` prints the fields of ``DemoReport`` alone."""
    options = _parser().parse_args(arguments)
    console = None if options.json else Console()
    try:
        with Client(options.url, options.key) as client:
            report = run_demo(client, console, seed=options.seed, pace=options.pace or None)
    except EverlearnError as error:
        sys.stderr.write(f"The demo ended: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    if options.json:
        sys.stdout.write(json.dumps(report.to_dict()) + "\n")
        sys.stdout.flush()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m everlearn.demo", description=__doc__)
    parser.add_argument("--url", help="address of the server [EVERLEARN_URL, or port 8000 here]")
    parser.add_argument("--key", help="API key [EVERLEARN_API_KEY]")
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end")
    parser.add_argument("--seed", type=int, default=0, help="order of the rows")
    parser.add_argument("--pace", type=float, default=PACE, help=f"rows a second, 0: no limit [{PACE:g}]")
    return parser


if __name__ == "__main__":
    sys.exit(main())
