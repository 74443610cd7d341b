"""``python -m everlearn.dashboard``: what ``everlearn up`` and ``everlearn dashboard`` run."""

from __future__ import annotations

import argparse
import os
import socket
from collections.abc import Sequence

from everlearn.dashboard.server import serve
from everlearn.processes import die_with_parent

LISTEN_FD = "EVERLEARN_LISTEN_FD"


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve the dashboard of the API at ``--url``, on an inherited socket or on ``--host`` and ``--port``."""
    parser = argparse.ArgumentParser(prog="everlearn.dashboard", description=main.__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="where the API answers")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=8501, help="port to listen on; 0 picks a free one")
    parser.add_argument("--key-path", default="", help="where the installation's key stands, to be told")
    given = parser.parse_args(arguments)
    die_with_parent()
    with _listener(given.host, given.port) as listener:
        serve(given.url, given.host, listener, given.key_path)


def _listener(host: str, port: int) -> socket.socket:
    inherited = os.environ.pop(LISTEN_FD, "")
    if inherited:
        return socket.socket(fileno=int(inherited))
    return socket.create_server((host, port))


if __name__ == "__main__":
    main()
