"""One log: readable lines or JSON, with request id and model, without the values of variables."""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Iterator

import pytest
from loguru import logger

from everlearn import logs


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    logging.captureWarnings(False)
    root.handlers[:], root.level = handlers, level
    logger.remove()


def test_lines_for_people_name_part_request_and_model() -> None:
    out = io.StringIO()
    logs.setup("api", stream=out)
    with logger.contextualize(request_id="r-1", model="spam"):
        logger.info("served {} rows", 3)
    logger.info("braces {{}} and <red>tags</red> are harmless")
    first, second = out.getvalue().splitlines()
    assert "INFO    api       served 3 rows" in first
    assert first.endswith("[request_id=r-1 model=spam]")
    assert "<red>tags</red>" in second
    assert "[" not in second


def test_a_model_name_with_markup_does_not_break_the_line() -> None:
    out = io.StringIO()
    logs.setup("api", stream=out)
    with logger.contextualize(model="<b>{x}"):
        logger.info("ok")
    assert out.getvalue().endswith("[model=<b>{x}]\n")


def test_json_lines_for_machines() -> None:
    out = io.StringIO()
    logs.setup("worker", as_json=True, stream=out)
    with logger.contextualize(request_id="r-1", model="spam"):
        logger.warning("several\nlines")
    line = json.loads(out.getvalue())
    assert out.getvalue().count("\n") == 1
    assert (line["level"], line["message"], line["part"]) == ("warning", "several\nlines", "worker")
    assert (line["request_id"], line["model"]) == ("r-1", "spam")
    assert line["at"].endswith("Z")


@pytest.mark.parametrize("as_json", [False, True])
def test_tracebacks_do_not_show_the_values_of_variables(as_json: bool) -> None:
    out = io.StringIO()
    logs.setup("api", as_json=as_json, stream=out)

    def fails(password: str) -> None:
        raise RuntimeError("no luck")

    try:
        fails("hunter" + "2")
    except RuntimeError as error:
        logger.opt(exception=error).error("it failed")
    assert "no luck" in out.getvalue()
    assert "hunter2" not in out.getvalue()


def test_the_standard_library_and_warnings_log_here_too() -> None:
    out = io.StringIO()
    logs.setup("api", as_json=True, stream=out)
    logging.getLogger("uvicorn.error").info("started with %s", {"a": "{b}"})
    logging.getLogger("alembic.runtime").info("not of interest")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("look out", UserWarning, stacklevel=1)
    messages = [json.loads(line)["message"] for line in out.getvalue().splitlines()]
    assert messages[0] == "started with {'a': '{b}'}"
    assert len(messages) == 2
    assert "look out" in messages[1]


def test_the_level_holds() -> None:
    out = io.StringIO()
    logs.setup("api", level="WARNING", stream=out)
    logger.info("no")
    logging.getLogger("some").info("no")
    logger.warning("yes")
    assert out.getvalue().count("\n") == 1
