"""Texts of callers forge no header, no line of a log, and nothing on a terminal.

Guards: ``_SAFE_ID`` in ``api/middleware.py``, the patterns in ``access/names.py`` and ``spec.py``,
``one_line`` in the audit log and in ``logs.py``, and uvicorn's own check of header values. That logs hold no
features, labels or keys is in ``tests/api/test_security.py``; the audit log in ``tests/api/test_access.py``.
"""

from __future__ import annotations

import io
import json
from typing import Any
from urllib.parse import quote

import pytest
from loguru import logger

from everlearn import logs
from everlearn.cli import output, why

FORGED = "INJECTED"
TEXTS = [
    f"a\r\nSet-Cookie: {FORGED}=1", f"a\n{FORGED}: 1", f"a\r{FORGED}", f"a\x1b[2J\x1b[31m{FORGED}",
    f"\x9b2J{FORGED}", f"a\x00{FORGED}", f"a\u2028{FORGED}", f"a\u2029{FORGED}", f"a\x85{FORGED}",
    f"a\x0b\x0c{FORGED}", f"\u202e{FORGED}", f"{FORGED}\x7f\x08", f"<script>{FORGED}</script>",
    f"{{{FORGED}}}", f"<red>{FORGED}</red>", FORGED + "x" * 9000,
]  # fmt: skip


async def test_no_text_of_a_caller_becomes_a_header(api: Any) -> None:
    """In whatever field it is sent. Guards: the patterns of names; nothing else is put into a header."""
    spec = {"name": "m", "target": "y", "features": {"a": "numeric"}}
    for text in TEXTS:
        answers = [
            await api.get("/v1/models", headers={"X-Request-ID": text.encode("utf-8", "replace")}),
            await api.get(f"/v1/models/{quote(text)}"),
            await api.get("/v1/models", params={"cursor": text}),
            await api.post("/v1/models", json={**spec, "name": text}),
            await api.post("/v1/users", json={"name": text}),
            await api.post("/v1/keys", json={"name": text, "scopes": ["read"]}),
            await api.post("/v1/models/toy/predict", json={"row": {"a": 1}, "id": text}),
            await api.post(
                "/v1/models/toy/predict", json={"row": {"a": 1}}, headers={"Accept": text.encode()}
            ),
            await api.post("/v1/models/toy/freeze", params={"wait": 0}, json={"why": text[:1000]}),
            await api.post(
                "/v1/models/toy/predict", json={"row": {"a": 1}}, headers={"Idempotency-Key": text.encode()}
            ),
        ]
        for answer in answers:
            assert answer.status_code < 500, (text, answer.text)
            for name, value in answer.headers.items():
                assert FORGED not in name + value, (text, answer.request.url, name)
            assert len(answer.headers["x-request-id"]) == 32


async def test_names_that_could_forge_a_line_are_refused(api: Any) -> None:
    """Models, users and keys are named in logs, metrics and on terminals. Guards: the patterns of names."""
    spec = {"target": "y", "features": {"a": "numeric"}}
    for text in TEXTS:
        assert (await api.post("/v1/models", json={**spec, "name": text})).status_code == 422, text
        assert (await api.post("/v1/users", json={"name": text})).status_code == 422, text
        if not text.isprintable() or len(text) > 100:
            assert (await api.post("/v1/keys", json={"name": text, "scopes": ["read"]})).status_code == 422, (
                text
            )
            row = await api.post("/v1/models/toy/predict", json={"row": {"a": 1}, "id": text})
            assert row.status_code == 422, text


async def test_the_metrics_have_no_line_of_a_caller(api: Any) -> None:
    """Paths that are not there, odd methods and odd names add no series. Guard: ``template_of``."""
    before = len((await api.get("/metrics")).text.splitlines())
    for text in TEXTS:
        await api.get(f"/v1/models/{quote(text)}")
        await api.get(f"/{quote(text)}")
        await api.request("BREW", f"/v1/models/{quote(text)}")
    after = (await api.get("/metrics")).text
    assert FORGED not in after
    assert len(after.splitlines()) - before < 200


@pytest.mark.parametrize("as_json", [False, True])
def test_whatever_is_logged_stays_on_its_line(as_json: bool) -> None:
    """A reason or a library may quote a caller. Guards: ``logs._human`` and ``logs._JsonLines``."""
    for text in TEXTS:
        stream = io.StringIO()
        logs.setup("test", stream=stream, as_json=as_json)
        try:
            with logger.contextualize(request_id=text, model=text):
                logger.info("Refused: {}", text)
        finally:
            logger.remove()
        line = stream.getvalue()
        assert line.endswith("\n")
        assert line[:-1].replace("\x1b[2m", "").isprintable(), text
        assert len(line.splitlines()) == 1, text
        if as_json:
            assert FORGED in json.loads(line)["message"]


def test_nothing_of_a_caller_moves_the_cursor_of_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """As the command line shows a reason or a class. Guards: ``cli.output.safe`` and ``show_json``."""
    for text in TEXTS:
        output.table(("name", "value"), [(1, text), (2, {text: text})])
        output.pairs({"reason": text})
        output.show_json({"reason": text, text: [text]})
        why._show({"headline": text, "paragraph": text, "numbers": [], "why_not": text})
        shown = capsys.readouterr().out
        assert all(c.isprintable() or c == "\n" for c in shown), text
        assert FORGED in shown.replace("\n", "")
