"""The champion in MLflow, loaded in a process of its own, answers what the server answers."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from everlearn.wiring import Installation

mlflow = pytest.importorskip("mlflow")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # MLflow's own, on its store
]

LOAD = """
import json, sys
import mlflow, pandas
uri, rows = json.loads(sys.stdin.read())
mlflow.set_tracking_uri(uri)
answers = mlflow.pyfunc.load_model("models:/market@champion").predict(pandas.DataFrame(rows))
print(json.dumps(answers.to_dict("records")))
"""


def loaded_elsewhere(uri: str, rows: list[dict[str, float]], folder: Path) -> list[dict[str, Any]]:
    """What the champion answers in a clean process that runs elsewhere."""
    done = subprocess.run(
        [sys.executable, "-c", LOAD],
        input=json.dumps([uri, rows]),
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    answers: list[dict[str, Any]] = json.loads(done.stdout)
    return answers


def test_it_gives_the_served_probabilities_also_after_a_rollback(
    serve: Callable[..., Any],
    play: Callable[..., list[Any]],
    until: Callable[..., None],
    market: Any,
    spec: dict[str, Any],
    tmp_path: Path,
) -> None:
    server = serve()
    uri = f"sqlite:///{server.data.absolute() / 'mlflow.db'}"
    with server.client() as client:
        store = Installation.load(data=server.data).store
        # Nothing but the command may start a training, so that none is at work when it comes.
        policy = {**spec.get("policy", {}), "name": "never"}
        client.create_model({**spec, "learner": {"name": "window", "size": 600}, "policy": policy})
        client.load("market", *market.rows(300))
        until(lambda: client.champion("market").version > 0, what="the first promotion")
        first = client.champion("market").version
        play(client, 120)
        client.retrain("market", force=True)
        until(lambda: newest_version(client) > first, what="the retrain")
        until(lambda: client.model("market")["state"] != "updating", what="the gate's decision")
        second = newest_version(client)
        if client.champion("market").version == first:
            client.promote("market", second)
        rows, _ = market.rows(50)
        seen = []
        for version in (second, first):
            if version == first:
                client.rollback("market", why="to see the alias move")
            until(lambda: store.outbox.waiting("registry") == 0, 90.0, what="the mirroring")
            assert mirrored_champion(uri) == version
            served = client.predict("market", rows)
            assert {answer.version for answer in served} == {version}
            elsewhere = loaded_elsewhere(uri, rows, tmp_path)
            for here, there in zip(served, elsewhere, strict=True):
                assert there["value"] == here.value
                found = {name.removeprefix("probability_"): p for name, p in there.items() if name != "value"}
                assert found == pytest.approx(here.probabilities, rel=0, abs=1e-9)
            seen.append([answer.probabilities for answer in served])
        assert seen[0] != seen[1]
        store.close()


def newest_version(client: Any) -> int:
    return int(next(iter(client.versions("market")))["number"])


def mirrored_champion(uri: str) -> int:
    """The version that the alias points at."""
    found = mlflow.MlflowClient(uri, uri).get_model_version_by_alias("market", "champion")
    return int(found.tags["everlearn.version"])
