"""A chart goes with what Discord gets, and never stands in its way."""

from __future__ import annotations

import json
from collections.abc import Callable
from email.parser import BytesParser
from typing import Any

import pytest

from everlearn.adapters.alerts.delivery import Alerting
from everlearn.adapters.alerts.notices import Notice
from everlearn.adapters.alerts.pictures import Illustrator, draw
from everlearn.adapters.memory import ManualClock, MemoryStore
from everlearn.spec import parse_spec
from everlearn.types import Decision, DecisionKind, ScorePoint, Step

PNG = b"\x89PNG\r\n\x1a\n"
SECRET = "a-secret-that-signs-what-is-told"


def point(number: int, score: float | None) -> ScorePoint:
    at = 1_700_000_000.0 + 600.0 * number
    low, high = (None, None) if score is None else (score - 0.05, score + 0.05)
    return ScorePoint(
        level=0, number=number, seq=number, at=at, row=number * 10, rows=10, first=number * 10 - 9,
        last=number * 10, score=score, lower=low, upper=high, low=low, high=high, no_change=None,
        threshold=0.8, champion=3,
    )  # fmt: skip


POINTS = [point(number, 0.9 - 0.01 * number) for number in range(1, 21)]
NOTICE = Notice("shop:7:rollback", "rollback", "shop", POINTS[-1].at, "it was worse", decision=7)


@pytest.fixture
def store() -> MemoryStore:
    """A model whose score has fallen under its threshold, and that was rolled back then."""
    store = MemoryStore()
    spec = {"name": "shop", "target": "y", "features": {"x": "numeric"}, "learner": "majority"}
    store.models.create(parse_spec(spec), 1.0)
    evidence = {"automatic": True}
    rolled = Decision(7, 1, POINTS[-1].at, DecisionKind.ROLLBACK, "it was worse", evidence, 3, "1")
    assert store.ledger.commit("shop", Step(0, 0, b"", (rolled,), points=POINTS))
    return store


@pytest.fixture
def told(store: MemoryStore, plan_of: Callable[..., Any]) -> Callable[..., None]:
    """Deliver to receivers what waits."""

    def deliver(*receivers: dict[str, Any], **more: Any) -> None:
        plan = plan_of(list(receivers), **more)
        clock = ManualClock(POINTS[-1].at)
        alerting = Alerting(store.outbox, store.ledger, plan, clock, scores=store.scores)
        for _ in range(20):
            alerting.run_once()
            clock.advance(60.0)

    return deliver


def parts_of(headers: dict[str, str], body: bytes) -> dict[str, bytes]:
    """The parts of a multipart body by their names."""
    message = BytesParser().parsebytes(
        b"Content-Type: " + headers["content-type"].encode() + b"\r\n\r\n" + body
    )
    found = {}
    for part in message.get_payload():
        assert not isinstance(part, str)
        name = part.get_param("name", header="content-disposition")
        found[str(name)] = part.get_payload(decode=True)
    return found  # type: ignore[return-value]


def test_discord_gets_a_chart_and_the_others_its_figures(
    told: Callable[..., None], fakes: Callable[..., Any]
) -> None:
    discord, slack, hook = fakes("/discord"), fakes("/slack"), fakes("/hook")
    told(
        {"name": "chat", "kind": "discord", "url": discord.url},
        {"name": "desk", "kind": "slack", "url": slack.url},
        {"name": "pager", "kind": "webhook", "url": hook.url, "secret": SECRET},
        link="https://everlearn.example.org/decisions?model={model}&number={decision}",
    )
    (taken,) = discord.taken
    parts = parts_of(*taken)
    embed = json.loads(parts["payload_json"])["embeds"][0]
    assert embed["image"] == {"url": "attachment://score.png"}
    assert parts["files[0]"].startswith(PNG)
    assert len(parts["files[0]"]) < 60_000
    fields = {field["name"]: field["value"] for field in embed["fields"]}
    assert (fields["score"], fields["threshold"]) == ("0.7", "0.8")
    assert fields["action"] == "the version before answers again"
    assert fields["why"] == "`everlearn why shop 7`"
    assert embed["url"] == "https://everlearn.example.org/decisions?model=shop&number=7"
    assert "*score* 0.7" in json.dumps(slack.bodies[0])
    assert hook.bodies[0]["data"]["facts"]["threshold"] == 0.8


def test_a_chart_that_is_refused_is_left_out(told: Callable[..., None], fakes: Callable[..., Any]) -> None:
    discord = fakes("/discord")
    discord.script = [(429, {"Retry-After": "1"}), 503, 413, 204]
    told({"name": "chat", "kind": "discord", "url": discord.url})
    ((headers, body),) = discord.taken
    assert headers["content-type"] == "application/json"
    assert "image" not in json.loads(body)["embeds"][0]
    assert discord.asked == 4


@pytest.mark.parametrize("trouble", ["no matplotlib", "no score", "a broken store"])
def test_without_a_chart_it_is_told_all_the_same(
    trouble: str,
    store: MemoryStore,
    told: Callable[..., None],
    fakes: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if trouble == "no matplotlib":
        monkeypatch.setattr("everlearn.adapters.alerts.pictures.find_spec", lambda _: None)
    elif trouble == "no score":
        monkeypatch.setattr(store.scores, "points", lambda *_: [point(1, None)])
    else:
        monkeypatch.setattr(store.scores, "span", lambda *_, **__: 1 / 0)
    discord = fakes("/discord")
    told({"name": "chat", "kind": "discord", "url": discord.url})
    ((headers, body),) = discord.taken
    assert headers["content-type"] == "application/json"
    assert json.loads(body)["embeds"][0]["title"] == "🔴 shop: rolled back"


def test_a_chart_is_drawn_once_however_often_it_is_sent(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    adorn = Illustrator(store.scores)
    first = adorn(NOTICE, True)
    assert (first.picture or b"").startswith(PNG)
    monkeypatch.setattr(store.scores, "span", lambda *_, **__: 1 / 0)
    assert adorn(NOTICE, True) is first
    assert Illustrator(MemoryStore().scores)(NOTICE, True) == NOTICE  # a model that is gone meanwhile


def test_a_chart_is_small_and_of_no_display() -> None:
    import sys

    picture = draw(POINTS, NOTICE)
    width, height = int.from_bytes(picture[16:20], "big"), int.from_bytes(picture[20:24], "big")
    assert (width, height) == (480, 200)
    assert draw(POINTS, NOTICE) == picture
    assert "tkinter" not in sys.modules
