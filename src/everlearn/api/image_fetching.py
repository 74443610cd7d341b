"""Images that are fetched from where a URL says: from hosts that an operator has listed, and no further.

See :mod:`everlearn.adapters.guard` for what is looked at before a connection is made. Each redirect is looked
at in the same way. What comes is read in pieces: what does not begin as an image, or is too large, is dropped
there and then.
"""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from collections.abc import Iterable
from functools import cached_property
from typing import TYPE_CHECKING, Final
from urllib.parse import SplitResult, urljoin

from everlearn.adapters.guard import Guard, Words, pinned
from everlearn.errors import Fault, InvalidError, UnavailableError
from everlearn.vision.images import MOST_BYTES, begins, dimensions

if TYPE_CHECKING:
    import httpx

HOSTS: Final = "EVERLEARN_IMAGE_HOSTS"
NETWORKS: Final = "EVERLEARN_IMAGE_NETWORKS"
SECONDS: Final = 10.0
"""How long a fetch may take, from the look at the name to the last byte, waiting for its turn included."""

AT_ONCE: Final = 8
"""Fetches under way in a process: each may hold an image of the largest size in memory."""

REDIRECTS: Final = 3
_MOVED: Final = (301, 302, 303, 307, 308)
_FIRST: Final = 8


def image_guard(hosts: Iterable[str] = (), networks: Iterable[str] = ()) -> Guard:
    """What images may be fetched from."""
    words = Words("fetch images from", HOSTS, NETWORKS)
    listed = tuple(map(ipaddress.ip_network, networks))
    return Guard(frozenset(host.lower() for host in hosts), listed, words=words)


class Fetcher:
    """Fetches images as a guard allows; by default it allows nothing. Belongs to one event loop."""

    def __init__(
        self, guard: Guard | None = None, *, seconds: float = SECONDS, most: int = MOST_BYTES
    ) -> None:
        self._guard = guard or image_guard()
        self._seconds, self._most = seconds, most
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def fetch(self, url: str) -> bytes:
        """The image at a URL; raises InvalidError, which names ``url``, where none is got."""
        self._guard.check(url)
        try:
            async with asyncio.timeout(self._seconds), self._turns:
                return await self._follow(url)
        except TimeoutError:
            raise refused(f"did not send its image within {self._seconds:g} s") from None
        except UnavailableError as error:
            raise refused(error.detail) from None

    async def _follow(self, url: str) -> bytes:
        for _ in range(REDIRECTS + 1):
            parts = self._guard.check(url)
            # A thread of its own: one that hangs on a name must not hold up who waits no longer.
            address = await asyncio.to_thread(self._guard.address, parts)
            found = await self._get(parts, address)
            if isinstance(found, bytes):
                return found
            url = urljoin(url, found)
        raise refused(f"leads on more than {REDIRECTS} times")

    async def _get(self, parts: SplitResult, address: str) -> bytes | str:
        """The image, or the URL that the host leads on to."""
        import httpx

        url, named = pinned(parts, address)
        headers = {"host": named, "user-agent": "everlearn", "accept": "image/jpeg, image/png"}
        headers["accept-encoding"] = "identity"
        try:
            async with (
                httpx.AsyncClient(
                    verify=self._trusted, timeout=self._seconds, follow_redirects=False, trust_env=False
                ) as client,
                client.stream(
                    "GET", url, headers=headers, extensions={"sni_hostname": parts.hostname or ""}
                ) as answer,
            ):
                if answer.status_code in _MOVED and "location" in answer.headers:
                    return str(answer.headers["location"])
                if answer.status_code != 200:
                    raise refused(f"answers with status {answer.status_code}")
                return await self._read(answer)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise refused(f"cannot be fetched from {parts.hostname}: {type(error).__name__}") from None

    async def _read(self, answer: httpx.Response) -> bytes:
        length = answer.headers.get("content-length", "")
        if length.isdecimal() and int(length) > self._most:
            raise self._too_large()
        data = bytearray()
        async for piece in answer.aiter_raw():
            data += piece
            if len(data) > self._most:
                raise self._too_large()
            if len(data) >= _FIRST and not begins(bytes(data[:_FIRST])):
                raise refused("holds neither a JPEG nor a PNG")
        return _whole(bytes(data))

    def _too_large(self) -> InvalidError:
        return refused(f"holds more than {self._most:,} bytes: an image may have that many at most")

    @cached_property
    def _trusted(self) -> ssl.SSLContext:
        import httpx

        return httpx.create_ssl_context(trust_env=False)


def _whole(data: bytes) -> bytes:
    try:
        dimensions(data)
    except InvalidError as error:
        raise of_url(error) from None
    return data


def of_url(error: InvalidError) -> InvalidError:
    """What is wrong with an image, as what is wrong with the URL that it came from."""
    if [fault.field for fault in error.faults] != ["image"]:
        return error
    return refused(f"holds what {error.faults[0].message}")


def refused(why: str) -> InvalidError:
    """An error that names ``url``."""
    return InvalidError(f"url: {why}", [Fault("url", why)])
