"""What networks are made of: a backbone that turns rows into features, and a head that grows.

A backbone is any ``torch.nn.Module`` that maps inputs (n, inputs), or (n, \\*shape), to features (n, f).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from everlearn.learners.inputs import invalid

Maker: TypeAlias = Callable[..., nn.Module]

GROUP = "everlearn.networks"
"""The entry points by which an installed package says which of its modules a spec may name."""


def glorot(layer: nn.Linear) -> nn.Linear:
    """A layer whose weights start as in Glorot and Bengio (2010, equation 16), but normal; biases at 0."""
    nn.init.xavier_normal_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


HEADS: Mapping[str, Callable[[nn.Linear], nn.Linear]] = {"small": lambda layer: layer, "glorot": glorot}
"""How outputs start: as PyTorch has it (uniform, and smaller), or as the layers below do."""


class Mlp(nn.Sequential):
    """Linear layers and rectifiers: (n, inputs) to (n, last of ``hidden``)."""

    def __init__(self, *, inputs: int, hidden: Sequence[int] = (100, 100)) -> None:
        layers: list[nn.Module] = [nn.Flatten()]
        for size in hidden:
            layers += [glorot(nn.Linear(inputs, size)), nn.ReLU()]
            inputs = size
        super().__init__(*layers)


class Block(nn.Module):
    """Two convolutions with a way around them (He et al. 2016, section 3.3)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs),
        )  # fmt: skip
        same = stride == 1 and inputs == outputs
        self.around: nn.Module = nn.Identity()
        if not same:
            self.around = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Feature maps (n, outputs, h / stride, w / stride)."""
        return torch.relu(self.first(x) + self.around(x))


class ResNet(nn.Sequential):
    """The small residual network of continual learning: ResNet-18 for images of 32 pixels a side.

    ``width`` filters in the first stage (64 is the full network, 20 the usual small one), doubled in each
    of the three stages that follow; ``blocks`` a stage. Inputs (n, channels, h, w), features (n, 8 width).
    """

    def __init__(self, *, channels: int, width: int = 20, blocks: int = 2) -> None:
        layers: list[nn.Module] = [
            nn.Conv2d(channels, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
        ]  # fmt: skip
        size = width
        for stage in range(4):
            for block in range(blocks):
                stride = 2 if stage and not block else 1
                layers.append(Block(size, width << stage, stride))
                size = width << stage
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())


class Headed(nn.Module):
    """A backbone and a linear head, to which outputs are added as classes come; how is one of HEADS."""

    def __init__(self, backbone: nn.Module, features: int, outputs: int, start: str = "small") -> None:
        super().__init__()
        self.backbone, self._start = backbone, HEADS[start]
        self.head = self._start(nn.Linear(features, outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Scores (n, outputs)."""
        out: Tensor = self.head(self.backbone(x))
        return out

    def grow(self, outputs: int, seed: int, *, blank: bool = False) -> None:
        """Have so many outputs; the new ones start as the head's others did, or at 0."""
        old = self.head
        with seeded(seed, outputs):
            grown = self._start(nn.Linear(old.in_features, outputs, device=old.weight.device))
        with torch.no_grad():
            if blank:
                grown.weight.zero_()
                grown.bias.zero_()
            grown.weight[: old.out_features] = old.weight
            grown.bias[: old.out_features] = old.bias
        grown.requires_grad_(old.weight.requires_grad)
        self.head = grown


@contextmanager
def seeded(seed: int, *more: int) -> Any:
    """PyTorch's generator at a seed, and afterwards where it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed((1_000_003 * seed + sum(more)) % 2**63)
        yield


def headed(
    network: str | Maker,
    parameters: Mapping[str, Any],
    *,
    inputs: int,
    shape: Sequence[int] | None,
    outputs: int,
    seed: int,
    start: str = "small",
) -> Headed:
    """A new network from a seed; ``network`` is ``"mlp"``, ``"resnet"``, a name, a path, or a callable.

    Raises InvalidError, field ``network``, for one that is not to be had or does not map rows to features.
    """
    given = dict(parameters)
    if network == "mlp":
        given.setdefault("inputs", inputs)
    if network == "resnet":
        if shape is None or len(shape) != 3:
            raise invalid("shape", "is needed for a resnet: give (channels, height, width)")
        given.setdefault("channels", shape[0])
    maker = find(network)
    try:
        with seeded(seed, 1):
            backbone = maker(**given)
            features = _features(backbone, (inputs,) if shape is None else tuple(shape))
            return Headed(backbone, features, outputs, start)
    except (TypeError, ValueError, RuntimeError) as error:
        raise invalid("network", f"cannot be built for rows of {inputs} inputs: {error}") from None


def _features(backbone: nn.Module, shape: tuple[int, ...]) -> int:
    was = backbone.training
    with torch.no_grad():
        out = backbone.eval()(torch.zeros((2, *shape)))
    backbone.train(was)
    if out.ndim != 2 or len(out) != 2:
        raise ValueError(f"it gives features of shape {tuple(out.shape)} for 2 rows, not (2, f)")
    return int(out.shape[1])


def find(network: str | Maker) -> Maker:
    """What makes a backbone.

    A text comes from a spec, which people send over HTTP, and importing a module runs it. So a path
    ``"package.module:Name"`` is only taken if an installed package offers it as an entry point of the group
    ``everlearn.networks``. Code that runs in this process gives the class itself.
    """
    if not isinstance(network, str):
        if not callable(network):
            raise invalid("network", f"{network!r} is neither a name nor a class of torch.nn.Module")
        return network
    built_in: dict[str, Maker] = {"mlp": Mlp, "resnet": ResNet}
    if network in built_in:
        return built_in[network]
    offered = {point.name: point.value for point in entry_points(group=GROUP)}
    if network not in offered and network not in offered.values():
        known = ", ".join([*built_in, *offered])
        raise invalid(
            "network",
            f"{network!r} is none of {known}: a package offers its own by an entry point of {GROUP!r}",
        )
    module, _, name = offered.get(network, network).partition(":")
    maker: Maker = getattr(import_module(module), name)
    return maker


def takes_random(module: nn.Module) -> bool:
    """Whether a training step draws from PyTorch's generator (dropout)."""
    return any("dropout" in type(part).__name__.lower() for part in module.modules())
