"""The demo: its stream, its story in a replay, and how it plays against a server."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import pytest
from rich.console import Console

from everlearn import Client, replay
from everlearn.client import Retries
from everlearn.demo import run_demo
from everlearn.demo.__main__ import main
from everlearn.demo.board import Board, in_words, render, sparkline
from everlearn.demo.stream import DELAY, DRIFT_AT, TARGET, THRESHOLD, make_spec, make_stream
from everlearn.spec import parse_spec

COLOURS = {f"{kind}{colour}-mean" for kind in ("raw", "ex") for colour in ("red", "green", "blue")} | {
    "hue-mean"
}


class FakeServer:
    """Enough of the API for the demo: it always answers ``sky``, and has promoted version 1."""

    def __init__(self) -> None:
        self.specs: dict[str, dict[str, Any]] = {}
        self.predicted: list[str] = []
        self.labelled: dict[str, str] = {}
        self.delays: list[int] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        name, _, noun = request.url.path.removeprefix("/v1/models").strip("/").partition("/")
        body = json.loads(request.content) if request.content else {}
        if not name:
            return self.create(body)
        answers = {"": self.model, "predict": self.predict, "labels": self.label, "decisions": self.decide}
        return httpx.Response(200, json=answers[noun](name, body))

    def client(self) -> Client:
        transport = httpx.MockTransport(self)
        return Client("http://demo.test", "k", transport=transport, retries=Retries(attempts=1))

    def create(self, spec: dict[str, Any]) -> httpx.Response:
        if spec["name"] in self.specs:
            return httpx.Response(409, json={"type": "/errors/conflict", "detail": "the name is taken"})
        self.specs[spec["name"]] = parse_spec(spec).to_dict()
        return httpx.Response(201, json={})

    def model(self, name: str, _: Any) -> dict[str, Any]:
        log = {"rows": len(self.predicted), "labels": len(self.labelled), "seq": 5}
        scores = {"served": {"window": {"rows": len(self.predicted), "accuracy": 0.5}}}
        facts = {"cursor": 5, "champion": 1, "state": "healthy", "scores": scores}
        return {"spec": self.specs[name], "log": log, **facts}

    def predict(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        self.predicted += [id_ for id_ in body["ids"] if id_ not in self.predicted]
        answers = [{"id": id_, "version": 1, "value": "sky"} for id_ in body["ids"]]
        return {"model": name, "predictions": answers}

    def label(self, _: str, body: dict[str, Any]) -> dict[str, Any]:
        for item in body["labels"]:
            self.delays.append(len(self.predicted) - 1 - self.predicted.index(item["id"]))
            self.labelled[item["id"]] = item["value"]
        return {"accepted": len(body["labels"]), "duplicate": 0, "conflict": [], "parked": []}

    def decide(self, *_: Any) -> dict[str, Any]:
        decision = {"number": 1, "kind": "promote", "version": 1, "reason": "proven better"}
        return {"items": [decision], "next": None}


class Time:
    """A clock that moves only when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class TestStream:
    def test_it_is_real_data_in_an_order_fixed_by_the_seed(self) -> None:
        stream = make_stream(3)
        assert stream == make_stream(3)
        assert [item.truth for item in stream] != [item.truth for item in make_stream(4)]
        assert len(stream) == 2310
        assert len({item.id for item in stream}) == 2310
        assert pd.Series([item.truth for item in stream]).value_counts().tolist() == [330] * 7

    def test_only_the_colours_after_the_change_differ_from_the_source(self) -> None:
        from river.datasets import ImageSegments

        columns = list(make_stream(0)[0].row)
        keep = [name for name in columns if name not in COLOURS]

        def rows_of(items: list[dict[str, Any]], names: list[str]) -> list[tuple[float, ...]]:
            return sorted(tuple(float(item[name]) for name in names) for item in items)

        source = [dict(row) for row, _ in ImageSegments()]
        played = [item.row for item in make_stream(0)]
        assert rows_of(played, keep) == rows_of(source, keep)
        original = set(rows_of(source, columns))
        assert all(tuple(row.values()) in original for row in played[:DRIFT_AT])
        assert not any(tuple(row.values()) in original for row in played[DRIFT_AT : DRIFT_AT + 50])

    def test_the_spec_is_valid_and_says_what_is_planted(self) -> None:
        spec = parse_spec(make_spec("demo", make_stream(), seed=5))
        assert "planted" in spec.description
        assert "seed 5" in spec.description
        assert spec.horizon_rows == DELAY

    @pytest.mark.parametrize("seed", [0, 1])
    def test_in_a_replay_the_model_falls_and_recovers(self, seed: int) -> None:
        stream, spec = make_stream(seed), make_spec("demo", make_stream(seed), seed)
        frame = pd.DataFrame([{**item.row, TARGET: item.truth} for item in stream])
        given = {name: spec[name] for name in ("learner", "policy", "gate", "threshold", "seed")}
        report = replay(frame, target=TARGET, label_delay=DELAY, baselines=False, **given)
        kinds = [(str(d.kind), n) for d, n in zip(report.decisions, report.decision_rows, strict=True)]
        assert any(kind == "promote" and n < DRIFT_AT for kind, n in kinds)
        assert any(kind == "warn" and DRIFT_AT < n < 1300 for kind, n in kinds)
        assert any(kind == "promote" and DRIFT_AT < n < 1500 for kind, n in kinds)


class TestPlaying:
    def test_every_row_is_predicted_once_and_labelled_late(self) -> None:
        server, time_ = FakeServer(), Time()
        report = run_demo(server.client(), clock=time_.clock, sleep=time_.sleep)
        stream = make_stream()
        assert server.predicted == [item.id for item in stream]
        assert server.labelled == {item.id: item.truth for item in stream}
        assert all(delay >= DELAY for delay in server.delays[: -DELAY - 20])
        assert report.rows == 2310
        assert report.seconds == pytest.approx((2310 + DELAY) / 40, abs=2)
        assert report.model == "demo"
        assert report.promotions == 1
        right = [item.truth == "sky" for item in stream]
        assert report.before == pytest.approx(sum(right[600:900]) / 300, abs=1e-4)
        assert report.after == pytest.approx(sum(right[-300:]) / 300, abs=1e-4)
        assert report.worst <= report.after
        assert not report.recovered
        assert report.sentence().startswith("The demo served 2,310 rows in")

    def test_a_demo_that_was_broken_off_is_taken_up_again(self) -> None:
        server, time_ = FakeServer(), Time()

        def weary(seconds: float) -> None:
            time_.sleep(seconds)
            if time_.now > 20:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run_demo(server.client(), clock=time_.clock, sleep=weary)
        served = len(server.predicted)
        assert 0 < served < 2310
        again = Time()
        report = run_demo(server.client(), clock=again.clock, sleep=again.sleep)
        assert report.model == "demo"
        assert server.predicted == [item.id for item in make_stream()]
        assert again.now == pytest.approx((2310 + DELAY - served) / 40, abs=2)

    def test_a_name_that_is_taken_is_left_alone(self) -> None:
        server = FakeServer()
        server.create({"name": "demo", "target": "y", "features": {"x": "numeric"}})
        assert run_demo(server.client(), pace=None).model == "demo-2"
        assert run_demo(server.client(), pace=None).model == "demo-3"

    def test_without_a_terminal_it_speaks_in_lines(self) -> None:
        text = io.StringIO()
        time_ = Time()
        console = Console(file=text, width=80)
        run_demo(FakeServer().client(), console, clock=time_.clock, sleep=time_.sleep)
        lines = text.getvalue().splitlines()
        assert lines[0].startswith("planted: from row 900 on")
        assert lines[1] == "#1 promote v1: proven better"
        assert any(line.startswith("10 s: served ") for line in lines)
        assert lines[-1].startswith("The demo served 2,310 rows")
        assert lines.count("#1 promote v1: proven better") == 1

    def test_on_a_terminal_it_shows_a_panel(self) -> None:
        text = io.StringIO()
        console = Console(file=text, width=100, force_terminal=True)
        run_demo(FakeServer().client(), console, pace=None)
        assert "everlearn demo · model demo" in text.getvalue()

    def test_no_server_is_one_readable_line(self, capsys: pytest.CaptureFixture[str]) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        code = main(["--url", f"http://127.0.0.1:{port}", "--key", "k", "--json"])
        said = capsys.readouterr()
        assert (code, said.out) == (1, "")
        assert said.err.startswith("The demo ended: No answer from")
        assert len(said.err.splitlines()) == 1


class TestBoard:
    def test_the_panel_shows_score_and_decisions(self) -> None:
        board = Board(
            "demo", 2310, served=1000, labelled=900, champion=2, score=0.5, scores=[0.9] * 90 + [0.5]
        )
        decision = {"number": 3, "kind": "warn", "version": None, "reason": "drift [x]"}
        assert board.hear([decision]) == [decision]
        assert board.hear([decision]) == []
        console = Console(file=io.StringIO(), width=100, record=True)
        console.print(render(board))
        shown = console.export_text()
        assert "1,000 of 2,310" in shown
        assert "accuracy  0.500 (threshold 0.8)" in shown
        assert shown.count("█") > 40
        assert "#3 warn: drift [x]" in shown

    def test_words(self) -> None:
        assert in_words({"number": 1, "kind": "update", "version": 2, "reason": "r"}) == "#1 update v2: r"
        assert sparkline([]) == ""


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_up_with_the_demo_drifts_retrains_promotes_and_recovers(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    key = "a-key-of-the-tests-alone"
    command = [sys.executable, "-m", "everlearn", "up", "--port", str(port), "--no-mlflow"]
    process = subprocess.Popen(
        [*command, "--data", str(tmp_path / "data")],
        env={**os.environ, "EVERLEARN_API_KEY": key},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        with Client(f"http://127.0.0.1:{port}", key, retries=Retries(attempts=200, longest=0.5)) as client:
            client.health()
            report = run_demo(client, pace=60.0)
            assert report.promotions >= 2
            assert report.worst < THRESHOLD - 0.1
            assert report.before > report.worst + 0.2
            assert report.recovered
            assert client.health()["status"] == "ok"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)
