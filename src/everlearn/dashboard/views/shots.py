"""A frame's image as a page shows it: turned as its camera says, no larger than it is looked at.

Pillow comes with Streamlit. An image was verified by the API before it was stored.
"""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Final

from everlearn.errors import InvalidError

THUMB: Final = 480
LARGE: Final = 1600
"""Pixels that an image is at most wide or high, in a list and on its own."""

QUALITY: Final = 82
_TURNED: Final = (5, 6, 7, 8)
_ORIENTATION: Final = 0x0112


@dataclass(frozen=True, slots=True)
class Shot:
    """An image as a data URL, and how large the frame itself is, in pixels: its boxes are in these."""

    url: str
    width: int
    height: int


def shot(data: bytes, most: int = LARGE) -> Shot:
    """A JPEG or PNG, scaled down to ``most`` pixels a side. Raises InvalidError for what is none."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(BytesIO(data), formats=("JPEG", "PNG")) as image:
            width, height = image.size
            if image.getexif().get(_ORIENTATION) in _TURNED:
                width, height = height, width
            image.draft("RGB", (most, most))  # a JPEG is decoded small at once
            small = _plain(ImageOps.exif_transpose(image))
            small.thumbnail((most, most))
            target = BytesIO()
            small.save(target, "JPEG", quality=QUALITY)
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, ValueError) as error:
        raise InvalidError(f"The image cannot be shown: {type(error).__name__}") from None
    return Shot(f"data:image/jpeg;base64,{b64encode(target.getvalue()).decode()}", width, height)


def _plain(image: Any) -> Any:
    """Eight bits a colour, whatever it was; what shines through is dropped, as the detector does."""
    if image.mode.startswith("I"):
        image = image.convert("I").point(lambda value: value * (1 / 256)).convert("L")
    return image.convert("RGB")
