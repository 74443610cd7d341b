"""Rows of one short request in another protocol's form: checked, answered, recorded as ever."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import Request, Response
from starlette.concurrency import run_in_threadpool

from everlearn.api.answers import FEW, Answers, FreshIds, Recorder
from everlearn.api.idempotency import digest_of, key_of
from everlearn.api.parts import Door
from everlearn.api.runtime import Served
from everlearn.api.tables_guard import TooLargeError
from everlearn.errors import Fault, InvalidError, UnavailableError
from everlearn.predictor import Baseline

MAX_ROWS = 10_000


@dataclass(frozen=True, slots=True)
class Short:
    """Answers, and what gave them."""

    served: Served
    answers: Answers


async def answer_rows(
    door: Door,
    request: Request,
    served: Served,
    rows: Sequence[Mapping[str, Any]],
    ids: list[str] | None = None,
) -> Short:
    """Answer rows with what is served. An ``Idempotency-Key`` without ids gets a repeat the same answers.

    Raises UnavailableError where the model has no answer that another protocol could carry.
    """
    if not rows:
        raise InvalidError("The request has no rows: send at least one", [Fault("rows", "is empty")])
    if len(rows) > MAX_ROWS:
        message = f"are {len(rows)}: send at most {MAX_ROWS} a request"
        raise TooLargeError(f"The rows {message}", [Fault("rows", message)])
    check_knows(served)
    check = served.schema.check
    checked = await run_in_threadpool(check, rows) if len(rows) > FEW else check(rows)
    if ids is None:
        ids = await _seeded(door, request, len(rows))
    recorder = Recorder(door, served, fresh=ids is None)
    return Short(served, await recorder.record_few(checked.rows, ids or FreshIds().take(0, len(rows))))


def check_knows(served: Served) -> None:
    """Raise UnavailableError while a model knows nothing, or withholds its answers."""
    predictor, name = served.predictor, served.spec.name
    if isinstance(predictor, Baseline) and predictor.output.value is None:
        raise UnavailableError(f"Model {name!r} has learned nothing yet: send it labels or history first")
    if served.withholding:
        raise UnavailableError(
            f"Model {name!r} withholds its answers while its performance is under its floor"
        )


async def _seeded(door: Door, request: Request, count: int) -> list[str] | None:
    """Ids that follow from the ``Idempotency-Key`` and the body; ``None`` without a key."""
    key = key_of(request)
    if key is None:
        return None
    digest = digest_of(request, await request.body())
    if await door.idempotency.recall(request, key, digest) is None:
        await door.idempotency.remember(request, key, digest, Response(status_code=204))
    seed = hashlib.sha256(f"{request.url.path}\0{key}\0{digest}".encode()).hexdigest()[:32]
    return [f"{seed}-{i}" for i in range(count)]
