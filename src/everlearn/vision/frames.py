"""Frames as rows: an image is stored once, by its digest, and read when somebody looks at it.

A stored image is a bundle like any other (:class:`~everlearn.types.Bundle`), so it lies where the versions
lie: in a folder or in object storage, under its SHA-256, and verified when it is read.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, TypeAlias, overload

import numpy as np
from numpy.typing import NDArray

from everlearn.errors import IntegrityError, InvalidError, NotFoundError
from everlearn.types import Bundle, FeatureKind, Row
from everlearn.vision.images import decode, encode, letterbox

Image: TypeAlias = NDArray[np.uint8]
"""``uint8 (h, w, 3)``, RGB."""

Images: TypeAlias = Callable[[str], Image]
"""What finds a stored image by its digest; raises NotFoundError."""

FILE = "image"
KIND = "image"
KEPT = 48 << 20
"""Bytes of decoded images that are kept at hand for the time of a job."""

CARRIED = 4
"""Frames that a version carries with it, to test itself by: their images may be gone from the store later."""


def no_images(digest: str) -> Image:
    """Where there is no store of images."""
    raise InvalidError(f"No image is stored here, so {digest[:12]}… cannot be looked at: send its frame")


def bundle_of(data: bytes) -> Bundle:
    """An image as it is stored: its bytes as they were sent."""
    return Bundle({"kind": KIND}, files={FILE: data})


def is_image(bundle: Bundle) -> bool:
    """Whether a stored bundle is an image, and no version."""
    return bundle.manifest.get("kind") == KIND


class Store(Protocol):
    """The part of :class:`everlearn.ports.Artifacts` that images need."""

    def put(self, bundle: Bundle) -> str: ...  # noqa: D102
    def get(self, digest: str) -> Bundle: ...  # noqa: D102


class StoredImages:
    """Images of a store, with up to ``kept`` bytes of the newest decoded ones at hand. Safe for threads.

    Who answers requests keeps none (0), but for as long as :meth:`at_hand` lasts: what is removed from the
    store is shown and answered by nobody from then on.
    """

    def __init__(self, store: Store, kept: int = KEPT) -> None:
        self._store, self._limit = store, kept
        self._kept: OrderedDict[str, Image] = OrderedDict()
        self._held: dict[str, tuple[Image, int]] = {}
        self._lock = threading.Lock()

    def __call__(self, digest: str) -> Image:
        """The image; raises NotFoundError where it was removed or never was."""
        with self._lock:
            held = self._held.get(digest)
            found = self._kept.get(digest) if held is None else held[0]
        return found if found is not None else self._keep(digest, decode(self.raw(digest)))

    @contextmanager
    def at_hand(self, digest: str, image: Image) -> Iterator[None]:
        """Have an image ready for who asks for it, for now."""
        with self._lock:
            self._held[digest] = (image, self._held.get(digest, (image, 0))[1] + 1)
        try:
            yield
        finally:
            with self._lock:
                image, count = self._held.pop(digest)
                if count > 1:
                    self._held[digest] = (image, count - 1)

    def raw(self, digest: str) -> bytes:
        """An image as it was sent; raises NotFoundError."""
        try:
            return bytes(self._store.get(digest).files[FILE])
        except KeyError:
            raise NotFoundError(f"Artifact {digest[:12]}… is no image") from None

    def put(self, data: bytes) -> tuple[str, Image]:
        """Store an image, and give its digest and its pixels; raises InvalidError for what is none."""
        image = decode(data)
        digest = self._store.put(bundle_of(data))
        return digest, self._keep(digest, image)

    def _keep(self, digest: str, image: Image) -> Image:
        with self._lock:
            self._kept[digest] = image
            self._kept.move_to_end(digest)
            while self._kept and sum(one.nbytes for one in self._kept.values()) > self._limit:
                self._kept.popitem(last=False)
        return image


class Frames(Sequence[Image]):
    """The images of some rows, each looked up when it is asked for."""

    def __init__(self, cells: Sequence[Any], images: Images) -> None:
        self._cells, self._images = cells, images

    def __len__(self) -> int:
        return len(self._cells)

    @overload
    def __getitem__(self, place: int) -> Image: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Image]: ...
    def __getitem__(self, place: int | slice) -> Image | Sequence[Image]:
        if isinstance(place, slice):
            return Frames(self._cells[place], self._images)
        cell = self._cells[place]
        if cell is None:
            raise InvalidError("A row has no image: send its frame")
        return decode(cell) if isinstance(cell, bytes) else self._images(cell)

    def __iter__(self) -> Iterator[Image]:
        return (self[i] for i in range(len(self)))


class FrameEncoder:
    """Rows to frames: what :class:`everlearn.features.encoder.Encoder` is to tables. It learns nothing."""

    categorical: tuple[int, ...] = ()

    def __init__(self, features: Mapping[str, FeatureKind], images: Images = no_images) -> None:
        (self.column,) = (name for name, kind in features.items() if kind == "image")
        self.images = images

    def learn(self, rows: Sequence[Row]) -> None:
        """Nothing is learned of rows."""

    def transform(self, rows: Sequence[Row]) -> Frames:
        """The images of rows."""
        return Frames([row.get(self.column) for row in rows], self.images)

    def carried(self, rows: Sequence[Row], size: int) -> list[dict[str, Any]]:
        """The first rows as a version carries them: with the image itself, as its network sees it."""
        kept: list[dict[str, Any]] = []
        for row in rows[:CARRIED]:
            cell: Any = row.get(self.column)
            if not isinstance(cell, bytes):
                cell = encode(letterbox(self.transform([row])[0], size).image)
            kept.append({self.column: cell})
        return kept

    def single(self) -> None:
        """There is no quick way for one frame."""

    def copy(self) -> FrameEncoder:
        """It never changes."""
        return self

    def state(self) -> dict[str, Any]:
        """Which column holds the image."""
        return {"image": self.column}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Raises IntegrityError for the state of other features."""
        if state != self.state():
            raise IntegrityError(f"The encoder's state is for {state}, not for {self.state()}")
