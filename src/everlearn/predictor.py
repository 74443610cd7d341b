"""A version in memory: an encoder and a learner. Rows go in, outputs come out.

>>> from everlearn.spec import parse_spec
>>> spec = {"name": "spam", "target": "label", "features": {"length": "numeric"}, "learner": "majority"}
>>> predictor = Predictor.new(parse_spec(spec))
>>> predictor.learn([{"length": 3}, {"length": 9}, {"length": 4}], ["ham", "spam", "ham"])
>>> predictor.predict([{"length": 5}])[0].value
'ham'
>>> same = Predictor.from_bundle(predictor.bundle(anchors=[{"length": 5}]))
>>> same.self_test()
"""

from __future__ import annotations

import math
import platform
import re
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from everlearn import __version__, learners
from everlearn.errors import (
    EverlearnError,
    Fault,
    IntegrityError,
    InvalidError,
    MissingExtraError,
    SpecError,
)
from everlearn.features.encoder import Encoder
from everlearn.learners import ahead, calibration
from everlearn.learners.calibration import Calibrator
from everlearn.learners.contract import Learner
from everlearn.learners.linear_models import Single
from everlearn.spec import ModelSpec, parse_spec
from everlearn.types import Bundle, FloatArray, Output, Row, Scalar
from everlearn.vision import detectors
from everlearn.vision.frames import FrameEncoder, Images, no_images

FORMAT = 1
"""The newest manifest format that this code writes and reads."""

MAX_ANCHORS = 20
TOLERANCE = 1e-9

_MALFORMED = (EverlearnError, KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError)


def class_key(label: Scalar) -> str:
    """A class as a key of ``probabilities``: ``"true"`` and ``"false"`` for booleans, else its text."""
    if isinstance(label, bool):
        return "true" if label else "false"
    return str(label)


class Baseline:
    """Version 0, which has learned nothing from features: the same output for every row."""

    def __init__(self, output: Output = Output(None, None)) -> None:  # noqa: B008 (frozen)
        self.output = output

    def predict(self, rows: Sequence[Row]) -> list[Output]:
        """The output, once a row."""
        return [self.output] * len(rows)


class Predictor:
    """An encoder and a learner that belong together, made from a spec.

    Rows are those that :meth:`everlearn.features.schema.Schema.check` lets through, and targets those
    of its ``check_target``. ``anchors`` are rows with the outputs that were given for them when the
    version was stored. A ``calibrator`` sets the learner's answers right before they are given; it stays
    as it is while the learner goes on learning.
    """

    def __init__(
        self,
        spec: ModelSpec,
        encoder: Encoder,
        learner: Learner,
        anchors: Sequence[tuple[Row, Output]] = (),
        calibrator: Calibrator | None = None,
    ) -> None:
        self.spec = spec
        self.encoder = encoder
        self.learner = learner
        self.anchors = tuple(anchors)
        self.calibrator = calibrator

    @classmethod
    def new(cls, spec: ModelSpec, images: Images = no_images) -> Predictor:
        """A predictor that has learned nothing; raises InvalidError for a learner that cannot be built.

        ``images`` finds the images that rows name, for detection.
        """
        if spec.task == "detection":
            return cls(spec, FrameEncoder(spec.features, images), detectors.build(spec))  # type: ignore[arg-type]
        parameters = spec.learner.parameters
        for name in sorted({"task", "categorical"} & parameters.keys()):
            message = f"follows from the spec's {'task' if name == 'task' else 'features'}: remove it"
            raise SpecError(f"learner.{name}: {message}", [Fault(f"learner.{name}", message)])
        encoder = Encoder(spec.features)
        given = {"seed": spec.seed, **parameters}
        learner = learners.build(spec.learner.name, task=spec.task, categorical=encoder.categorical, **given)
        return cls(spec, encoder, learner)

    @property
    def tuned(self) -> bool:
        """Whether a later version is a fine-tuning of the champion, and none begins anew."""
        return bool(getattr(self.learner, "tuned", False))

    def begin_from(self, champion: Predictor) -> None:
        """Go on from what a champion has learned, if the learner is one that is fine-tuned."""
        if self.tuned and type(champion.learner) is type(self.learner):
            self.learner.begin_from(champion.learner)  # type: ignore[attr-defined]

    def learn(
        self, rows: Sequence[Row], targets: Sequence[Scalar], progress: Callable[[float], None] | None = None
    ) -> None:
        """Learn rows with their targets, in order: first the encoder, then the learner.

        ``progress`` is told the share of it that is done, by learners that take long.
        """
        _check_paired(rows, targets)
        if not rows:
            return
        self.encoder.learn(rows)
        told = {} if progress is None or not self.tuned else {"progress": progress}
        self.learner.learn(self.encoder.transform(rows), targets, **told)

    def predict(self, rows: Sequence[Row]) -> list[Output]:
        """An output for each row; changes nothing."""
        if not rows:
            return []
        if self.spec.task == "detection":
            frames: Any = self.encoder.transform(rows)
            return detectors.outputs(self.learner, frames)
        answers = self.learner.predict(self.encoder.transform(rows))
        if self.calibrator is not None:
            answers = self.calibrator.apply(answers)
        if self.spec.task == "regression":
            return [Output(value if math.isfinite(value) else None) for value in answers.tolist()]
        return _classified(answers, self.learner.classes)

    def single(self) -> Callable[[Row], Output] | None:
        """A function that answers one row as :meth:`predict` does, to rounding, where the learner has one.

        It goes with what is learned now: ask again after learning. Learners offer one by a method
        ``single`` (see :mod:`everlearn.learners.linear_models`).
        """
        offers = getattr(self.learner, "single", None)
        if offers is None or self.calibrator is not None:
            return None
        cells, ask = self.encoder.single(), offers()
        if cells is None or ask is None:
            return None
        if self.spec.task == "regression":
            return lambda row: Output(value if math.isfinite(value := ask(cells(row))[0]) else None)
        classes = list(self.learner.classes)
        keys = [class_key(label) for label in classes]
        return None if len(set(keys)) < len(keys) else _classifying(cells, ask, classes, keys)

    def recalibrated(self, rows: Sequence[Row], targets: Sequence[Scalar]) -> Predictor:
        """A copy whose answers are set right on rows that it has not learned from; this one stays.

        A new calibrator is fitted on the learner's own answers (never on those of an old calibrator). The
        copy has none if the rows do not show that one helps, as with fewer than 50 of them.
        """
        _check_paired(rows, targets)
        copy = self.copy()
        copy.anchors, copy.calibrator = (), None
        if rows:
            answers = copy.learner.predict(copy.encoder.transform(rows))
            found = calibration.fit(answers, copy._truths(targets))
            copy.calibrator = None if found.kind == "identity" else found
        return copy

    def _truths(self, targets: Sequence[Scalar]) -> np.ndarray[Any, Any]:
        """Targets (n,) as numbers, or as columns of the learner's answers (-1: a class it does not know)."""
        if self.spec.task == "regression":
            return np.array(targets, dtype=np.float64)
        columns = {class_key(label): i for i, label in reversed(list(enumerate(self.learner.classes)))}
        return np.array([columns.get(class_key(target), -1) for target in targets], dtype=np.int64)

    def warm(self) -> None:
        """Load what its learner has compiled, once a process, so that no request waits for it."""
        if self.spec.task == "detection":
            self.predict([row for row, _ in self.anchors[:1]])
            return
        named, columns = self.spec.learner, self.encoder.categorical
        ahead.ready(named.name, self.spec.task, categorical=bool(columns), parameters=named.parameters)

    def copy(self) -> Predictor:
        """A predictor of its own that has learned the same."""
        return Predictor(
            self.spec, self.encoder.copy(), deepcopy(self.learner), self.anchors, self.calibrator
        )

    def bundle(self, anchors: Sequence[Row] = ()) -> Bundle:
        """The stored form, with the answers to the first 20 anchors for the self-test after loading.

        Raises InvalidError if the learner's state holds something that has no stored form.
        """
        packed = _Packed()
        named = self.spec.features  # who a row is of is no part of a version
        rows = [{name: cell for name, cell in row.items() if name in named} for row in anchors[:MAX_ANCHORS]]
        if isinstance(self.encoder, FrameEncoder):
            rows = self.encoder.carried(rows, self.learner.size)
        manifest = {
            "format": FORMAT,
            "everlearn": __version__,
            "spec": packed.pack(_learned_by(self.spec), "spec"),
            "learner": {
                "name": self.spec.learner.name,
                "parameters": packed.pack(self.spec.learner.parameters, "parameters"),
                "state": packed.pack(self.learner.state(), "learner"),
            },
            "encoder": packed.pack(self.encoder.state(), "encoder"),
            "classes": list(self.learner.classes),
            "libraries": dict(_libraries()),
            "anchors": {
                "rows": packed.pack(rows, "anchors"),
                "outputs": packed.pack([_output_to_json(output) for output in self.predict(rows)], "outputs"),
            },
        }
        if self.calibrator is not None:
            manifest["calibrator"] = packed.pack(self.calibrator.state(), "calibrator")
        return Bundle(manifest, packed.arrays, packed.files)

    @classmethod
    def from_bundle(cls, bundle: Bundle, images: Images = no_images) -> Predictor:
        """The predictor that a bundle holds; raises IntegrityError for one that is not whole.

        ``images`` finds the images that rows name, for detection.
        """
        manifest = bundle.manifest
        _check_format(manifest)
        try:
            predictor = cls.new(parse_spec(unpack(manifest["spec"], bundle)), images)
            predictor.encoder.restore(unpack(manifest["encoder"], bundle))
            predictor.learner.restore(unpack(manifest["learner"]["state"], bundle))
            if "calibrator" in manifest:
                predictor.calibrator = Calibrator.from_state(unpack(manifest["calibrator"], bundle))
            stored = unpack(manifest["anchors"], bundle)
            outputs = [Output(item["value"], item["probabilities"]) for item in stored["outputs"]]
            predictor.anchors = tuple(zip(stored["rows"], outputs, strict=True))
        except MissingExtraError:
            raise
        except _MALFORMED as error:
            raise IntegrityError(f"The bundle cannot be loaded: {type(error).__name__}: {error}") from error
        return predictor

    def self_test(self) -> None:
        """Answer the anchors again; raises IntegrityError unless each answer is the stored one to 1e-9."""
        answers = self.predict([row for row, _ in self.anchors])
        for i, ((_, stored), answer) in enumerate(zip(self.anchors, answers, strict=True)):
            alike = detectors.same(stored, answer) if self.spec.task == "detection" else _same(stored, answer)
            if not alike:
                raise IntegrityError(
                    f"anchors[{i}] is answered {_brief(answer)} instead of {_brief(stored)}: this version "
                    "does not answer here as it did where it was made; compare its manifest's libraries"
                )


def _check_paired(rows: Sequence[Row], targets: Sequence[Scalar]) -> None:
    if len(rows) != len(targets):
        message = f"has {len(targets)} values for {len(rows)} rows: pass one a row"
        raise InvalidError(f"targets: {message}", [Fault("targets", message)])


def _classified(probabilities: FloatArray, classes: Sequence[Scalar]) -> list[Output]:
    if not classes:
        return [Output(None, {}) for _ in range(len(probabilities))]
    keys = [class_key(label) for label in classes]
    if len(set(keys)) < len(keys):
        return _classified(*_merged(probabilities, classes, keys))
    best = probabilities.argmax(axis=1).tolist()
    return [
        Output(classes[i], dict(zip(keys, row, strict=True)))
        for i, row in zip(best, probabilities.tolist(), strict=True)
    ]


def _classifying(
    cells: Callable[[Row], list[float]], ask: Single, classes: Sequence[Scalar], keys: Sequence[str]
) -> Callable[[Row], Output]:
    def answer(row: Row) -> Output:
        chances = ask(cells(row))
        return Output(classes[chances.index(max(chances))], dict(zip(keys, chances, strict=True)))

    return answer


def _merged(
    probabilities: FloatArray, classes: Sequence[Scalar], keys: Sequence[str]
) -> tuple[FloatArray, list[Scalar]]:
    """Classes of one key (the number 1 and the text "1") as one: the first of them."""
    first = dict(zip(reversed(keys), reversed(classes), strict=True))
    names = list(dict.fromkeys(keys))
    merged = np.zeros((len(probabilities), len(names)))
    for column, key in enumerate(keys):
        merged[:, names.index(key)] += probabilities[:, column]
    return merged, [first[key] for key in names]


def _output_to_json(output: Output) -> dict[str, Any]:
    probabilities = None if output.probabilities is None else dict(output.probabilities)
    return {"value": output.value, "probabilities": probabilities}


def _same(stored: Output, answer: Output) -> bool:
    if stored.probabilities is None or answer.probabilities is None:
        a, b = stored.value, answer.value
        if isinstance(a, int | float) and isinstance(b, int | float):
            return abs(a - b) <= TOLERANCE * max(1.0, abs(a))
        return stored == answer
    if stored.probabilities.keys() != answer.probabilities.keys():
        return False
    close = all(abs(p - answer.probabilities[key]) <= TOLERANCE for key, p in stored.probabilities.items())
    tie = {class_key(output.value) for output in (stored, answer)}
    best = max(stored.probabilities.values(), default=0.0)
    return close and (len(tie) == 1 or all(best - stored.probabilities[key] <= TOLERANCE for key in tie))


def _brief(output: Output) -> str:
    best = max((output.probabilities or {}).values(), default=None)
    return repr(output.value) if best is None else f"{output.value!r} ({best:.12g})"


def _learned_by(spec: ModelSpec) -> dict[str, Any]:
    """The spec without what bears on no answer, so that it changes no digest."""
    return {name: value for name, value in spec.to_dict().items() if name not in ("feedback", "subject")}


def _check_format(manifest: Mapping[str, Any]) -> None:
    found = manifest.get("format")
    if found == FORMAT and not isinstance(found, bool):
        return
    if isinstance(found, int) and found > FORMAT:
        maker = manifest.get("everlearn", "a newer version")
        raise IntegrityError(
            f"The bundle has format {found}, and everlearn {__version__} reads up to {FORMAT}: "
            f"it needs everlearn {maker} or newer"
        )
    raise IntegrityError(f"The bundle's manifest has format {found!r} instead of {FORMAT}")


@cache
def _libraries() -> tuple[tuple[str, str], ...]:
    found = [("python", platform.python_version())]
    for name in ("numpy", "scikit-learn", "skops"):
        try:
            found.append((name, version(name)))
        except PackageNotFoundError:
            continue
    return tuple(found)


class _Packed:
    """Turns states into JSON; arrays and bytes are put aside under names made of their paths.

    ``{"$array": name}`` and ``{"$file": name}`` stand for them, ``{"$float": "nan"}`` for what JSON
    has no number for. A key of a dict that begins with ``$`` gets a second one.
    """

    def __init__(self) -> None:
        self.arrays: dict[str, Any] = {}
        self.files: dict[str, bytes] = {}
        self._taken: set[str] = set()

    def pack(self, value: Any, path: str) -> Any:
        """A state as JSON values; raises InvalidError that names the path of what has no stored form."""
        if isinstance(value, np.generic):
            value = value.item()
        if value is None or isinstance(value, bool | int | str):
            return value
        if isinstance(value, float):
            return value if math.isfinite(value) else {"$float": repr(value)}
        if isinstance(value, Mapping):
            return {_escaped(key, path): self.pack(item, f"{path}.{key}") for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.pack(item, f"{path}.{i}") for i, item in enumerate(value)]
        if isinstance(value, np.ndarray):
            return {"$array": self._keep(self.arrays, path, value)}
        if isinstance(value, bytes):
            return {"$file": self._keep(self.files, path, value)}
        message = f"is a {type(value).__name__}: a state holds JSON values, numpy arrays and bytes"
        raise InvalidError(f"{path}: {message}", [Fault(path, message)])

    def _keep(self, kept: dict[str, Any], path: str, value: Any) -> str:
        """Keep a value under its path, in the letters of a file name; returns the name."""
        stem = re.sub(r"[^A-Za-z0-9._-]", "_", path)[-150:].lstrip("._-")
        name, n = stem, 1
        while name.lower() in self._taken:
            n += 1
            name = f"{n}-{stem}"
        self._taken.add(name.lower())
        kept[name] = value
        return name


def unpack(value: Any, bundle: Bundle) -> Any:
    """What a packed JSON value of a bundle stands for; raises KeyError for an unknown reference."""
    if isinstance(value, list):
        return [unpack(item, bundle) for item in value]
    if not isinstance(value, Mapping):
        return value
    if len(value) == 1:
        (key, name), *_ = value.items()
        if key == "$array":
            return bundle.arrays[name].copy()
        if key == "$file":
            return bundle.files[name]
        if key == "$float":
            return float(name)
    return {key[1:] if key.startswith("$$") else key: unpack(item, bundle) for key, item in value.items()}


def _escaped(key: Any, path: str) -> str:
    if not isinstance(key, str):
        message = f"has the key {key!r}: the keys of a state are text"
        raise InvalidError(f"{path}: {message}", [Fault(path, message)])
    return f"${key}" if key.startswith("$") else key
