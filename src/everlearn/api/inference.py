"""Inference requests and answers of the Open Inference Protocol, as they are on the wire."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from everlearn.api.answers import Answers
from everlearn.api.runtime import Served
from everlearn.api.tensors import BYTES, Tensor, fault, packed, tensor
from everlearn.errors import Fault, InvalidError
from everlearn.predictor import class_key
from everlearn.types import Scalar

HEADER_LENGTH = "Inference-Header-Content-Length"
IDS = "prediction_id"
"""The tensor of ids: the caller's own as an input, and all of them as an output."""

OUTPUTS = ("value", "probabilities", "classes", IDS, "version")


class Input(msgspec.Struct):
    """A tensor as it comes."""

    name: str
    shape: list[int]
    datatype: str
    parameters: dict[str, Any] = {}
    data: Any = None


class Wanted(msgspec.Struct):
    """A tensor that is asked for."""

    name: str
    parameters: dict[str, Any] = {}


class InferRequest(msgspec.Struct):
    """What is asked."""

    inputs: list[Input]
    id: str | None = None
    parameters: dict[str, Any] = {}
    outputs: list[Wanted] | None = None


_decoder = msgspec.json.Decoder(InferRequest)


def read(body: bytes, header_length: str | None) -> tuple[InferRequest, list[Tensor]]:
    """A request and its tensors; raises InvalidError."""
    size = len(body)
    if header_length is not None:
        if not header_length.isdecimal() or int(header_length) > len(body):
            raise InvalidError(f"{HEADER_LENGTH} must say how many bytes of the body are JSON")
        size = int(header_length)
    try:
        asked = _decoder.decode(body[:size])
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise InvalidError(
            f"The body is no inference request: {error}", [Fault("body", str(error))]
        ) from None
    return asked, _tensors(asked.inputs, body[size:])


def _tensors(inputs: Sequence[Input], raw: bytes) -> list[Tensor]:
    found, at = [], 0
    for given in inputs:
        size = given.parameters.get("binary_data_size")
        own = None
        if size is not None:
            if type(size) is not int or size < 0 or at + size > len(raw):
                raise fault(given.name, "has a binary_data_size that the body does not hold")
            own = raw[at : at + size]
            at += size
        found.append(tensor(given.name, given.datatype, given.shape, given.data, own))
    if at != len(raw):
        raise InvalidError(f"{len(raw) - at} bytes of the body belong to no input: name binary_data_size")
    return found


def write(served: Served, asked: InferRequest, answers: Answers) -> tuple[bytes, int | None]:
    """The answer's body, and how many bytes of it are JSON where tensors follow in bytes."""
    head: dict[str, Any] = {"model_name": served.spec.name}
    by = sorted(set(answers.versions))
    if len(by) == 1:
        head["model_version"] = str(by[0])
    if asked.id is not None:
        head["id"] = asked.id
    binary = bool(asked.parameters.get("binary_data_output"))
    names = ("value", "probabilities", "classes", IDS, *(("version",) if len(by) > 1 else ()))
    wanted = asked.outputs or [Wanted(name) for name in names]
    outputs, tails = [], []
    for one in wanted:
        made = _output(one.name, served, answers)
        if made is None:
            if asked.outputs:
                raise _unknown(one.name)
            continue
        told: dict[str, Any] = {"name": made.name, "datatype": made.datatype, "shape": made.shape}
        if one.parameters.get("binary_data", binary) and None not in made.cells:
            tails.append(packed(made))
            told["parameters"] = {"binary_data_size": len(tails[-1])}
        else:
            told["data"] = made.cells
        outputs.append(told)
    body = msgspec.json.encode({**head, "outputs": outputs})
    return body + b"".join(tails), len(body) if tails else None


def check_outputs(wanted: Sequence[Wanted] | None) -> None:
    """Raise InvalidError for a name that no output has, before anything is recorded."""
    for one in wanted or ():
        if one.name not in OUTPUTS:
            raise _unknown(one.name)


def _unknown(name: str) -> InvalidError:
    message = f"there is no output {name[:60]!r} here: ask for {', '.join(OUTPUTS)}"
    return InvalidError(f"outputs: {message}", [Fault("outputs", message)])


def _output(name: str, served: Served, answers: Answers) -> Tensor | None:
    n = len(answers.ids)
    if name == IDS:
        return Tensor(name, BYTES, (n,), list(answers.ids))
    if name == "version":
        return Tensor(name, "INT64", (n,), list(answers.versions))
    if name == "value":
        return _values(answers.values, served.spec.task == "regression")
    if name == "classes" and answers.grid is not None:
        return Tensor(name, BYTES, (len(answers.keys),), list(answers.keys))
    if name == "probabilities" and answers.grid is not None:
        # A class that the answering version did not know has no probability there.
        cells = [0.0 if cell != cell else cell for cell in answers.grid.ravel().tolist()]
        return Tensor(name, "FP64", answers.grid.shape, cells)
    return None


def _values(values: Sequence[Scalar], regression: bool) -> Tensor:
    kinds = {type(value) for value in values} - {type(None)}
    shape = (len(values),)
    if regression:
        return Tensor("value", "FP64", shape, list(values))
    if kinds == {bool}:
        return Tensor("value", "BOOL", shape, list(values))
    if kinds == {int} and all(abs(value) < 2**63 for value in values if isinstance(value, int)):
        return Tensor("value", "INT64", shape, list(values))
    return Tensor("value", BYTES, shape, [None if value is None else class_key(value) for value in values])


def inputs_of(features: Mapping[str, str]) -> list[dict[str, Any]]:
    """The inputs of a model as its metadata tells them: one a column."""
    kinds = {"numeric": "FP64", "boolean": "BOOL"}
    return [
        {"name": name, "datatype": kinds.get(kind, BYTES), "shape": [-1]} for name, kind in features.items()
    ]
