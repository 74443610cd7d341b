"""The short way of usual requests: the same answers as the usual way, and nothing let in that it refuses."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from everlearn.adapters.memory import MemoryStore
from everlearn.api.short_way import ShortWay
from everlearn.api.throttle import Rates
from everlearn.errors import UnavailableError

KEY = "a-key-for-the-tests"
ROW = {"row": {"a": 1.5, "b": -2}}
PREDICT, LABELS = "/v1/models/toy/predict", "/v1/models/toy/labels"


def request(
    path: str, body: Any, *headers: tuple[str, str], key: str | None = KEY, method: str = "POST"
) -> bytes:
    """A request as a client would write it."""
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"{method} {path} HTTP/1.1", "Host: test"]
    if key is not None:
        lines.append(f"Authorization: Bearer {key}")
    named = {name.lower() for name, _ in headers}
    if "content-type" not in named:
        lines.append("Content-Type: application/json")
    if not named & {"content-length", "transfer-encoding"}:
        lines.append(f"Content-Length: {len(sent)}")
    lines += [f"{name}: {value}" for name, value in headers]
    return "\r\n".join([*lines, "", ""]).encode() + sent


class Line:
    """One connection that is kept."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self._file = self._socket.makefile("rb")

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def answer(self) -> tuple[int, dict[str, str], bytes]:
        """The next answer: its status, headers and body."""
        status = int(self._file.readline().split()[1])
        headers = {}
        while (line := self._file.readline().strip()) != b"":
            name, _, value = line.decode().partition(": ")
            assert name not in headers, f"{name} came twice"
            headers[name] = value
        return status, headers, self._file.read(int(headers["content-length"]))

    def ask(self, data: bytes) -> tuple[int, dict[str, str], bytes]:
        self.send(data)
        return self.answer()

    def close(self) -> None:
        self._file.close()
        self._socket.close()


class Counted:
    """Counts what the short way answers."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answered = 0
        begin = ShortWay.begin

        def counted(way: ShortWay, *arguments: Any) -> bool:
            begun = begin(way, *arguments)
            self.answered += begun
            return begun

        monkeypatch.setattr(ShortWay, "begin", counted)

    def took(self, work: Callable[[], Any]) -> tuple[bool, Any]:
        """Whether the short way answered what ``work`` asks, and what it got."""
        before = self.answered
        got = work()
        return self.answered > before, got


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    return Counted(monkeypatch)


@pytest.fixture
def line(make_app: Callable[..., Any], host: Callable[..., Any]) -> Iterator[Line]:
    """A connection to a server whose key is known already."""
    with host(make_app(), 20.0) as wire:
        made = Line(wire.port)
        made.ask(request(PREDICT, ROW))
        yield made
        made.close()


def told(answer: tuple[int, dict[str, str], bytes]) -> Any:
    status, headers, body = answer
    assert status == 200
    assert headers["content-type"] == "application/json"
    return json.loads(body)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (PREDICT, {"row": {"a": 1.5, "b": -2}, "id": "one"}),
        (PREDICT, {"rows": [{"a": 1, "b": 2}, {"a": None, "b": 0.25}], "ids": ["x", "y"], "at": 1.7e9}),
        (PREDICT, {"rows": [{"a": 1, "b": 2, "more": "ignored"}], "ids": ["z"]}),
        (LABELS, {"labels": [{"id": "one", "value": "yes"}, {"id": "nobody", "value": "no"}]}),
        (LABELS, {"labels": [{"id": "one", "value": "no", "correction": True, "at": 1.7e9}]}),
    ],
)
def test_both_ways_answer_alike(
    path: str, body: Any, make_app: Callable[..., Any], host: Callable[..., Any], counted: Counted
) -> None:
    answers = []
    for short in (True, False):
        with host(make_app(), 20.0, short) as wire:
            line = Line(wire.port)
            line.ask(request(PREDICT, ROW))
            by_short_way, answer = counted.took(
                lambda line=line: line.ask(request(path, body, ("X-Request-ID", "mine")))
            )
            assert by_short_way is short
            answer[1].pop("date")
            answers.append(answer)
            line.close()
    if path == PREDICT:
        assert answers[0] == answers[1]
    else:  # the second time the labels are known
        assert answers[0][:1] == answers[1][:1]
        assert answers[0][1].keys() == answers[1][1].keys()
        assert json.loads(answers[0][2]).keys() == json.loads(answers[1][2]).keys()


def test_what_it_answers_is_stored_and_counted(line: Line, store: MemoryStore, counted: Counted) -> None:
    by_short_way, answer = counted.took(lambda: line.ask(request(PREDICT, ROW)))
    key = told(answer)["predictions"][0]["id"]
    assert by_short_way
    assert told(line.ask(request(LABELS, {"labels": [{"id": key, "value": "yes"}]})))["accepted"] == 1
    prediction, label = store.log.find("toy", [key])[key]
    assert prediction is not None
    assert label is not None
    assert label.value == "yes"
    assert label.source == "key"
    page = line.ask(request("/metrics", b"", method="GET"))[2].decode()
    assert re.search(r'everlearn_requests_total{method="POST",route="\S+/predict",status="200"} 2\.0', page)
    assert re.search(r'everlearn_requests_total{method="POST",route="\S+/labels",status="200"} 1\.0', page)
    assert 'everlearn_labels_total{status="accepted"} 1.0' in page


@pytest.mark.parametrize(
    ("status", "sent"),
    [
        (401, request(PREDICT, ROW, key=None)),
        (401, request(PREDICT, ROW, key="wrong")),
        (401, request(PREDICT, ROW, ("Authorization", f"Bearer {KEY}"))),
        (404, request("/v1/models/nobody/predict", ROW)),
        (405, request(PREDICT, ROW, method="PUT")),
        (422, request(PREDICT, {"row": {"a": "text"}})),
        (422, request(PREDICT, {"rows": []})),
        (422, request(PREDICT, {"row": ROW["row"], "extra": 1})),
        (422, request(PREDICT, {"row": ROW["row"], "id": ""})),
        (422, request(PREDICT, b"{")),
        (422, request(PREDICT, b"")),
        (422, request(PREDICT, b"\xff" * 10)),
        (422, request(PREDICT, b"[" * 5000)),
        (422, request(LABELS, {"labels": []})),
        (422, request(LABELS, {"labels": [{"id": "a\x00b", "value": "yes"}]})),
        (415, request(PREDICT, ROW, ("Content-Encoding", "gzip"))),
        (422, request(PREDICT, ROW, ("Content-Type", "text/plain"))),
    ],
)
def test_what_is_refused_is_refused_as_ever(status: int, sent: bytes, line: Line, counted: Counted) -> None:
    by_short_way, (found, headers, _) = counted.took(lambda: line.ask(sent))
    assert (by_short_way, found) == (False, status)
    assert headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "sent",
    [
        request(PREDICT, ROW, ("Idempotency-Key", "k1")),
        request(f"{PREDICT}?x=1", ROW),
        request(
            PREDICT,
            b"c\r\n" + b'{"row":{"a":' + b"\r\n2\r\n1}\r\n1\r\n}\r\n0\r\n\r\n",
            ("Transfer-Encoding", "chunked"),
        ),
        request(PREDICT, {"rows": [{"a": 1, "b": 2}] * 3000}),
    ],
)
def test_what_is_unusual_is_answered_by_the_usual_way(sent: bytes, line: Line, counted: Counted) -> None:
    by_short_way, answer = counted.took(lambda: line.ask(sent))
    assert not by_short_way
    assert told(answer)["predictions"]


def test_the_scope_and_the_model_of_a_key_count(
    make_app: Callable[..., Any], host: Callable[..., Any], counted: Counted
) -> None:
    with host(make_app(), 20.0) as wire:
        line = Line(wire.port)

        def key(scopes: list[str], models: list[str] | None) -> tuple[str, str]:
            body = {"name": "some", "scopes": scopes, "models": models}
            found = json.loads(line.ask(request("/v1/keys", body))[2])
            return str(found["key"]), str(found["id"])

        may, number = key(["predict"], ["toy"])
        for wanted, token in (
            (403, key(["label"], None)[0]),
            (403, key(["predict"], ["other"])[0]),
            (200, may),
        ):
            for _ in range(2):  # unknown at first, then known
                by_short_way, answer = counted.took(lambda t=token: line.ask(request(PREDICT, ROW, key=t)))
                assert answer[0] == wanted
            assert by_short_way is (wanted == 200)
        assert line.ask(request(f"/v1/keys/{number}", b"", method="DELETE"))[0] in (200, 204)
        assert line.ask(request(PREDICT, ROW, key=may))[0] == 401
        line.close()


def test_rates_and_quotas_count(
    make_app: Callable[..., Any], host: Callable[..., Any], counted: Counted
) -> None:
    with host(make_app(rates=Rates(per_key=1.0, wrong=1e6, burst=10**6)), 20.0) as wire:
        line = Line(wire.port)
        statuses = [line.ask(request(PREDICT, ROW))[0] for _ in range(4)]
        line.close()
    assert statuses == [200, 200, 429, 429]
    assert counted.answered == 0


def test_many_on_one_connection_are_answered_in_their_order(line: Line, counted: Counted) -> None:
    sent = [request(PREDICT, {"row": {"a": i, "b": 0}, "id": f"p{i}"}) for i in range(30)]
    sent[7] = request("/health", b"", method="GET")
    line.send(b"".join(sent))
    for i in range(30):
        status, _, body = line.answer()
        assert status == 200
        assert i == 7 or json.loads(body)["predictions"][0]["id"] == f"p{i}"
    assert counted.answered == 29


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(1, 230), max_size=6))
def test_a_request_may_come_in_pieces(line: Line, cuts: list[int]) -> None:
    sent = request(PREDICT, {**ROW, "id": "pieces"})
    places = [0, *sorted(cuts), len(sent)]
    for start, end in pairwise(places):
        line.send(sent[start:end])
        time.sleep(0.001)
    assert told(line.answer())["predictions"][0]["id"] == "pieces"


def test_a_connection_that_is_to_be_closed_is_closed(line: Line, counted: Counted) -> None:
    by_short_way, (status, headers, _) = counted.took(
        lambda: line.ask(request(PREDICT, ROW, ("Connection", "close")))
    )
    assert (by_short_way, status, headers["connection"]) == (True, 200, "close")
    assert line._file.read() == b""


def test_a_caller_that_is_gone_harms_nobody(make_app: Callable[..., Any], host: Callable[..., Any]) -> None:
    with host(make_app(), 20.0) as wire:
        for i in range(20):
            gone = Line(wire.port)
            gone.send(request(PREDICT, {**ROW, "id": f"gone{i}"}))
            gone.close()
        other = Line(wire.port)
        assert told(other.ask(request(PREDICT, ROW)))
        other.close()


@pytest.mark.parametrize(
    ("error", "status"), [(UnavailableError("The disk is full"), 503), (OSError("no"), 500)]
)
def test_what_cannot_be_stored_is_not_answered(
    error: Exception,
    status: int,
    make_app: Callable[..., Any],
    host: Callable[..., Any],
    store: MemoryStore,
    counted: Counted,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with host(make_app(), 20.0) as wire:
        line = Line(wire.port)
        line.ask(request(PREDICT, ROW))

        def fail(*_: Any, **__: Any) -> Any:
            raise error

        monkeypatch.setattr(store.log, "append", fail)
        by_short_way, (found, headers, body) = counted.took(lambda: line.ask(request(PREDICT, ROW)))
        monkeypatch.undo()
        assert (by_short_way, found) == (True, status)
        assert headers["content-type"] == "application/problem+json"
        assert json.loads(body)["request_id"] == headers["x-request-id"]
        page = line.ask(request("/metrics", b"", method="GET"))[2].decode()
        assert re.search(
            rf'everlearn_requests_total{{method="POST",route="\S+/predict",status="{status}"}} 1', page
        )
        line.close()


def test_an_answer_that_does_not_wait_is_stored_soon(
    line: Line, store: MemoryStore, counted: Counted
) -> None:
    assert line.ask(request("/v1/models/toy", {"durability": "async"}, method="PATCH"))[0] == 200
    by_short_way, answer = counted.took(lambda: line.ask(request(PREDICT, ROW)))
    key = told(answer)["predictions"][0]["id"]
    assert by_short_way
    deadline = time.monotonic() + 20
    while not store.log.find("toy", [key]):
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_an_id_that_is_known_with_other_features_is_a_conflict(line: Line, store: MemoryStore) -> None:
    assert line.ask(request(PREDICT, {**ROW, "id": "same"}))[0] == 200
    again = told(line.ask(request(PREDICT, {**ROW, "id": "same"})))
    status, _, body = line.ask(request(PREDICT, {"row": {"a": 9, "b": 9}, "id": "same"}))
    assert again["predictions"][0]["id"] == "same"
    assert status == 409
    assert json.loads(body)["errors"][0]["field"] == "ids[0]"
    kinds = [event for event in store.log.read("toy", 0, 100) if getattr(event, "id", None) == "same"]
    assert len(kinds) == 1
