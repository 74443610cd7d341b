"""A detector on a live server whose world changes: YOLO11 from scratch, then night and a new class.

    python bench/vision.py [--seed N] [--quick] [--json] [--data DIR] [--weights FILE]

Needs ``everlearn[vision]``. `everlearn up` is started in a folder of its own. Frames of a generated set
(circles, squares, triangles on noise) are sent one by one, and their boxes told. A first version is trained
from scratch (``yolo11n.yaml``). Then it is night, and stars appear: the policy asks for a version, which is
fine-tuned on new frames and on old ones (replay), and is to be promoted. Then replay is turned off: the
gate is to refuse the version that comes of it, since it has forgotten the day. Frames go on being sent
while versions are trained.

``--json`` prints one object:

scratch             mAP50 of the first version, by day, and "seconds" until it answered
night_before        mAP50 of the first version, by night, stars included
with_replay         {"end": "refused" or "promoted", "reason", "fallen": classes, "classes": AP50 by class on
                    the anchors of the day, of the champion and of the candidate}
without_replay      the same
day_before, day_after  AP50 by class, by day, of the first version and of the one that was promoted last
night_after         AP50 by class, by night, of the one that was promoted last
requests, failed    how many there were, and how many were answered by anything but 200
frames_per_second   answered for one connection, and for four, by the promoted version
torch_in_api        whether PyTorch was ever loaded by a process that serves
decisions           [kind, version, reason] in order, but for holds
goals               [goal, value, bar, met]
seed, quick, seconds

The exit code is 1 if a goal was not met, and 0 otherwise; with ``--quick``, which trains too little to meet
them, it is always 0.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from everlearn.vision import shapes
from everlearn.vision.average_precision import by_class
from everlearn.vision.boxes import Box
from everlearn.vision.images import encode
from live_server import LiveServer, family

MODEL = "cam"
KEPT = 0.03
"""What the average precision of an old class may lose."""

WAIT = 1800.0
"""Seconds that a version may take to be made and judged."""


def spec(options: argparse.Namespace) -> dict[str, Any]:
    quick = options.quick
    size = 64 if quick else 96
    return {
        "name": MODEL,
        "task": "detection",
        "target": "boxes",
        "features": {"frame": "image"},
        "learner": {
            "name": "yolo",
            "size": size,
            "epochs": 2 if quick or options.weights else 11,
            "tune_epochs": 1 if quick else 12,
            "batch": 8,
            "rate": 2e-3,
            "tune_rate": 1e-3,
            "fresh": 80,
            "replay": 120,
            "threads": 1,
            "weights": options.weights,
        },
        "label_horizon": {"rows": 0},
        "threshold": 0.8,
        "policy": {
            "first_rows": 40 if quick else 260, "min_labels": 40, "window": 60,
            "cooldown": 60 if quick else 250, "check_every": 10, "recalibrate": False, "reuse": False,
        },
        "gate": {"holdout": 40, "min_rows": 20, "look_every": 10, "margin": KEPT, "max_latency_ms": 5000},
        "regimes": {"anchor_every": 4, "protect": {"1": True}},
        "rollback": {"bake": 100},
    }  # fmt: skip


@dataclass
class Camera:
    """Sends frames of a world that may change, and counts what becomes of the requests."""

    url: str
    key: str
    seed: int
    night: bool = False
    requests: int = 0
    failed: list[str] = field(default_factory=list)
    taken: int = 0

    def __post_init__(self) -> None:
        headers = {"Authorization": f"Bearer {self.key}"}
        self.http = httpx.Client(base_url=f"{self.url}/v1", headers=headers, timeout=120.0)

    def ask(self, method: str, path: str, **how: Any) -> Any:
        """One request, which is not to fail."""
        self.requests += 1
        answer = self.http.request(method, f"/models{path}", **how)
        if answer.status_code >= 300:
            self.failed.append(f"{method} {path}: {answer.status_code} {answer.text[:200]}")
        return answer.json()

    def frame(self, number: int | None = None) -> shapes.Frame:
        """The next frame of the world as it is, or one of a number."""
        if number is None:
            self.taken += 1
            number = self.taken
        names = (*shapes.SHAPES, shapes.STAR) if self.night else shapes.SHAPES
        return shapes.draw(self.seed * 1_000_000 + number, night=self.night, names=names)

    def send(self, frame: shapes.Frame, *, label: bool = True) -> Any:
        """Send a frame, and tell its boxes."""
        content = {"Content-Type": "image/png"}
        told = self.ask("POST", f"/{MODEL}/frames", content=encode(frame.image), headers=content)
        if label:
            corners = ("class", "x1", "y1", "x2", "y2")
            boxes = [dict(zip(corners, box, strict=False)) for box in frame.boxes]
            self.ask("POST", f"/{MODEL}/frames/{told['id']}/boxes", json={"boxes": boxes})
        return told

    def decisions(self) -> list[dict[str, Any]]:
        """All of them, the oldest first."""
        return list(reversed(self.ask("GET", f"/{MODEL}/decisions?limit=500")["items"]))

    def champion(self) -> int:
        """The version that answers here."""
        return int(self.ask("GET", f"/{MODEL}")["serving"])

    def score(self, count: int) -> dict[str, float]:
        """AP50 by class of what is answered to frames that nobody learns from."""
        frames = [self.frame(500_000 + i) for i in range(count)]
        answers = [boxes_of(self.send(frame, label=False)["boxes"]) for frame in frames]
        return {name: one.ap for name, one in by_class([f.boxes for f in frames], answers).items()}


def boxes_of(told: Sequence[Mapping[str, Any]] | None) -> list[Box]:
    return [Box(b["class"], b["x1"], b["y1"], b["x2"], b["y2"], b["score"]) for b in told or ()]


def mean(scores: Mapping[str, float]) -> float:
    return sum(scores.values()) / len(scores) if scores else 0.0


def ended(camera: Camera, version: int) -> dict[str, Any] | None:
    """The decision that ended a version's trial, or failed to make it."""
    ends = ("promote", "refuse", "fail")
    found = (d for d in camera.decisions() if d["version"] == version and d["kind"] in ends)
    return next(found, None)


def until_judged(camera: Camera, version: int) -> dict[str, Any]:
    """Go on sending until a version is judged: without labels while it is made, and with them on trial."""
    deadline = time.monotonic() + WAIT
    while (end := ended(camera, version)) is None:
        if time.monotonic() > deadline:
            raise TimeoutError(f"version {version} is not judged: {camera.decisions()[-5:]}")
        made = any(d["version"] == version and d["kind"] == "trial" for d in camera.decisions())
        for _ in range(10 if made else 1):
            camera.send(camera.frame(), label=made)
        time.sleep(0.2 if made else 1.0)
    say(f"version {version}: {end['kind']}: {end['reason']}")
    return end


def until_served(camera: Camera, version: int) -> None:
    while camera.champion() != version:
        time.sleep(0.2)


def anchors_of(end: Mapping[str, Any]) -> dict[str, Any]:
    """What the gate saw on the anchors of the day."""
    bars = end["evidence"].get("bars", {})
    regime = bars.get("forgetting", {}).get("regimes", {}).get("regime 1", {})
    return {
        "end": "promoted" if end["kind"] == "promote" else "refused",
        "reason": end["reason"],
        "fallen": regime.get("fallen", []),
        "classes": regime.get("classes", {}),
    }


def say(words: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {words}", file=sys.stderr, flush=True)


def begin(camera: Camera, options: argparse.Namespace) -> dict[str, Any]:
    """By day, from scratch."""
    wanted, started = spec(options), time.monotonic()
    camera.ask("POST", "", json=wanted)
    for _ in range(wanted["policy"]["first_rows"] + 10):
        camera.send(camera.frame())
    say("the first version is being trained")
    end = until_judged(camera, 1)
    if end["kind"] != "promote":
        raise RuntimeError(f"no first version: {end}")
    until_served(camera, 1)
    seconds = time.monotonic() - started
    for _ in range(20 if options.quick else 120):
        camera.send(camera.frame())
    day = camera.score(options.frames)
    say(f"by day: {day}")
    return {"scratch": {"map50": mean(day), "seconds": seconds}, "day_before": day}


def change(camera: Camera) -> dict[str, Any]:
    """Night falls, and stars appear; the policy asks for a version by itself."""
    camera.night = True
    night = camera.score(40)
    say(f"by night: {night}")
    asked = None
    while asked is None:
        for _ in range(10):
            camera.send(camera.frame())
        updates = [d for d in camera.decisions() if d["kind"] == "update" and d["version"] == 2]
        asked = updates[0] if updates else None
    say(f"version 2 is being trained: {asked['reason']}")
    end = until_judged(camera, 2)
    return {"night_before": {"map50": mean(night)}, "with_replay": anchors_of(end)}


def forget(camera: Camera) -> dict[str, Any]:
    """Somebody turns replay off, and asks for a version that knows the newest nights alone."""
    learner = camera.ask("GET", f"/{MODEL}")["spec"]["learner"]
    camera.ask("PATCH", f"/{MODEL}", json={"learner": {**learner, "replay": 0}})
    camera.ask("POST", f"/{MODEL}/retrain", json={"force": True})
    say("version 3 is being trained without replay")
    return {"without_replay": anchors_of(until_judged(camera, 3))}


def finish(camera: Camera, options: argparse.Namespace) -> dict[str, Any]:
    """What the last version makes of night and day, and how fast."""
    promoted = [d["version"] for d in camera.decisions() if d["kind"] == "promote"]
    until_served(camera, promoted[-1])
    night = camera.score(options.frames)
    camera.night = False
    day = camera.score(options.frames)
    say(f"by day: {day}; by night: {night}")
    return {"day_after": day, "night_after": night, "frames_per_second": pace(camera, options.frames)}


def pace(camera: Camera, count: int) -> dict[str, float]:
    """Frames a second by one connection and by four."""
    frames = [camera.frame(700_000 + i) for i in range(count)]
    found = {}
    for connections in (1, 4):
        started = time.monotonic()
        with ThreadPoolExecutor(connections) as pool:
            list(pool.map(lambda frame: camera.send(frame, label=False), frames))
        found[str(connections)] = count / (time.monotonic() - started)
    return found


def torch_in_api(server: LiveServer) -> bool:
    """Whether a process that serves has PyTorch in its memory."""
    found = False
    for pid in family(server.pid):
        command = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
        if "everlearn.api" in command:
            found |= "libtorch" in Path(f"/proc/{pid}/maps").read_text()
    return found


def goals(found: Mapping[str, Any]) -> list[list[Any]]:
    lost = max((old - found["day_after"][name] for name, old in found["day_before"].items()), default=0.0)
    checks = [
        ["mAP50 from scratch", found["scratch"]["map50"], ">= 0.8", found["scratch"]["map50"] >= 0.8],
        [
            "without replay",
            found["without_replay"]["end"],
            "refused",
            found["without_replay"]["end"] == "refused",
        ],
        ["with replay", found["with_replay"]["end"], "promoted", found["with_replay"]["end"] == "promoted"],
        ["an old class loses", lost, f"<= {KEPT}", lost <= KEPT],
        ["failed requests", found["failed"], "0", found["failed"] == 0],
        ["PyTorch in the API", found["torch_in_api"], "False", not found["torch_in_api"]],
    ]
    return [list(check) for check in checks]


def run(options: argparse.Namespace) -> dict[str, Any]:
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        data = Path(options.data or folder) / "vision"
        data.parent.mkdir(parents=True, exist_ok=True)
        with LiveServer(data, mlflow=False) as server:
            camera = Camera(server.url, server.key, options.seed)
            with closing(camera.http):
                found = begin(camera, options)
                found |= change(camera)
                found |= forget(camera)
                found |= finish(camera, options)
                found["requests"], found["failed"] = camera.requests, len(camera.failed)
                found["failures"] = camera.failed[:5]
                found["torch_in_api"] = torch_in_api(server)
                told = [d for d in camera.decisions() if d["kind"] != "hold"]
    found["decisions"] = [[d["kind"], d["version"], d["reason"]] for d in told]
    found["goals"] = goals(found)
    return {**found, "seed": options.seed, "quick": options.quick, "seconds": time.monotonic() - started}


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=0, help="[0]")
    parser.add_argument("--quick", action="store_true", help="train hardly at all: shows that it runs")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--weights", help="tensors to begin the first version from [none: from scratch]")
    parser.add_argument("--data", help="folder to keep the installation in [a temporary one]")
    options = parser.parse_args(arguments)
    options.frames = 20 if options.quick else 100
    return options


def main() -> int:
    options = parse()
    found = run(options)
    if options.json:
        print(json.dumps(found))
    else:
        for name, value in found.items():
            print(f"{name:20} {value}")
    return 0 if options.quick or all(met for *_, met in found["goals"]) else 1


if __name__ == "__main__":
    sys.exit(main())
