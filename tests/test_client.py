"""The client against fake transports: what it sends, what it reads, and when it tries again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime
from email import message_from_bytes
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from everlearn import AsyncClient, Client
from everlearn.client import ChampionAnswer, LabelReceipt, Retries, Retry
from everlearn.client.calls import to_json
from everlearn.client.uploads import cut_csv
from everlearn.errors import (
    ConflictError,
    EverlearnError,
    Fault,
    InvalidError,
    MissingExtraError,
    NotFoundError,
    SchemaError,
    UnauthorizedError,
    UnavailableError,
)

AT_ONCE = Retries(attempts=3, base=0.0)


class Wire:
    """A transport that answers from a script, or always alike, and keeps what it was sent."""

    def __init__(self, *script: Any) -> None:
        self.script = list(script)
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        request.read()
        self.requests.append(request)
        step = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if isinstance(step, Exception):
            raise step
        if isinstance(step, httpx.Response):
            return step
        return httpx.Response(200, json=step(request) if callable(step) else step)

    @property
    def bodies(self) -> list[Any]:
        return [json.loads(request.content) for request in self.requests]


def client_of(wire: Callable[[httpx.Request], httpx.Response], **options: Any) -> Client:
    options = {"key": "secret", "retries": AT_ONCE, **options}
    return Client("http://everlearn.test", transport=httpx.MockTransport(wire), **options)


def answer_predict(request: httpx.Request) -> dict[str, Any]:
    body = json.loads(request.content)
    ids = body.get("ids") or [body["id"]]
    items = [
        {"id": known, "version": 3, "value": "UP", "probabilities": {"UP": 0.7, "DOWN": 0.3}} for known in ids
    ]
    return {"model": "elec", "predictions": items, "ignored_columns": {"date": len(ids)}}


def problem(status: int, **fields: Any) -> httpx.Response:
    body = {"title": "T", "status": status, "detail": "D", "request_id": "r-1", **fields}
    return httpx.Response(status, json=body, headers={"Content-Type": "application/problem+json"})


class TestServing:
    def test_predictions_come_back_in_order_with_ids_made_here(self) -> None:
        wire = Wire(answer_predict)
        served = client_of(wire).predict("elec", [{"a": 1}, {"a": 2}])
        assert wire.bodies[0] == {"rows": [{"a": 1}, {"a": 2}], "ids": served.ids}
        assert len(set(served.ids)) == 2
        assert served.values == ["UP", "UP"]
        assert served[0].probabilities == {"UP": 0.7, "DOWN": 0.3}
        assert served.ignored_columns == {"date": 2}
        assert (served[0].version, len(served), [p.id for p in served]) == (3, 2, served.ids)

    def test_one_row_gives_one_prediction(self) -> None:
        wire = Wire(answer_predict)
        assert client_of(wire).predict_one("elec", {"a": 1}, id="x", at=5.0).id == "x"
        assert wire.bodies[0] == {"row": {"a": 1}, "id": "x", "at": 5.0}

    def test_times_are_sent_with_their_zone(self) -> None:
        wire = Wire(answer_predict)
        times = [datetime(2026, 1, 2), datetime(2026, 1, 2, tzinfo=UTC), 5.0, "2026-01-02T00:00:00Z"]
        client_of(wire).predict("elec", [{}] * 4, at=times)
        assert wire.bodies[0]["at"] == ["2026-01-02T00:00:00+00:00"] * 2 + [5.0, "2026-01-02T00:00:00Z"]

    def test_labels_are_given_by_id_or_as_items(self) -> None:
        receipt = {"accepted": 1, "duplicate": 0, "conflict": ["b"], "parked": []}
        wire = Wire(receipt)
        client = client_of(wire)
        assert client.label("elec", {"a": "UP", "b": "DOWN"}) == LabelReceipt(1, 0, ("b",), ())
        client.label("elec", [{"id": "b", "value": 1, "at": datetime(2026, 1, 2)}], correction=True)
        assert wire.bodies[0]["labels"] == [{"id": "a", "value": "UP"}, {"id": "b", "value": "DOWN"}]
        corrected = {"id": "b", "value": 1, "at": "2026-01-02T00:00:00+00:00", "correction": True}
        assert wire.bodies[1]["labels"] == [corrected]

    def test_missing_values_and_numpy_scalars_become_json(self) -> None:
        row = {"nan": float("nan"), "f32": np.float32(0.5), "i": np.int64(3), "b": np.bool_(True), "s": "x"}
        assert json.loads(to_json([row])) == [{"nan": None, "f32": 0.5, "i": 3, "b": True, "s": "x"}]
        assert json.loads(to_json([np.float32("nan"), (1, None)])) == [None, [1, None]]

    def test_an_infinite_or_foreign_value_is_refused_with_the_fix(self) -> None:
        with pytest.raises(InvalidError, match="use a finite number"):
            to_json({"x": float("inf")})
        with pytest.raises(InvalidError, match="is no JSON value"):
            to_json({"x": object()})


class TestCommands:
    def test_a_command_waits_for_its_decision(self) -> None:
        wire = Wire({"decision": {"number": 4, "kind": "promote", "reason": "by hand"}})
        answer = client_of(wire).promote("elec", 2, why="looks good", wait=3)
        assert (answer.decision or {})["number"] == 4
        assert answer.detail == "by hand"
        assert wire.requests[0].url.path == "/v1/models/elec/versions/2/promote"
        assert wire.requests[0].url.params["wait"] == "3"
        assert wire.requests[0].extensions["timeout"]["read"] == 33.0
        assert wire.bodies == [{"why": "looks good"}]

    def test_a_retrain_may_be_skipped_and_a_busy_loop_answers_later(self) -> None:
        hold = {"decision": {"kind": "hold", "reason": "good enough"}, "skipped": True}
        wire = Wire(hold, httpx.Response(202, json={"accepted": 17, "detail": "not there yet"}))
        client = client_of(wire)
        assert client.retrain("elec").skipped
        later = client.rollback("elec")
        assert (later.decision, later.seq, later.detail) == (None, 17, "not there yet")
        assert wire.bodies == [{"force": False}, {}]

    def test_every_verb_goes_to_its_route(self) -> None:
        since = "2026-01-02T00:00:00.000000Z"
        everything = {"items": [], "next": None, "decision": {}, "version": 1, "term": 1, "since": since}
        wire = Wire(everything)
        client = client_of(wire)
        client.model("a b/c")
        client.create_model({"name": "m"})
        client.update_model("m", {"threshold": 0.9})
        client.delete_model("m")
        client.prediction("m", "p/1")
        client.version("m", 2)
        client.freeze("m")
        client.unfreeze("m")
        client.scores("m")
        client.job("m", "m-1")
        client.cancel_job("m", "m-1", "not needed")
        client.retry_job("m", "m/1")
        client.health()
        client.status()
        client.generate(10, drift=0.5)
        list(client.models())
        list(client.jobs("m"))
        sent = [f"{request.method} {request.url.raw_path.decode()}" for request in wire.requests]
        assert sent == [
            "GET /v1/models/a%20b%2Fc",
            "POST /v1/models",
            "PATCH /v1/models/m",
            "DELETE /v1/models/m",
            "GET /v1/models/m/predictions/p%2F1",
            "GET /v1/models/m/versions/2",
            "POST /v1/models/m/freeze?wait=10.0",
            "POST /v1/models/m/unfreeze?wait=10.0",
            "GET /v1/models/m/scores",
            "GET /v1/models/m/jobs/m-1",
            "POST /v1/models/m/jobs/m-1/cancel",
            "POST /v1/models/m/jobs/m%2F1/retry",
            "GET /health",
            "GET /model-status",
            "POST /generate",
            "GET /v1/models?limit=100",
            "GET /v1/models/m/jobs?limit=100",
        ]

    def test_the_champion_of_a_time(self) -> None:
        record = {"version": 2, "term": 5, "digest": "ab", "since": "2026-01-02T00:00:00.000000Z"}
        wire = Wire(record)
        answer = client_of(wire).champion("m", at=datetime(2026, 1, 3, tzinfo=UTC))
        assert answer == ChampionAnswer(2, 5, "ab", datetime(2026, 1, 2, tzinfo=UTC))
        assert wire.requests[0].url.params["at"] == "2026-01-03T00:00:00+00:00"

    def test_not_being_ready_is_an_answer(self) -> None:
        wire = Wire(httpx.Response(503, json={"status": "starting", "checks": {}}))
        assert client_of(wire).ready()["status"] == "starting"
        assert len(wire.requests) == 1


class TestLists:
    def test_pages_are_fetched_as_they_are_reached(self) -> None:
        pages = {None: ([3, 2], "c1"), "c1": ([1], "c2"), "c2": ([], None)}

        def serve(request: httpx.Request) -> dict[str, Any]:
            numbers, following = pages[request.url.params.get("cursor")]
            return {"items": [{"number": n} for n in numbers], "next": following}

        wire = Wire(serve)
        decisions = client_of(wire).decisions("m", "promote", limit=2)
        assert not wire.requests
        assert next(decisions)["number"] == 3
        assert len(wire.requests) == 1
        assert [d["number"] for d in decisions] == [2, 1]
        assert {request.url.params["kind"] for request in wire.requests} == {"promote"}


class TestLoading:
    def test_rows_go_in_chunks_with_progress(self) -> None:
        wire = Wire(lambda request: {"accepted": len(json.loads(request.content)["rows"])})
        seen: list[tuple[int, int | None]] = []
        rows = [{"a": i} for i in range(5)]
        targets = [i % 2 for i in range(5)]
        stored = client_of(wire).load(
            "m", rows, targets, at=range(5), chunk=2, progress=lambda d, t: seen.append((d, t)), key="k"
        )
        assert stored == 5
        assert seen == [(2, 5), (4, 5), (5, 5)]
        assert wire.bodies[1] == {"rows": [{"a": 2}, {"a": 3}], "targets": [0, 1], "at": [2, 3]}
        assert [r.headers["Idempotency-Key"] for r in wire.requests] == ["k:0", "k:2", "k:4"]

    def test_a_stream_of_rows_has_no_total(self) -> None:
        wire = Wire({"accepted": 1})
        seen: list[int | None] = []
        client_of(wire).load("m", iter([{"a": 1}]), [1], progress=lambda _, total: seen.append(total))
        assert seen == [None]

    def test_rows_and_targets_must_be_of_one_length(self) -> None:
        with pytest.raises(InvalidError, match="differ in length"):
            client_of(Wire({"accepted": 1})).load("m", [{"a": 1}], [1, 2])
        with pytest.raises(InvalidError, match="at least 1"):
            client_of(Wire({"accepted": 1})).load("m", [], [], chunk=0)

    def test_a_csv_goes_whole_or_in_pieces_with_the_header(self, tmp_path: Path) -> None:
        source = tmp_path / "h.csv"
        source.write_bytes(b'a,y\n1,"x\ny"\n2,z\n')
        wire = Wire({"accepted": 1})
        seen: list[tuple[int, int | None]] = []
        client = client_of(wire)
        assert client.load_file("m", source) == 1
        assert client.load_file("m", str(source), chunk=1, progress=lambda d, t: seen.append((d, t))) == 2
        contents = [request.content for request in wire.requests]
        assert contents == [source.read_bytes(), b'a,y\n1,"x\ny"\n', b"a,y\n2,z\n"]
        assert seen == [(12, 16), (16, 16)]
        assert wire.requests[0].headers["Content-Type"] == "text/csv"

    @given(
        cells=st.lists(st.text(st.sampled_from('ab"\n,'), max_size=5), max_size=12),
        chunk=st.integers(1, 30),
    )
    @settings(max_examples=60)
    def test_cutting_a_csv_loses_and_breaks_no_record(
        self, cells: list[str], chunk: int, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        quoted = ['"' + cell.replace('"', '""') + '"\n' for cell in cells]
        source = tmp_path_factory.mktemp("csv") / "h.csv"
        source.write_text("y\n" + "".join(quoted), newline="")
        pieces = [piece for piece, _ in cut_csv(source, chunk)]
        assert all(piece.startswith(b"y\n") for piece in pieces)
        bodies = [piece.removeprefix(b"y\n").decode() for piece in pieces]
        assert "".join(bodies) == "".join(quoted)
        assert all(body.count('"') % 2 == 0 for body in bodies)

    def test_parquet_is_sent_as_it_is(self, tmp_path: Path) -> None:
        source = tmp_path / "h.parquet"
        source.write_bytes(b"PAR1")
        wire = Wire({"accepted": 9})
        assert client_of(wire).load_file("m", source) == 9
        assert wire.requests[0].headers["Content-Type"] == "application/vnd.apache.parquet"

    def test_a_file_that_cannot_be_loaded_is_named(self, tmp_path: Path) -> None:
        client = client_of(Wire({}))
        with pytest.raises(InvalidError, match=r"neither \.csv nor \.parquet"):
            client.load_file("m", tmp_path / "h.xlsx")
        with pytest.raises(InvalidError, match="is not a file"):
            client.load_file("m", tmp_path / "missing.csv")


class TestRetries:
    @pytest.mark.parametrize(
        "fault",
        [
            httpx.ConnectError("refused"),
            httpx.ReadTimeout("slow"),
            httpx.RemoteProtocolError("gone"),
            httpx.Response(503),
            httpx.Response(502),
            httpx.Response(504),
        ],
    )
    def test_what_may_pass_is_sent_again_unchanged(self, fault: Any) -> None:
        wire = Wire(fault, {"accepted": 1, "duplicate": 0, "conflict": [], "parked": []})
        told: list[Retry] = []
        client_of(wire, on_retry=told.append).label("m", {"a": 1})
        first, second = wire.requests
        assert first.content == second.content
        assert first.headers["Idempotency-Key"] == second.headers["Idempotency-Key"]
        assert [(retry.method, retry.path, retry.attempt) for retry in told] == [
            ("POST", "/v1/models/m/labels", 1)
        ]

    def test_predictions_keep_their_ids(self) -> None:
        wire = Wire(httpx.ReadError("cut"), answer_predict)
        served = client_of(wire).predict("elec", [{"a": 1}])
        assert wire.bodies[0]["ids"] == wire.bodies[1]["ids"] == served.ids

    def test_giving_up_says_where_and_what_to_do(self) -> None:
        wire = Wire(httpx.ConnectError("refused"))
        with pytest.raises(UnavailableError, match=r"everlearn\.test.*refused.*everlearn up"):
            client_of(wire).health()
        assert len(wire.requests) == AT_ONCE.attempts

    def test_refusals_are_final(self) -> None:
        wire = Wire(problem(422))
        with pytest.raises(InvalidError):
            client_of(wire).create_model({})
        assert len(wire.requests) == 1

    def test_waits_double_with_jitter_and_obey_the_server(self) -> None:
        retries = Retries(base=1.0, longest=5.0)
        assert all(0.5 <= retries.delay(1, None) <= 1.0 for _ in range(50))
        assert all(2.5 <= retries.delay(9, None) <= 5.0 for _ in range(50))
        assert retries.delay(1, httpx.Response(503, headers={"Retry-After": "2"})) == 2.0
        assert retries.delay(1, httpx.Response(503, headers={"Retry-After": "86400"})) == 60.0
        past = "Wed, 21 Oct 2015 07:28:00 GMT"
        assert retries.delay(1, httpx.Response(503, headers={"Retry-After": past})) == 0.0
        assert retries.delay(1, httpx.Response(503, headers={"Retry-After": "soon"})) <= 1.0


class TestErrors:
    @pytest.mark.parametrize(
        ("status", "kind", "expected"),
        [
            (401, "/errors/unauthorized", UnauthorizedError),
            (404, "/errors/not-found", NotFoundError),
            (409, "/errors/conflict", ConflictError),
            (422, "/errors/invalid", InvalidError),
            (422, "https://x.test/errors/schema", SchemaError),
            (413, "about:blank", InvalidError),
            (501, "/errors/missing-extra", MissingExtraError),
            (500, "about:blank", EverlearnError),
        ],
    )
    def test_a_problem_becomes_the_error_of_its_kind(
        self, status: int, kind: str, expected: type[EverlearnError]
    ) -> None:
        faults = [{"field": "rows[0].a", "message": "write a number"}]
        with pytest.raises(EverlearnError) as caught:
            client_of(Wire(problem(status, type=kind, errors=faults))).model("m")
        assert type(caught.value) is expected
        assert (caught.value.detail, str(caught.value)) == ("D", "D")
        assert caught.value.faults == (Fault("rows[0].a", "write a number"),)
        assert getattr(caught.value, "request_id") == "r-1"  # noqa: B009
        assert "request id r-1" in caught.value.__notes__

    def test_an_answer_of_something_else_than_everlearn_is_shown(self) -> None:
        with pytest.raises(UnavailableError, match="HTTP 502 Bad Gateway <h1>nginx"):
            client_of(Wire(httpx.Response(502, text="<h1>nginx</h1>"))).health()


class TestConstruction:
    def test_address_and_key_come_from_the_environment_when_constructed(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("EVERLEARN_URL", "http://somewhere.test:9")
        monkeypatch.setenv("EVERLEARN_API_KEY", "from-env")
        wire = Wire({})
        Client(transport=httpx.MockTransport(wire)).health()
        assert str(wire.requests[0].url) == "http://somewhere.test:9/health"
        assert wire.requests[0].headers["Authorization"] == "Bearer from-env"

    def test_without_either_it_is_this_machine_and_no_key(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("EVERLEARN_URL", raising=False)
        monkeypatch.delenv("EVERLEARN_API_KEY", raising=False)
        wire = Wire({})
        with Client(transport=httpx.MockTransport(wire)) as client:
            client.health()
        assert str(wire.requests[0].url) == "http://127.0.0.1:8000/health"
        assert "Authorization" not in wire.requests[0].headers

    def test_help_shows_the_verbs(self) -> None:
        assert "stored durably" in (Client.predict.__doc__ or "")
        assert "stored durably" in (client_of(Wire({})).predict.__doc__ or "")


class TestAsync:
    async def test_the_same_verbs_are_awaited(self, tmp_path: Path) -> None:
        source = tmp_path / "h.csv"
        source.write_text("a,y\n1,2\n")

        def serve(request: httpx.Request) -> dict[str, Any]:
            if request.url.path.endswith("/predict"):
                return answer_predict(request)
            if request.url.path.endswith("/examples"):
                return {"accepted": 1}
            return {"items": [{"number": 1}], "next": None}

        wire = Wire(httpx.ConnectError("refused"), serve)
        transport = httpx.MockTransport(wire)
        async with AsyncClient("http://x.test", "k", transport=transport, retries=AT_ONCE) as client:
            assert (await client.predict("m", [{"a": 1}])).values == ["UP"]
            assert [v["number"] async for v in client.versions("m")] == [1]
            assert await client.load("m", [{"a": 1}], [1]) == 1
            assert await client.load_file("m", source) == 1
            many = await asyncio.gather(*(client.predict("m", [{"a": i}]) for i in range(5)))
        assert len({served.ids[0] for served in many}) == 5

    async def test_errors_are_the_same(self) -> None:
        transport = httpx.MockTransport(Wire(problem(404)))
        async with AsyncClient("http://x.test", "k", transport=transport) as client:
            with pytest.raises(NotFoundError, match="D"):
                await client.model("m")
        dead = httpx.MockTransport(Wire(httpx.ConnectError("refused")))
        async with AsyncClient("http://x.test", transport=dead, retries=Retries(1)) as client:
            with pytest.raises(UnavailableError, match="refused"):
                await client.health()


def test_an_image_is_sent_by_its_bytes_or_by_its_url() -> None:
    wire = Wire({"id": "f1", "boxes": None})
    with client_of(wire) as client:
        client.frame("gate", b"\xff\xd8\xff")
        client.frame("gate", url="https://images.example.org/a.jpg", features={"camera": "gate 3"})
        for wrong in ({}, {"image": b"x", "url": "https://images.example.org/a.jpg"}):
            with pytest.raises(InvalidError, match="the bytes of one, or the url of one"):
                client.frame("gate", **wrong)
    first, second = wire.requests
    assert (first.content, first.headers["content-type"]) == (b"\xff\xd8\xff", "application/octet-stream")
    assert json.loads(second.content) == {"url": "https://images.example.org/a.jpg"}
    assert second.headers["content-type"] == "application/json"
    assert second.url.params["features"] == '{"camera": "gate 3"}'


def test_whose_an_image_is_stands_in_the_body() -> None:
    wire = Wire({"id": "f1", "boxes": None})
    with client_of(wire) as client:
        client.frame("gate", b"\xff\xd8\xff", subject="ann")
        client.frame("gate", url="https://images.example.org/a.jpg", subject="ann")
    form, named = wire.requests
    fields = message_from_bytes(
        b"Content-Type: " + form.headers["content-type"].encode() + b"\n\n" + form.content
    )
    subject, image = fields.get_payload()
    assert (subject.get_param("name", header="content-disposition"), subject.get_payload()) == (
        "subject",
        "ann",
    )
    assert image.get_param("name", header="content-disposition") == "image"
    assert image.get_payload(decode=True) == b"\xff\xd8\xff"
    assert json.loads(named.content) == {"url": "https://images.example.org/a.jpg", "subject": "ann"}
    assert not any("ann" in str(request.url) for request in wire.requests)


def test_frames_are_listed_page_by_page() -> None:
    wire = Wire({"items": [{"id": "f2"}], "next": "7"}, {"items": [], "next": "3"}, {"items": [{"id": "f1"}]})
    with client_of(wire) as client:
        assert [frame["id"] for frame in client.frames("gate", truth="unknown", below=0.5)] == ["f2", "f1"]
    assert [request.url.params.get("cursor") for request in wire.requests] == [None, "7", "3"]
    assert {request.url.params["truth"] for request in wire.requests} == {"unknown"}
