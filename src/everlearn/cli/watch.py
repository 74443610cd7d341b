"""``everlearn watch``: the frames of a camera or a video, sent to a detector."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from everlearn.cli.options import Data, Json, Key, Model, Url
from everlearn.errors import InvalidError
from everlearn.vision.extra import needed

Source = Annotated[
    str,
    typer.Argument(help="RTSP or HTTP URL, video file, or the number of a camera.", metavar="SOURCE"),
]
Fps = Annotated[float, typer.Option("--fps", min=0.01, max=120, help="Frames a second to send at most.")]
Frames = Annotated[
    int | None, typer.Option("--frames", min=1, help="Stop after so many.", show_default=False)
]
Quality = Annotated[int, typer.Option("--quality", min=1, max=100, help="Quality of the JPEG that is sent.")]

Subject = Annotated[
    str | None,
    typer.Option(
        "--subject", help="Whose frames these are, where the spec names a subject.", show_default=False
    ),
]


def watch(
    source: Source,
    model: Model,
    fps: Fps = 5.0,
    frames: Frames = None,
    quality: Quality = 90,
    subject: Subject = None,
    url: Url = None,
    key: Key = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Send frames of a camera or video to a detector; of a camera that is faster, the newest alone."""
    from everlearn.cli.connection import connect
    from everlearn.cli.output import show_json

    pictures = Live(source, fps) if is_live(source) else played(source, fps)
    sent = 0
    with connect(url, key, data) as client:
        for at, picture in pictures:
            answer = client.frame(model, _jpeg(picture, quality), at=at, subject=subject)
            sent += 1
            if as_json:
                show_json(answer)
            else:
                typer.echo(f"{answer['id']}  version {answer['version']}  {_words(answer['boxes'])}")
            if sent == frames:
                break


def is_live(source: str) -> bool:
    """Whether a source goes on whether or not anybody looks: a stream, or a camera of this machine."""
    return source.isdecimal() or "://" in source


class Live:
    """The newest frame of a stream, at most ``fps`` a second; those between are dropped, and none waits."""

    def __init__(self, source: str, fps: float) -> None:
        self._capture, self._pause = _opened(source), 1.0 / fps
        self._newest: tuple[float, Any] | None = None
        self._new, self._over = threading.Event(), threading.Event()

    def __iter__(self) -> Iterator[tuple[float, Any]]:
        reader = threading.Thread(target=self._read, name="frames", daemon=True)
        reader.start()
        try:
            while True:
                started = time.monotonic()
                self._new.wait(0.2)  # not for ever: the source may have ended
                self._new.clear()
                newest, self._newest = self._newest, None
                if newest is not None:
                    yield newest
                elif self._over.is_set():
                    return
                time.sleep(max(0.0, self._pause - (time.monotonic() - started)))
        finally:
            self._over.set()
            reader.join(5.0)
            self._capture.release()

    def _read(self) -> None:
        while not self._over.is_set():
            there, picture = self._capture.read()
            if there:
                self._newest = (time.time(), picture)
            else:
                self._over.set()
            self._new.set()


def played(source: str, fps: float) -> Iterator[tuple[float, Any]]:
    """Every frame of a video that is due at ``fps`` frames of its own time, none dropped for slowness."""
    cv2 = needed("cv2")
    capture, started, due = _opened(source), time.time(), 0.0
    try:
        while True:
            there, picture = capture.read()
            if not there:
                return
            moment = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000.0
            if moment >= due:
                due = moment + 1.0 / fps - 1e-6
                yield started + moment, picture
    finally:
        capture.release()


def _opened(source: str) -> Any:
    capture = needed("cv2").VideoCapture(int(source) if source.isdecimal() else source)
    if not capture.isOpened():
        raise InvalidError(
            f"SOURCE: {source!r} cannot be opened: give a stream's URL, a video file or a camera"
        )
    return capture


def _jpeg(picture: Any, quality: int) -> bytes:
    cv2 = needed("cv2")
    _, encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return bytes(encoded)


def _words(boxes: list[dict[str, Any]] | None) -> str:
    """Boxes in a line."""
    if boxes is None:
        return "nothing is known yet"
    return ", ".join(f"{box['class']} {box['score']:.2f}" for box in boxes) or "no boxes"
