"""What a detector was trained with and on: its bits depend on that, too, and not on its frames alone.

The same frames give the same weights, byte for byte, where the libraries, the kind of processor and the
number of threads are the same: sums are cut into as many parts as there are threads, and each part is added
up by the instructions that the processor has. So a version says what made it, and is made again as it was
made. A GPU promises less: what was trained on one is not made again.

>>> elsewhere({"device": "cpu", "torch": "2.9"}, {"device": "cpu", "torch": "2.9", "threads": "2"})
''
>>> elsewhere({"device": "cpu", "torch": "2.9"}, {"device": "cpu", "torch": "2.8"})
'it was made with torch 2.9, and here is 2.8'
>>> elsewhere({"device": "cuda"}, {"device": "cuda"})
'it was made on a GPU, which does not add up in one order'
"""

from __future__ import annotations

import hashlib
import platform
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from everlearn.vision.extra import needed

LIBRARIES = {"torch": "torch", "ultralytics": "ultralytics", "opencv": "cv2", "onnx": "onnx"}
"""The libraries that make a version, and the modules that tell their versions."""

THREADS, DEVICE, PROCESSOR, WEIGHTS = "threads", "device", "processor", "weights"


def made_here(weights: str | None = None) -> dict[str, str]:
    """What makes a version in this process now; ``weights``: the path of what it begins from, if any."""
    torch = needed("torch")
    found = {name: str(needed(module).__version__) for name, module in LIBRARIES.items()}
    found[DEVICE] = "cuda" if torch.cuda.is_available() else "cpu"
    found[PROCESSOR] = f"{_processor()}, {torch.backends.cpu.get_cpu_capability()}"
    found[THREADS] = str(torch.get_num_threads())
    if weights is not None:
        found[WEIGHTS] = _digest(Path(weights))
    return found


def elsewhere(made_by: Mapping[str, str], here: Mapping[str, str]) -> str:
    """Why what was made by that cannot come out the same here; empty where it does.

    Threads do not count: see :func:`threads`.
    """
    if DEVICE not in made_by:
        return "it does not say on what it was made"
    if made_by[DEVICE] != "cpu":
        return "it was made on a GPU, which does not add up in one order"
    for name, was in made_by.items():
        if name != THREADS and here.get(name) != was:
            return f"it was made with {name} {was}, and here is {here.get(name, 'none')}"
    return ""


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Let PyTorch work with so many threads, for now (0: as many as it takes)."""
    torch = needed("torch")
    before = torch.get_num_threads()
    if count:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def in_one_order() -> Iterator[None]:
    """Let PyTorch add up in one order wherever it knows how to."""
    torch = needed("torch")
    before, warned = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*deterministic.*")
        torch.use_deterministic_algorithms(True, warn_only=True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before, warn_only=warned)


def _processor() -> str:
    """The kind of processor, as it calls itself."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()


def _digest(path: Path) -> str:
    """The SHA-256 of a file; ``none`` where it is not there."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return "none"


def count_of(made_by: Mapping[str, Any]) -> int:
    """With how many threads a version was made; 0 where it does not say."""
    said = str(made_by.get(THREADS, ""))
    return int(said) if said.isdecimal() else 0
