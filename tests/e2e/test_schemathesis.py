"""The API answers as its OpenAPI page says: every operation, called as every kind of caller.

Schemathesis makes requests from the page, right ones and wrong ones, and holds each answer against it: no
fault of the server, no status, media type or header that is not documented, no body that breaks its schema.
``TIMES=50 pytest tests/e2e/test_schemathesis.py`` goes on for longer, and elsewhere each time.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import requests
import uvicorn
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import FlakyStrategyDefinition

from everlearn.access.words import Role, Scope
from everlearn.api.app import create_app
from everlearn.api.auth import ApiKey
from everlearn.api.patience import patient
from everlearn.api.throttle import Rates
from everlearn.config import Settings
from everlearn.wiring import Installation
from everlearn.worker import Worker

schemathesis = pytest.importorskip("schemathesis")

TIMES = float(os.environ.get("TIMES", "1"))
KEY = "a-key-for-the-tests-0123456789"
PASSWORD = "correct horse battery"
MODEL = "toy"
ROW = {"a": 0.5, "b": "red"}
SPEC = {
    "name": MODEL,
    "target": "y",
    "features": {"a": "numeric", "b": "categorical"},
    "learner": {"name": "linear"},
    "policy": {"first_rows": 60, "min_labels": 40, "window": 100},
    "gate": {"holdout": 40, "min_rows": 20},
}
CALLERS = ("nobody", *Role, *(f"key for {scope}" for scope in Scope))
KNOWN = {
    "model": [MODEL, MODEL, MODEL, "default", "nowhere"],
    "prediction_id": ["mail-17", "a/b"],
    "version": [0, 1, 2],
    "number": [1, 2, "newest"],
    "job_id": [f"{MODEL}-1"],
    "name": ["ann", "bob"],
}
"""What is there, or was: at random no request would ever name it."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120 + int(300 * TIMES))]


@dataclass
class Api:
    """A server with its page, and a session for each caller."""

    url: str
    page: Any
    sessions: dict[str, requests.Session]

    def session(self, caller: str, path: str) -> requests.Session:
        """A caller's session for a path. Who logs out logs in again before asking who they are."""
        session = self.sessions[caller]
        if caller in list(Role) and path == "/v1/auth/me":
            body = {"username": f"the-{caller}", "password": PASSWORD}
            token = httpx.post(f"{self.url}/v1/auth/login", json=body).json()["access_token"]
            session.headers["Authorization"] = f"Bearer {token}"
        return session


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    data = tmp_path_factory.mktemp("data")
    parts = Installation(Settings(data=data, api_key=KEY, mlflow_tracking_uri="off"))
    parts.prepare()
    parts.migrate()
    worker = Worker(parts)
    threads = [threading.Thread(target=worker.run)]
    app = create_app(
        parts,
        authenticator=ApiKey(KEY),
        receipts=parts.store.receipts,
        access=parts.access,
        signer=parts.signer,
        rates=Rates(wrong=1e6, burst=10**6),
        max_body=2**20,
    )
    config = uvicorn.Config(
        app, port=0, log_config=None, access_log=False, http=patient(20.0, app.short_way), ws="none"
    )
    server = uvicorn.Server(config)
    threads.append(threading.Thread(target=server.run))
    for thread in threads:
        thread.start()
    try:
        yield furnished(server)
    finally:
        server.should_exit = True
        worker.stop()
        for thread in threads:
            thread.join()
        parts.close()


def furnished(server: uvicorn.Server) -> Api:
    """The running server, with models that know something, and callers of every kind."""
    while not server.started:
        threading.Event().wait(0.01)
    url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    sessions = {caller: requests.Session() for caller in CALLERS}
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {KEY}"}, timeout=60) as admin:

        def post(path: str, body: dict[str, Any]) -> Any:
            answer = admin.post(path, json=body)
            assert answer.is_success, answer.text
            return answer.json()

        post("/v1/models", SPEC)
        post("/generate", {"rows": 300, "seed": 1})
        rows = [{"a": i % 17, "b": "red" if i % 3 else "blue"} for i in range(200)]
        post(
            f"/v1/models/{MODEL}/examples",
            {"rows": rows, "targets": ["yes" if row["a"] > 8 else "no" for row in rows]},
        )
        post(f"/v1/models/{MODEL}/predict", {"rows": [ROW, ROW], "ids": ["mail-17", "a/b"]})
        post(f"/v1/models/{MODEL}/labels", {"labels": [{"id": "mail-17", "value": "yes"}]})
        for scope in Scope:
            key = post("/v1/keys", {"name": scope, "scopes": [scope]})["key"]
            sessions[f"key for {scope}"].headers["Authorization"] = f"Bearer {key}"
        for name, role in (*((f"the-{role}", role) for role in Role), ("ann", None)):
            invite = post("/v1/users", {"name": name, "role": role})["invite"]
            post("/v1/auth/accept", {"name": name, "invite": invite, "password": PASSWORD})
    return Api(url, schemathesis.openapi.from_url(f"{url}/openapi.json"), sessions)


@schemathesis.serializer("application/x-ndjson")
def ndjson(_: Any, value: Any) -> bytes:
    """Lines as they are: the page says no more of them than that they are text."""
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")


numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)  # JSON has no other
anything = st.none() | st.booleans() | numbers | st.text(max_size=20)
rows = st.lists(
    st.fixed_dictionaries(
        {}, optional={"a": st.floats(-9, 9) | anything, "b": st.sampled_from(["red", "é"])}
    ),
    max_size=5,
)
NEARLY = {
    "predict": st.fixed_dictionaries({"rows": rows}, optional={"ids": st.lists(anything, max_size=3)}),
    "labels": st.fixed_dictionaries(
        {
            "labels": st.lists(
                st.fixed_dictionaries({"id": st.sampled_from(["mail-17", "x"]), "value": anything})
            )
        }
    ),
    "examples": st.fixed_dictionaries({"rows": rows, "targets": st.lists(anything, max_size=5)}),
    "infer": st.fixed_dictionaries(
        {
            "inputs": st.lists(
                st.fixed_dictionaries(
                    {
                        "name": st.sampled_from(["a", "b", "prediction_id"]),
                        "datatype": st.sampled_from(["FP64", "BYTES", "INT32", "BOOL", "FP16"]),
                        "shape": st.lists(st.integers(-1, 3), max_size=3),
                        "data": st.lists(anything, max_size=4),
                    }
                ),
                max_size=3,
            )
        }
    ),
    "invocations": st.fixed_dictionaries(
        {},
        optional={"dataframe_records": rows, "instances": rows, "inputs": st.dictionaries(st.text(), rows)},
    ),
}
"""Bodies that fit the models that are there, or nearly: the page knows nothing of a model's columns."""


def expected() -> list[Any]:
    """What every answer is held against."""
    from schemathesis import checks
    from schemathesis.specs.openapi import checks as of_page

    def no_fault_of_the_server(context: Any, response: Any, case: Any) -> bool | None:
        if response.status_code == 501 and response.json()["type"] == "/errors/missing-extra":
            return None  # an extra that is not installed here, and the page says that it may be so
        return checks.not_a_server_error(context, response, case)

    return [
        no_fault_of_the_server,
        of_page.status_code_conformance,
        of_page.content_type_conformance,
        of_page.response_headers_conformance,
        of_page.response_schema_conformance,
    ]


def examples(count: int) -> settings:
    """So many examples (times ``TIMES``), the same ones each time unless it goes on for longer."""
    return settings(
        max_examples=max(1, int(count * TIMES)),
        derandomize=TIMES == 1,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate] if TIMES == 1 else [Phase.generate, Phase.shrink],
    )


def adjusted(case: Any, draw: Callable[[Any], Any]) -> Any:
    """The case, mostly about what is there; a command is not waited for."""
    for name in case.path_parameters or {}:
        if name in KNOWN and draw(st.integers(0, 3)):
            case.path_parameters[name] = draw(st.sampled_from(KNOWN[name]))
    if case.method == "DELETE" and (case.path_parameters or {}).get("model") in (MODEL, "default"):
        case.path_parameters["model"] = "nowhere"
    nearly = NEARLY.get(case.operation.path.rpartition("/")[2])
    if nearly is not None and case.media_type == "application/json" and draw(st.booleans()):
        case.body = draw(nearly)
    if "wait" in (case.query or {}):
        case.query["wait"] = draw(st.sampled_from([0, 0.1]))
    return case


@pytest.mark.parametrize("caller", CALLERS)
def test_every_operation_answers_as_documented(api: Api, caller: str) -> None:
    modes = schemathesis.GenerationMode
    count = 15 if caller in (Role.ADMIN, Role.OPERATOR) else 4
    for result in api.page.get_all_operations():
        operation = result.ok()
        session = api.session(caller, operation.path)

        def answers(case: Any, data: Any) -> None:
            adjusted(case, data.draw).call_and_validate(session=session, checks=expected(), timeout=30)  # noqa: B023

        cases = operation.as_strategy(modes.POSITIVE) | operation.as_strategy(modes.NEGATIVE)
        examples(count)(given(cases, st.data())(answers))()


@pytest.mark.parametrize("caller", [Role.OPERATOR, Role.ADMIN])
def test_what_one_answer_gives_the_next_request_takes(api: Api, caller: str) -> None:
    """Sequences: names and ids of one answer go into the next request, as the page lets one infer."""
    steps, wrong = 0, []

    class Walk(api.page.as_state_machine()):  # type: ignore[misc]
        def get_call_kwargs(self, case: Any) -> dict[str, Any]:
            ends = case.operation.path in ("/v1/auth/logout", "/v1/auth/password")
            return {"session": requests.Session() if ends else api.sessions[caller], "timeout": 30}

        def before_call(self, case: Any) -> None:
            if "wait" in (case.query or {}):
                case.query["wait"] = 0

        def validate_response(self, response: Any, case: Any, **_: Any) -> None:
            nonlocal steps
            steps += 1
            try:
                case.validate_response(response, checks=expected())
            except Exception as error:
                wrong.append(error)
                raise

    wanted, seed = 150 * TIMES, 0
    while steps < wanted and not wrong:
        seed += 1
        try:
            # What the server knows by now decides what can be asked next, which hypothesis takes for flaky.
            Walk._hypothesis_internal_use_seed = seed if TIMES == 1 else None
            Walk.run(settings=settings(examples(20), derandomize=False, stateful_step_count=12))
        except FlakyStrategyDefinition:
            continue
    assert not wrong, wrong[0]
