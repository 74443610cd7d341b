"""The verbs of detectors: an image in, boxes out, and the boxes that are true."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from everlearn.client.answers import LabelReceipt, Record
from everlearn.client.binding import Listing, Verb
from everlearn.client.calls import (
    Call,
    Pages,
    get,
    new_id,
    path,
    read_record,
    reading,
    to_json,
    to_time,
    write,
)
from everlearn.errors import Fault, InvalidError

if TYPE_CHECKING:
    from datetime import datetime


class FrameVerbs:
    """What is asked of a model with ``task: detection``. All raise NotFoundError for an unknown model."""

    @Verb
    def frame(
        self,
        model: str,
        image: bytes | None = None,
        id: str | None = None,  # noqa: A002 - the word of the API
        at: datetime | float | str | None = None,
        features: Mapping[str, Any] | None = None,
        *,
        url: str | None = None,
        subject: str | None = None,
    ) -> Call[Record]:
        """Find the objects in a JPEG or PNG: ``{"id", "version", "width", "height", "boxes"}``.

        ``image`` holds the bytes of the file, or the server fetches it from ``url``, on a host that it was
        told to. A box has ``class``, ``x1``, ``y1``, ``x2``, ``y2`` in pixels, and ``score``; ``boxes`` is
        ``None`` while nothing is known. ``subject`` says whose frame it is, for a model whose spec names such
        a column. Raises InvalidError for what is no image.
        """
        if (image is None) == (url is None):
            message = "send the bytes of one, or the url of one"
            raise InvalidError(f"image: {message}", [Fault("image", message)])
        params: dict[str, str | int | float] = {"id": id or new_id()}
        if at is not None:
            params["at"] = to_time(at)
        if features is not None:
            params["features"] = json.dumps(dict(features))
        if url is not None:
            kind, content = _by_url(url, subject)
        else:
            kind, content = _by_bytes(image or b"", subject)
        return Call("POST", path(model, "frames"), read_record, params, {"Content-Type": kind}, content)

    @Verb
    def label_frame(
        self,
        model: str,
        id: str,  # noqa: A002
        boxes: Iterable[Mapping[str, Any]],
        *,
        correction: bool = False,
    ) -> Call[LabelReceipt]:
        """Tell all true boxes of a frame, each with ``class``, ``x1``, ``y1``, ``x2`` and ``y2``."""
        body = {"boxes": [dict(box) for box in boxes], "correction": correction}
        return write("POST", path(model, "frames", id, "boxes"), body, reading(LabelReceipt.read))

    @Verb
    def recorded_frame(self, model: str, id: str) -> Call[Record]:  # noqa: A002
        """A frame as it was recorded: what was measured, what was answered, and its true boxes."""
        return get(path(model, "frames", id))

    @Listing
    def frames(
        self,
        model: str,
        *,
        truth: Literal["known", "unknown"] | None = None,
        below: float | None = None,
        limit: int = 100,
    ) -> Pages:
        """Iterate over recorded frames, newest first; ``limit`` is how many a page holds at most.

        ``truth``: only those whose true boxes are known, or are not. ``below``: only those with a box that
        was answered with a lower score.
        """
        return Pages(get(path(model, "frames"), truth=truth, below=below, limit=limit))

    @Verb
    def frames_page(
        self,
        model: str,
        *,
        truth: Literal["known", "unknown"] | None = None,
        below: float | None = None,
        cursor: str | None = None,
        limit: int = 50,
    ) -> Call[Record]:
        """One page of them: ``{"items", "next"}``; ``next`` is the next ``cursor``.

        A page may be short, or empty, and not be the last: the last has no ``next``.
        """
        return get(path(model, "frames"), truth=truth, below=below, cursor=cursor, limit=limit)

    @Verb
    def frame_image(self, model: str, id: str) -> Call[bytes]:  # noqa: A002
        """The image of a frame, as it was sent: a JPEG or PNG. Raises NotFoundError where it was removed."""
        return Call("GET", path(model, "frames", id, "image"), lambda found: found.content)

    @Verb
    def annotated(self, model: str, id: str, *, show: str = "answer") -> Call[bytes]:  # noqa: A002
        """A frame as JPEG with the boxes of the ``answer``, or of the ``truth``, drawn on it."""
        return Call(
            "GET", path(model, "frames", id, "annotated"), lambda found: found.content, {"show": show}
        )


def _by_url(url: str, subject: str | None) -> tuple[str, bytes]:
    return "application/json", to_json({"url": url} if subject is None else {"url": url, "subject": subject})


def _by_bytes(image: bytes, subject: str | None) -> tuple[str, bytes]:
    """The image itself; with whose it is as a form (RFC 7578), so that no URL says it."""
    if subject is None:
        return "application/octet-stream", image
    boundary = uuid.uuid4().hex
    parts = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="subject"\r\n\r\n{subject}\r\n'
        f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="image"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    content = b"".join((parts.encode(), image, f"\r\n--{boundary}--\r\n".encode()))
    return f"multipart/form-data; boundary={boundary}", content
