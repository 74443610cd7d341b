"""Features of a network that is not trained any more."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from everlearn.types import FloatArray


@torch.no_grad()
def features_of(backbone: Any, images: NDArray[np.float32]) -> FloatArray:
    """What a module in evaluation mode gives for images, each by itself: float64 (n, f)."""
    device = next(iter(backbone.parameters()), torch.zeros(1)).device
    was = backbone.training
    backbone.eval()
    try:
        said = [backbone(torch.from_numpy(images[i : i + 1]).to(device)) for i in range(len(images))]
    finally:
        backbone.train(was)
    found: FloatArray = torch.cat(said).flatten(1).cpu().numpy().astype(np.float64)
    return found
