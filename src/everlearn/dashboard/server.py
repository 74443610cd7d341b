"""The dashboard as one process: Streamlit behind our gate."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from everlearn.errors import MissingExtraError

if TYPE_CHECKING:
    import socket
    from typing import Any

UPLOAD_MB = 200
PATHS = ("", "model", "decisions", "what-if", "try-it", "frames", "jobs", "admin")
"""The pages, as in their addresses."""


def build(url: str, host: str, port: int, key_path: str = "") -> Any:
    """The dashboard of the API at ``url`` as an ASGI application.

    Raises MissingExtraError where Streamlit is not installed.
    """
    try:
        import streamlit
    except ModuleNotFoundError as error:
        raise MissingExtraError("The dashboard", "dashboard") from error
    if not all(hasattr(streamlit, name) for name in ("App", "grid", "pagination", "skeleton")):
        raise MissingExtraError(f"The dashboard with Streamlit {streamlit.__version__}", "dashboard")
    from starlette.middleware import Middleware
    from streamlit.web import bootstrap

    from everlearn.dashboard.document import document
    from everlearn.dashboard.doors import routes
    from everlearn.dashboard.gate import Gate
    from everlearn.dashboard.logins import Logins, connector, place
    from everlearn.dashboard.theme import streamlit_options

    here = place()
    here.logins, here.cookie = Logins(connector(url)), f"everlearn_dashboard_{port}"
    bootstrap.load_config_options(streamlit_options(port, host, UPLOAD_MB))
    paths = frozenset(f"/{path}" for path in PATHS)
    gate = Middleware(Gate, place=here, document=document(), paths=paths)
    script = Path(__file__).with_name("app.py")
    return streamlit.App(script, routes=routes(here, key_path), middleware=[gate])


def serve(url: str, host: str, listener: socket.socket, key_path: str = "") -> None:
    """Serve on a listening socket until told to stop."""
    import uvicorn

    port = int(listener.getsockname()[1])
    app = build(url, host, port, key_path)
    _warm()
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    config = uvicorn.Config(
        app, log_config=None, access_log=False, ws="websockets-sansio", timeout_graceful_shutdown=1
    )
    uvicorn.Server(config).run(sockets=[listener])


def _warm() -> None:
    """Import what pages need before the first visitor asks for one."""
    import everlearn.dashboard.shell  # noqa: F401

    sys.stdout.flush()
