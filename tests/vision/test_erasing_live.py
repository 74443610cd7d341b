"""A person asks a live server to be forgotten, whose detector was trained on their frames."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from everlearn.errors import NotFoundError

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

SPEC: dict[str, Any] = {
    "name": "door",
    "task": "detection",
    "target": "boxes",
    "features": {"frame": "image"},
    "subject": "person",
    "learner": {"name": "yolo", "size": 64, "epochs": 1, "tune_epochs": 1, "batch": 8, "threads": 3},
    "label_horizon": {"rows": 0},
    "policy": {"name": "never", "first_rows": 16, "check_every": 5},
    "gate": {"name": "open", "max_latency_ms": None},
    "regimes": {"anchor_every": 0},
}
LIMIT = 600.0


def test_nothing_is_left_of_a_person_in_a_detector(
    root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for module in ("onnxruntime", "cv2", "ultralytics"):
        pytest.importorskip(module, reason="everlearn[vision] is not installed")
    monkeypatch.syspath_prepend(root / "bench")
    from everlearn.adapters.artifacts import FolderArtifacts
    from everlearn.vision.frames import bundle_of

    server = import_module("live_server").LiveServer(tmp_path / "data", mlflow=False)
    with server, server.client() as client:
        client.create_model(SPEC)
        for i in range(32):
            send(client, i, "ann" if i % 2 else "ben")
        until(lambda: client.model("door")["champion"] >= 1)
        retrained(client)  # fine-tuned from what has learned ann's frames
        assert held(server.data, 1), "her frames are there, also as versions carry them"
        frame = client.recorded_frame("door", "ann-1")
        erasure = client.erase("door", "ann")
        for ask in (client.recorded_frame, client.frame_image, client.annotated):
            with pytest.raises(NotFoundError):
                ask("door", "ann-1")
        assert {one["features"]["person"] for one in client.frames("door")} == {"ben"}
        until(lambda: client.erasure("door", erasure["id"])["state"] == "done")
        given = client.erasure("door", erasure["id"])["certificate"]
        assert given["images_removed"] == 16
        assert frame["image"] not in json.dumps(given)
        assert given["proof"]["proven_by_search_alone"] == []
        assert given["proof"]["versions_made_again"] == 1
        assert not any(held(server.data, i) for i in range(1, 32, 2)), "no file has the bytes of one"
        assert held(server.data, 0)
        retrained(client)  # goes on from the clean one
        certificate = tmp_path / "certificate.json"
        certificate.write_text(json.dumps(given))
        verified = verify(certificate, server.data)
        assert verified["failures"] == []
        assert (verified["versions_made_again"], verified["proven_by_search_alone"]) == (2, [])
        FolderArtifacts(server.data / "artifacts").put(bundle_of(png(1)))
        assert "an image that was removed is there again" in str(verify(certificate, server.data)["failures"])


def png(seed: int) -> bytes:
    from everlearn.vision import shapes
    from everlearn.vision.images import encode

    return encode(shapes.draw(seed).image)


def send(client: Any, seed: int, person: str) -> None:
    """Send a frame of somebody, and tell what is on it."""
    from everlearn.vision import shapes

    client.frame("door", png(seed), id=f"{person}-{seed}", subject=person)
    names = ("class", "x1", "y1", "x2", "y2")
    boxes = [dict(zip(names, box, strict=False)) for box in shapes.draw(seed).boxes]
    client.label_frame("door", f"{person}-{seed}", boxes)


def retrained(client: Any) -> None:
    """Have a version made that goes on from the champion, and wait until it answers."""
    before = client.model("door")["champion"]
    client.retrain("door", force=True)
    until(lambda: client.model("door")["champion"] > before)


def until(true: Any) -> None:
    limit = time.monotonic() + LIMIT
    while not true():
        assert time.monotonic() < limit
        time.sleep(0.5)


def held(data: Path, seed: int) -> list[Path]:
    """The files that have the bytes of an image, as it was sent or as a version carries it."""
    from everlearn.vision import shapes
    from everlearn.vision.images import encode, letterbox

    small = encode(letterbox(shapes.draw(seed).image, 64).image)
    files = [path for path in data.rglob("*") if path.is_file()]
    return [path for path in files if any(image in path.read_bytes() for image in (png(seed), small))]


def verify(certificate: Path, data: Path) -> dict[str, Any]:
    """Have the certificate proven again, by another process."""
    command = ["everlearn", "erasure", "verify", str(certificate), "--data", str(data), "--json"]
    done = subprocess.run(
        [sys.executable, "-m", *command], capture_output=True, text=True, timeout=LIMIT, check=False
    )
    found: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (1 if found["failures"] else 0), done.stderr
    return found
