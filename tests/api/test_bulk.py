"""Tables in, tables out: every format says what JSON says, and nothing is answered that is not recorded."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from everlearn.api import formats, uploads

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

URL = "/v1/models/toy/predict"
NDJSON, CSV, ARROW, PARQUET = formats.TABLES


def encoded(kind: str, rows: list[dict[str, Any]]) -> bytes:
    """Rows as a table of a format; a missing cell is null."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    if kind == NDJSON:
        return "".join(json.dumps(row) + "\n" for row in rows).encode()
    if kind == CSV:
        out = io.StringIO()
        lines = csv.DictWriter(out, names)
        lines.writeheader()
        lines.writerows(
            {k: ("" if v is None else json.dumps(v).strip('"')) for k, v in row.items()} for row in rows
        )
        return out.getvalue().encode()
    table = pa.table({name: [row.get(name) for row in rows] for name in names})
    sink = io.BytesIO()
    if kind == PARQUET:
        pq.write_table(table, sink)
    else:
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
    return sink.getvalue()


def decoded(kind: str, body: bytes) -> list[dict[str, Any]]:
    """Answers of a table in the form of the JSON answers."""
    if kind == NDJSON:
        return [json.loads(line) for line in body.splitlines()]
    if kind == CSV:
        rows: list[dict[str, Any]] = [dict(row) for row in csv.DictReader(io.StringIO(body.decode()))]
        for row in rows:
            row["version"] = int(row["version"])
            row.update({k: float(v) for k, v in row.items() if k.startswith("probabilities.")})
    elif kind == ARROW:
        rows = pa.ipc.open_stream(body).read_all().to_pylist()
    else:
        rows = pq.read_table(io.BytesIO(body)).to_pylist()
    for row in rows:
        told = {k.partition(".")[2]: row.pop(k) for k in list(row) if k.startswith("probabilities.")}
        if told:
            row["probabilities"] = told
    return rows


async def sent(
    client: httpx.AsyncClient, kind: str, body: bytes, url: str = URL, **headers: str
) -> httpx.Response:
    return await client.post(url, content=body, headers={"Content-Type": kind, **headers})


def table(n: int, start: int = 0) -> list[dict[str, Any]]:
    return [{"id": f"r{i}", "a": (i * 37 % 101) / 50 - 1, "b": i % 7 / 7} for i in range(start, start + n)]


@pytest.mark.parametrize("kind", formats.TABLES)
async def test_every_format_says_what_json_says(trained: httpx.AsyncClient, place: Any, kind: str) -> None:
    rows = table(50)
    bare = [{k: v for k, v in row.items() if k != "id"} for row in rows]
    asked = {"rows": bare, "ids": [f"json-{row['id']}" for row in rows]}
    expected = (await trained.post(URL, json=asked)).json()["predictions"]
    answer = await sent(trained, kind, encoded(kind, rows))

    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith(kind)
    assert decoded(kind, answer.content) == [
        {**told, "id": told["id"].removeprefix("json-")} for told in expected
    ]
    found = place.store.log.find("toy", [row["id"] for row in rows])
    assert [dict(found[row["id"]][0].features) for row in rows] == bare


@pytest.mark.parametrize("accept", [*formats.TABLES, "application/json"])
async def test_the_answer_comes_in_the_format_asked_for(trained: httpx.AsyncClient, accept: str) -> None:
    answer = await sent(trained, CSV, encoded(CSV, table(3)), Accept=accept)
    assert answer.headers["content-type"].startswith(accept)
    if accept == "application/json":
        assert [told["id"] for told in answer.json()["predictions"]] == ["r0", "r1", "r2"]
    else:
        assert [told["id"] for told in decoded(accept, answer.content)] == ["r0", "r1", "r2"]


async def test_a_format_that_is_not_written(trained: httpx.AsyncClient) -> None:
    answer = await sent(trained, CSV, b"a,b\n1,2\n", Accept="image/png")
    assert (answer.status_code, answer.json()["type"]) == (406, "/errors/not-acceptable")


@pytest.mark.parametrize("kind", formats.TABLES)
async def test_a_long_table_goes_in_chunks(
    trained: httpx.AsyncClient, place: Any, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    appended: list[int] = []
    append = place.store.log.append
    monkeypatch.setattr(uploads, "CHUNK", 40)
    monkeypatch.setattr(uploads.Upload.parts, "__defaults__", (40,))
    monkeypatch.setattr(
        place.store.log, "append", lambda m, e, *, flush=False: appended.append(len(e)) or append(m, e)
    )
    answer = await sent(trained, kind, encoded(kind, table(100)))
    assert [told["id"] for told in decoded(kind, answer.content)] == [f"r{i}" for i in range(100)]
    assert appended == [40, 40, 20]


@pytest.mark.parametrize("kind", formats.TABLES)
async def test_a_row_that_does_not_fit_is_named_and_nothing_is_recorded(
    trained: httpx.AsyncClient, place: Any, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(uploads.Upload.parts, "__defaults__", (40,))
    before = place.store.log.head("toy").seq
    rows = table(100)
    rows[77]["b"] = "oops"
    if kind in (ARROW, PARQUET):  # there a column has one type
        rows = [{**row, "b": str(row["b"]) if i < 77 else "oops"} for i, row in enumerate(rows)]
    answer = await sent(trained, kind, encoded(kind, rows))
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith("Nothing was recorded")
    named = answer.json()["errors"][0]["field"]
    assert named == ("rows[0].b" if kind in (ARROW, PARQUET) else "rows[77].b")
    assert place.store.log.head("toy").seq == before


async def test_a_repeat_gets_the_recorded_answers(trained: httpx.AsyncClient, place: Any) -> None:
    first = await sent(trained, ARROW, encoded(ARROW, table(20)))
    seq = place.store.log.head("toy").seq
    again = await sent(trained, NDJSON, encoded(NDJSON, table(20)))
    assert decoded(ARROW, first.content) == decoded(NDJSON, again.content)
    assert place.store.log.head("toy").seq == seq


async def test_a_conflict_on_the_way_tells_what_was_recorded(
    trained: httpx.AsyncClient, place: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads.Upload.parts, "__defaults__", (10,))
    await trained.post(URL, json={"row": {"a": 9, "b": 9}, "id": "r15"})
    answer = await sent(trained, NDJSON, encoded(NDJSON, table(30)))
    lines = decoded(NDJSON, answer.content)
    assert [line["id"] for line in lines[:-1]] == [f"r{i}" for i in range(10)]
    error = lines[-1]["error"]
    assert (error["status"], error["errors"][0]["field"]) == (409, "rows[15]")
    assert "The 10 rows before were recorded" in error["detail"]
    assert set(place.store.log.find("toy", [f"r{i}" for i in range(30)])) == {
        *(f"r{i}" for i in range(10)),
        "r15",
    }


async def test_a_conflict_in_the_first_chunk_is_a_problem(trained: httpx.AsyncClient) -> None:
    await trained.post(URL, json={"row": {"a": 9, "b": 9}, "id": "r1"})
    answer = await sent(trained, PARQUET, encoded(PARQUET, table(3)))
    assert answer.status_code == 409
    assert answer.json()["errors"][0]["field"] == "rows[1]"


async def test_ids_and_times_in_columns_of_other_names(trained: httpx.AsyncClient, place: Any) -> None:
    body = b"a,b,order,when\n1,2,o-1,2024-05-01T12:00:00Z\n3,4,o-2,60\n"
    answer = await sent(trained, CSV, body, f"{URL}?id=order&at=when")
    assert [told["id"] for told in decoded(CSV, answer.content)] == ["o-1", "o-2"]
    found = place.store.log.find("toy", ["o-1", "o-2"])
    assert [found[key][0].at for key in ("o-1", "o-2")] == [1714564800.0, 60.0]
    assert (await sent(trained, CSV, body, f"{URL}?id=nope")).json()["errors"][0]["field"] == "nope"
    assert (await sent(trained, CSV, body, f"{URL}?id=a")).status_code == 422


async def test_made_ids_are_new_and_in_order(trained: httpx.AsyncClient) -> None:
    body = encoded(NDJSON, [{"a": 1, "b": 2}] * 5)
    ids = [
        told["id"] for _ in range(2) for told in decoded(NDJSON, (await sent(trained, NDJSON, body)).content)
    ]
    assert len(set(ids)) == 10
    assert ids[:5] == sorted(ids[:5])


async def test_an_idempotency_key_makes_the_same_ids(trained: httpx.AsyncClient) -> None:
    body, key = encoded(NDJSON, [{"a": 1, "b": 2}] * 5), {"Idempotency-Key": "k1"}
    first = await sent(trained, NDJSON, body, **key)
    again = await sent(trained, NDJSON, body, **key)
    assert first.content == again.content
    other = await sent(trained, NDJSON, encoded(NDJSON, [{"a": 1}]), **key)
    assert (other.status_code, other.json()["errors"][0]["field"]) == (422, "Idempotency-Key")


async def test_the_baseline_answers_too(toy: httpx.AsyncClient) -> None:
    for kind in formats.TABLES:
        answer = await sent(toy, kind, encoded(kind, [{"a": 1.0, "b": 2.0}]))
        (told,) = decoded(kind, answer.content)
        assert (told["version"], told["value"] or None) == (0, None)


async def test_missing_cells_and_unknown_columns(trained: httpx.AsyncClient, place: Any) -> None:
    rows = [{"id": "m1", "a": None, "b": 2.0, "note": "x"}, {"id": "m2", "a": None, "b": None, "note": "y"}]
    for kind in formats.TABLES:
        answer = await sent(trained, kind, encoded(kind, rows), Accept="application/json")
        assert answer.status_code == 200, answer.text
        assert answer.json()["ignored_columns"] == {"note": 2}
    found = place.store.log.find("toy", ["m1", "m2"])
    assert [dict(found[key][0].features) for key in ("m1", "m2")] == [{"b": 2.0}, {"a": None}]


@pytest.mark.parametrize(
    ("kind", "body", "message"),
    [
        (CSV, b"", "header is missing"),
        (CSV, b"a,b\n", "has no rows"),
        (CSV, b"a,a\n1,2\n", "names a column twice"),
        (CSV, b"a,b\n1,2\n1\n", "rows[1] has 1 cells for the 2 columns"),
        (CSV, b"a,b\n\xff,1\n", "cannot be read as CSV"),
        (CSV, b'a,b\n1,"2\n', "cannot be read as CSV"),
        (CSV, b"x,y\n1,2\n", "names no feature"),
        (CSV, b"a,b\n1_0,1\n", "rows[0].a"),
        (CSV, b"a,b\ninf,1\n", "rows[0].a"),
        (NDJSON, b"", "has no rows"),
        (NDJSON, b'{"a": 1}\n[1]\n', "rows[1] is not one JSON object"),
        (NDJSON, b'{"a": 1}\n\n{"a": 1\n', "rows[1] is not one JSON object"),
        (NDJSON, b'{"a": "\\ud800"}\n', "rows[0] is not one JSON object"),
        (ARROW, b"nonsense", "cannot be read as an Arrow stream"),
        (PARQUET, b"PAR1 nonsense", "cannot be read as a Parquet file"),
    ],
)
async def test_bodies_that_cannot_be_read(
    trained: httpx.AsyncClient, kind: str, body: bytes, message: str
) -> None:
    answer = await sent(trained, kind, body)
    assert answer.status_code == 422, answer.text
    assert message in answer.json()["detail"]


@pytest.mark.parametrize("kind", [ARROW, PARQUET])
async def test_without_pyarrow_the_extra_is_named(
    trained: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    for content, accept in ((kind, CSV), (CSV, kind)):
        answer = await sent(trained, content, b"a,b\n1,2\n", Accept=accept)
        assert answer.status_code == 501
        assert "everlearn[arrow]" in answer.json()["detail"]


async def test_nested_arrow_types_are_refused(trained: httpx.AsyncClient) -> None:
    answer = await sent(trained, ARROW, encoded(ARROW, [{"a": [1.0], "b": 1.0}]))
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "a")


async def test_numbers_times_and_words_of_arrow(api: httpx.AsyncClient, place: Any) -> None:
    features = {"n": "numeric", "f": "boolean", "c": "categorical", "t": "timestamp", "d": "timestamp"}
    await api.post(
        "/v1/models", json={"name": "toy", "target": "y", "features": features, "learner": "majority"}
    )
    moment = 1_700_000_000_250_000
    columns = {
        "id": ["x1", "x2"],
        "n": pa.array([1, None], pa.int32()),
        "f": [True, None],
        "c": pa.array(["red", "blue"]).dictionary_encode(),
        "t": pa.array([moment, None], pa.timestamp("us", "Europe/Berlin")),
        "d": pa.array([19_000, None], pa.date32()),
    }
    data = pa.table(columns)
    for kind in (ARROW, PARQUET):
        sink = io.BytesIO()
        if kind == PARQUET:
            pq.write_table(data, sink)
        else:
            with pa.ipc.new_stream(sink, data.schema) as writer:
                writer.write_table(data)
        answer = await sent(api, kind, sink.getvalue())
        assert answer.status_code == 200, (
            answer.text
        )  # the second time as a repeat: the features are the same
    found = place.store.log.find("toy", ["x1", "x2"])
    assert [dict(found[key][0].features) for key in ("x1", "x2")] == [
        {"c": "red", "d": 19_000 * 86_400.0, "f": True, "n": 1, "t": moment / 1e6},
        {"c": "blue"},
    ]


# -- labels -------------------------------------------------------------------------------------------

LABELS = "/v1/models/toy/labels"


@pytest.mark.parametrize("kind", formats.TABLES)
async def test_labels_in_every_format(trained: httpx.AsyncClient, place: Any, kind: str) -> None:
    await sent(trained, NDJSON, encoded(NDJSON, table(4)))
    await trained.post(LABELS, json={"labels": [{"id": "r0", "value": "no"}, {"id": "r1", "value": "no"}]})
    rows = [
        {"id": "r0", "value": "yes", "correction": True},
        {"id": "r1", "value": "yes", "correction": False},
        {"id": "r2", "value": "yes", "correction": False},
        {"id": "r2", "value": "yes", "correction": False},
        {"id": "later", "value": "no", "correction": False},
    ]
    answer = await sent(trained, kind, encoded(kind, rows), LABELS)
    assert answer.json() == {"accepted": 2, "duplicate": 1, "conflict": ["r1"], "parked": ["later"]}
    found = place.store.log.find("toy", ["r0", "r2"])
    assert [found[key][1].value for key in ("r0", "r2")] == ["yes", "yes"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"id,value\nr1,yes\nr2,\n", "rows[1].value"),
        (b"id,value\n,yes\n", "rows[0].id"),
        (b"value\nyes\n", "id"),
        (b"id\nr1\n", "value"),
        (b"id,value,correction\nr1,yes,perhaps\n", "rows[0].correction"),
        (b"id,value,at\nr1,yes,soon\n", "rows[0].at"),
    ],
)
async def test_labels_that_do_not_fit(
    trained: httpx.AsyncClient, place: Any, body: bytes, field: str
) -> None:
    before = place.store.log.head("toy").seq
    answer = await sent(trained, CSV, body, LABELS)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, field)
    assert place.store.log.head("toy").seq == before


async def test_labels_are_remembered_by_their_key(trained: httpx.AsyncClient) -> None:
    headers = {"Idempotency-Key": "k"}
    first = await sent(trained, CSV, b"id,value\nq,yes\n", LABELS, **headers)
    again = await sent(trained, CSV, b"id,value\nq,yes\n", LABELS, **headers)
    assert first.json() == again.json() == {"accepted": 0, "duplicate": 0, "conflict": [], "parked": ["q"]}


async def test_json_goes_its_own_way(trained: httpx.AsyncClient, history: Callable[..., Any]) -> None:
    assert (await trained.post(URL, json={"row": {"a": 1, "b": 2}})).status_code == 200
    assert (await trained.post(URL, content=b"a", headers={"Content-Type": "text/plain"})).status_code == 422


async def test_many_rows_of_json_are_answered_as_few_are(trained: httpx.AsyncClient, place: Any) -> None:
    rows = [{k: v for k, v in row.items() if k != "id"} for row in table(300)]
    rows[7] = {"b": 1.5, "note": "x"}
    few = [
        told
        for i in range(0, 300, 100)
        for told in (await trained.post(URL, json={"rows": rows[i : i + 100]})).json()["predictions"]
    ]
    ids = [f"many-{i}" for i in range(300)]
    answer = (await trained.post(URL, json={"rows": rows, "ids": ids})).json()
    assert answer["ignored_columns"] == {"note": 1}
    assert answer["predictions"] == [{**told, "id": key} for told, key in zip(few, ids, strict=True)]
    again = (await trained.post(URL, json={"rows": rows, "ids": ids})).json()
    assert again == answer
    found = place.store.log.find("toy", ids)
    assert [dict(found[key][0].features) for key in ids] == [*rows[:7], {"b": 1.5}, *rows[8:]]


async def test_faults_among_many_rows_of_json(trained: httpx.AsyncClient, place: Any) -> None:
    before = place.store.log.head("toy").seq
    rows: list[dict[str, Any]] = [{"a": 1.0, "b": 2.0} for _ in range(300)]
    ids = [f"m{i}" for i in range(300)]
    wrong = await trained.post(URL, json={"rows": [*rows[:-1], {"a": "x", "b": 1}]})
    assert (wrong.status_code, wrong.json()["errors"][0]["field"]) == (422, "rows[299].a")
    assert place.store.log.head("toy").seq == before
    await trained.post(URL, json={"row": {"a": 9}, "id": "m200"})
    clash = await trained.post(URL, json={"rows": rows, "ids": ids})
    assert (clash.status_code, clash.json()["errors"][0]["field"]) == (409, "ids[200]")
    assert place.store.log.head("toy").seq == before + 1
