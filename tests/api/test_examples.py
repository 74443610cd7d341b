"""Bulk history as JSON, CSV and Parquet: all or nothing, and harmless when sent again."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import httpx
import pandas as pd
import pytest
from fastapi import FastAPI

from everlearn.errors import UnavailableError
from everlearn.types import LoadedExample

URL = "/v1/models/toy/examples"
CSV = {"Content-Type": "text/csv"}
PARQUET = {"Content-Type": "application/vnd.apache.parquet"}


def loaded(place: Any) -> list[LoadedExample]:
    return [event for event in place.store.log.read("toy", 0, 100_000) if isinstance(event, LoadedExample)]


async def test_json(toy: httpx.AsyncClient, place: Any) -> None:
    body = {
        "rows": [{"a": 1, "b": 2}, {"a": None, "b": 3}],
        "targets": ["yes", "no"],
        "at": [60, "1970-01-01"],
    }
    answer = await toy.post(URL, json=body)

    assert (answer.status_code, answer.json()) == (200, {"accepted": 2})
    assert [(e.features, e.target, e.at) for e in loaded(place)] == [
        ({"a": 1, "b": 2}, "yes", 60.0),
        ({"b": 3}, "no", 0.0),
    ]


async def test_csv(toy: httpx.AsyncClient, place: Any) -> None:
    answer = await toy.post(URL, content="b,y,a\n1,yes,0.5\n,no,NA\n2,no,\n", headers=CSV)

    assert answer.json() == {"accepted": 3}
    first, _, third = loaded(place)
    assert (first.features, first.target) == ({"a": 0.5, "b": 1.0}, "yes")
    assert third.features == {"b": 2.0}


async def test_the_cells_of_a_csv_stay_what_they_say(api: httpx.AsyncClient, place: Any) -> None:
    """Codes with leading zeros, the word NA as a category, numbers as classes."""
    features = {"code": "categorical", "flag": "boolean", "when": "timestamp"}
    await api.post(
        "/v1/models", json={"name": "toy", "target": "y", "features": features, "learner": "majority"}
    )
    text = "code,flag,when,y\n007,true,2024-05-01,1\nNA,false,2024-05-01T12:00:00Z,2\n,true,,1\n"
    answer = await api.post(URL, content=text, headers=CSV)

    assert answer.json() == {"accepted": 3}
    events = loaded(place)
    assert [e.features.get("code") for e in events] == ["007", "NA", None]
    assert [e.features["flag"] for e in events] == [True, False, True]
    assert [e.target for e in events] == [1, 2, 1]


async def test_a_class_is_the_same_in_every_chunk(toy: httpx.AsyncClient, place: Any) -> None:
    """One word among the numbers of a later chunk does not make other classes of them."""
    targets = ["1", "0"] * 700
    targets[1200] = "many"
    text = "a,b,y\n" + "".join(f"1,2,{target}\n" for target in targets)
    assert (await toy.post(URL, content=text, headers=CSV)).json() == {"accepted": 1400}
    assert {event.target for event in loaded(place)} == {0, 1, "many"}


def table(rows: int) -> pd.DataFrame:
    return pd.DataFrame({"a": [i / 2 for i in range(rows)], "b": 1, "y": ["yes", "no"] * (rows // 2)})


async def test_parquet(toy: httpx.AsyncClient, place: Any) -> None:
    pytest.importorskip("pyarrow")
    file = io.BytesIO()
    table(2500 - 500).to_parquet(file)
    answer = await toy.post(URL, content=file.getvalue(), headers=PARQUET)

    assert answer.json() == {"accepted": 2000}
    assert [e.features["a"] for e in loaded(place)] == [i / 2 for i in range(2000)]


async def test_parquet_without_pyarrow_says_how_to_get_it(
    toy: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    answer = await toy.post(URL, content=b"PAR1", headers=PARQUET)
    assert answer.status_code == 501
    assert "everlearn[arrow]" in answer.json()["detail"]


@pytest.mark.parametrize("name", ["history.csv", "HISTORY.CSV"])
async def test_a_form_upload(toy: httpx.AsyncClient, name: str) -> None:
    text = table(3000).to_csv(index=False)
    answer = await toy.post(URL, files={"file": (name, text, "application/octet-stream")})
    assert answer.json() == {"accepted": 3000}


async def test_a_form_upload_of_something_else(toy: httpx.AsyncClient) -> None:
    assert (await toy.post(URL, files={"file": ("a.xlsx", b"x")})).status_code == 415
    assert (await toy.post(URL, files={"other": ("a.csv", b"x")})).status_code == 422
    assert (await toy.post(URL, content=b"x", headers={"Content-Type": "text/plain"})).status_code == 415


async def test_a_fault_far_down_the_file_stores_nothing(toy: httpx.AsyncClient, place: Any) -> None:
    frame = table(3000).astype({"a": object})
    frame.loc[2500, "a"] = "oops"
    frame.loc[2600, "y"] = None
    answer = await toy.post(URL, content=frame.to_csv(index=False), headers=CSV)

    assert answer.status_code == 422
    fields = [error["field"] for error in answer.json()["errors"]]
    assert fields == ["rows[2500].a", "targets[2600]"]
    assert answer.json()["detail"].startswith("Nothing was stored")
    assert loaded(place) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read as CSV"),
        (b"a,b,y\n", "no rows"),
        (b"a,b\n1,2\n", "target is 'y'"),
        (b"a,b,y\n\xff\xfe,1,yes\n", "cannot be read as CSV"),
        (b'a,b,y\n1,2,"yes\n', "cannot be read as CSV"),
    ],
)
async def test_tables_that_cannot_be_read(toy: httpx.AsyncClient, content: bytes, message: str) -> None:
    answer = await toy.post(URL, content=content, headers=CSV)
    assert answer.status_code == 422
    assert message in answer.json()["detail"]


async def test_a_broken_parquet_file(toy: httpx.AsyncClient) -> None:
    pytest.importorskip("pyarrow")
    answer = await toy.post(URL, content=b"PAR1 but not really", headers=PARQUET)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "body")


@pytest.mark.parametrize(
    "body", [{"rows": [], "targets": []}, {"rows": [{"a": 1}], "targets": []}, {"rows": [{"a": 1}]}, []]
)
async def test_bodies_that_do_not_fit(toy: httpx.AsyncClient, body: Any) -> None:
    answer = await toy.post(URL, json=body)
    assert answer.status_code == 422
    assert answer.json()["errors"]


async def test_the_same_key_loads_once(toy: httpx.AsyncClient, place: Any) -> None:
    text, headers = table(1500 - 500).to_csv(index=False), {**CSV, "Idempotency-Key": "load-1"}
    first = await toy.post(URL, content=text, headers=headers)
    again = await toy.post(URL, content=text, headers=headers)
    other = await toy.post(URL, content=text + "9,9,yes\n", headers=headers)

    assert first.json() == again.json() == {"accepted": 1000}
    assert again.headers["Idempotency-Replayed"] == "true"
    assert other.status_code == 422
    assert len(loaded(place)) == 1000


async def test_a_load_that_broke_off_is_completed_by_its_repeat(
    toy: httpx.AsyncClient, place: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    append, calls = place.store.log.append, 0

    def failing(model: str, events: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise UnavailableError("The store is down: try again")
        return append(model, events)

    monkeypatch.setattr(place.store.log, "append", failing)
    text, headers = table(3000).to_csv(index=False), {**CSV, "Idempotency-Key": "load-2"}
    assert (await toy.post(URL, content=text, headers=headers)).status_code == 503
    assert len(loaded(place)) == 1000
    assert (await toy.post(URL, content=text, headers=headers)).json() == {"accepted": 3000}
    assert [e.features["a"] for e in loaded(place)] == [i / 2 for i in range(3000)]


async def test_an_upload_over_the_limit_is_stopped_while_it_streams(
    make_app: Callable[..., FastAPI], connect: Callable[..., Any], spec: dict[str, Any], place: Any
) -> None:
    sent = 0

    async def body() -> Any:
        nonlocal sent
        yield b"a,b,y\n"
        for _ in range(10_000):
            sent += 1
            yield b"1,2,yes\n" * 128

    async with connect(make_app(max_body=100_000)) as client:
        await client.post("/v1/models", json=spec)
        answer = await client.post(URL, content=body(), headers=CSV)
    assert answer.status_code == 413
    assert sent < 200
    assert loaded(place) == []


async def test_rows_with_more_cells_than_the_header_are_not_shifted_aside(toy: httpx.AsyncClient) -> None:
    answer = await toy.post(
        "/v1/models/toy/examples", content="a,y\n1,yes,7\n2,no,8\n", headers={"Content-Type": "text/csv"}
    )
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "file"
    assert "more cells than the header" in answer.json()["detail"]


@pytest.mark.parametrize("kind", ["application/x-ndjson", "application/vnd.apache.arrow.stream"])
async def test_other_tables(toy: httpx.AsyncClient, place: Any, kind: str) -> None:
    pa = pytest.importorskip("pyarrow")
    frame = table(2000)
    if kind.endswith("stream"):
        sink = io.BytesIO()
        rows = pa.Table.from_pandas(frame)
        with pa.ipc.new_stream(sink, rows.schema) as writer:
            writer.write_table(rows)
        content = sink.getvalue()
    else:
        content = frame.to_json(orient="records", lines=True).encode()
    answer = await toy.post(URL, content=content, headers={"Content-Type": kind})
    assert answer.json() == {"accepted": 2000}
    assert [(e.features["a"], e.target) for e in loaded(place)] == list(
        zip(frame["a"], frame["y"], strict=True)
    )


async def test_a_table_without_the_target(toy: httpx.AsyncClient) -> None:
    answer = await toy.post(
        URL, content=b'{"a": 1, "b": 2}\n', headers={"Content-Type": "application/x-ndjson"}
    )
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "y")
