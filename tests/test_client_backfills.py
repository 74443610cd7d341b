"""The verbs of backfills: what they send, and rows that go to a file as they come."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from everlearn import AsyncClient, Client
from everlearn.client import Retries
from everlearn.errors import ConflictError, InvalidError, UnavailableError

AT_ONCE = Retries(attempts=3, base=0.0)


class Broken(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body that breaks off."""

    def __iter__(self) -> Iterator[bytes]:
        yield b"half a "
        raise httpx.RemoteProtocolError("peer closed connection")

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self:
            yield chunk


class Wire:
    """Answers in turn, the last one again and again, and keeps what it was sent."""

    def __init__(self, *answers: httpx.Response) -> None:
        self.answers, self.requests = list(answers), list[httpx.Request]()

    def __call__(self, request: httpx.Request) -> httpx.Response:
        request.read()
        self.requests.append(request)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def client_of(wire: Wire) -> Client:
    return Client("http://x", key="k", retries=AT_ONCE, transport=httpx.MockTransport(wire))


def test_only_what_is_given_is_asked_for() -> None:
    wire = Wire(httpx.Response(202, json={"id": "3f9a1c2b4d5e"}))
    with client_of(wire) as client:
        client.backfill("m")
        client.backfill("m", 7, after=10, since=datetime(2024, 5, 1, tzinfo=UTC), until=5.0, part_rows=100)
        assert client.backfill_report("m", "3f9a1c2b4d5e") == {"id": "3f9a1c2b4d5e"}
        client.cancel_backfill("m", "3f9a1c2b4d5e")
    bodies = [json.loads(request.content or b"null") for request in wire.requests]
    times = {"since": "2024-05-01T00:00:00+00:00", "until": 5.0}
    assert bodies == [{}, {"version": 7, "after": 10, "part_rows": 100, **times}, None, {}]
    paths = [f"{request.method} {request.url.path}" for request in wire.requests]
    own = "/v1/models/m/backfills"
    assert paths == [f"POST {own}"] * 2 + [f"GET {own}/3f9a1c2b4d5e", f"POST {own}/3f9a1c2b4d5e/cancel"]
    assert all("Idempotency-Key" in wire.requests[i].headers for i in (0, 1, 3))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.csv", "text/csv"),
        ("b.PARQUET", "application/vnd.apache.parquet"),
        ("c.jsonl", "application/x-ndjson"),
    ],
)
def test_the_files_name_says_the_format(tmp_path: Path, name: str, kind: str) -> None:
    wire = Wire(httpx.Response(200, content=b"rows"))
    with client_of(wire) as client:
        assert client.backfill_rows("m", "3f9a1c2b4d5e", tmp_path / name) == 4
    assert wire.requests[0].headers["Accept"] == kind
    assert (tmp_path / name).read_bytes() == b"rows"


def test_an_answer_that_breaks_off_is_begun_again(tmp_path: Path) -> None:
    wire = Wire(httpx.Response(200, stream=Broken()), httpx.Response(200, content=b"all of it"))
    with client_of(wire) as client:
        assert client.backfill_rows("m", "3f9a1c2b4d5e", tmp_path / "a.csv") == 9
    assert (tmp_path / "a.csv").read_bytes() == b"all of it"


def test_without_an_answer_the_file_stays_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_bytes(b"before")
    broken = Wire(*(httpx.Response(200, stream=Broken()) for _ in range(AT_ONCE.attempts)))
    with client_of(broken) as client, pytest.raises(UnavailableError):
        client.backfill_rows("m", "3f9a1c2b4d5e", file)
    early = httpx.Response(409, json={"detail": "The backfill is running"})
    with client_of(Wire(early)) as client, pytest.raises(ConflictError, match="is running"):
        client.backfill_rows("m", "3f9a1c2b4d5e", file)
    with client_of(Wire(early)) as client, pytest.raises(InvalidError, match="Name it"):
        client.backfill_rows("m", "3f9a1c2b4d5e", tmp_path / "a.xls")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a.csv", b"before")]


async def test_the_client_to_await_does_the_same(tmp_path: Path) -> None:
    wire = Wire(
        httpx.Response(202, json={"id": "3f9a1c2b4d5e"}),
        httpx.Response(200, stream=Broken()),
        httpx.Response(200, content=b"all of it"),
        httpx.Response(409, json={"detail": "The backfill is running"}),
    )
    transport = httpx.MockTransport(wire)
    async with AsyncClient("http://x", key="k", retries=AT_ONCE, transport=transport) as client:
        asked = await client.backfill("m", version=2)
        assert await client.backfill_rows("m", asked["id"], tmp_path / "a.csv") == 9
        with pytest.raises(ConflictError, match="is running"):
            await client.backfill_rows("m", asked["id"], tmp_path / "b.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]
