"""Numbers that describe a frame, for the watch over drift: light, colour, sharpness, and a small embedding.

The embedding is the mean response of a few fixed random filters (Saxe et al. 2011, "On random weights and
unsupervised feature learning"): it moves when what the frames show moves, and needs no training.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from everlearn.spec import MEASURED
from everlearn.vision.extra import needed

SIDE = 96
"""Frames are measured at this size."""

FILTERS = 4
_SEED = 1943


def measured(image: NDArray[np.uint8]) -> dict[str, float]:
    """What :data:`~everlearn.spec.MEASURED` names, of an image ``uint8 (h, w, 3)``, RGB.

    Brightness and contrast are the mean and the spread of grey (0 to 1), colour the mean spread between
    channels, sharpness the spread of the Laplacian, and the textures the mean responses of random filters.
    """
    cv2 = needed("cv2")
    small = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32) / 255.0
    grey = small.mean(axis=2)
    sharpness = float(cv2.Laplacian(grey, cv2.CV_32F).std())
    centred = (grey - grey.mean()) / (grey.std() + 1e-3)
    filters = np.random.default_rng(_SEED).normal(size=(FILTERS, 7, 7)).astype(np.float32)
    textures = [
        np.maximum(cv2.filter2D(centred, cv2.CV_32F, f - f.mean()), 0.0).mean() / 7.0 for f in filters
    ]
    values = [grey.mean(), grey.std(), small.std(axis=2).mean(), sharpness, *textures]
    return {name: round(float(value), 5) for name, value in zip(MEASURED, values, strict=True)}
