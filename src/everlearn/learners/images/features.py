"""Fixed features: from rows to numbers that least squares can tell classes apart by."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from everlearn.learners.images.filters import LEAST, Filters
from everlearn.learners.images.kernels import cut, pool
from everlearn.types import FloatArray

Single = NDArray[np.float32]
Map = Callable[[Single], FloatArray]
"""From inputs float32 (n, channels, h, w), or (n, d), to features float64 (n, f)."""

GRAIN = 1.0 / 1024.0
"""Features are whole multiples of this, so that sums of their products are exact whatever their order."""
_MOST = 32.0  # the largest: with GRAIN, sums over eight million rows fit into a float64
_FEW = 8  # images for which a second thread is not worth its start
_AT_ONCE = 300  # filters whose answers about one image stay in the cache


def grained(values: NDArray[Any]) -> FloatArray:
    """Numbers as whole multiples of :data:`GRAIN` within -32 and 32, float64."""
    steps = np.rint(np.clip(np.nan_to_num(values, nan=0.0), -_MOST, _MOST) / GRAIN)
    return np.asarray(steps * GRAIN, dtype=np.float64)


class Pooled:
    """The roots of pooled filter answers: ``2 * cells * cells * filters`` features of an image.

    With ``mirror``, where the second half of the filters mirror the first, an image and its mirror image
    have the same features, the mean of both: half as many. Least squares on them are those on twice the
    images, each as it is and mirrored, with a mirrored test image voting too: by symmetry, the other half of
    the coefficients would be 0.
    """

    def __init__(self, filters: Filters, side: int, cells: int, threshold: float, *, mirror: bool) -> None:
        self.filters, self.side, self.cells, self.mirror = filters, side, cells, mirror
        self.threshold = np.float32(threshold)

    @property
    def size(self) -> int:
        """How many features."""
        filters = int(self.filters.weights.shape[1])
        return 2 * self.cells**2 * filters // (2 if self.mirror else 1)

    def __call__(self, images: Single) -> FloatArray:
        """Features of images, each by itself: an image's do not depend on its batch."""
        out = np.empty((len(images), self.size))
        if len(images) < _FEW:
            with single_blas():
                self._fill(images, range(len(images)), out)
            return out
        with single_blas(), ThreadPoolExecutor(2) as threads:
            parts = [range(start, len(images), 2) for start in range(2)]
            list(threads.map(lambda part: self._fill(images, part, out), parts))
        return out

    def _fill(self, images: Single, numbers: range, out: FloatArray) -> None:
        weights, offset = self.filters.weights, self.filters.offset
        rows, columns = images.shape[2] - self.side + 1, images.shape[3] - self.side + 1
        patches = np.empty((rows * columns, len(weights)), dtype=np.float32)
        pooled = np.empty((2, self.cells, self.cells, weights.shape[1]), dtype=np.float32)
        parts = [slice(at, at + _AT_ONCE) for at in range(0, weights.shape[1], _AT_ONCE)]
        split = [np.ascontiguousarray(weights[:, part]) for part in parts]
        room = [np.empty((*pooled.shape[:3], part.shape[1]), dtype=np.float32) for part in split]
        said = [np.empty((len(patches), part.shape[1]), dtype=np.float32) for part in split]
        for number in numbers:
            cut(images[number], self.side, np.float32(LEAST), patches)
            for part, some, answers, sums in zip(parts, split, said, room, strict=True):
                np.dot(patches, some, out=answers)
                pool(answers, rows, columns, self.cells, self.threshold, offset[part], sums)
                pooled[..., part] = sums
            roots = np.sqrt(pooled)
            if self.mirror:
                half = weights.shape[1] // 2
                roots = 0.5 * (roots[..., :half] + roots[:, :, ::-1, half:])
            out[number] = grained(roots).ravel()


class Projection:
    """Rectified random projections: ``max(0, a x + b)`` with normal a and b drawn from a seed."""

    def __init__(self, inputs: int, size: int, draw: np.random.Generator) -> None:
        self._slopes = draw.normal(size=(inputs, size)) / np.sqrt(max(inputs, 1))
        self._starts = draw.normal(size=size)
        self.size = size

    def __call__(self, inputs: NDArray[Any]) -> FloatArray:
        """Features (n, size) of inputs (n, d), asked in blocks of one size."""
        return grained(np.maximum(blocks(inputs.astype(np.float64), self._slopes) + self._starts, 0.0))


def blocks(rows: FloatArray, matrix: FloatArray, size: int = 64) -> FloatArray:
    """``rows @ matrix`` by blocks of one size, so that a row's place and company change no bit."""
    padded = np.zeros((-(-len(rows) // size) * size, rows.shape[1]))
    padded[: len(rows)] = rows
    with single_blas():
        parts = [padded[at : at + size] @ matrix for at in range(0, len(padded), size)]
    return np.concatenate([np.empty((0, matrix.shape[1])), *parts])[: len(rows)]


@contextmanager
def single_blas() -> Iterator[None]:
    """One thread a matrix product: small ones are faster so, and their sums are made in one order."""
    with _blas().limit(limits=1):
        yield


@cache
def _blas() -> Any:
    """What sets the threads of numpy's BLAS and scipy's; to find them takes milliseconds."""
    import scipy.linalg  # noqa: F401  # loads its own

    return import_module("threadpoolctl").ThreadpoolController().select(user_api="blas")
