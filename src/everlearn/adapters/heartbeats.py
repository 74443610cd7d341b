"""Heart-beats pushed to a monitor, which rings when they stop: Uptime Kuma's, or any that takes a GET."""

from __future__ import annotations

from urllib.parse import urlsplit

from everlearn.errors import InvalidError, UnavailableError

BEAT_SECONDS = 20.0
"""How often a worker pushes."""

SECONDS = 5.0


def check_address(url: str) -> str:
    """The address, if it can be pushed to; raises InvalidError, which never tells it: it is a secret."""
    parts = urlsplit(url.strip())
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidError(
            "EVERLEARN_HEARTBEAT_URL must be the push address of a monitor, http:// or https://"
        )
    return url.strip()


def push(url: str, message: str = "OK") -> None:
    """Say that all is well; raises UnavailableError where nobody takes it."""
    import httpx

    host = urlsplit(url).hostname
    try:
        answer = httpx.get(url, params={"status": "up", "msg": message, "ping": ""}, timeout=SECONDS)
    except httpx.HTTPError as error:
        raise UnavailableError(f"{host} does not take heart-beats: {type(error).__name__}") from error
    if answer.status_code >= 400:
        raise UnavailableError(f"{host} does not take heart-beats: it answered {answer.status_code}")
