"""Pages as Streamlit runs them, without a browser: what they show, and what a role may do on them."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from streamlit.testing.v1 import AppTest

from everlearn.dashboard.logins import Login, Me

pytestmark = pytest.mark.slow

VIEWER = {"role": "viewer", "everywhere": ["read"]}
SPEC = {
    "task": "classification",
    "target": "bought",
    "features": {"age": "numeric", "member": "boolean", "colour": "categorical"},
    "learner": {"name": "window"},
}
TIMELINE = {"points": [], "marks": [], "regimes": [], "rows_per_window": 100, "metric": "accuracy"}


def run_page(name, login, query):
    """What AppTest runs, as text: one page on its own."""
    import streamlit as st

    from everlearn.dashboard.desk import Desk
    from everlearn.dashboard.shell import PAGES

    for key, value in query.items():
        st.query_params[key] = value
    desk = Desk(login)
    links = {each: st.Page(lambda: None, title=each, url_path=each) for each in PAGES}
    st.navigation(list(links.values()))
    desk.pages.update(links)
    PAGES[name][0].show(desk)


@pytest.fixture
def show(admin: dict[str, Any], answering: Any) -> Callable[..., AppTest]:
    """Show a page to someone, before an API that answers from a table."""

    def open_page(
        page: str, answers: dict[str, Any], me: dict[str, Any] | None = None, **query: str
    ) -> AppTest:
        login = Login(answering(answers), Me.read({**admin, **(me or {})}), None, "key")
        kwargs = {"name": page, "login": login, "query": query}
        return AppTest.from_function(run_page, kwargs=kwargs, default_timeout=30).run()

    return open_page


def overview(*cards: dict[str, Any]) -> dict[str, Any]:
    counts: dict[str, int] = {}
    for card in cards:
        counts[card["state"]] = counts.get(card["state"], 0) + 1
    return {"GET /v1/overview": {"items": list(cards), "next": None, "total": len(cards), "counts": counts}}


def told(page: AppTest) -> str:
    """All HTML of a page."""
    assert not page.exception, page.exception
    return "\n".join(str(element.proto.body) for element in page.get("html"))


def test_the_overview_shows_a_card_a_model(show: Any, card: dict[str, Any]) -> None:
    page = show("overview", overview(card, {**card, "name": "spam", "state": "degraded"}))
    assert "1 of 2 models is in trouble." in told(page)
    assert "Degraded" in told(page)
    labels = [link.proto.label for link in page.get("page_link")]
    assert labels == ["shop", "spam"]


def test_without_a_model_the_overview_says_what_to_do(show: Any) -> None:
    assert "everlearn models create" in told(show("overview", overview()))


def test_when_the_server_is_down_a_page_says_so_and_tries_again(show: Any) -> None:
    page = show("overview", {"GET /v1/overview": 503})
    assert "The server does not answer" in told(page)
    assert "Try again" in [button.label for button in page.button]


def test_what_one_may_not_see_is_said(show: Any) -> None:
    assert "You may not see this" in told(show("overview", {"GET /v1/overview": 403}))


def test_a_log_in_that_is_over_leads_to_a_new_one(show: Any) -> None:
    assert 'href="/login"' in told(show("overview", {"GET /v1/overview": 401}))


def test_foreign_names_stay_text(show: Any, card: dict[str, Any], evil: str) -> None:
    last = {**card["last_decision"], "reason": evil}
    page = show("overview", overview({**card, "name": evil, "last_decision": last}))
    assert evil not in told(page)
    assert page.get("page_link")[0].proto.label.startswith("\\<img")


def model_answers(card: dict[str, Any]) -> dict[str, Any]:
    return {
        **overview(card),
        "GET /v1/models/shop/timeline": TIMELINE,
        "GET /v1/models/shop/versions": {"items": [], "next": None},
        "GET /v1/models/shop": {"spec": SPEC, "name": "shop"},
    }


def test_a_viewer_sees_the_actions_but_cannot_use_them(show: Any, card: dict[str, Any]) -> None:
    page = show("model", model_answers(card), VIEWER, model="shop")
    acts = [button for button in page.button if button.label in ("Retrain", "Roll back", "Freeze")]
    assert len(acts) == 3
    assert all(button.disabled for button in acts)
    assert any("does not allow this" in caption.value for caption in page.caption)


def test_a_grant_for_one_model_is_enough_to_act_on_it(show: Any, card: dict[str, Any]) -> None:
    granted = {**VIEWER, "models": {"shop": ["operate", "read"]}}
    page = show("model", model_answers(card), granted, model="shop")
    assert not any(button.disabled for button in page.button if button.label == "Retrain")


def test_a_frozen_model_is_offered_to_be_unfrozen(show: Any, card: dict[str, Any]) -> None:
    page = show("model", model_answers({**card, "state": "frozen"}), model="shop")
    assert "Unfreeze" in [button.label for button in page.button]
    assert "The first point appears once a window of labels has matured (100 rows)" in told(page)


def test_the_form_has_a_field_for_each_feature(show: Any, card: dict[str, Any]) -> None:
    page = show("try-it", model_answers(card), model="shop")
    assert [field.label for field in page.text_input] == ["age", "colour"]
    assert "member" in [field.label for field in page.selectbox]


def test_the_admin_page_is_for_administrators(show: Any) -> None:
    assert "for administrators" in told(show("admin", {}, VIEWER))


def test_a_job_that_went_wrong_shows_its_error_as_text(show: Any, card: dict[str, Any], evil: str) -> None:
    job = {"id": "shop-3", "kind": "train", "queue": "train", "version": 3, "state": "dead", "progress": 0.2}
    job |= {"attempts": 3, "error": evil, "created_at": "2024-05-01T12:00:00Z"}
    answers = {**overview(card), "GET /v1/models/shop/jobs": {"items": [job], "next": None}}
    page = show("jobs", answers, model="shop")
    assert "Given up" in told(page)
    assert evil not in told(page)
    assert "Retry" in [button.label for button in page.button]


GATE = {"frame": "image", "camera": "categorical"}
FRAME: dict[str, Any] = {
    "id": "f1",
    "row": 1,
    "at": "2024-05-01T12:00:00Z",
    "version": 3,
    "image": "0" * 64,
    "features": {"camera": "gate 3", "brightness": 0.5},
    "boxes": [{"class": "car", "x1": 10.0, "y1": 20.0, "x2": 60.0, "y2": 50.0, "score": 0.91}],
    "truth": None,
}


def png() -> httpx.Response:
    from PIL import Image

    target = io.BytesIO()
    Image.new("RGB", (320, 200)).save(target, "PNG")
    return httpx.Response(200, content=target.getvalue())


def frame_answers(card: dict[str, Any], *frames: dict[str, Any], **changes: Any) -> dict[str, Any]:
    one = frames[0] if frames else FRAME
    return {
        **overview({**card, "name": "gate", "task": "detection"}, card),
        "GET /v1/models/gate": {"spec": {"task": "detection", "features": GATE}, "name": "gate"},
        "GET /v1/models/gate/frames": {"items": list(frames), "next": None},
        f"GET /v1/models/gate/frames/{one['id']}": one,
        f"GET /v1/models/gate/frames/{one['id']}/image": lambda *_: png(),
        **changes,
    }


def test_frames_are_shown_with_what_was_answered(show: Any, card: dict[str, Any]) -> None:
    page = show("frames", frame_answers(card, FRAME), model="gate")
    assert [link.proto.label for link in page.get("page_link")] == ["f1"]
    for text in ("car 0.91", "No truth yet", "1 car · score 0.91", "version 3"):
        assert text in told(page)
    assert page.selectbox[0].options == ["gate"]  # the other model has no frames


def test_the_frames_to_be_labelled_are_asked_for(show: Any, card: dict[str, Any]) -> None:
    asked: list[dict[str, str]] = []

    def answer(request: httpx.Request, _: str) -> dict[str, Any]:
        asked.append(dict(request.url.params))
        return {"items": [], "next": "700" if len(asked) == 3 else None}

    answers = frame_answers(card, **{"GET /v1/models/gate/frames": answer})
    page = show("frames", answers, model="gate")
    assert "No frames yet" in told(page)
    page.segmented_control[0].set_value("No truth yet").run()
    assert "No frame fits" in told(page)
    page.selectbox[1].set_value(0.5).run()
    assert [(each.get("truth"), each.get("below"), each.get("cursor")) for each in asked] == [
        (None, None, None),
        ("unknown", None, None),
        ("unknown", "0.5", None),
        ("unknown", "0.5", "700"),  # an empty page that is not the last
    ]


def test_an_image_that_was_removed_leaves_the_frame(show: Any, card: dict[str, Any]) -> None:
    answers = frame_answers(card, FRAME, **{"GET /v1/models/gate/frames/f1/image": 404})
    assert "Its image was removed" in told(show("frames", answers, model="gate"))
    page = show("frames", answers, model="gate", frame="f1")
    assert "Its image was removed" in told(page)
    assert "Send the true boxes" not in [button.label for button in page.button]


def test_a_viewer_may_not_tell_what_is_true(show: Any, card: dict[str, Any]) -> None:
    page = show("frames", frame_answers(card, FRAME), VIEWER, model="gate", frame="f1")
    assert [button.disabled for button in page.button if button.label == "Send the true boxes"] == [True]
    assert any("permission to label" in caption.value for caption in page.caption)
    granted = {**VIEWER, "models": {"gate": ["label", "read"]}}
    page = show("frames", frame_answers(card, FRAME), granted, model="gate", frame="f1")
    assert [button.disabled for button in page.button if button.label == "Send the true boxes"] == [False]


@pytest.mark.parametrize(
    ("truth", "word", "receipt", "says"),
    [
        (None, "Send the true boxes", {"accepted": 1}, "Stored:"),
        ([], "Replace the true boxes", {"accepted": 1}, "Stored:"),
        (None, "Send the true boxes", {"duplicate": 1}, "Known already:"),
        (None, "Send the true boxes", {"conflict": ["f1"]}, "somebody told other boxes meanwhile"),
    ],
)
def test_nothing_on_a_frame_is_told_as_no_boxes(
    show: Any, card: dict[str, Any], truth: Any, word: str, receipt: dict[str, Any], says: str
) -> None:
    sent: list[Any] = []

    def take(request: httpx.Request, _: str) -> dict[str, Any]:
        sent.append(json.loads(request.content))
        return {"accepted": 0, "duplicate": 0, "conflict": [], "parked": [], **receipt}

    answers = frame_answers(card, {**FRAME, "truth": truth}, **{"POST /v1/models/gate/frames/f1/boxes": take})
    page = show("frames", answers, model="gate", frame="f1")
    page.checkbox[0].check().run()
    next(button for button in page.button if button.label == word).click().run()
    assert sent == [{"boxes": [], "correction": truth is not None}]
    assert says in told(page)


def test_without_a_detector_the_page_says_what_it_is_for(show: Any, card: dict[str, Any]) -> None:
    assert "No detector here" in told(show("frames", overview(card)))
    page = show("frames", frame_answers(card, FRAME), model="shop")
    assert "shop is for classification and has no frames." in told(page)


def test_a_detector_is_tried_with_an_image(show: Any, card: dict[str, Any]) -> None:
    page = show("try-it", frame_answers(card), model="gate")
    assert [field.label for field in page.text_input] == ["camera"]
    assert "Find the objects" in [button.label for button in page.button]
