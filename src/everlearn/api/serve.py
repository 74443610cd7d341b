"""One API process: ``python -m everlearn.api.serve``, as the supervisor starts it.

It takes over a listening socket by its descriptor (``EVERLEARN_LISTEN_FD``), so that connections
queue while a process is restarted; without one it binds the host and port of the settings. It ends
when its parent (``EVERLEARN_PARENT_PID``) is gone, even where that was killed.
"""

from __future__ import annotations

import os
import signal
import socket
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import uvicorn

from everlearn.api.app import create_app
from everlearn.api.auth import ApiKey
from everlearn.api.image_fetching import Fetcher, image_guard
from everlearn.api.throttle import Rates
from everlearn.processes import die_with_parent
from everlearn.vision.images import MOST_BYTES

if TYPE_CHECKING:
    from everlearn.api.short_way import ShortWay
    from everlearn.wiring import Installation

GRACE = 5
"""Seconds that requests in flight get to end when the process is told to stop."""

_TALKATIVE = ("TRACE", "DEBUG")
"""Levels at which each request has a line in the log, which the short way does not write."""

LISTEN_FD = "EVERLEARN_LISTEN_FD"


def main(
    fd: int | None = None,
    host: str | None = None,
    port: int | None = None,
    installation: Installation | None = None,
) -> None:
    """Serve until told to stop. Arguments left out come from the environment and the settings."""
    from everlearn import logs
    from everlearn.api.sparing import spare_pandas
    from everlearn.wiring import Installation

    spare_pandas()
    installation = installation or Installation.load(host=host, port=port)
    settings = installation.settings
    logs.setup("api", level=settings.log_level, as_json=settings.log_json)
    die_with_parent(_stop)
    given = os.environ.get(LISTEN_FD)
    fd = int(given) if fd is None and given else fd
    listening = None if fd is None else [socket.socket(fileno=fd)]
    try:
        server(installation).run(sockets=listening)
    finally:
        installation.close()


def server(installation: Installation) -> uvicorn.Server:
    """The uvicorn server of an installation, not yet started."""
    settings = installation.settings
    _ = installation.artifacts  # a store that cannot be opened stops the start, and not the first answer
    app = create_app(
        installation,
        authenticator=ApiKey(installation.api_key),
        receipts=installation.store.receipts,
        access=installation.access,
        signer=installation.signer,
        rates=Rates(per_key=settings.rate_limit, labels_per_day=settings.labels_per_day),
        threshold=settings.threshold,
        max_body=settings.max_body_mb * 2**20,
        warm=True,
        memory=settings.cache_mb << 20,
        model_requests=settings.model_requests,
        announcements=installation.announcements,
        outbox=installation.outbox,
        tracer=installation.tracer("api"),
        fetcher=Fetcher(image_guard(settings.image_host_names, settings.image_network_names)),
    )
    return uvicorn.Server(
        uvicorn.Config(
            app,
            host=settings.host,
            port=settings.port,
            access_log=False,
            log_config=None,
            server_header=False,
            backlog=2048,
            http=_protocol(
                settings.client_timeout, None if settings.log_level in _TALKATIVE else app.short_way
            ),
            ws="websockets-sansio" if _streams() else "none",
            ws_max_size=MOST_BYTES,
            ws_per_message_deflate=False,  # images are compressed already
            timeout_graceful_shutdown=GRACE,
            timeout_keep_alive=30,
        )
    )


def _streams() -> bool:
    """Whether frames can be streamed: with the extra ``vision`` alone."""
    return all(find_spec(name) is not None for name in ("onnxruntime", "websockets"))


def _protocol(patience: float, short_way: ShortWay | None) -> Any:
    """The protocol that gives up on slow callers; uvicorn's own where httptools is not there (Windows)."""
    if find_spec("httptools") is None:
        return "auto"
    from everlearn.api.patience import patient

    return patient(patience, short_way)


def _stop() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
