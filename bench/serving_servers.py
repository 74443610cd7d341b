"""The servers of the serving benchmark: everlearn as it is installed, and the peers behind the same model."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from live_server import LiveServer, free_port
from serving_load import Target

BENCH = Path(__file__).resolve().parent
MODEL = "scores"
FEATURES = tuple(f"x{i}" for i in range(8))
START_SECONDS = 90.0
SPEC: dict[str, Any] = {
    "name": MODEL,
    "target": "y",
    "features": dict.fromkeys(FEATURES, "numeric"),
    "learner": {"name": "window", "estimator": "logistic", "size": 2000},
    "threshold": 0.5,
    "policy": {"name": "never", "first_rows": 1000},
    "gate": {"name": "open"},
}

Row = dict[str, float]


class Unavailable(Exception):
    """A server that cannot be measured here; the message says why."""


@dataclass(frozen=True)
class Fitted:
    """The logistic regression that every server answers with."""

    classes: tuple[str, str]
    coef: tuple[float, ...]
    intercept: float
    file: Path

    def chance(self, row: Row) -> float:
        """The probability of the second class."""
        score = self.intercept + sum(w * row[name] for w, name in zip(self.coef, FEATURES, strict=True))
        return 1.0 / (1.0 + math.exp(-score))


def data(seed: int, rows: int = 2000) -> tuple[list[Row], list[str]]:
    """Rows of eight features, and classes that follow a line in them with noise."""
    draw = np.random.default_rng(seed)
    table, weights = draw.normal(size=(rows, len(FEATURES))).round(4), draw.normal(size=len(FEATURES))
    said = table @ weights + draw.logistic(size=rows) > 0
    return [dict(zip(FEATURES, row, strict=True)) for row in table.tolist()], np.where(
        said, "yes", "no"
    ).tolist()


# -- everlearn ---------------------------------------------------------------------------------------


@contextmanager
def everlearn(folder: Path, workers: int, changes: Mapping[str, Any]) -> Iterator[LiveServer]:
    """``everlearn up`` on a folder that :func:`teach` has prepared, its model with changes to its spec."""
    server = LiveServer(folder, mlflow=False, workers=workers)
    with server:
        if changes:
            with server.client() as client:
                client.update_model(MODEL, changes)
                time.sleep(3.0)  # the API processes look at specs every two seconds
        yield server


def teach(folder: Path, rows: Sequence[Row], classes: Sequence[str]) -> Fitted:
    """Make the model in a new installation, and read its numbers from its answers (linear log-odds)."""
    with LiveServer(folder, mlflow=False) as server, server.client() as client:
        client.create_model(SPEC)
        client.load(MODEL, rows, classes)
        deadline = time.monotonic() + START_SECONDS
        while client.model(MODEL)["champion"] == 0:
            if time.monotonic() > deadline:
                raise RuntimeError(f"the model was not trained in {START_SECONDS:.0f} s:\n{server.tail()}")
            time.sleep(0.1)
        points = [dict.fromkeys(FEATURES, 0.0)]
        points += [{**points[0], name: 1.0} for name in FEATURES]
        while (answers := client.predict(MODEL, points))[0].version == 0:
            time.sleep(0.05)
    odds = [math.log(p["yes"] / p["no"]) for p in (answer.probabilities for answer in answers)]
    fitted = Fitted(("no", "yes"), tuple(o - odds[0] for o in odds[1:]), odds[0], folder.with_suffix(".json"))
    told = {"classes": fitted.classes, "coef": fitted.coef, "intercept": fitted.intercept}
    fitted.file.write_text(json.dumps(told))
    return fitted


def everlearn_target(server: LiveServer, row: Row) -> Target:
    """A request to ours: a key, one row, and no id, so that each is a new prediction."""
    headers = (("Content-Type", "application/json"), ("Authorization", f"Bearer {server.key}"))
    return Target(f"{server.url}/v1/models/{MODEL}/predict", json.dumps({"row": row}).encode(), headers)


# -- peers -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Peer:
    """Another way to serve the model. ``command`` may hold PYTHON, PORT, WORKERS and MODEL_FILE."""

    name: str
    command: tuple[str, ...]
    path: str
    body: str
    """``named`` (an object of the features), or what :func:`body_of` knows."""
    requirements: tuple[str, ...] = ()
    """Its own environment; none: ours."""
    prepare: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    note: str = ""


FASTAPI = Peer(
    "FastAPI + scikit-learn",
    (
        "PYTHON",
        "-m",
        "uvicorn",
        "serving_fastapi:app",
        "--port",
        "PORT",
        "--workers",
        "WORKERS",
        "--no-access-log",
    ),
    "/predict",
    "named",
    note="plain def, pydantic model, uvloop and httptools",
)
SKLEARN = "scikit-learn>=1.5"
LITSERVE = Peer(
    "LitServe",
    ("PYTHON", str(BENCH / "serving_litserve.py")),
    "/predict",
    "input",
    requirements=("litserve==0.2.19", SKLEARN),
    note="one worker a process",
)
BENTOML = Peer(
    "BentoML",
    (
        "PYTHON",
        "-m",
        "bentoml",
        "serve",
        "serving_bento:Scores",
        "--port",
        "PORT",
        "--working-dir",
        str(BENCH),
    ),
    "/predict",
    "input",
    requirements=("bentoml==1.4.39", SKLEARN),
    environment={"BENTOML_DO_NOT_TRACK": "True"},
    note="one method, access log off",
)
MLSERVER = Peer(
    "MLServer",
    ("mlserver", "start", "."),
    "/v2/models/scores/infer",
    "tensor",
    requirements=("mlserver==1.7.1", "mlserver-sklearn==1.7.1"),
    prepare=("PYTHON", str(BENCH / "serving_mlserver.py")),
    note="its scikit-learn runtime, Open Inference Protocol",
)
MLFLOW = Peer(
    "mlflow models serve",
    (
        "PYTHON",
        "-m",
        "mlflow",
        "models",
        "serve",
        "-m",
        "model",
        "--env-manager",
        "local",
        "-p",
        "PORT",
        "-w",
        "WORKERS",
    ),
    "/invocations",
    "dataframe_split",
    requirements=("mlflow==3.17.0", SKLEARN),
    prepare=("PYTHON", str(BENCH / "serving_mlflow.py")),
    environment={"MLFLOW_DISABLE_TELEMETRY": "true"},
    note="the class alone",
)
PEERS: dict[str, Peer] = {
    "fastapi": FASTAPI, "litserve": LITSERVE, "bentoml": BENTOML, "mlserver": MLSERVER, "mlflow": MLFLOW
}  # fmt: skip


def body_of(kind: str, row: Row) -> dict[str, Any]:
    """One row in the form that a peer takes."""
    values = [row[name] for name in FEATURES]
    if kind == "named":
        return dict(row)
    if kind == "input":
        return {"input": values}
    if kind == "dataframe_split":
        return {"dataframe_split": {"columns": list(FEATURES), "data": [values]}}
    tensor = {"name": "predict", "shape": [1, len(values)], "datatype": "FP64", "data": values}
    return {"inputs": [tensor], "outputs": [{"name": "predict_proba"}]}


@contextmanager
def serving(peer: Peer, fitted: Fitted, workers: int, cache: Path, row: Row) -> Iterator[Target]:
    """A peer that answers, and the request for it; raises Unavailable."""
    python, port = interpreter(peer, cache), free_port()
    folder = cache / peer.name.replace(" ", "")
    folder.mkdir(parents=True, exist_ok=True)
    words = {"PYTHON": python, "PORT": str(port), "WORKERS": str(workers), "MODEL_FILE": str(fitted.file)}
    environment = {
        **os.environ,
        **peer.environment,
        **words,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(BENCH),
        "PATH": f"{Path(python).parent}{os.pathsep}{os.environ['PATH']}",
    }
    target = Target(
        f"http://127.0.0.1:{port}{peer.path}",
        json.dumps(body_of(peer.body, row)).encode(),
        (("Content-Type", "application/json"),),
    )
    if peer.prepare:
        command = [words.get(word, word) for word in peer.prepare]
        done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)
        if done.returncode:
            raise Unavailable(f"its model cannot be made: {done.stderr.strip()[-200:]}")
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(
            [words.get(word, word) for word in peer.command],
            env=environment, cwd=folder, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
        try:
            _await(process, target, folder / "server.log")
            yield target
        finally:
            _end(process)


def _await(process: subprocess.Popen[bytes], target: Target, log: Path) -> None:
    deadline, said = time.monotonic() + START_SECONDS, "it never answered"
    while time.monotonic() < deadline and process.poll() is None:
        try:
            answer = httpx.post(target.url, content=target.body, headers=dict(target.headers), timeout=10)
            if answer.status_code == 200:
                return
            said = answer.text[:200]
        except httpx.HTTPError:
            pass
        time.sleep(0.2)
    raise Unavailable(f"it does not serve: {said}; {log.read_text()[-200:].strip()}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a server and the processes that it started, which are its process group."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(5)
            time.sleep(0.2)
        except ProcessLookupError:
            break
        except subprocess.TimeoutExpired:
            continue


def interpreter(peer: Peer, cache: Path) -> str:
    """The interpreter that serves a peer: ours, or one of its own made on first use; raises Unavailable."""
    if not peer.requirements:
        return sys.executable
    name = peer.name.replace(" ", "")
    venv = cache / "environments" / name
    mark = venv / "installed"
    wanted = "\n".join(peer.requirements)
    if not mark.exists() or mark.read_text() != wanted:
        print(f"installing {peer.name} in {venv} (only once)", file=sys.stderr)
        python = str(venv / "bin" / "python")
        steps = [
            [sys.executable, "-m", "venv", "--clear", str(venv)],
            [python, "-m", "pip", "install", "--quiet", *peer.requirements],
        ]
        for step in steps:
            done = subprocess.run(step, capture_output=True, text=True)
            if done.returncode:
                raise Unavailable(f"cannot be installed: {done.stderr.strip()[-200:]}")
        mark.write_text(wanted)
    return str(venv / "bin" / "python")
