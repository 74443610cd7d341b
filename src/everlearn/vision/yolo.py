"""YOLO11 as a learner of the loop: it learns frames and their boxes, and goes on from what the champion
knows."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from importlib.util import find_spec
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from everlearn.errors import Fault, IntegrityError, InvalidError, MissingExtraError
from everlearn.types import Scalar
from everlearn.vision import making
from everlearn.vision.boxes import Box, corners, parse
from everlearn.vision.extra import LICENCE
from everlearn.vision.images import letterbox
from everlearn.vision.session import Session
from everlearn.vision.training import Picture, Progress, Recipe, train

ASKED_AT_ONCE = 16


def unwatched(share: float) -> None:
    """The progress of training that nobody watches."""


class Yolo:
    """Ultralytics' YOLO11 (AGPL-3.0), trained here and answered by ONNX Runtime.

    ``plan`` is built anew, or begun from ``weights`` (the path of tensors: see
    :func:`network.read_weights`). ``size`` is the side of its square input in pixels, a multiple of 32. A
    version that begins anew learns ``first`` frames at most, for ``epochs`` at ``rate``; others are
    fine-tuned from the champion for ``tune_epochs`` at ``tune_rate``, on the ``fresh`` newest frames and on
    ``replay`` older ones, spread evenly over all there are; classes that are new get rows of their own, those
    of the old keep theirs.
    ``freeze`` layers stay as they are in fine-tuning (11: the backbone). Answers are boxes of at least
    ``confidence``. ``threads``: of the processor for training (0: as it takes).
    """

    name: ClassVar[str] = "yolo"
    prefers: ClassVar[Literal["stream", "triggered"]] = "triggered"
    incremental: ClassVar[bool] = False
    tuned: ClassVar[bool] = True
    wants: ClassVar[int | None] = None

    def __init__(
        self,
        *,
        plan: str = "yolo11n.yaml",
        weights: str | None = None,
        size: int = 640,
        epochs: int = 60,
        tune_epochs: int = 15,
        batch: int = 16,
        rate: float = 1e-3,
        tune_rate: float = 5e-4,
        first: int = 2000,
        fresh: int = 500,
        replay: int = 500,
        freeze: int = 0,
        confidence: float = 0.25,
        threads: int = 0,
        seed: int = 0,
    ) -> None:
        _check("size", size, 64 <= size <= 1280 and size % 32 == 0, "a multiple of 32 from 64 to 1280")
        for name, value in (
            ("epochs", epochs),
            ("tune_epochs", tune_epochs),
            ("batch", batch),
            ("first", first),
            ("fresh", fresh),
        ):
            _check(name, value, value >= 1, "1 or more")
        for name, value in (("replay", replay), ("freeze", freeze), ("threads", threads)):
            _check(name, value, value >= 0, "0 or more")
        for name, share in (("confidence", confidence), ("rate", rate), ("tune_rate", tune_rate)):
            _check(name, share, 0.0 < share < 1.0, "between 0 and 1")
        for module in ("onnxruntime", "cv2"):
            if find_spec(module) is None:
                what = f"The detector yolo ({module} is missing; YOLO11 is under the {LICENCE})"
                raise MissingExtraError(what, "vision")
        self.plan, self.weights, self.size, self.confidence = plan, weights, size, confidence
        self.first, self.fresh, self.replay = first, fresh, replay
        self.threads = threads
        self._first = Recipe(size, epochs, batch, rate, 0, seed)
        self._tune = Recipe(size, tune_epochs, batch, tune_rate, freeze, seed)
        self._classes: list[str] = []
        self._learned: dict[str, NDArray[Any]] = {}
        self._onnx, self._made_by = b"", dict[str, str]()
        self._session: Session | None = None

    @property
    def classes(self) -> list[Scalar]:
        """The classes of the boxes learned so far, in order of first appearance."""
        return list(self._classes)

    def begin_from(self, other: Yolo) -> None:
        """Go on from what another has learned: the next :meth:`learn` is a fine-tuning of it."""
        self._take(other.state())

    def learn(self, X: Sequence[NDArray[np.uint8]], y: Sequence[Any], progress: Progress = unwatched) -> None:
        """Learn frames ``X`` with the texts of their boxes ``y``, the oldest first.

        Raises InvalidError where no frame has a box.
        """
        with making.threads(self.threads):
            self._learn(X, y, progress)

    def _learn(self, X: Sequence[NDArray[np.uint8]], y: Sequence[Any], progress: Progress) -> None:
        from everlearn.vision import network as nets

        known = bool(self._learned)
        fresh, replay = (self.fresh, self.replay) if known else ((self.first + 1) // 2, self.first // 2)
        places = chosen(len(y), fresh, replay)
        truths = [parse(y[i]) for i in places]
        classes = _all_classes(self._classes, truths)
        if not classes:
            raise InvalidError("No frame has a box to learn from: send boxes for some of them")
        pictures = [picture(X[i], truth, classes, self.size) for i, truth in zip(places, truths, strict=True)]
        network = nets.build(self.plan, len(classes), self._first.seed)
        if known:  # of another plan's weights hardly any fit
            fitted = nets.put(network, self._learned, range(len(self._classes)))
            known = fitted > len(self._learned) // 2
        elif self.weights is not None:
            nets.put(network, nets.read_weights(self.weights))
        train(network, pictures, self._tune if known else self._first, progress)
        self._learned, self._classes = nets.weights_of(network), classes
        self._onnx, self._session = nets.export(network, self.size), None
        self._made_by = making.made_here(self.weights)

    def predict(self, X: Sequence[NDArray[np.uint8]], least: float | None = None) -> list[list[Box]]:
        """The boxes of each frame with a score of ``least`` or more (default: ``confidence``)."""
        least = self.confidence if least is None else least
        if not self._onnx:
            return [[] for _ in range(len(X))]
        session = self._session or Session(self._onnx, self.size, self._classes)
        self._session = session
        found: list[list[Box]] = []
        for start in range(0, len(X), ASKED_AT_ONCE):
            found += session.detect([X[i] for i in range(start, min(start + ASKED_AT_ONCE, len(X)))], least)
        return found

    def state(self) -> dict[str, Any]:
        """The weights, the network as ONNX, its classes, and what made it."""
        return {
            "classes": list(self._classes),
            "weights": {name: value.copy() for name, value in self._learned.items()},
            "onnx": self._onnx,
            "size": self.size,
            "made_by": dict(self._made_by),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take over a state; raises IntegrityError for one that is not whole, or of another size."""
        if state.get("size") != self.size:
            raise IntegrityError(f"The detector's state is for size {state.get('size')}, not for {self.size}")
        self._take(state)

    def _take(self, state: dict[str, Any]) -> None:
        try:
            self._classes, self._learned = [str(name) for name in state["classes"]], dict(state["weights"])
            self._onnx, self._made_by = bytes(state["onnx"]), dict(state["made_by"])
        except (KeyError, TypeError, ValueError) as error:
            raise IntegrityError(f"The detector's state is not whole: {error!r}") from None
        self._session = None

    def __deepcopy__(self, memo: dict[int, Any]) -> Yolo:
        twin = copy(self)
        twin._classes, twin._learned = list(self._classes), dict(self._learned)
        return twin


def chosen(count: int, fresh: int, replay: int) -> list[int]:
    """Which of so many frames are learned, by their places: the newest, and older ones spread evenly.

    >>> chosen(10, fresh=3, replay=2)
    [0, 6, 7, 8, 9]
    """
    old = max(0, count - fresh)
    replay = min(replay, old)
    spread = np.linspace(0, old - 1, replay).round().astype(int).tolist() if replay else []
    return [*spread, *range(old, count)]


def picture(image: NDArray[np.uint8], truth: Sequence[Box], classes: Sequence[str], size: int) -> Picture:
    """A frame as it is learned."""
    fitted = letterbox(image, size)
    moved = corners(truth) * fitted.scale + np.array([fitted.left, fitted.top, fitted.left, fitted.top])
    names = np.array([classes.index(box.name) for box in truth], dtype=np.int64)
    return Picture(fitted.image, names, moved)


def _all_classes(known: Sequence[str], truths: Sequence[Sequence[Box]]) -> list[str]:
    return list(dict.fromkeys([*known, *(box.name for truth in truths for box in truth)]))


def _check(name: str, value: Any, fine: bool, wanted: str) -> None:
    if not fine:
        message = f"is {value}: use {wanted}"
        raise InvalidError(f"learner.{name}: {message}", [Fault(f"learner.{name}", message)])
