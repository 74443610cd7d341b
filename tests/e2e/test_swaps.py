"""Champions change under load: no request fails, and every answer is that of the version which it names.

Fifty swaps, ten champions whose files are damaged before they are loaded, and ten rollbacks. Every answer
is computed again from the stored artifact of the version that it names.
"""

from __future__ import annotations

import random
import re
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from everlearn.predictor import Predictor
from everlearn.wiring import Installation

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(400),
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
]

MODEL = "swaps"
SWAPS, DAMAGES, ROLLBACKS = 50, 10, 10
SOUND, WEAK = (1, 2, 3, 4), (5, 6)
"""Versions that are served throughout, and those whose files are damaged for a while."""

PREDICT, INFER = f"/v1/models/{MODEL}/predict", f"/v2/models/{MODEL}/infer"
PAUSE = 0.02
"""Seconds between the requests of one connection: a load that leaves two processors room to swap."""

WAIT = 60
"""Seconds that a command may take on a machine that is busy with other things."""

TURN = 0.1
"""Seconds for which a version answers at least."""

SPEC: dict[str, Any] = {
    "name": MODEL,
    "target": "way",
    "features": {"price": "numeric", "demand": "numeric"},
    "learner": {"name": "window", "size": 300, "estimator": "logistic"},
    "threshold": 0.5,
    "policy": {"name": "never", "first_rows": 300},
    "gate": {"name": "open"},
    "rollback": {"bake": 0},
    "drift": {"features": False},
}

Row = dict[str, float]


@dataclass(frozen=True)
class Answer:
    """What one row was answered, and when the request was sent and its answer there."""

    row: Row
    version: int
    value: Any
    probabilities: Mapping[str, float]
    sent: float
    came: float


@dataclass
class Traffic:
    """One connection that asks over and over, in one of three ways, and keeps every answer."""

    url: str
    key: str
    ask: Callable[[Traffic, Sequence[Row]], list[tuple[int, Any, Mapping[str, float]]]]
    rows: int
    answers: list[Answer] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    requests: int = 0

    def __post_init__(self) -> None:
        self.client = httpx.Client(
            base_url=self.url, headers={"Authorization": f"Bearer {self.key}"}, timeout=30, trust_env=False
        )
        self._draw = random.Random(self.rows)

    def __call__(self) -> None:
        rows = [{"price": self._draw.random(), "demand": self._draw.random()} for _ in range(self.rows)]
        self.requests += 1
        sent = time.monotonic()
        try:
            told = self.ask(self, rows)
        except httpx.HTTPError as error:
            self.failed.append(f"{type(error).__name__}: {error}")
        else:
            came = time.monotonic()
            self.answers += [Answer(row, *one, sent, came) for row, one in zip(rows, told, strict=True)]
        time.sleep(
            PAUSE * max(1.0, self.rows / 10)
        )  # the loop reads all of it, and obeys commands in their turn


def plain(traffic: Traffic, rows: Sequence[Row]) -> list[tuple[int, Any, Mapping[str, float]]]:
    answer = traffic.client.post(PREDICT, json={"rows": rows}).raise_for_status()
    return [(one["version"], one["value"], one["probabilities"]) for one in answer.json()["predictions"]]


def tensors(traffic: Traffic, rows: Sequence[Row]) -> list[tuple[int, Any, Mapping[str, float]]]:
    inputs = [
        {"name": name, "datatype": "FP64", "shape": [len(rows)], "data": [row[name] for row in rows]}
        for name in SPEC["features"]
    ]
    wanted = [{"name": name} for name in ("version", "value", "probabilities", "classes")]
    answer = traffic.client.post(INFER, json={"inputs": inputs, "outputs": wanted}).raise_for_status()
    found = {one["name"]: one["data"] for one in answer.json()["outputs"]}
    classes, cells = found["classes"], iter(found["probabilities"])
    shares = [{name: next(cells) for name in classes} for _ in rows]
    return list(zip(found["version"], found["value"], shares, strict=True))


def truths(rows: Sequence[Row], version: int) -> list[str]:
    """A concept of its own for every version, so that no two of them give a row the same probabilities."""
    return ["UP" if row["price"] * (0.6 + version / 5) > row["demand"] else "DOWN" for row in rows]


def predictors(data: Path) -> dict[int, Predictor]:
    """Every version from its stored artifact."""
    installation = Installation.load(data=data)
    try:
        digests = {number: installation.versions.get(MODEL, number).digest for number in SOUND + WEAK}
        return {
            number: Predictor.from_bundle(installation.artifacts.get(digest or ""))
            for number, digest in digests.items()
        }
    finally:
        installation.close()


def mixed_up(answers: Sequence[Answer], versions: Mapping[int, Predictor]) -> list[Answer]:
    """The answers that the version which they name does not give."""
    named = defaultdict(list)
    for answer in answers:
        named[answer.version].append(answer)
    wrong = []
    for version, given in named.items():
        outputs = versions[version].predict([answer.row for answer in given])
        for answer, output in zip(given, outputs, strict=True):
            shares = output.probabilities or {}
            same = answer.value == output.value and shares.keys() == answer.probabilities.keys()
            if not (same and all(abs(p - answer.probabilities[key]) < 1e-9 for key, p in shares.items())):
                wrong.append(answer)
    return wrong


@contextmanager
def damaged(folder: Path, how: int) -> Iterator[None]:
    """The files of a version, for a while not as they were stored."""
    path = folder / ("manifest.json" if how % 3 == 2 else "arrays.safetensors")
    whole = path.read_bytes()
    if how % 3 == 0:
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    elif how % 3 == 1:
        path.write_bytes(whole[: len(whole) // 2])
    else:
        path.unlink()
    try:
        yield
    finally:
        path.write_bytes(whole)


class Operator:
    """Commands the server, and notes from when to when which version must have answered."""

    def __init__(self, client: Any, until: Callable[..., None]) -> None:
        self._client, self._until = client, until
        self.turns: list[tuple[float, float, int]] = []
        self._begun, self._version = time.monotonic(), client.model(MODEL)["serving"]

    def _turn(self, now: float, version: int) -> None:
        self.turns.append((self._begun, now, self._version))
        self._begun, self._version = time.monotonic(), version
        time.sleep(TURN)

    def promote(self, version: int) -> None:
        before = time.monotonic()
        self._client.promote(MODEL, version, wait=WAIT)
        self._turn(before, version)

    def promote_damaged(self, version: int) -> None:
        """Promote a version that does not load: the one before goes on answering."""
        failed = self.failed_loads()
        self._client.promote(MODEL, version, wait=WAIT)
        self._until(lambda: self.failed_loads() >= failed + 4, what="another try")
        told = self._client.model(MODEL)
        assert (told["champion"], told["serving"]) == (version, self._version)
        assert self._client.ready()["status"] == "degraded"

    def mended(self, version: int) -> None:
        """A version that did not load is whole again: it is loaded without another word."""
        before = time.monotonic()
        self._until(lambda: self._client.model(MODEL)["serving"] == version, what="the mended version")
        self._turn(before, version)

    def roll_back(self, version: int) -> None:
        before = time.monotonic()
        decision = self._client.rollback(MODEL, wait=WAIT).decision
        assert decision["version"] == version
        self._turn(before, version)

    def failed_loads(self) -> float:
        page = httpx.get(
            f"{self._client.url}/metrics",
            headers={"Authorization": f"Bearer {self._client._key}"},
            trust_env=False,
        ).text
        found = re.search(r"^everlearn_failed_loads_total (\S+)$", page, re.MULTILINE)
        assert found is not None
        return float(found[1])


def teach(client: Any, market: Any, until: Callable[..., None]) -> None:
    """Six versions, each of another concept."""
    client.create_model(SPEC)
    for number in SOUND + WEAK:
        rows, _ = market.rows(300)
        client.load(MODEL, rows, truths(rows, number))
        if number > 1:
            client.retrain(MODEL, force=True)
        until(lambda: client.model(MODEL)["serving"] == number, what=f"version {number}")  # noqa: B023


def test_no_request_fails_and_no_answer_is_of_another_version(
    serve: Callable[..., Any],
    repeat: Callable[..., Any],
    market: Any,
    until: Callable[..., None],
) -> None:
    server = serve(mlflow=False)
    with server.client() as client:
        teach(client, market, until)
        versions = predictors(server.data)
        kinds = [(plain, 1), (plain, 2), (plain, 5), (plain, 300), (tensors, 1), (tensors, 3)]
        traffic = [Traffic(server.url, server.key, ask, rows) for ask, rows in kinds]
        callers = [repeat(one) for one in traffic]
        operator = Operator(client, until)
        exercise(client, operator, server.data)
        for caller, one in zip(callers, traffic, strict=True):
            caller.end()
            one.client.close()

    answers = [answer for one in traffic for answer in one.answers]
    requests = sum(one.requests for one in traffic)
    print(f"{requests} requests, {len(answers)} answers, {len(operator.turns)} changes of what answers")
    assert [failure for one in traffic for failure in one.failed] == []
    assert len(answers) == sum(one.requests * one.rows for one in traffic)
    assert {answer.version for answer in answers} == {*SOUND, *WEAK}
    assert mixed_up(answers, versions) == []
    assert out_of_turn(answers, operator.turns) == []
    assert_retried_with_backoff(server.log.read_text())

    # Each check sees one answer among all of them that names another version.
    place = next(
        i
        for begun, over, version in operator.turns
        for i, answer in enumerate(answers)
        if begun <= answer.sent and answer.came <= over and version == 1
    )
    answers[place] = replace(answers[place], version=2)
    assert mixed_up(answers, versions) == out_of_turn(answers, operator.turns) == [answers[place]]


def exercise(client: Any, operator: Operator, data: Path) -> None:
    """Swap, damage and roll back. Damage ends by mending the files, or by a rollback."""
    digests = {number: client.version(MODEL, number)["digest"] for number in WEAK}
    good = list(SOUND * SWAPS)[: SWAPS - DAMAGES]
    operator.promote(4)
    for turn in range(DAMAGES):
        weak, before = WEAK[turn % 2], operator._version
        folder = data / "artifacts" / digests[weak][:2] / digests[weak]
        with damaged(folder, turn):
            operator.promote_damaged(weak)
            if turn % 2:
                operator.roll_back(before)
        if not turn % 2:
            operator.mended(weak)
        for version in good[4 * turn : 4 * turn + 4]:
            operator.promote(version)
    for version in (1, 2, 3, 4, 1, 2, 3, 4, 1, 2):
        operator.promote(version)
    for version in (1, 4, 3, 2, 1, 4, 3, 2, 1, 4):
        operator.roll_back(version)


def out_of_turn(answers: Sequence[Answer], turns: Sequence[tuple[float, float, int]]) -> list[Answer]:
    """Answers that were asked for and given within a turn, and are of another version than the turn's."""
    wrong, ranked, i = [], sorted(answers, key=lambda answer: answer.sent), 0
    for begun, over, version in turns:
        while i < len(ranked) and ranked[i].sent < begun:
            i += 1
        for answer in ranked[i:]:
            if answer.sent >= over:
                break
            if answer.came <= over and answer.version != version:
                wrong.append(answer)
    return wrong


def assert_retried_with_backoff(log: str) -> None:
    """Each damaged champion raised one alert, and was tried again after ever longer waits."""
    assert len(re.findall(rf"alert: {MODEL}: load: version [56] cannot be loaded", log)) == DAMAGES
    waits = [float(wait) for wait in re.findall(r"cannot be loaded, next try in (\S+) s", log)]
    tries: list[list[float]] = []
    for wait in waits:
        if not tries or wait <= tries[-1][-1]:
            tries.append([])
        tries[-1].append(wait)
    assert len(tries) == DAMAGES
    assert all(some[:4] == [0.1, 0.2, 0.4, 0.8] for some in tries)
