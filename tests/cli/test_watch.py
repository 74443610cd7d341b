"""``everlearn watch``: a video is played whole, of a stream the newest frame counts."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from everlearn.cli import watch
from everlearn.errors import InvalidError

cv2: Any = pytest.importorskip("cv2", reason="everlearn[vision] is not installed")


@pytest.fixture
def video(tmp_path: Path) -> str:
    """Two seconds of ten frames, each a little brighter."""
    path = str(tmp_path / "film.avi")
    film = cv2.VideoWriter(path, cv2.VideoWriter_fourcc(*"MJPG"), 10.0, (64, 48))
    for i in range(20):
        film.write(np.full((48, 64, 3), 10 * i, dtype=np.uint8))
    film.release()
    return path


def test_a_video_is_played_at_its_own_time(video: str) -> None:
    every = list(watch.played(video, fps=10.0))
    assert len(every) == 20
    some = list(watch.played(video, fps=5.0))
    assert len(some) == 10
    assert some[1][0] - some[0][0] == pytest.approx(0.2, abs=0.02)


def test_of_a_stream_the_newest_frame_is_given_and_those_between_are_dropped(video: str) -> None:
    frames = []
    for _, picture in watch.Live(video, fps=1000.0):
        frames.append(int(picture.mean()))
        time.sleep(0.05)  # slower than the source, which a file is without pause
    assert 1 <= len(frames) < 20
    assert frames == sorted(frames)
    assert frames[-1] >= 180, "the end is the newest"


def test_frames_are_sent_with_whose_they_are(
    video: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sent = []

    class Client:
        def __enter__(self) -> Client:
            return self

        def __exit__(self, *_: object) -> None: ...

        def frame(self, model: str, image: bytes, **given: Any) -> dict[str, Any]:
            sent.append((model, image[:3], given["subject"]))
            return {"id": "f", "version": 0, "boxes": None}

    monkeypatch.setattr("everlearn.cli.connection.connect", lambda *_: Client())
    watch.watch(video, "gate", fps=10.0, frames=2, subject="ann")
    assert sent == [("gate", b"\xff\xd8\xff", "ann")] * 2


def test_what_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidError, match=r"SOURCE: .*none\.avi.* cannot be opened"):
        list(watch.played(str(tmp_path / "none.avi"), fps=1.0))


@pytest.mark.parametrize(("source", "live"), [("0", True), ("rtsp://cam/1", True), ("film.mp4", False)])
def test_cameras_and_streams_are_live(source: str, live: bool) -> None:
    assert watch.is_live(source) is live
