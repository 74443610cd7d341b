"""``everlearn report``: one file that tells of a model and a period, and stands by itself."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Never

import httpx
import pytest

from everlearn.adapters.memory import ManualClock, MemoryStore
from everlearn.api.app import create_app
from everlearn.api.auth import ApiKey
from everlearn.cli import model_report
from everlearn.cli.model_report import gather, moment
from everlearn.cli.model_report_figure import rounded
from everlearn.cli.model_report_page import page
from everlearn.client import Client
from everlearn.errors import InvalidError, MissingExtraError, NotFoundError, UnavailableError
from everlearn.spec import parse_spec
from everlearn.types import Decision, DecisionKind, ScorePoint, Step

START = 1_700_000_000.0
NAME = "shop"
HOSTILE = '<img src=x onerror="alert(1)"> & "more"'


class Parts(MemoryStore):
    """A store with a clock."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock(START + 86_400.0)


class Through(httpx.BaseTransport):
    """To an app in this process."""

    def __init__(self, app: Any) -> None:
        self._app = app

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        async def answer() -> httpx.Response:
            asked = httpx.Request(
                request.method, request.url, headers=request.headers, content=request.read()
            )
            found = await httpx.ASGITransport(self._app).handle_async_request(asked)
            return httpx.Response(found.status_code, headers=found.headers, content=await found.aread())

        return asyncio.run(answer())


@pytest.fixture
def facts() -> dict[str, Any]:
    """What the API tells of a model with forty windows and some decisions, with hostile reasons."""
    parts = Parts()
    spec = {"name": NAME, "target": "y", "features": {"age": "numeric"}, "description": HOSTILE}
    parts.models.create(parse_spec(spec), START)
    evidence: dict[str, Any] = {}
    kinds = [DecisionKind.CONFIGURE, DecisionKind.HOLD, DecisionKind.WARN, DecisionKind.UPDATE]
    decisions = [
        Decision(n, 1, START + 3600.0 * n, kind, f"because {n} {HOSTILE}", evidence)
        for n, kind in enumerate(kinds, 1)
    ]
    points = [
        ScorePoint(
            level=0, number=n, seq=n, at=START + 2000.0 * n, row=100 * n, rows=100, first=1, last=2,
            score=0.7 + n / 200, lower=0.6 + n / 200, upper=0.8 + n / 200, low=0.7, high=0.9, no_change=0.5,
            threshold=0.8, champion=0, never_updated=0.6 if n < 20 else None,
        )
        for n in range(1, 41)
    ]  # fmt: skip
    parts.ledger.commit(NAME, Step(0, 1, b"", decisions, points=points))
    app = create_app(parts, authenticator=ApiKey("k" * 32))
    with Client("http://test", key="k" * 32, transport=Through(app)) as client:
        with pytest.raises(NotFoundError):
            gather(client, "other", None, START)
        return gather(client, NAME, START, START + 90_000.0)


class Tags(HTMLParser):
    """The tags of a page with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_the_page_stands_by_itself_and_says_what_was_decided(facts: dict[str, Any]) -> None:
    text = page(facts)
    tags = Tags(text).found
    assert not [tag for tag, _ in tags if tag in ("script", "img", "link", "iframe", "object")]
    assert not [
        name for _, given in tags for name in given if name in ("src", "href") or name.startswith("on")
    ]
    assert not re.findall(r"url\(|@import|https?://(?!www\.w3\.org/2000/svg)", text)
    assert "&lt;img src=x" in text
    assert "1 warn" in text
    assert "because 2" not in text  # a hold is no news
    assert [given["aria-label"] for tag, given in tags if tag == "svg"]
    assert 'class="ink-never_updated"' in text
    assert "@media print" in text
    assert "prefers-color-scheme:dark" in text


def test_history_that_came_all_at_once_is_drawn_by_rows(facts: dict[str, Any]) -> None:
    assert "row 4,000" not in page(facts)
    points = [{**point, "at": facts["timeline"]["points"][0]["at"]} for point in facts["timeline"]["points"]]
    assert "row 4,000" in page({**facts, "timeline": {**facts["timeline"], "points": points}})


def test_a_period_without_windows_says_so(facts: dict[str, Any]) -> None:
    text = page({**facts, "timeline": {**facts["timeline"], "points": []}, "decisions": []})
    assert "No window of matured rows closed in this period" in text
    assert "Nothing was decided in this period" in text


def test_times(facts: dict[str, Any]) -> None:
    assert moment("7d", START, "--since") == START - 7 * 86_400
    assert moment("2023-11-14T22:13:20+00:00", 0.0, "--since") == START
    assert facts["since"] == "2023-11-14T22:13:20.000000Z"
    with pytest.raises(InvalidError, match="--since: 'soon' is no time: write 12h, 7d"):
        moment("soon", START, "--since")
    assert rounded(0.5, 0.5)[0] <= 0.5 < rounded(0.5, 0.5)[1]


def test_what_is_missing_for_a_pdf_is_named(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "weasyprint", None)
    ended = run("report", NAME, "--pdf")
    assert (ended.code, "pip install 'everlearn[pdf]'" in ended.err) == (1, True)
    with pytest.raises(MissingExtraError):
        model_report.need_weasyprint()
    both = run("report", NAME, "--pdf", "--html")
    assert "two files" in both.err


def test_a_pdf(facts: dict[str, Any], tmp_path: Path, miss: Callable[[str], Never]) -> None:
    try:
        model_report.need_weasyprint()
    except (MissingExtraError, UnavailableError) as error:
        miss(str(error))
    model_report.write_pdf(page(facts), tmp_path / "report.pdf")
    data = (tmp_path / "report.pdf").read_bytes()
    assert data.startswith(b"%PDF-")
    assert len(data) > 5000
    assert json.dumps(facts)
