"""Images as they come: verified before they are decoded, and put into the square that a network takes."""

from __future__ import annotations

import struct
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from everlearn.errors import Fault, InvalidError
from everlearn.vision.extra import needed

MOST_BYTES = 20 << 20
MOST_PIXELS = 40_000_000
"""An image of more pixels is refused by its header, before it is decoded: a small file can hold a huge one.
"""

LEAST_SIDE = 8
GREY = 114
"""What fills the rest of the square, as Ultralytics has it."""

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"
_STARTS_OF_FRAME = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})


class Fitted(NamedTuple):
    """An image in a square: how much it was scaled, and where its corner went."""

    image: NDArray[np.uint8]
    scale: float
    left: int
    top: int


def decode(data: bytes) -> NDArray[np.uint8]:
    """A JPEG or PNG as ``uint8 (h, w, 3)``, RGB, turned as its camera says.

    Raises InvalidError for what is none, is damaged, or is too large in bytes or pixels.
    """
    if len(data) > MOST_BYTES:
        raise _refused(f"has {len(data):,} bytes: send at most {MOST_BYTES:,}")
    width, height = dimensions(data)
    if width * height > MOST_PIXELS:
        raise _refused(f"is {width} x {height}, more than {MOST_PIXELS:,} pixels: send a smaller one")
    if min(width, height) < LEAST_SIDE:
        raise _refused(f"is {width} x {height}: send at least {LEAST_SIDE} pixels a side")
    cv2 = needed("cv2")
    try:
        found = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        found = None
    if found is None or {*found.shape[:2]} != {width, height}:
        raise _refused("is damaged: its pixels cannot be decoded")
    image: NDArray[np.uint8] = cv2.cvtColor(found, cv2.COLOR_BGR2RGB)
    return image


def encode(image: NDArray[np.uint8], *, quality: int = 0) -> bytes:
    """An image ``uint8 (h, w, 3)``, RGB, as PNG, or with a ``quality`` (1 to 100) as JPEG."""
    cv2 = needed("cv2")
    how = [cv2.IMWRITE_JPEG_QUALITY, quality] if quality else []
    _, data = cv2.imencode(".jpg" if quality else ".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), how)
    return bytes(data)


def media_type(data: bytes) -> str:
    """What an image is sent as."""
    return "image/png" if data.startswith(_PNG) else "image/jpeg"


def begins(data: bytes) -> bool:
    """Whether a file with these first bytes (8 at least) may be a JPEG or PNG."""
    return data.startswith((_PNG, _JPEG))


def dimensions(data: bytes) -> tuple[int, int]:
    """The width and height that a PNG's or JPEG's header states; raises InvalidError for any other file."""
    if data.startswith(_PNG) and data[12:16] == b"IHDR" and len(data) > 24:
        width, height = struct.unpack(">II", data[16:24])
        return int(width), int(height)
    if data.startswith(_JPEG):
        return _of_jpeg(data)
    raise _refused("is neither JPEG nor PNG: send one of these")


def _of_jpeg(data: bytes) -> tuple[int, int]:
    """From marker to marker, until the one that starts a frame."""
    place = 2
    while place + 9 < len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == 0xFF:  # filling
            place += 1
        elif marker in _STARTS_OF_FRAME:
            height, width = struct.unpack(">HH", data[place + 5 : place + 9])
            return int(width), int(height)
        else:
            (length,) = struct.unpack(">H", data[place + 2 : place + 4])
            place += 2 + int(length)
    raise _refused("is a damaged JPEG: nothing in it says how large it is")


def letterbox(image: NDArray[np.uint8], size: int) -> Fitted:
    """An image in a square of ``size`` pixels, its proportions kept, in the middle of grey."""
    height, width = image.shape[:2]
    scale = size / max(height, width)
    inner = max(1, round(width * scale)), max(1, round(height * scale))
    if inner != (width, height):
        cv2 = needed("cv2")
        image = cv2.resize(image, inner, interpolation=cv2.INTER_LINEAR if scale > 1 else cv2.INTER_AREA)
    if inner == (size, size):
        return Fitted(image, scale, 0, 0)
    square = np.full((size, size, 3), GREY, dtype=np.uint8)
    left, top = (size - inner[0]) // 2, (size - inner[1]) // 2
    square[top : top + inner[1], left : left + inner[0]] = image
    return Fitted(square, scale, left, top)


def _refused(message: str) -> InvalidError:
    return InvalidError(f"image: {message}", [Fault("image", message)])
