"""Frames over a WebSocket: who may connect, what is answered, and what is dropped."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from everlearn.api.stream import Newest, Shot

SPEC: dict[str, Any] = {
    "name": "cam",
    "task": "detection",
    "target": "boxes",
    "features": {"frame": "image"},
    "learner": {"name": "yolo", "size": 64},
    "label_horizon": {"rows": 0},
}
PATH = "/v1/models/cam/stream"


class Socket:
    """A WebSocket without a network: what the client sends, and what it gets."""

    def __init__(self, app: FastAPI, path: str, key: str | None) -> None:
        headers = [(b"authorization", f"Bearer {key}".encode())] if key else []
        scope = {
            "type": "websocket",
            "path": path,
            "headers": headers,
            "client": ("127.0.0.1", 1),
            "state": {},
        }
        self._in: asyncio.Queue[Any] = asyncio.Queue()
        self._out: asyncio.Queue[Any] = asyncio.Queue()
        self._in.put_nowait({"type": "websocket.connect"})
        self.task = asyncio.create_task(app(scope, self._in.get, self._out.put))

    def send(self, **message: Any) -> None:
        self._in.put_nowait({"type": "websocket.receive", **message})

    async def get(self) -> Any:
        return await asyncio.wait_for(self._out.get(), 20)

    async def end(self) -> None:
        self._in.put_nowait({"type": "websocket.disconnect", "code": 1000})
        await asyncio.wait_for(self.task, 20)


async def test_the_newest_frame_is_kept_and_the_others_are_counted() -> None:
    newest = Newest()
    for frame in (b"1", b"2", b"3"):
        newest.put(Shot(frame))
    assert await newest.take() == (Shot(b"3"), 2)
    newest.put(Shot(b"4"))
    assert await newest.take() == (Shot(b"4"), 0)
    waiting = asyncio.create_task(newest.take())
    await asyncio.sleep(0)
    newest.end()
    assert await waiting is None


@pytest.mark.parametrize("key", [None, "wrong"])
async def test_without_a_key_nobody_connects(
    make_app: Callable[..., FastAPI], connect: Any, key: Any
) -> None:
    app = make_app()
    async with connect(app):
        for path in (PATH, "/v1/models/cam/predict", "/elsewhere"):
            socket = Socket(app, path, key)
            assert (await socket.get())["type"] == "websocket.close"
            await socket.task


async def test_a_plain_request_is_told_to_upgrade(toy: httpx.AsyncClient) -> None:
    answer = await toy.get("/v1/models/toy/stream")
    assert (answer.status_code, answer.headers["upgrade"]) == (426, "websocket")


async def test_frames_are_answered_and_faults_told(make_app: Callable[..., FastAPI], connect: Any) -> None:
    for module in ("onnxruntime", "cv2"):
        pytest.importorskip(module, reason="everlearn[vision] is not installed")
    from everlearn.vision import shapes
    from everlearn.vision.images import encode

    app = make_app()
    async with connect(app) as client:
        assert (await client.post("/v1/models", json=SPEC)).status_code == 201
        socket = Socket(app, PATH, client.headers["authorization"].partition(" ")[2])
        assert (await socket.get())["type"] == "websocket.accept"
        socket.send(bytes=encode(shapes.draw(1).image))
        told = json.loads((await socket.get())["text"])
        assert (told["boxes"], told["width"], told["dropped"]) == (None, 160, 0)
        assert (await client.get(f"/v1/models/cam/frames/{told['id']}")).status_code == 200
        for fault, names in (({"bytes": b"no image"}, "image"), ({"text": "hello"}, "text")):
            socket.send(**fault)
            told = json.loads((await socket.get())["text"])
            assert told["error"]["status"] == 422
            assert told["error"]["detail"].startswith(names)
        await socket.end()
        reader = (await client.post("/v1/keys", json={"name": "r", "scopes": ["read"]})).json()
        socket = Socket(app, PATH, reader["key"])
        assert (await socket.get())["type"] == "websocket.close", "a key that may not predict"


async def test_a_text_says_whose_the_frames_after_it_are(
    make_app: Callable[..., FastAPI], connect: Any
) -> None:
    for module in ("onnxruntime", "cv2"):
        pytest.importorskip(module, reason="everlearn[vision] is not installed")
    from everlearn.vision import shapes
    from everlearn.vision.images import encode

    spec = {**SPEC, "subject": "person", "features": {**SPEC["features"], "camera": "categorical"}}
    app, frame = make_app(), encode(shapes.draw(1).image)

    async def sent(text: str | None = None) -> Any:
        if text is not None:
            socket.send(text=text)
        socket.send(bytes=frame)
        told = json.loads((await socket.get())["text"])
        if "error" in told:
            return told["error"]["detail"]
        features = (await client.get(f"/v1/models/cam/frames/{told['id']}")).json()["features"]
        return {name: features.get(name) for name in ("person", "camera")}

    async with connect(app) as client:
        assert (await client.post("/v1/models", json=spec)).status_code == 201
        socket = Socket(app, PATH, client.headers["authorization"].partition(" ")[2])
        assert (await socket.get())["type"] == "websocket.accept"
        assert await sent() == {"person": None, "camera": None}
        ann = '{"subject": "ann", "features": {"camera": "gate"}}'
        assert await sent(ann) == {"person": "ann", "camera": "gate"}
        assert await sent() == {"person": "ann", "camera": "gate"}
        assert await sent("{}") == {"person": None, "camera": None}
        await sent(ann)
        socket.send(text='{"person": "ben"}')
        assert "is no JSON of" in json.loads((await socket.get())["text"])["error"]["detail"]
        assert "is no JSON of" in await sent(), "frames that may be ben's are not ann's"
        assert "is empty" in await sent('{"subject": ""}')
        await socket.end()


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(sys.platform != "linux", reason="starts a server")
def test_a_camera_that_is_too_fast_gets_its_newest_frames_answered(
    root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for module in ("onnxruntime", "cv2", "websockets"):
        pytest.importorskip(module, reason="everlearn[vision] is not installed")
    from websockets.exceptions import InvalidStatus
    from websockets.sync.client import connect

    from everlearn.vision import shapes
    from everlearn.vision.images import encode

    monkeypatch.syspath_prepend(root / "bench")
    frame, count = encode(shapes.draw(1, side=480).image), 60
    with import_module("live_server").LiveServer(tmp_path / "data", mlflow=False) as server:
        with server.client() as client:
            client.create_model(SPEC)
        url = f"ws://127.0.0.1:{server.port}{PATH}"
        with pytest.raises(InvalidStatus, match="403"):
            connect(url)
        key = {"Authorization": f"Bearer {server.key}"}
        with connect(url, additional_headers=key, compression=None) as socket:
            for _ in range(count):
                socket.send(frame)
            told = []
            while sum(1 + one["dropped"] for one in told) < count:
                told.append(json.loads(socket.recv(timeout=60)))
        assert all(one["width"] == 480 for one in told)
        assert 1 < len(told) < count
        with server.client() as client:
            assert client.model("cam")["log"]["rows"] == len(told), "what was dropped is not recorded"
