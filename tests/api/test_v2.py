"""The Open Inference Protocol, spoken by the client of another server."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
import uvicorn
from fastapi import FastAPI

triton = pytest.importorskip("tritonclient.http")

KEY = "a-key-for-the-tests"
INFER = "/v2/models/toy/infer"


def column(name: str, cells: list[Any], datatype: str = "FP64") -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": [len(cells)], "data": cells}


def given(name: str, cells: Any, datatype: str, *, binary: bool) -> Any:
    array = np.array(cells)
    made = triton.InferInput(name, list(array.shape), datatype)
    made.set_data_from_numpy(array, binary_data=binary)
    return made


async def asked(client: httpx.AsyncClient, inputs: list[Any], **more: Any) -> Any:
    """What the client of Triton makes of the answer to a request that it has built."""
    body, size = triton.InferenceServerClient.generate_request_body(inputs, **more)
    headers = {} if size is None else {"Inference-Header-Content-Length": str(size)}
    answer = await client.post(INFER, content=body, headers=headers)
    assert answer.status_code == 200, answer.text
    told = answer.headers.get("Inference-Header-Content-Length")
    parse = triton.InferenceServerClient.parse_response_body
    return parse(answer.content, header_length=None if told is None else int(told))


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("output", [True, False])
async def test_columns_get_the_answers_of_json(
    trained: httpx.AsyncClient, place: Any, binary: bool, output: bool
) -> None:
    rows = [{"a": 0.5, "b": 0.25}, {"a": -0.5, "b": 0.75}]
    expected = (await trained.post("/v1/models/toy/predict", json={"rows": rows})).json()["predictions"]
    names = ("value", "probabilities", "classes", "prediction_id")
    result = await asked(
        trained,
        [
            given("a", [row["a"] for row in rows], "FP64", binary=binary),
            given("b", [[row["b"]] for row in rows], "FP64", binary=binary),
        ],
        outputs=[triton.InferRequestedOutput(name, binary_data=output) for name in names],
        request_id="q1",
    )
    head = result.get_response()
    assert (head["id"], head["model_name"], head["model_version"]) == ("q1", "toy", "1")
    assert texts(result, "value") == [told["value"] for told in expected]
    grid, classes = result.as_numpy("probabilities"), texts(result, "classes")
    told = [dict(zip(classes, row, strict=True)) for row in grid.tolist()]
    assert told == [answer["probabilities"] for answer in expected]
    recorded = place.store.log.find("toy", texts(result, "prediction_id"))
    assert [dict(found[0].features) for found in recorded.values()] == rows


def texts(result: Any, name: str) -> list[str]:
    cells = result.as_numpy(name).tolist()
    return [cell.decode() if isinstance(cell, bytes) else cell for cell in cells]


@pytest.mark.parametrize("datatype", ["FP16", "FP32", "FP64", "INT8", "INT64", "UINT32"])
async def test_one_tensor_of_all_columns(trained: httpx.AsyncClient, place: Any, datatype: str) -> None:
    numbers = np.array([[1, 2], [3, 4]]).astype(triton_to_numpy(datatype))
    result = await asked(trained, [given("x", numbers, datatype, binary=True)])
    recorded = place.store.log.find("toy", texts(result, "prediction_id"))
    assert [dict(found[0].features) for found in recorded.values()] == [{"a": 1, "b": 2}, {"a": 3, "b": 4}]


def triton_to_numpy(datatype: str) -> Any:
    from tritonclient.utils import triton_to_np_dtype

    return triton_to_np_dtype(datatype)


async def test_texts_booleans_and_missing_cells(api: httpx.AsyncClient, place: Any) -> None:
    features = {"c": "categorical", "f": "boolean", "n": "numeric"}
    await api.post(
        "/v1/models", json={"name": "toy", "target": "y", "features": features, "learner": "majority"}
    )
    await api.post("/v1/models/toy/examples", json={"rows": [{"n": 1}] * 3, "targets": [True] * 3})
    await asyncio.to_thread(place.advance)
    await api.post("/v1/models/toy/predict", json={"row": {"n": 1}})  # the baseline is looked up again
    inputs = [
        column("c", ["né", None], "BYTES"),
        column("f", [True, None], "BOOL"),
        column("n", [None, 2.5]),
        column("prediction_id", ["x1", "x2"], "BYTES"),
    ]
    for _ in range(200):
        answer = await api.post(INFER, json={"inputs": inputs})
        if answer.status_code == 200:
            break
        await asyncio.sleep(0.01)
    assert answer.json()["outputs"][0] == {
        "name": "value",
        "datatype": "BOOL",
        "shape": [2],
        "data": [True] * 2,
    }
    recorded = place.store.log.find("toy", ["x1", "x2"])
    assert [dict(found[0].features) for found in recorded.values()] == [{"c": "né", "f": True}, {"n": 2.5}]


async def test_a_model_without_an_answer_is_not_ready(toy: httpx.AsyncClient) -> None:
    assert (await toy.get("/v2/models/toy/ready")).status_code == 503
    answer = await toy.post(INFER, json={"inputs": [column("a", [1.0]), column("b", [1.0])]})
    assert answer.status_code == 503
    assert "has learned nothing yet" in answer.json()["error"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "missing required field `inputs`"),
        ({"inputs": []}, "no rows"),
        ({"inputs": [column("a", [1.0], "FP65")]}, "inputs.a: has the datatype 'FP65'"),
        (
            {"inputs": [{**column("a", [1.0]), "shape": [2]}]},
            "inputs.a: has 1 values for the shape [2]: send 2",
        ),
        ({"inputs": [{**column("a", [1.0]), "shape": []}]}, "inputs.a: has no shape"),
        ({"inputs": [column("a", ["1"])]}, "inputs.a: has data[0] that is no FP64"),
        ({"inputs": [column("a", [True], "INT8")]}, "inputs.a: has data[0] that is no INT8"),
        ({"inputs": [column("a", [1.0]), column("b", [1.0, 2.0])]}, "must have as many rows"),
        (
            {"inputs": [{**column("x", [1.0] * 3), "shape": [1, 3]}]},
            "send [n] for one column, or [n, 2] for a, b",
        ),
        ({"inputs": [column("a", [1.0]), column("a", [1.0])]}, "inputs.a: is there twice"),
        ({"inputs": [column("x", [1.0])]}, "names no feature"),
        ({"inputs": [column("a", [1.0])], "outputs": [{"name": "z"}]}, "no output 'z'"),
        (
            {"inputs": [{**column("a", []), "parameters": {"binary_data_size": 8}}]},
            "that the body does not hold",
        ),
        ({"inputs": [column("a", [1.0]), column("prediction_id", [""], "BYTES")]}, "inputs.prediction_id"),
    ],
)
async def test_errors_have_the_form_of_the_protocol(
    trained: httpx.AsyncClient, place: Any, body: Any, message: str
) -> None:
    before = place.store.log.head("toy").seq
    answer = await trained.post(INFER, json=body)
    assert answer.status_code == 400
    assert list(answer.json()) == ["error"]
    assert message in answer.json()["error"]
    assert place.store.log.head("toy").seq == before


async def test_models_and_versions_that_are_not_there(trained: httpx.AsyncClient) -> None:
    for path in ("/v2/models/none", "/v2/models/none/ready", "/v2/models/toy/versions/7"):
        answer = await trained.get(path)
        assert (answer.status_code, list(answer.json())) == (404, ["error"])
    assert (await trained.get("/v2/models/toy/versions/1/ready")).json() == {"name": "toy", "ready": True}


async def test_a_repeat_gets_the_same_ids(trained: httpx.AsyncClient) -> None:
    body = {"inputs": [column("a", [1.0]), column("b", [1.0])]}
    answers = [await trained.post(INFER, json=body, headers={"Idempotency-Key": "k"}) for _ in range(2)]
    assert answers[0].content == answers[1].content


@pytest.fixture
def address(make_app: Any) -> Iterator[str]:
    """A server on a free port, for clients that know only sockets."""
    app: FastAPI = make_app()
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None, access_log=False))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


def test_the_client_of_triton_over_the_wire(
    address: str, spec: dict[str, Any], history: Any, place: Any
) -> None:
    headers = {"Authorization": f"Bearer {KEY}"}
    with httpx.Client(base_url=f"http://{address}", headers=headers) as plain:
        assert plain.post("/v1/models", json=spec).status_code == 201
        assert plain.post("/v1/models/toy/examples", json=history()).status_code == 200
        place.advance()
        client = triton.InferenceServerClient(address)
        while client.get_model_metadata("toy", headers=headers)["versions"][0] != "1":
            time.sleep(0.01)
        try:
            assert client.is_server_live(headers=headers)
            assert client.is_server_ready(headers=headers)
            assert client.is_model_ready("toy", headers=headers)
            assert client.get_server_metadata(headers=headers)["extensions"] == ["binary_tensor_data"]
            inputs = client.get_model_metadata("toy", "1", headers=headers)["inputs"]
            assert inputs == [{"name": n, "datatype": "FP64", "shape": [-1]} for n in ("a", "b")]
            rows = np.array([[0.9, 0.1], [-0.9, 0.1]])
            result = client.infer("toy", [given("x", rows, "FP64", binary=True)], headers=headers)
            assert texts(result, "value") == ["yes", "no"]
            with pytest.raises(Exception, match="model 'none'"):
                client.infer("none", [given("x", rows, "FP64", binary=True)], headers=headers)
        finally:
            client.close()
