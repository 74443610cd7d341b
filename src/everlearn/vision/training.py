"""Training a detector: an explicit loop, seeded, with nothing written to disk.

Each step takes a batch of augmented images, asks the network, adds up Ultralytics' loss (task-aligned
assignment, Feng et al. 2021; CIoU, Zheng et al. 2020; distribution focal loss, Li et al. 2020) and steps
AdamW. The learning rate rises over the first steps and falls by a cosine; the weights that are kept are a
running mean (EMA).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from everlearn.types import FloatArray
from everlearn.vision import making
from everlearn.vision.extra import needed

Progress = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class Recipe:
    """How long and how hard to train. ``freeze``: how many of the first layers stay as they are (YOLO11's
    backbone has 11)."""

    size: int = 640
    epochs: int = 40
    batch: int = 16
    rate: float = 1e-3
    freeze: int = 0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Picture:
    """What is learned of a frame: its letterboxed image ``uint8 (size, size, 3)``, the class of each box
    (n,), and the boxes (n, 4) as corners in its pixels."""

    image: NDArray[np.uint8]
    names: NDArray[np.int64]
    corners: FloatArray


def train(network: Any, pictures: Sequence[Picture], recipe: Recipe, progress: Progress) -> None:
    """Train a network in place on pictures. The same pictures, network and recipe give the same weights with
    as many threads on the same kind of processor (:mod:`making`). Raises whatever ``progress`` raises, which
    ends it."""
    with making.in_one_order():
        _train(network, pictures, recipe, progress)


def _train(network: Any, pictures: Sequence[Picture], recipe: Recipe, progress: Progress) -> None:
    torch = needed("torch")
    loss_of = needed("ultralytics.utils.loss").v8DetectionLoss
    random = np.random.default_rng([recipe.seed, len(pictures)])
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network.to(device).train()
    trained = _thaw(network, recipe.freeze)
    criterion, mean = loss_of(network), _Mean(network)
    optimizer = torch.optim.AdamW(_groups(trained), lr=recipe.rate, betas=(0.9, 0.999))
    steps = math.ceil(len(pictures) / recipe.batch) * recipe.epochs
    step = 0
    for epoch in range(recipe.epochs):
        order = random.permutation(len(pictures))
        for start in range(0, len(order), recipe.batch):
            plain = epoch >= 0.85 * recipe.epochs  # the last epochs see whole frames, as they are asked later
            chosen = [
                augmented(pictures[i], pictures, random, plain=plain)
                for i in order[start : start + recipe.batch]
            ]
            for group in optimizer.param_groups:
                group["lr"] = recipe.rate * _pace(step, steps)
            batch = _batch(chosen, torch, device)
            loss, _ = criterion(network(batch["img"]), batch)
            optimizer.zero_grad()
            loss.sum().backward()
            torch.nn.utils.clip_grad_norm_(trained, 10.0)
            optimizer.step()
            mean.take(network, step)
            step += 1
            progress(step / steps)
    mean.give(network)
    network.to("cpu").eval()


def _thaw(network: Any, freeze: int) -> list[Any]:
    """The parameters that are trained. Layers that stay keep the running statistics of their norms, too."""
    frozen = tuple(f"model.{i}." for i in range(freeze))
    trained = []
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(not name.startswith(frozen) and ".dfl" not in name)
        if parameter.requires_grad:
            trained.append(parameter)
    for layer in list(network.model)[:freeze]:
        layer.eval()
    return trained


def _groups(parameters: Sequence[Any]) -> list[dict[str, Any]]:
    """Weight decay for matrices and filters, none for norms and biases."""
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": 5e-4},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


def _pace(step: int, steps: int) -> float:
    """The share of the learning rate at a step: up over the first tenth, then half a cosine down to 1%."""
    rise = max(1, min(100, steps // 10))
    if step < rise:
        return (step + 1) / rise
    return 0.01 + 0.99 * 0.5 * (1.0 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


class _Mean:
    """A running mean of weights: young at first, over some hundreds of steps later."""

    def __init__(self, network: Any) -> None:
        self._kept = {name: value.detach().clone() for name, value in network.state_dict().items()}

    def take(self, network: Any, step: int) -> None:
        """Move the mean towards the weights of now."""
        share = 1.0 - 0.998 * (1.0 - math.exp(-(step + 1) / 100.0))
        for name, value in network.state_dict().items():
            if value.dtype.is_floating_point:
                self._kept[name].lerp_(value.detach(), share)
            else:
                self._kept[name].copy_(value)

    def give(self, network: Any) -> None:
        """Put the mean into the network."""
        network.load_state_dict(self._kept)


def _batch(chosen: Sequence[Picture], torch: Any, device: str) -> dict[str, Any]:
    """Pictures as Ultralytics' loss takes them: boxes as centre and size, in shares of the side."""
    images = np.stack([one.image for one in chosen]).transpose(0, 3, 1, 2)
    side = float(images.shape[2])
    found = [one.corners for one in chosen]
    boxes = np.concatenate([*found, np.empty((0, 4))]) / side
    centred = np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2.0, boxes[:, 2:] - boxes[:, :2]], axis=1)
    numbers = np.repeat(np.arange(len(chosen)), [len(one) for one in found])
    return {
        "img": torch.from_numpy(np.ascontiguousarray(images)).to(device).float() / 255.0,
        "batch_idx": torch.from_numpy(numbers).float().to(device),
        "cls": torch.from_numpy(np.concatenate([one.names for one in chosen])).float().view(-1, 1).to(device),
        "bboxes": torch.from_numpy(centred).float().to(device),
    }


def augmented(
    picture: Picture, pictures: Sequence[Picture], random: np.random.Generator, *, plain: bool = False
) -> Picture:
    """A picture as it might have been: half of them four in one (mosaic), mirrored, moved, and lit
    otherwise."""
    if not plain and random.random() < 0.5:
        others = [pictures[int(i)] for i in random.integers(len(pictures), size=3)]
        picture = _mosaic([picture, *others], random)
    image, names, corners = picture.image, picture.names, picture.corners.copy()
    if random.random() < 0.5:
        image = image[:, ::-1]
        corners[:, [0, 2]] = image.shape[1] - corners[:, [2, 0]]
    if not plain:
        image = _lit(image, random)
    return Picture(np.ascontiguousarray(image), names, corners)


def _lit(image: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    """Other light: contrast, brightness and the balance of colours."""
    gain = random.uniform(0.7, 1.3) * random.uniform(0.9, 1.1, 3)
    return np.clip(image * gain + random.uniform(-25.0, 25.0), 0.0, 255.0).astype(np.uint8)


def _mosaic(four: Sequence[Picture], random: np.random.Generator) -> Picture:
    """A window of a picture's size on four pictures that are put together (Bochkovskiy et al. 2020)."""
    side = four[0].image.shape[0]
    whole = np.empty((2 * side, 2 * side, 3), dtype=np.uint8)
    names, corners = [], []
    for i, one in enumerate(four):
        y, x = divmod(i, 2)
        whole[y * side : (y + 1) * side, x * side : (x + 1) * side] = one.image
        names.append(one.names)
        corners.append(one.corners + np.array([x, y, x, y]) * side)
    left, top = (int(v) for v in random.integers(side // 4, side - side // 4 + 1, 2))
    moved = np.concatenate(corners) - np.array([left, top, left, top])
    kept = np.clip(moved, 0.0, float(side))
    size, before = kept[:, 2:] - kept[:, :2], moved[:, 2:] - moved[:, :2]
    # What is mostly cut off, or too small to be seen, is no object here.
    seen = (np.prod(np.maximum(size, 0.0), axis=1) > 0.35 * np.prod(before, axis=1)) & (
        size.min(axis=1, initial=9e9) > 2
    )
    return Picture(whole[top : top + side, left : left + side], np.concatenate(names)[seen], kept[seen])
