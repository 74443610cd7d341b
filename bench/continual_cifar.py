"""Split CIFAR-10, class-incremental, for the image learner: five tasks of two classes, each image once."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "cifar10_jpeg.npz"
CHUNK = 1_000


@dataclass(frozen=True)
class Cifar:
    """The full CIFAR-10 (its images have been through JPEG), pixels as (channels, height, width)."""

    setting: str
    seed: int
    path: Path = DATA
    rows: int | None = None
    """Of each task at most; None for all."""
    tasks: int = 5

    def __len__(self) -> int:
        return self.tasks

    @cached_property
    def _stored(self) -> Any:
        with np.load(self.path) as stored:
            return {name: stored[name] for name in stored.files}

    def _rows(self, part: str, numbers: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        from PIL import Image

        data, offsets = self._stored[f"{part}_jpeg"], self._stored[f"{part}_offsets"]
        files = (io.BytesIO(data[offsets[i] : offsets[i + 1]].tobytes()) for i in numbers)
        images = [np.asarray(Image.open(file).convert("RGB")).transpose(2, 0, 1) for file in files]
        flat = np.stack(images).reshape(len(numbers), -1).astype(np.float64)
        return flat, self._stored[f"{part}_y"][numbers].astype(np.int64)

    def train(self, task: int) -> Iterator[tuple[NDArray[np.float64], NDArray[np.int64]]]:
        """A task's training images in an order by chance, in chunks."""
        numbers = np.flatnonzero(self._stored["train_y"] // 2 == task)
        numbers = np.random.default_rng([self.seed, 2, task]).permutation(numbers)[: self.rows]
        for at in range(0, len(numbers), CHUNK):
            yield self._rows("train", numbers[at : at + CHUNK])

    def test(self, task: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """A task's test images."""
        return self._rows("test", np.flatnonzero(self._stored["test_y"] // 2 == task)[: self.rows])
