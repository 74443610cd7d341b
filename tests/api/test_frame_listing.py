"""The frames of a model as a list: newest first, filtered, and quick however long its log is."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import httpx
import pytest

from everlearn.api import frame_listing
from everlearn.spec import parse_spec
from everlearn.types import EventKind, NewEvent
from everlearn.vision.frames import bundle_of

SPEC: dict[str, Any] = {
    "name": "cam",
    "task": "detection",
    "target": "boxes",
    "features": {"frame": "image", "camera": "categorical"},
    "learner": {"name": "yolo", "size": 64},
    "label_horizon": {"rows": 0},
}
FRAMES = "/v1/models/cam/frames"
CAR = ["car", 10.0, 20.0, 60.0, 50.0]
Answered = Callable[[dict[str, Sequence[float]]], None]
Told = Callable[..., None]


@pytest.fixture
def cam(api: httpx.AsyncClient, place: Any) -> httpx.AsyncClient:
    """A client where a detector exists. It is made in the store, as its frames are: no extra is needed."""
    place.store.models.create(parse_spec(SPEC), 1_700_000_000.0)
    return api


@pytest.fixture
def answered(cam: httpx.AsyncClient, place: Any) -> Answered:
    """Record frames, each by its id with the scores of the boxes that were answered."""

    def record(frames: dict[str, Sequence[float]]) -> None:
        events = []
        for key, scores in frames.items():
            features = {"frame": "0" * 64, "camera": "gate"}
            value = json.dumps([[*CAR, score] for score in scores])
            body = {"features": features, "value": value, "probabilities": None, "version": 1}
            events.append(NewEvent(EventKind.PREDICTION, 1_700_000_000.0, key, body))
        place.store.log.append("cam", events)

    return record


@pytest.fixture
def told(cam: httpx.AsyncClient, place: Any) -> Told:
    """Record the true boxes of a frame."""

    def record(key: str, *boxes: Any) -> None:
        body = {"value": json.dumps(boxes)}
        place.store.log.append("cam", [NewEvent(EventKind.LABEL, 1_700_000_001.0, key, body)])

    return record


async def listed(cam: httpx.AsyncClient, **query: Any) -> list[str]:
    """The ids of all pages."""
    found: list[str] = []
    while True:
        page = (await cam.get(FRAMES, params=query)).json()
        found += [frame["id"] for frame in page["items"]]
        if page["next"] is None:
            return found
        query["cursor"] = page["next"]


async def test_frames_are_listed_as_they_are_told_one_by_one(
    cam: httpx.AsyncClient, answered: Answered, told: Told
) -> None:
    answered({"f1": [0.9], "f2": []})
    told("f1", ["car", 1.0, 2.0, 3.0, 4.0])
    page = (await cam.get(FRAMES)).json()
    assert page["next"] is None
    assert page["items"] == [(await cam.get(f"{FRAMES}/{key}")).json() for key in ("f2", "f1")]
    assert page["items"][0]["truth"] is None
    assert page["items"][1]["boxes"][0]["score"] == 0.9
    assert page["items"][1]["truth"] == [{"class": "car", "x1": 1.0, "y1": 2.0, "x2": 3.0, "y2": 4.0}]


async def test_no_frame_of_who_is_erased_is_shown_or_listed(api: httpx.AsyncClient, place: Any) -> None:
    place.store.models.create(parse_spec({**SPEC, "subject": "person"}), 1_700_000_000.0)
    for person in ("ann", "ben"):
        features = {"frame": place.store.artifacts.put(bundle_of(person.encode())), "person": person}
        body = {"features": features, "value": "[]", "probabilities": None, "version": 0}
        place.store.log.append("cam", [NewEvent(EventKind.PREDICTION, 1_700_000_000.0, person, body)])
        told = await api.post(f"{FRAMES}/{person}/boxes", json={"boxes": []})
        assert told.json()["accepted"] == 1
    assert (await api.delete("/v1/models/cam/subjects/ann")).status_code == 202
    assert await listed(api) == ["ben"]
    for path in ("", "/image", "/annotated"):
        assert (await api.get(f"{FRAMES}/ann{path}")).status_code == 404
    assert (await api.get(f"{FRAMES}/ben/image")).content == b"ben"
    late = await api.post(f"{FRAMES}/ann/boxes", json={"boxes": [], "correction": True})
    assert late.json()["erased"] == ["ann"]


async def test_pages_follow_each_other_without_a_gap(cam: httpx.AsyncClient, answered: Answered) -> None:
    names = [f"f{i}" for i in range(11)]
    answered({name: [] for name in names})
    assert await listed(cam, limit=3) == names[::-1]
    first = (await cam.get(FRAMES, params={"limit": 4})).json()
    answered({"later": []})  # what comes while one reads is on no later page
    rest = await listed(cam, limit=4, cursor=first["next"])
    assert [frame["id"] for frame in first["items"]] + rest == names[::-1]


async def test_filters_leave_the_frames_that_are_to_be_labelled(
    cam: httpx.AsyncClient, answered: Answered, told: Told
) -> None:
    answered({"sure": [0.9, 0.8], "unsure": [0.9, 0.3], "told": [0.3], "empty": []})
    told("told")
    assert await listed(cam, truth="unknown") == ["empty", "unsure", "sure"]
    assert await listed(cam, truth="known") == ["told"]
    assert await listed(cam, below=0.5) == ["told", "unsure"]
    assert await listed(cam, below=0.5, truth="unknown") == ["unsure"]


async def test_a_label_that_came_before_its_frame_counts(
    cam: httpx.AsyncClient, answered: Answered, told: Told
) -> None:
    told("f1")
    answered({"f1": [0.9]})
    assert (await cam.get(FRAMES)).json()["items"][0]["truth"] == []
    assert await listed(cam, truth="unknown") == []


async def test_a_request_looks_at_so_much_and_no_more(
    cam: httpx.AsyncClient, answered: Answered, place: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frame_listing, "WINDOW", 10)
    monkeypatch.setattr(frame_listing, "WINDOWS", 3)
    answered({"old": [0.1], **{f"f{i}": [0.9] for i in range(100)}})
    read: list[int] = []
    whole = place.store.log.read
    monkeypatch.setattr(place.store.log, "read", lambda *given: read.append(given[2]) or whole(*given))
    page = (await cam.get(FRAMES, params={"below": 0.5})).json()
    assert (page["items"], read) == ([], [10, 10, 10])
    assert await listed(cam, below=0.5, cursor=page["next"]) == ["old"]


async def test_what_was_dropped_is_passed_over_quickly(
    cam: httpx.AsyncClient, answered: Answered, place: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frame_listing, "WINDOW", 10)
    answered({f"f{i}": [] for i in range(2000)})
    whole, calls = place.store.log.read, 0

    def thinned(model: str, after: int, limit: int) -> list[Any]:
        nonlocal calls
        calls += 1
        kept = [event for event in whole(model, after, 4000) if event.seq < 15 or event.seq > 1990]
        return kept[:limit]

    monkeypatch.setattr(place.store.log, "read", thinned)
    found = await listed(cam, limit=1000)
    assert found == [*(f"f{i}" for i in range(1999, 1988, -1)), *(f"f{i}" for i in range(12, -1, -1))]
    assert calls < 40  # window by window it would be 200


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"cursor": "x"}, "cursor"),
        ({"below": 2}, "below"),
        ({"truth": "maybe"}, "truth"),
        ({"limit": 0}, "limit"),
    ],
)
async def test_what_is_asked_wrongly_is_named(cam: httpx.AsyncClient, query: Any, field: str) -> None:
    answer = await cam.get(FRAMES, params=query)
    assert answer.status_code == 422
    assert field in answer.json()["errors"][0]["field"]


async def test_only_a_detector_has_frames(toy: httpx.AsyncClient) -> None:
    assert (await toy.get("/v1/models/toy/frames")).status_code == 422
    assert (await toy.get("/v1/models/nobody/frames")).status_code == 404
