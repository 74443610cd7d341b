"""Answering with ONNX Runtime: images in, boxes out, without PyTorch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from everlearn.types import FloatArray
from everlearn.vision.boxes import Box, iou
from everlearn.vision.extra import needed
from everlearn.vision.images import letterbox

MOST = 300
"""Boxes of a frame, at most."""

CANDIDATES = 3000
"""Boxes that are compared with each other, at most: the surest."""

OVERLAP = 0.6
"""Two boxes of a class that share more than this are one object: the surer one stays."""


class Session:
    """A network as ONNX, loaded. ``size`` is the side of its input, ``classes`` the names of its rows.

    The bytes hold the whole network: no file is looked for beside them. Safe for threads.
    """

    def __init__(self, onnx: bytes, size: int, classes: Sequence[str], threads: int = 1) -> None:
        runtime = needed("onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3
        self._session = runtime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
        self._size, self._classes = size, tuple(classes)

    def detect(self, images: Sequence[NDArray[np.uint8]], least: float) -> list[list[Box]]:
        """The boxes of images ``uint8 (h, w, 3)``, RGB, scored ``least`` or more, in their pixels."""
        if not images:
            return []
        fitted = [letterbox(image, self._size) for image in images]
        batch = np.stack([one.image for one in fitted]).transpose(0, 3, 1, 2).astype(np.float32) / 255.0
        (found,) = self._session.run(None, {"images": batch})
        return [
            self._boxes(raw, least, one.scale, one.left, one.top, image.shape)
            for raw, one, image in zip(found, fitted, images, strict=True)
        ]

    def _boxes(
        self,
        raw: NDArray[np.float32],
        least: float,
        scale: float,
        left: int,
        top: int,
        shape: tuple[int, ...],
    ) -> list[Box]:
        numbers, corners, scores = suppressed(raw.astype(np.float64), least)
        corners = (corners - np.array([left, top, left, top])) / scale
        corners = np.clip(corners, 0.0, [shape[1], shape[0], shape[1], shape[0]])
        whole = (corners[:, 2:] - corners[:, :2]).min(axis=1, initial=np.inf) > 0.2
        found = []
        for number, (x1, y1, x2, y2), score, kept in zip(
            numbers, corners.tolist(), scores.tolist(), whole, strict=True
        ):
            if kept and number < len(self._classes):
                found.append(Box(self._classes[number], x1, y1, x2, y2, score))
        return found


def suppressed(raw: FloatArray, least: float) -> tuple[NDArray[np.int64], FloatArray, FloatArray]:
    """The classes (n,), corners (n, 4) and scores (n,) of a network's output (4 + classes, places).

    Of boxes of one class that overlap, the surest stays (non-maximum suppression).
    """
    shares = raw[4:]
    numbers, places = np.nonzero(shares >= least)
    scores = shares[numbers, places]
    order = np.argsort(-scores, kind="stable")[:CANDIDATES]
    numbers, places, scores = numbers[order], places[order], scores[order]
    centre, half = raw[:2, places].T, raw[2:4, places].T / 2.0
    corners = np.concatenate([centre - half, centre + half], axis=1)
    kept: list[int] = []
    for i in range(len(order)):
        same = [j for j in kept if numbers[j] == numbers[i]]
        if not same or float(iou(corners[i : i + 1], corners[same]).max()) <= OVERLAP:
            kept.append(i)
        if len(kept) == MOST:
            break
    return numbers[kept], corners[kept], scores[kept]
