"""Frames over HTTP: images are verified, answered and kept; boxes are told and shown."""

from __future__ import annotations

import asyncio
import json
import struct
import zlib
from typing import Any

import httpx
import numpy as np
import pytest

from everlearn.api.image_fetching import Fetcher
from everlearn.spec import parse_spec

SPEC: dict[str, Any] = {
    "name": "cam",
    "task": "detection",
    "target": "boxes",
    "features": {"frame": "image", "camera": "categorical"},
    "learner": {"name": "yolo", "size": 64, "epochs": 1, "threads": 1},
    "label_horizon": {"rows": 0},
    "policy": {"first_rows": 16, "check_every": 5},
    "gate": {"name": "open", "max_latency_ms": None},
    "regimes": {"anchor_every": 0},
}
FRAMES = "/v1/models/cam/frames"


async def test_a_model_that_detects_nothing_takes_no_frames(toy: httpx.AsyncClient) -> None:
    answer = await toy.post("/v1/models/toy/frames", content=b"x", headers={"Content-Type": "image/png"})
    assert answer.status_code == 422
    assert "task 'detection'" in answer.json()["detail"]


@pytest.fixture
async def cam(api: httpx.AsyncClient) -> httpx.AsyncClient:
    """A client where a detector exists."""
    for module in ("onnxruntime", "cv2"):
        pytest.importorskip(module, reason="everlearn[vision] is not installed")
    assert (await api.post("/v1/models", json=SPEC)).status_code == 201
    return api


def png(seed: int = 0, *, night: bool = False) -> bytes:
    from everlearn.vision import shapes
    from everlearn.vision.images import encode

    return encode(shapes.draw(seed, night=night).image)


async def send(cam: httpx.AsyncClient, data: bytes, **query: Any) -> httpx.Response:
    return await cam.post(FRAMES, content=data, params=query, headers={"Content-Type": "image/png"})


async def test_a_frame_is_answered_recorded_and_shown(cam: httpx.AsyncClient) -> None:
    answer = await send(cam, png(), id="f1", features='{"camera": "gate"}')
    assert answer.json() == {
        "model": "cam", "id": "f1", "version": 0, "width": 160, "height": 160, "boxes": None,
    }  # fmt: skip
    told = (await cam.get(f"{FRAMES}/f1")).json()
    assert told["features"]["camera"] == "gate"
    assert 0.4 < told["features"]["brightness"] < 0.9
    assert len(told["image"]) == 64
    assert told["truth"] is None
    image = await cam.get(f"{FRAMES}/f1/image")
    assert (image.content, image.headers["content-type"]) == (png(), "image/png")
    drawn = await cam.get(f"{FRAMES}/f1/annotated")
    assert drawn.headers["content-type"] == "image/jpeg"
    assert drawn.content.startswith(b"\xff\xd8\xff")
    assert (await cam.get(f"{FRAMES}/f2")).status_code == 404


async def test_the_same_frame_again_is_harmless_and_another_under_its_id_is_refused(
    cam: httpx.AsyncClient,
) -> None:
    first = await send(cam, png(), id="f1")
    assert (await send(cam, png(), id="f1")).json() == first.json()
    assert (await send(cam, png(1), id="f1")).status_code == 409
    assert (await send(cam, png(1), id="a/b")).json()["errors"][0]["field"] == "id"


async def test_a_form_carries_a_frame_too(cam: httpx.AsyncClient) -> None:
    answer = await cam.post(FRAMES, files={"image": ("a.png", png(), "image/png")}, params={"id": "f1"})
    assert answer.status_code == 200
    assert (await send(cam, png(), id="f1")).status_code == 200
    answer = await cam.post(FRAMES, files={"photo": ("a.png", png(), "image/png")})
    assert answer.json()["errors"][0]["field"] == "image"


def bomb(side: int) -> bytes:
    """A small PNG that states a huge image."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    pixels = zlib.compress(b"\0" * 100_000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


async def test_what_is_no_image_is_refused_before_it_is_decoded(cam: httpx.AsyncClient) -> None:
    whole = png()
    for data, says in (
        (b"", "neither JPEG nor PNG"),
        (b"GIF89a" + b"\0" * 100, "neither JPEG nor PNG"),
        (bomb(50_000), "more than 40,000,000 pixels"),
        (bomb(2_000), "damaged"),
        (whole[: len(whole) // 3], "damaged"),
        (b"\xff\xd8\xff" + b"\xff" * 100_000, "damaged JPEG"),
        (b"\xff\xd8\xff\xe0\x00\x00" * 10, "damaged JPEG"),
    ):
        answer = await send(cam, data)
        assert answer.status_code == 422, data[:10]
        assert says in answer.json()["detail"]
        assert answer.json()["errors"][0]["field"] == "image"
    assert (await cam.get("/v1/models/cam")).json()["log"]["rows"] == 0, "nothing was recorded"


async def test_other_features_are_checked(cam: httpx.AsyncClient) -> None:
    for features, says in (("[1]", "no JSON object"), ("{", "no JSON object"), ('{"camera": 1.5}', "camera")):
        answer = await send(cam, png(), features=features)
        assert answer.status_code == 422
        assert says in answer.json()["detail"]


async def test_a_frame_says_whose_it_is_by_every_way_that_it_comes(
    api: httpx.AsyncClient, make_app: Any, connect: Any
) -> None:
    pytest.importorskip("cv2", reason="everlearn[vision] is not installed")
    assert (await api.post("/v1/models", json={**SPEC, "subject": "person"})).status_code == 201
    form = {"image": ("a.png", png(1), "image/png")}
    url = {"url": "https://images.example.org/a.png", "subject": "eve"}
    async with connect(make_app(fetcher=Fetched(png(2)))) as other:
        sent = {
            "ann": await send(api, png(), id="1", subject="ann"),
            "ben": await send(api, png(), id="2", features='{"person": "ben"}'),
            "dan": await api.post(FRAMES, files=form, data={"subject": "dan"}, params={"id": "3"}),
            "eve": await other.post(FRAMES, json=url, params={"id": "4"}),
        }
    for person, answer in sent.items():
        assert answer.status_code == 200, answer.text
        told = (await api.get(f"{FRAMES}/{answer.json()['id']}")).json()
        assert told["features"]["person"] == person
    wrong = {"id": "5", "features": '{"person": "ben"}', "subject": "ann"}
    for query, says in ((wrong, "given twice"), ({"subject": ""}, "is empty")):
        answer = await send(api, png(), **query)
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "subject")
        assert says in answer.json()["detail"]


async def test_a_model_without_subjects_takes_no_frame_of_somebody(detector: httpx.AsyncClient) -> None:
    answer = await send(detector, b"an image", subject="ann")
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "subject")
    assert "name a column as 'subject'" in answer.json()["detail"]


async def test_what_a_frame_is_refused_for_is_found_before_its_image_is_stored(
    cam: httpx.AsyncClient, place: Any
) -> None:
    before = {one.digest for one in place.store.artifacts.stored()}
    assert (await send(cam, png(), features='{"camera": 1.5}')).status_code == 422
    assert {one.digest for one in place.store.artifacts.stored()} == before


async def test_no_image_is_in_memory_once_it_is_answered(cam: httpx.AsyncClient, place: Any) -> None:
    """So that nobody is shown what is gone from the store: not by a frame that names its digest, either."""
    await send(cam, png(), id="f1")
    digest = (await cam.get(f"{FRAMES}/f1")).json()["image"]
    assert (await cam.get(f"{FRAMES}/f1/annotated")).status_code == 200
    assert place.store.artifacts.delete(digest)
    for path in ("image", "annotated"):
        assert (await cam.get(f"{FRAMES}/f1/{path}")).status_code == 404


async def test_true_boxes_are_labels(cam: httpx.AsyncClient) -> None:
    await send(cam, png(), id="f1")
    box = {"class": "circle", "x1": 10, "y1": 20, "x2": 40.04, "y2": 50}
    told = await cam.post(f"{FRAMES}/f1/boxes", json={"boxes": [box]})
    assert told.json() == {"accepted": 1, "duplicate": 0, "conflict": [], "parked": []}
    again = await cam.post(f"{FRAMES}/f1/boxes", json={"boxes": [box]})
    assert again.json()["duplicate"] == 1
    other = await cam.post(f"{FRAMES}/f1/boxes", json={"boxes": []})
    assert other.json()["conflict"] == ["f1"]
    corrected = await cam.post(f"{FRAMES}/f1/boxes", json={"boxes": [], "correction": True})
    assert corrected.json()["accepted"] == 1
    assert (await cam.get(f"{FRAMES}/f1")).json()["truth"] == []
    assert (await cam.get(f"{FRAMES}/f1/annotated", params={"show": "truth"})).status_code == 200
    flat = await cam.post(f"{FRAMES}/f1/boxes", json={"boxes": [{**box, "x2": 10}]})
    assert flat.status_code == 422
    assert "x1 < x2" in flat.json()["detail"]


@pytest.fixture
def detector(api: httpx.AsyncClient, place: Any) -> httpx.AsyncClient:
    """A client where a detector exists. It is made in the store: no extra is needed to be refused."""
    place.store.models.create(parse_spec(SPEC), place.clock.now())
    return api


async def test_no_host_is_fetched_from_unless_it_is_listed(detector: httpx.AsyncClient) -> None:
    answer = await detector.post(FRAMES, json={"url": "https://images.example.org/a.jpg"})
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    (fault,) = answer.json()["errors"]
    assert fault["field"] == "url"
    assert "add it to EVERLEARN_IMAGE_HOSTS" in fault["message"]
    assert (await detector.get(FRAMES)).json()["items"] == []


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"{", "body"),
        (b"{}", "url"),
        (b'{"url": ""}', "url"),
        (b'{"url": 7}', "url"),
        (b'{"url": "https://a.example/%s"}' % (b"a" * 2000), "url"),
        (b'{"url": "https://a.example/", "headers": {}}', "headers"),
    ],
)
async def test_a_url_is_all_that_is_sent_in_json(
    detector: httpx.AsyncClient, body: bytes, field: str
) -> None:
    answer = await detector.post(FRAMES, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert field in answer.json()["errors"][0]["field"]


class Fetched(Fetcher):
    """What a host would have sent."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self.data = data

    async def fetch(self, url: str) -> bytes:
        return self.data


async def test_a_frame_by_url_is_answered_and_kept_as_one_that_was_sent(
    cam: httpx.AsyncClient, make_app: Any, connect: Any
) -> None:
    body = {"url": "https://images.example.org/a.png"}
    async with connect(make_app(fetcher=Fetched(png()))) as other:
        told = (await other.post(FRAMES, json=body, params={"id": "f1"})).json()
    assert told == (await send(cam, png(), id="f1")).json()  # the same frame: its bytes are the same
    assert (await cam.get(f"{FRAMES}/f1/image")).content == png()
    async with connect(make_app(fetcher=Fetched(bomb(2_000)))) as other:
        (fault,) = (await other.post(FRAMES, json=body)).json()["errors"]
    assert fault == {"field": "url", "message": "holds what is damaged: its pixels cannot be decoded"}


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_a_version_is_trained_promoted_and_answers_as_it_was_stored(
    cam: httpx.AsyncClient, place: Any
) -> None:
    pytest.importorskip("ultralytics", reason="everlearn[vision] is not installed")
    from everlearn.predictor import Predictor
    from everlearn.vision import shapes
    from everlearn.vision.frames import StoredImages

    for seed in range(24):
        await send(cam, png(seed), id=f"f{seed}")
        boxes = [
            dict(zip(("class", "x1", "y1", "x2", "y2"), box, strict=False)) for box in shapes.draw(seed).boxes
        ]
        await cam.post(f"{FRAMES}/f{seed}/boxes", json={"boxes": boxes})
    place.advance()
    while (model := (await cam.get("/v1/models/cam")).json())["serving"] != model["champion"]:
        await asyncio.sleep(0.05)
    decisions = (await cam.get("/v1/models/cam/decisions")).json()["items"]
    assert model["champion"] == 1, decisions
    told = (await send(cam, png(100), id="new")).json()
    assert told["version"] == 1
    assert isinstance(told["boxes"], list)
    version = place.store.versions.get("cam", 1)
    bundle = place.store.artifacts.get(version.digest)
    loaded = Predictor.from_bundle(bundle)
    loaded.self_test()  # from the frames that it carries: no store of images is asked
    assert place.store.artifacts.put(loaded.bundle([row for row, _ in loaded.anchors])) == version.digest
    again = Predictor.from_bundle(bundle, StoredImages(place.store.artifacts))
    row = place.store.log.find("cam", ["new"])["new"][0].features
    stored = (await cam.get("/v1/models/cam/predictions/new")).json()["output"]["value"]
    assert again.predict([row])[0].value == stored
    assert json.loads(stored) is not None
    assert np.isfinite(version.metrics["latency_ms"])
