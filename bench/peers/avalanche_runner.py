"""Measures one method of Avalanche; see ``continual_harness.py`` for the protocol.

Methods are Avalanche's own, on plain stochastic gradient descent, without logging: ``Naive``, ``EWC`` in its
online mode, replay with a reservoir over all rows, and ``Replay`` as it comes (``er_balanced``: equal parts
for the tasks). It shuffles each task's rows itself.
"""

from __future__ import annotations

import sys
import types
import warnings
from importlib.metadata import version
from typing import Any

# Avalanche imports torchvision for its data sets. The wheels on PyPI bring operators for boxes that only load
# beside a PyTorch with CUDA, and refuse to be imported beside one without; nothing here calls them, so the
# module that describes them is left out.
_UNUSED = "torchvision._meta_registrations"
sys.modules[_UNUSED] = types.ModuleType(_UNUSED)
warnings.filterwarnings("ignore")

import continual_harness as harness  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from avalanche.benchmarks import benchmark_from_datasets  # noqa: E402
from avalanche.benchmarks.utils import as_taskaware_classification_dataset  # noqa: E402
from avalanche.training import EWC, Naive, Replay, ReservoirSamplingBuffer  # noqa: E402
from avalanche.training.plugins import EvaluationPlugin, ReplayPlugin  # noqa: E402
from torch import nn  # noqa: E402
from torch.utils.data import TensorDataset  # noqa: E402


def network(hidden: int = 100, outputs: int = 10) -> nn.Module:
    """784-100-100-10, with weights drawn as ours draws them."""
    net = nn.Sequential(
        nn.Linear(784, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, outputs)
    )
    for layer in (net[0], net[2], net[4]):
        nn.init.xavier_normal_(layer.weight)
        nn.init.zeros_(layer.bias)
    return net


def floats(X: Any) -> torch.Tensor:
    return torch.from_numpy(X.astype(np.float32) / np.float32(255.0))


class Labelled(TensorDataset):
    """Rows with ``targets``, which is where Avalanche looks for classes."""

    def __init__(self, X: Any, y: Any) -> None:
        super().__init__(floats(X), torch.from_numpy(y))
        self.targets = y.tolist()


class Strategy:
    """A strategy over the experiences of a benchmark."""

    def __init__(self, job: dict[str, Any], tasks: harness.Tasks) -> None:
        torch.manual_seed(job["seed"])
        np.random.seed(job["seed"])
        parts = [as_taskaware_classification_dataset(Labelled(*tasks.train(t))) for t in range(tasks.count)]
        self._stream = list(benchmark_from_datasets(train=parts).train_stream)
        self._net = network()
        given = job["parameters"]
        common = {
            "model": self._net,
            "optimizer": torch.optim.SGD(self._net.parameters(), lr=given["rate"]),
            "criterion": nn.CrossEntropyLoss(),
            "train_mb_size": given["batch"],
            "train_epochs": 1,
            "evaluator": EvaluationPlugin(loggers=[]),
        }
        self._strategy = strategy(job["method"], job["size"], given, common)

    def learn(self, task: int) -> None:
        """Train on an experience."""
        self._strategy.train(self._stream[task])

    @torch.no_grad()
    def answers(self, X: Any) -> Any:
        """The class with the largest score."""
        return self._net.eval()(floats(X)).argmax(1).numpy()


def strategy(method: str, size: int, given: dict[str, Any], common: dict[str, Any]) -> Any:
    """One of Avalanche's strategies."""
    if method == "oewc":
        return EWC(**common, ewc_lambda=given["hold"], mode="online", decay_factor=1.0)
    if method == "er_balanced":
        return Replay(**common, mem_size=size)
    if method == "er":
        buffer = ReservoirSamplingBuffer(size)
        replay = ReplayPlugin(size, batch_size_mem=given["replay"], storage_policy=buffer)
        return Naive(**common, plugins=[replay])
    return Naive(**common)


if __name__ == "__main__":
    torch.set_num_threads(1)
    names = ("avalanche-lib", "torch", "torchvision", "numpy")
    harness.serve(Strategy, {"threads": 1, "versions": {name: version(name) for name in names}})
