"""Small bodies that hold large tables, and bodies that lie, are refused before they take memory."""

from __future__ import annotations

import io
import resource
import struct
from typing import Any

import httpx
import pytest

from everlearn.api import tables_guard as guard
from everlearn.api.formats import ARROW, CSV, NDJSON, PARQUET

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

URL = "/v1/models/toy/predict"


def stream(data: Any, compression: str | None = None) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(
        sink, data.schema, options=pa.ipc.IpcWriteOptions(compression=compression)
    ) as writer:
        writer.write_table(data)
    return sink.getvalue()


def file(data: Any, **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(data, sink, **options)
    return sink.getvalue()


async def refused(client: httpx.AsyncClient, place: Any, kind: str, body: bytes) -> dict[str, Any]:
    """The problem that a body is refused with, at little cost of memory and with nothing recorded."""
    seq, before = place.store.log.head("toy").seq, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    answer = await client.post(URL, content=body, headers={"Content-Type": kind})
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert place.store.log.head("toy").seq == seq
    assert grown < 200_000, f"{grown} kB more than before"
    told: dict[str, Any] = answer.json()
    return told


@pytest.mark.parametrize("codec", ["zstd", "lz4"])
async def test_compressed_buffers_are_counted_before_they_are_unpacked(
    toy: httpx.AsyncClient, place: Any, codec: str
) -> None:
    zeros = pa.array(memoryview(bytes(8 * 900_000)).cast("d"))
    body = stream(pa.table({f"c{i}": zeros for i in range(90)}), codec)
    assert len(body) < 5 * 2**20
    told = await refused(toy, place, ARROW, body)
    assert (told["status"], told["type"]) == (413, "/errors/too-large")
    assert "when it is unpacked" in told["detail"]


async def test_nulls_that_take_no_room_are_counted(toy: httpx.AsyncClient, place: Any) -> None:
    body = stream(pa.table({"a": pa.nulls(10**9)}))
    assert len(body) < 10_000
    assert (await refused(toy, place, ARROW, body))["status"] == 413


@pytest.mark.parametrize("kind", [ARROW, PARQUET])
async def test_one_long_text_that_every_row_points_at(toy: httpx.AsyncClient, place: Any, kind: str) -> None:
    text = pa.DictionaryArray.from_arrays(pa.array([0] * 5000, pa.int32()), pa.array(["x" * 1_000_000]))
    data = pa.table({"a": pa.array([1.0] * 5000), "note": text})
    told = await refused(toy, place, kind, stream(data) if kind == ARROW else file(data, compression="zstd"))
    assert told["status"] == 413
    assert "characters of text" in told["detail"]


async def test_parquet_says_how_large_it_becomes(toy: httpx.AsyncClient, place: Any) -> None:
    zeros = pa.array(memoryview(bytes(8 * 900_000)).cast("d"))
    body = file(pa.table({f"c{i}": zeros for i in range(90)}), compression="zstd", use_dictionary=False)
    assert len(body) < 5 * 2**20
    assert (await refused(toy, place, PARQUET, body))["status"] == 413
    rows = file(pa.table({"a": pa.array([1.0] * (guard.MAX_ROWS + 1))}))
    assert (await refused(toy, place, PARQUET, rows))["status"] == 413


@pytest.mark.parametrize("kind", [CSV, NDJSON])
async def test_too_many_rows_of_text(
    toy: httpx.AsyncClient, place: Any, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(guard, "MAX_ROWS", 30)
    body = b"a,b\n" + b"1,2\n" * 31 if kind == CSV else b'{"a":1}\n' * 31
    assert (await refused(toy, place, kind, body))["status"] == 413


async def test_every_damage_to_a_stream_is_an_error_of_the_client(toy: httpx.AsyncClient, place: Any) -> None:
    """Offsets and sizes that point elsewhere: no crash, no 5xx."""
    texts = pa.array(["red", "blue", None] * 3).dictionary_encode()
    body = stream(pa.table({"a": [float(i) for i in range(9)], "note": texts}), "zstd")
    for at in range(8, len(body) - 8, 3):
        damaged = bytearray(body)
        struct.pack_into("<I", damaged, at, 0x7FFFFFF0)
        answer = await toy.post(URL, content=bytes(damaged), headers={"Content-Type": ARROW})
        assert answer.status_code in (200, 413, 422), (at, answer.text)


async def test_every_damage_to_a_file_is_an_error_of_the_client(toy: httpx.AsyncClient, place: Any) -> None:
    body = file(pa.table({"a": [float(i) for i in range(9)], "note": ["x"] * 9}))
    for at in range(4, len(body) - 8, 11):
        damaged = bytearray(body)
        struct.pack_into("<I", damaged, at, 0x7FFFFFF0)
        answer = await toy.post(URL, content=bytes(damaged), headers={"Content-Type": PARQUET})
        assert answer.status_code in (200, 413, 422), (at, answer.text)


async def test_a_body_over_the_limit(make_app: Any, connect: Any, spec: dict[str, Any]) -> None:
    async with connect(make_app(max_body=1000)) as client:
        assert (await client.post("/v1/models", json=spec)).status_code == 201
        answer = await client.post(URL, content=b"a,b\n" + b"1,2\n" * 400, headers={"Content-Type": CSV})
        assert answer.status_code == 413
