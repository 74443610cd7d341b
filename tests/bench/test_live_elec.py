"""The live benchmark: its checks catch a breach, and it runs end to end on a small stream, with a kill."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from everlearn.adapters.sql import SqlStore
from everlearn.client import Prediction
from everlearn.spec import parse_spec
from everlearn.types import EventKind, NewEvent

KEYS = {
    "rows",
    "accuracy",
    "never_updated",
    "gain",
    "promotions",
    "unproven",
    "updates",
    "refused",
    "failed_requests",
    "retried",
    "p50_ms",
    "p99_ms",
    "seconds",
    "rows_per_second",
    "kills",
    "lost",
    "doubled",
    "verify",
}


@pytest.fixture
def live_record(bench: Path) -> ModuleType:
    return import_module("live_record")


def write_stream(file: Path, rows: int, turn: int) -> None:
    """A stream like the electricity data: the sign of the concept turns at a row."""
    draw = random.Random(0)
    lines = ["date,price,demand,class"]
    for n in range(rows):
        price, demand = draw.random(), draw.random()
        up = (price > demand) == (n < turn)
        lines.append(f"{n},{price:.4f},{demand:.4f},{'UP' if up else 'DOWN'}")
    file.write_text("\n".join(lines) + "\n")


class TestChecks:
    @pytest.fixture
    def data(self, tmp_path: Path) -> Path:
        """An installation whose log holds predictions a and b, and a label for a."""
        store = SqlStore(f"sqlite:///{tmp_path / 'everlearn.db'}")
        store.migrate()
        store.models.create(parse_spec({"name": "elec", "target": "y", "features": {"x": "numeric"}}), 1.0)
        answer = {"features": {"x": 1.0}, "value": "UP", "probabilities": {"UP": 1.0}, "version": 1}
        events = [NewEvent(EventKind.PREDICTION, 2.0, id_, answer) for id_ in ("a", "b")]
        label = NewEvent(EventKind.LABEL, 3.0, "a", {"value": "UP", "correction": False})
        store.log.append("elec", [*events, label])
        store.close()
        return tmp_path

    def test_a_log_that_keeps_its_word(self, live_record: ModuleType, data: Path) -> None:
        record = live_record.Record()
        record.answers["a"] = Prediction("a", 1, "UP", {"UP": 1.0})
        record.labels["a"] = "UP"
        assert live_record.count_log(data, record) == (0, 0)

    def test_what_is_missing_or_different_is_lost(self, live_record: ModuleType, data: Path) -> None:
        record = live_record.Record()
        record.answers["a"] = Prediction("a", 1, "DOWN", {"UP": 1.0})
        record.answers["c"] = Prediction("c", 1, "UP")
        record.labels.update({"a": "DOWN", "b": "UP"})
        assert live_record.count_log(data, record) == (4, 0)

    def test_no_answer_is_wrong(self, live_record: ModuleType) -> None:
        assert live_record.share_right(["UP", None, "UP", "DOWN"], ["UP", "UP", "DOWN", "DOWN"]) == 0.5


class TestServer:
    def test_the_family_of_a_process_holds_its_grandchildren(self, bench: Path) -> None:
        family = import_module("live_server").family
        inner = "import sys, time; sys.stdout.write('up\\n'); sys.stdout.flush(); time.sleep(60)"
        outer = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}])"
        process = subprocess.Popen([sys.executable, "-c", outer], stdout=subprocess.PIPE)
        members = []
        try:
            assert process.stdout is not None
            process.stdout.readline()
            members = family(process.pid)
            assert members[0] == process.pid
            assert len(members) == 2
        finally:
            for member in members or [process.pid]:
                subprocess.run(["kill", "-9", str(member)], check=False)
            process.communicate()


class TestOptions:
    def test_missing_data_is_said_plainly(self, bench: Path, tmp_path: Path) -> None:
        command = [sys.executable, str(bench / "live_elec.py"), "--data", str(tmp_path / "none.csv")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert done.stderr.strip().endswith(
            "none.csv is not there: give the electricity data with --data FILE"
        )

    def test_every_key_is_documented(self, bench: Path) -> None:
        documented = import_module("live_elec").__doc__ or ""
        assert all(key in documented for key in KEYS)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_killed_server_loses_and_doubles_nothing(bench: Path, tmp_path: Path) -> None:
    write_stream(tmp_path / "stream.csv", rows=2500, turn=1200)
    command = [sys.executable, str(bench / "live_elec.py"), "--data", str(tmp_path / "stream.csv")]
    options = ["--delay", "100", "--kills", "2", "--no-mlflow", "--json"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    result = json.loads(done.stdout)
    assert set(result) == KEYS, done.stderr
    assert (result["rows"], result["kills"]) == (2500, 2)
    assert (result["lost"], result["doubled"], result["failed_requests"]) == (0, 0, 0)
    assert result["verify"] == "identical"
    assert result["promotions"] >= 2
    assert result["unproven"] == 0
    assert result["gain"] == pytest.approx(result["accuracy"] - result["never_updated"], abs=2e-4)
    assert done.returncode == 0
