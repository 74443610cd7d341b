"""How commands find the running server and its key."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from everlearn.errors import InvalidError

if TYPE_CHECKING:
    from everlearn.client import Client

LOCAL = ("127.0.0.1", "localhost", "::1")


def connect(url: str | None, key: str | None, data: Path | None) -> Client:
    """A client for the server that the options name, or the data folder's.

    The data folder's key is sent only to this machine: a server elsewhere needs its own, by ``--key``
    or ``EVERLEARN_API_KEY``. Raises InvalidError when there is no key.
    """
    from everlearn.client import Client
    from everlearn.running import read_server
    from everlearn.wiring import Installation

    installation = Installation.load(data=data)
    settings = installation.settings
    url = url or os.environ.get("EVERLEARN_URL")
    if url is None:
        server = read_server(settings.data)
        url = server.url if server else f"http://127.0.0.1:{settings.port}"
    key = key or os.environ.get("EVERLEARN_API_KEY")
    if key is None:
        if urlsplit(url).hostname not in LOCAL:
            raise InvalidError(f"No key for {url}: give --key, or set EVERLEARN_API_KEY")
        key = installation.api_key
    return Client(url, key=key)
