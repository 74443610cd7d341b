"""What training steps are written with: buffers, copies of the network, gradients, descent."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from everlearn.learners.networks.buffers import Reservoir
from everlearn.learners.networks.chain import Chain
from everlearn.learners.networks.columns import Columns
from everlearn.learners.networks.modules import Headed, headed, takes_random
from everlearn.learners.networks.settings import Settings
from everlearn.types import FloatArray


class Kept(Protocol):
    """Arrays beside the network that are a part of the state."""

    @property
    def bytes(self) -> int:
        """What examples in it take."""
        ...

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Its arrays by name, themselves."""
        ...

    def grow(self, outputs: int) -> None:
        """Make room for more classes."""
        ...


Buffer = TypeVar("Buffer", bound=Kept)

Learnt = tuple[Tensor, Tensor]
"""Inputs float32 (n, ...), and class numbers int64 (n,) or standardised targets float32 (n,)."""


@dataclass(frozen=True)
class Batch:
    """A block of rows to learn: as they came, and as a network takes them."""

    rows: FloatArray
    targets: FloatArray
    x: Tensor
    y: Tensor


@dataclass(kw_only=True, eq=False)
class Tools(Settings):
    """A network and what is kept beside it, all of which is in :meth:`parts`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._width: int | None = None
        self._chain: Chain | None = None
        self._moved: list[Tensor] | None = None
        self._velocity: list[Tensor] | None = None

    # -- what an algorithm writes ------------------------------------------------------------------------

    def build(self, outputs: int) -> Headed:
        """The network with so many outputs, from its seed."""
        return headed(
            self.network, self.network_parameters or {}, inputs=self.inputs.inputs, shape=self.shape,
            outputs=outputs, seed=self.seed, start=self.head,
        )  # fmt: skip

    def begin(self) -> None:
        """Make what is kept beside the network: :meth:`keep` and :meth:`twin` put it into the state."""

    def observe(self, batch: Batch) -> None:
        """The training step for a block of rows."""
        raise NotImplementedError

    def consolidate(self) -> None:
        """A task has ended."""

    def scores(self, x: Tensor) -> Tensor:
        """What answers are made of: (n, outputs), of which the largest wins."""
        out: Tensor = self.net(x)
        return out

    # -- what it writes it with --------------------------------------------------------------------------

    @property
    def known(self) -> int:
        """How many classes the network has been shown."""
        return int(self.counters[2])

    @property
    def past(self) -> int:
        """How many tasks have ended."""
        return int(self.counters[1])

    @property
    def parameters(self) -> list[Tensor]:
        """What the descent moves."""
        if self._moved is None:
            self._moved = [part for part in self.net.parameters() if part.requires_grad]
        return self._moved

    @property
    def velocity(self) -> list[Tensor]:
        """What the descent's momentum is for each of :attr:`parameters`."""
        pairs = zip(self._modules["velocity"].parameters(), self.net.parameters(), strict=True)
        return [kept for kept, parameter in pairs if parameter.requires_grad]

    def keep(self, name: str, buffer: Buffer) -> Buffer:
        """Make a buffer a part of the state."""
        self._buffers[name] = buffer
        return buffer

    def reservoir(self, size: int, *, scores: bool = False) -> Reservoir:
        """A buffer for rows as they come: in single precision where a fixed scale makes that do."""
        width = self._width or 0
        dtype = np.float64 if self.scale is None else np.float32
        return Reservoir(size, width, dtype=dtype, outputs=self.net.head.out_features if scores else 0)

    def twin(self, name: str, *, blank: bool = False) -> Headed:
        """A frozen copy of the network that is a part of the state; with ``blank`` all of it is 0."""
        made = copy.deepcopy(self.net).eval().requires_grad_(False)
        if blank:
            for values in made.state_dict().values():
                values.zero_()
        self._modules[name] = made
        self._blank[name] = blank
        return made

    def copy_to(self, twin: Headed) -> None:
        """Make a twin what the network is now."""
        twin.load_state_dict(self.net.state_dict())

    def tensors(self, rows: NDArray[Any], targets: FloatArray) -> Learnt:
        """Rows and targets as the network takes them."""
        return self._inputs(rows), self._targets(targets)

    def drawn(self, buffer: Reservoir, count: int) -> tuple[NDArray[np.int64], Tensor, Tensor]:
        """Rows of a buffer by chance: their places, inputs and targets."""
        places = buffer.sample(self.draw, count)
        return places, *self.tensors(buffer.rows[places], buffer.targets[places])

    def loss(self, scores: Tensor, y: Tensor) -> Tensor:
        """Cross-entropy, or for numbers the squared error, in the mean of the rows."""
        if self.task == "regression":
            return functional.mse_loss(scores[:, 0], y)
        return functional.cross_entropy(scores, y)

    def scored(self, x: Tensor) -> Tensor:
        """The network's scores (n, outputs) that a loss is made of, for :meth:`gradient`.

        As those of ``net``, which a loss may be made of instead, but not as well.
        """
        out: Tensor = self.net(x) if self._chain is None else self._chain.scores(x)
        return out

    def gradient_for(self, x: Tensor, y: Tensor) -> list[Tensor]:
        """The gradient of the loss for inputs with their targets."""
        if self._chain is not None and self.task == "classification":
            return self._chain.gradient_for(x, y)
        return self.gradient(self.loss(self.scored(x), y))

    def gradient(self, loss: Tensor) -> list[Tensor]:
        """The gradient for every one of :attr:`parameters`."""
        if self._chain is not None and self._chain.used:
            return self._chain.gradient(loss)
        parameters = self.parameters
        found = torch.autograd.grad(loss, parameters, allow_unused=True)
        return [
            torch.zeros_like(parameter) if part is None else part
            for parameter, part in zip(parameters, found, strict=True)
        ]

    @torch.no_grad()
    def descend(self, gradient: Sequence[Tensor]) -> None:
        """One step against a gradient."""
        if self.decay:
            pairs = zip(gradient, self.parameters, strict=True)
            gradient = [part.add(parameter, alpha=self.decay) for part, parameter in pairs]
        if self.momentum:
            if self._velocity is None:
                self._velocity = self.velocity
            pairs = zip(self._velocity, gradient, strict=True)
            gradient = [kept.mul_(self.momentum).add_(part) for kept, part in pairs]
        torch._foreach_sub_(self.parameters, list(gradient), alpha=self.rate)

    # -- what is kept, and how it is made ------------------------------------------------------------------

    def make(self, width: int, outputs: int) -> None:
        """Make everything for rows of a width, with nothing learned."""
        self._width = width
        self.inputs = Columns(width, list(self.categorical), self.scale)
        self.net = self.build(outputs).to(self.device).eval()
        self._modules: dict[str, Headed] = {"net": self.net}
        self._blank: dict[str, bool] = {"net": False}
        self._buffers: dict[str, Kept] = {}
        self.target = np.zeros((3,))  # rows, mean and variance of a regression's targets
        self.counters = np.zeros(6, dtype=np.int64)  # see the properties below; 5 is the algorithm's own
        self.counts = np.zeros(max(self.max_classes, 1), dtype=np.int64)
        self.rows, self.targets = np.zeros((self.batch, width)), np.zeros(self.batch)
        if self.momentum:
            self.twin("velocity", blank=True)
        self._again()
        self._modal = any(True for _ in self.net.buffers()) or takes_random(self.net)
        self._philox = np.random.Philox(key=[self.seed % 2**63, 0])
        self._start = self._philox.state
        self.draw = np.random.Generator(self._philox)
        self.begin()

    def parts(self) -> dict[str, Any]:
        """Every array of the state by name."""
        parts: dict[str, Any] = {
            "counters": self.counters, "counts": self.counts, "rows": self.rows, "targets": self.targets,
            "target": self.target, "columns": self.inputs.seen,
        }  # fmt: skip
        for name, module in self._modules.items():
            parts |= {f"{name}.{key}": value for key, value in module.state_dict().items()}
        for name, buffer in self._buffers.items():
            parts |= {f"{name}.{key}": value for key, value in buffer.arrays().items()}
        return parts

    def grow(self, outputs: int) -> None:
        """Have so many outputs, in the network and in all that is kept beside it."""
        for name, module in self._modules.items():
            module.grow(outputs, self.seed, blank=self._blank[name])
        self._again()
        for buffer in self._buffers.values():
            buffer.grow(outputs)

    def _again(self) -> None:
        """Look again at what the network consists of."""
        self._moved = self._velocity = None
        self._chain = None if self.mixed else Chain.of(self.net)

    def reseed(self, purpose: int) -> None:
        """Chance for this block: it comes from the seed and from how much was learned, so none is stored."""
        counter = np.array([0, 0, int(self.counters[0]), purpose], dtype=np.uint64)
        self._philox.state = {
            **self._start,
            "state": {"counter": counter, "key": self._start["state"]["key"]},
        }

    def standardise(self, targets: FloatArray) -> None:
        """Take targets into their mean and variance."""
        rows, mean, variance = self.target
        total = rows + len(targets)
        step = targets.mean() - mean
        within = rows * variance + len(targets) * targets.var() + step * step * rows * len(targets) / total
        self.target[:] = min(total, 10_000.0), mean + step * len(targets) / total, within / total

    def _inputs(self, rows: NDArray[Any]) -> Tensor:
        x = torch.from_numpy(np.ascontiguousarray(self.inputs.map(rows)))
        x = x if self.shape is None else x.reshape(-1, *self.shape)
        return x.to(self.device)

    def _targets(self, targets: FloatArray) -> Tensor:
        if self.task == "classification":
            return torch.from_numpy(targets.astype(np.int64)).to(self.device)
        _, mean, variance = self.target
        unit = 1.0 / np.sqrt(variance) if variance > 0.0 else 0.0
        return torch.from_numpy(((targets - mean) * unit).astype(np.float32)).to(self.device)
