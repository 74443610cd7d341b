"""Images by URL: fetched from listed hosts and public addresses only, and from those nothing but an image."""

from __future__ import annotations

import asyncio
import struct
import time
import zlib
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from everlearn.api import image_fetching as fetching
from everlearn.api.image_fetching import Fetcher, image_guard
from everlearn.errors import InvalidError

PUBLIC = "93.184.216.34"
HERE = "127.0.0.0/8"


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


PNG = (
    b"\x89PNG\r\n\x1a\n"
    + chunk(b"IHDR", struct.pack(">IIBBBBB", 16, 16, 8, 0, 0, 0, 0))
    + chunk(b"IDAT", zlib.compress(b"\0" * 17 * 16))
    + chunk(b"IEND", b"")
)


class Site:
    """A small web site on this machine that does as it was told, and counts who came."""

    def __init__(self) -> None:
        self.port = 0
        self.asked: list[dict[str, str]] = []
        self.sent = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        path = head[0].split()[1]
        self.asked.append(dict(line.split(": ", 1) for line in head[1:] if line))
        try:
            await getattr(self, path.strip("/").replace("-", "_"))(writer)
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def answer(
        self, writer: asyncio.StreamWriter, body: bytes, status: str = "200 OK", **more: str
    ) -> None:
        headers = {"Content-Length": str(len(body)), **more}
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        writer.write(f"HTTP/1.1 {status}\r\n{lines}\r\n".encode() + body)
        await writer.drain()

    async def image(self, writer: asyncio.StreamWriter) -> None:
        await self.answer(writer, PNG)

    async def page(self, writer: asyncio.StreamWriter) -> None:
        await self.answer(writer, b"<html>" + b"x" * 1000, **{"Content-Type": "image/png"})

    async def cut(self, writer: asyncio.StreamWriter) -> None:
        await self.answer(writer, PNG[:12])

    async def gone(self, writer: asyncio.StreamWriter) -> None:
        await self.answer(writer, PNG, "404 Not Found")

    async def large(self, writer: asyncio.StreamWriter) -> None:
        await self.answer(writer, b"", **{"Content-Length": str(1 << 30)})

    async def endless(self, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n" + PNG[:8] + b"\r\n")
        while True:
            writer.write(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
            self.sent += 0x10000
            await writer.drain()

    async def slow(self, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + PNG[:9])
        while True:
            await asyncio.sleep(0.05)
            writer.write(b"x")  # a byte at a time keeps every single read short
            await writer.drain()

    async def once(self, writer: asyncio.StreamWriter) -> None:
        await self.answer(writer, b"", "302 Found", Location="/image")

    async def round(self, writer: asyncio.StreamWriter) -> None:
        await self.answer(writer, b"", "302 Found", Location="/round")

    async def away(self, writer: asyncio.StreamWriter) -> None:
        await self.answer(writer, b"", "302 Found", Location="https://evil.example/image")

    async def inside(self, writer: asyncio.StreamWriter) -> None:
        await self.answer(writer, b"", "302 Found", Location="http://169.254.169.254/latest/meta-data/")

    async def file(self, writer: asyncio.StreamWriter) -> None:
        await self.answer(writer, b"", "302 Found", Location="file:///etc/passwd")


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    made = Site()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    yield made
    server.close()


def fetcher(site: Site, *addresses: str, networks: tuple[str, ...] = (HERE,), **options: Any) -> Fetcher:
    """One that may fetch from the site under a name of its own, which resolves to these addresses."""
    guard = image_guard([f"cam.test:{site.port}"], networks)
    return Fetcher(replace(guard, look_up=lambda *_: list(addresses or ["127.0.0.1"])), **options)


async def test_an_image_is_fetched_from_the_address_that_was_looked_at(site: Site) -> None:
    found = await fetcher(site).fetch(f"http://cam.test:{site.port}/image")
    assert found == PNG
    assert site.asked[0]["host"] == f"cam.test:{site.port}"  # a name that resolves nowhere but in the guard
    assert "authorization" not in site.asked[0]


async def test_a_redirect_on_the_list_is_followed(site: Site) -> None:
    assert await fetcher(site).fetch(f"http://cam.test:{site.port}/once") == PNG


@pytest.mark.parametrize(
    ("path", "says", "requests"),
    [
        ("away", "evil.example is not a host to fetch images from: add it to EVERLEARN_IMAGE_HOSTS", 1),
        ("inside", "169.254.169.254 is not a host to fetch images from", 1),
        ("file", "must begin with https://", 1),
        ("round", "leads on more than 3 times", 4),
        ("page", "neither a JPEG nor a PNG", 1),
        ("cut", "neither JPEG nor PNG", 1),
        ("gone", "answers with status 404", 1),
        ("large", "more than 20,971,520 bytes", 1),
        ("endless", "more than 20,971,520 bytes", 1),
    ],
)
async def test_what_is_no_image_of_a_listed_host_is_refused(
    site: Site, path: str, says: str, requests: int
) -> None:
    with pytest.raises(InvalidError) as raised:
        await fetcher(site).fetch(f"http://cam.test:{site.port}/{path}")
    (fault,) = raised.value.faults
    assert fault.field == "url"
    assert says in fault.message
    assert len(site.asked) == requests


async def test_no_more_is_read_than_an_image_may_have(site: Site) -> None:
    with pytest.raises(InvalidError, match="more than 100,000 bytes"):
        await fetcher(site, most=100_000).fetch(f"http://cam.test:{site.port}/endless")
    assert site.sent < 20 << 20  # what lies in buffers on the way, and no more


async def test_a_host_that_trickles_is_left_in_time(site: Site) -> None:
    began = time.monotonic()
    with pytest.raises(InvalidError, match=r"did not send its image within 0\.4 s"):
        await fetcher(site, seconds=0.4).fetch(f"http://cam.test:{site.port}/slow")
    assert time.monotonic() - began < 5.0


async def test_a_name_that_takes_long_to_look_up_is_left_in_time(site: Site) -> None:
    def hang(*_: Any) -> list[str]:
        time.sleep(2.0)
        return ["127.0.0.1"]

    guard = replace(image_guard(["cam.test:80"]), look_up=hang)
    began = time.monotonic()
    with pytest.raises(InvalidError, match="did not send"):
        await Fetcher(guard, seconds=0.2).fetch("http://cam.test:80/image")
    assert time.monotonic() - began < 1.5


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.7", "169.254.169.254", "::1", "::ffff:10.0.0.7"])
async def test_a_listed_host_with_a_private_address_is_not_asked(site: Site, address: str) -> None:
    for addresses in ([address], [PUBLIC, address]):
        with pytest.raises(InvalidError, match="not public: see EVERLEARN_IMAGE_NETWORKS"):
            await fetcher(site, *addresses, networks=()).fetch(f"http://cam.test:{site.port}/image")
    assert site.asked == []


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("https://evil.example/a.jpg", "add it to EVERLEARN_IMAGE_HOSTS"),
        ("https://images.test.evil.example/a.jpg", "add it to EVERLEARN_IMAGE_HOSTS"),
        ("https://images.test@evil.example/a.jpg", "user or a password"),
        ("http://images.test/a.jpg", "must use https on port 443"),
        ("http://images.test:443/a.jpg", "must use https on port 443"),
        ("https://images.test:8443/a.jpg", "must use https on port 443"),
        ("ftp://images.test/a.jpg", "must begin with https://"),
        ("https://images.test/a b.jpg", "spaces"),
        ("https://[::1/a.jpg", "is no URL"),
        ("data:image/png;base64,AAAA", "must begin with https://"),
    ],
)
async def test_a_url_off_the_list_is_refused_before_it_is_looked_up(url: str, says: str) -> None:
    def never(*_: Any) -> list[str]:
        raise AssertionError("it was looked up")

    guard = replace(image_guard(["Images.Test"]), look_up=never)
    with pytest.raises(InvalidError, match=r"^url: ") as raised:
        await Fetcher(guard).fetch(url)
    assert says in raised.value.detail


async def test_only_some_are_fetched_at_a_time(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "AT_ONCE", 1)
    one = fetcher(site, seconds=30.0)
    url = f"http://cam.test:{site.port}"
    slow = asyncio.create_task(one.fetch(f"{url}/slow"))
    while not site.asked:
        await asyncio.sleep(0.01)
    waiting = asyncio.create_task(one.fetch(f"{url}/image"))
    await asyncio.sleep(0.1)
    assert len(site.asked) == 1
    slow.cancel()
    assert await waiting == PNG
