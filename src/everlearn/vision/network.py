"""YOLO11 as Ultralytics builds it: made from its plan or from weights, grown by classes, exported to ONNX.

Nothing is downloaded: the plan (``yolo11n.yaml``) comes with the package, and weights are given by a path.
They are read as tensors alone, from safetensors or by ``torch.load(weights_only=True)``; nothing is
unpickled. Source: Ultralytics YOLO11 (Jocher & Qiu 2024), under the AGPL-3.0.
"""

from __future__ import annotations

import io
import os
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from everlearn.errors import Fault, InvalidError
from everlearn.vision.extra import needed

Weights = dict[str, NDArray[Any]]
"""A network's tensors by name."""

PLAN = re.compile(r"yolo11[nsmlx]\.yaml")
OFFLINE = {"YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false", "YOLO_VERBOSE": "false"}
"""What keeps Ultralytics from calling anybody or installing anything."""

_LAST = re.compile(r"model\.\d+\.cv3\.\d+\.2\.(weight|bias)")
"""The last layer of the head's branch for classes: one row a class."""


def build(plan: str, classes: int, seed: int) -> Any:
    """A new network (``torch.nn.Module``) for so many classes; raises InvalidError for an unknown plan."""
    if not PLAN.fullmatch(plan):
        raise _refused("plan", f"{plan[:60]!r} is not one: use yolo11n.yaml (or s, m, l, x)")
    torch = needed("torch")
    needed("onnx")  # PyTorch exports by it: better missed before the training than after it
    with _offline():
        tasks = needed("ultralytics.nn.tasks")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            made = {**tasks.yaml_model_load(plan), "nc": max(1, classes)}  # said nowhere
            network = tasks.DetectionModel(made, ch=3, nc=made["nc"], verbose=False)
        network.args = needed("ultralytics.cfg").get_cfg()
    return network


@contextmanager
def _offline() -> Iterator[None]:
    """Ultralytics reads these once, when it is imported; its settings go to a folder that nobody shares."""
    before = {name: os.environ.get(name) for name in OFFLINE}
    os.environ.update(OFFLINE)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def weights_of(network: Any) -> Weights:
    """A network's tensors, copied out of it."""
    return {
        name: value.detach().cpu().numpy().copy()
        for name, value in network.state_dict().items()
        if "num_batches_tracked" not in name
    }


def put(network: Any, weights: Mapping[str, NDArray[Any]], rows: Sequence[int] | None = None) -> int:
    """Put weights into a network wherever they fit; how many tensors did.

    ``rows``: where each class of the weights stands among the network's classes. The rows of other classes
    stay as they were made. Without it the layers that name classes are left out where their sizes differ.
    """
    torch = needed("torch")
    own = network.state_dict()
    fitted = 0
    for name, value in weights.items():
        given = torch.from_numpy(np.ascontiguousarray(value))
        if name not in own:
            continue
        if rows is not None and _LAST.fullmatch(name) and own[name].shape[1:] == given.shape[1:]:
            own[name][list(rows)] = given[: len(rows)].to(own[name].dtype)
        elif own[name].shape == given.shape:
            own[name].copy_(given)
        else:
            continue
        fitted += 1
    return fitted


def read_weights(path: str) -> Weights:
    """The tensors of a file: ``.safetensors``, or ``.pt`` with nothing but tensors in it.

    Raises InvalidError where there is no such file, or it holds more than tensors.
    """
    file = Path(path)
    if not file.is_file():
        raise _refused("weights", "there is no such file: give the path of a .safetensors or .pt file")
    if file.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            return dict(load_file(file))
        except (SafetensorError, OSError, ValueError) as error:
            raise _refused("weights", f"the file cannot be read: {error}") from None
    torch = needed("torch")
    try:
        found = torch.load(file, map_location="cpu", weights_only=True)
        return {str(name): value.numpy() for name, value in found.items()}
    except Exception:
        raise _refused(
            "weights",
            "the file holds more than tensors, and nothing is unpickled here: load it where you trust it and "
            "save model.state_dict() as safetensors",
        ) from None


def export(network: Any, size: int) -> bytes:
    """A trained network as ONNX, in one piece: ``images`` float32 (n, 3, size, size) to (n, 4 + classes,
    places).

    The first four of each place are the centre, width and height of a box, in pixels.
    """
    torch = needed("torch")
    network = network.eval()
    head = network.model[-1]
    head.export, head.format, before = True, "onnx", (head.export, head.format)
    file = io.BytesIO()
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                network,
                (torch.zeros(2, 3, size, size),),
                file,
                input_names=["images"],
                output_names=["boxes"],
                dynamic_axes={"images": {0: "n"}, "boxes": {0: "n"}},
                opset_version=17,
                dynamo=False,
            )
    finally:
        head.export, head.format = before
        head.shape = None
    return file.getvalue()


def _refused(name: str, message: str) -> InvalidError:
    return InvalidError(f"learner.{name}: {message}", [Fault(f"learner.{name}", message)])
