"""The dashboard in Debian's Chromium, before the real stack: every role, every page, every act."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.xdist_group("dashboard")]

ROWS = 1300
"""Enough of the stream for a promotion that was proven."""
GRAVE = ("serious", "critical")
EVERY_PAGE = {
    "Overview": "/",
    "Model": "/model?model=elec",
    "Candidate": "/model?model=elec&part=Candidate",
    "Regimes": "/model?model=elec&part=Regimes",
    "Labels": "/model?model=elec&part=Labels",
    "Drift": "/model?model=elec&part=Drift",
    "Segments": "/model?model=elec&part=Segments",
    "Sources": "/model?model=elec&part=Sources",
    "A new model": "/model?model=fresh",
    "Decisions": "/decisions?model=elec",
    "A decision": "/decisions?model=elec&number=1",
    "What if": "/what-if?model=elec",
    "Try it": "/try-it?model=elec",
    "Try it with an image": "/try-it?model=gate",
    "Frames": "/frames?model=gate",
    "A frame": "/frames?model=gate&frame=frame-011",
    "Jobs": "/jobs?model=elec",
    "Users": "/admin?admin-part=Users",
    "Keys": "/admin?admin-part=Keys",
    "Audit": "/admin?admin-part=Audit",
}


@pytest.fixture(scope="module")
def bench(root: Path) -> Iterator[Callable[[str], Any]]:
    """The benchmarks' modules, which know how to fill an installation and how to open its pages."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(root / "bench")
        yield import_module


@pytest.fixture(scope="module")
def world(
    bench: Any, shared_data: Any, tmp_path_factory: pytest.TempPathFactory, module_database: None
) -> Iterator[Any]:
    """An installation in which a version was promoted on real data, with a user of each role."""
    file = shared_data("elec.csv")
    made = bench("dashboard_world")
    with made.DashboardWorld(tmp_path_factory.mktemp("world") / "data") as running, running.client() as api:
        api.create_model({"name": "fresh", "target": "y", "features": {"x": "numeric"}})
        made.make_elec(api, file, ROWS)
        made.add_users(api)
        bench("frames_world").make_frames(running.data, 12)
        assert list(api.decisions("elec", "promote")), "no version was promoted"
        yield running


@pytest.fixture(scope="module")
def browser(miss: Callable[[str], Any]) -> Iterator[Any]:
    """Chromium, as Debian has it."""
    path = shutil.which("chromium")
    if path is None:
        miss("Chromium is missing: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def visit(browser: Any, world: Any, bench: Any) -> Iterator[Callable[..., Any]]:
    """Log in as a user and get a page; what it complained about fails the test."""
    opened: list[tuple[Any, list[str]]] = []

    def log_in(name: str = "admin", **options: Any) -> Any:
        context = browser.new_context(
            viewport={"width": 1280, "height": 900}, reduced_motion="reduce", **options
        )
        page = context.new_page()
        page.set_default_timeout(90_000)
        errors: list[str] = []
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("dialog", lambda dialog: errors.append(f"a dialog: {dialog.message}"))
        opened.append((context, errors))
        bench("screenshots").log_in(page, world.dashboard, name)
        return page

    yield log_in
    for context, errors in opened:
        context.close()
        assert errors == []


@pytest.fixture
def go(world: Any, bench: Any) -> Callable[[Any, str], Any]:
    """Open an address and wait until its page is drawn."""

    def open_page(page: Any, address: str) -> Any:
        page.goto(world.dashboard + address)
        bench("screenshots").ready(page)
        return page

    return open_page


@pytest.fixture
def api(world: Any) -> Iterator[Any]:
    """What the dashboard did, as the API tells it."""
    with world.client() as client:
        yield client


def newest(api: Any, kind: str) -> Any:
    return next(iter(api.decisions("elec", kind, limit=1)), {"number": 0})


def confirm(page: Any, title: str, why: str | None = None) -> None:
    """Say yes to what the page asks, and wait until it is done."""
    dialog = page.get_by_role("dialog")
    dialog.wait_for()
    if why is not None:
        field = dialog.get_by_role("textbox")
        field.fill(why)
        field.blur()
    dialog.get_by_role("button", name=title, exact=True).click()
    page.get_by_text("Done:").wait_for()


def test_one_logs_in_by_keyboard_alone(browser: Any, world: Any, bench: Any) -> None:
    page = browser.new_context().new_page()
    page.goto(f"{world.dashboard}/model?model=elec")
    assert "/login" in page.url
    page.keyboard.type("admin")  # the first field has the focus
    page.keyboard.press("Tab")
    page.keyboard.type(bench("dashboard_world").PASSWORD)
    page.keyboard.press("Enter")
    bench("screenshots").ready(page)
    assert page.url.endswith("/model?model=elec")  # where one wanted to go
    page.context.close()


def test_a_wrong_password_is_said_and_a_key_is_a_way_in(browser: Any, world: Any, bench: Any) -> None:
    page = browser.new_context().new_page()
    page.goto(f"{world.dashboard}/login")
    page.fill("#name", "admin")
    page.fill("#password", "not this one")
    page.keyboard.press("Enter")
    page.get_by_role("alert").wait_for()
    page.get_by_role("link", name="API key").click()
    page.fill("#key", world.key)
    page.keyboard.press("Enter")
    bench("screenshots").ready(page)
    storage = page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])")
    assert world.key not in storage
    page.reload()
    bench("screenshots").ready(page)  # a reload keeps the log-in
    page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_can_be_used_by_everyone(visit: Any, go: Any, scheme: str) -> None:
    from axe_playwright_python.sync_playwright import Axe

    page = visit("admin", color_scheme=scheme)
    found = []
    for name, address in EVERY_PAGE.items():
        go(page, address)
        for fault in Axe().run(page).response["violations"]:
            if fault["impact"] in GRAVE:
                where = [node["html"][:160] for node in fault["nodes"][:3]]
                found.append((name, fault["id"], where))
    assert found == []


def test_the_log_in_page_can_be_used_by_everyone(browser: Any, world: Any) -> None:
    from axe_playwright_python.sync_playwright import Axe

    for scheme in ("light", "dark"):
        page = browser.new_context(color_scheme=scheme).new_page()
        for way in ("user", "key", "invitation"):
            page.goto(f"{world.dashboard}/login?with={way}")
            faults = [v["id"] for v in Axe().run(page).response["violations"] if v["impact"] in GRAVE]
            assert faults == []
        page.context.close()


def test_no_page_scrolls_sideways_on_a_phone(visit: Any, go: Any) -> None:
    page = visit("admin")
    page.set_viewport_size({"width": 390, "height": 844})
    for name, address in EVERY_PAGE.items():
        go(page, address)
        wide = page.evaluate(
            "[document.documentElement, document.querySelector('[data-testid=stMain]')]"
            ".some(e => e.scrollWidth > e.clientWidth + 1)"
        )
        assert not wide, name


def test_the_overview_leads_to_the_model(visit: Any, go: Any, bench: Any) -> None:
    page = go(visit("viewer"), "/")
    page.get_by_role("link", name="elec", exact=True).click()
    page.get_by_role("heading", name="Score over time").wait_for()
    assert "model=elec" in page.url
    bench("screenshots").ready(page)
    chart = page.locator("[data-testid=stVegaLiteChart]").first
    chart.wait_for()
    assert "accuracy over" in (page.content())


def test_a_viewer_looks_and_cannot_act(visit: Any, go: Any) -> None:
    page = go(visit("viewer"), "/model?model=elec")
    for act in ("Retrain", "Roll back", "Freeze"):
        assert page.get_by_role("button", name=act).is_disabled()
    assert page.get_by_role("link", name="Admin").count() == 0
    go(page, "/try-it?model=elec")
    assert page.get_by_role("button", name="Predict").is_disabled()


def test_an_operator_freezes_and_unfreezes(visit: Any, go: Any, api: Any, evil: str) -> None:
    page = go(visit("operator"), "/model?model=elec")
    page.get_by_role("button", name="Freeze").click()
    confirm(page, "Freeze", f"a check {evil}")
    assert api.model("elec")["state"] == "frozen"
    assert newest(api, "freeze")["evidence"]["why"] == f"a check {evil}"
    go(page, "/decisions?model=elec")
    page.get_by_text("a check <img").first.wait_for()  # as text: visit() fails on a dialog
    assert page.locator("img[src=x]").count() == 0
    go(page, "/model?model=elec")
    page.get_by_role("button", name="Unfreeze").click()
    confirm(page, "Unfreeze", "checked")
    assert newest(api, "unfreeze")["number"] > newest(api, "freeze")["number"]


def test_an_operator_retrains_promotes_and_rolls_back(visit: Any, go: Any, api: Any, bench: Any) -> None:
    page = go(visit("operator"), "/model?model=elec")
    before = newest(api, "update")["number"]
    page.get_by_role("button", name="Retrain").click()
    confirm(page, "Retrain", "a look at the new meters")
    assert newest(api, "update")["number"] > before
    bench("dashboard_world").settle(api, "elec")
    champion = api.model("elec")["champion"]
    go(page, "/model?model=elec&part=Versions")
    page.get_by_role("button", name="Promote …").click()
    dialog = page.get_by_role("dialog")
    dialog.wait_for()
    dialog.get_by_role("button", name="Promote version").click()
    page.get_by_text("Done:").wait_for()
    promoted = api.model("elec")["champion"]
    assert promoted != champion
    page.get_by_role("button", name="Roll back").click()
    confirm(page, "Roll back", "that was too early")
    assert api.model("elec")["champion"] == champion
    assert newest(api, "rollback")["number"] > newest(api, "promote")["number"]


def test_an_operator_asks_and_tells_the_truth(visit: Any, go: Any, api: Any) -> None:
    page = go(visit("operator"), "/try-it?model=elec")
    log = api.model("elec")["log"]
    page.get_by_label("nswprice", exact=True).fill("0.05")
    page.get_by_label("nswdemand", exact=True).fill("much")
    page.get_by_role("button", name="Predict").click()
    page.get_by_text("'much' is no number").wait_for()
    page.get_by_label("nswdemand", exact=True).fill("0.43")
    page.get_by_role("button", name="Predict").click()
    page.get_by_text("by version").wait_for()
    page.get_by_label("The true value").fill("UP")
    page.get_by_role("button", name="Send the label").click()
    page.get_by_text("Stored.").wait_for()
    after = api.model("elec")["log"]
    assert (after["rows"] - log["rows"], after["labels"] - log["labels"]) == (1, 1)


def test_an_operator_loads_history(visit: Any, go: Any, api: Any, tmp_path: Path) -> None:
    (tmp_path / "past.csv").write_text("x,y\n1,a\n2,b\n3,a\n")
    page = go(visit("operator"), "/try-it?model=fresh")
    page.locator("input[type=file]").set_input_files(tmp_path / "past.csv")
    page.get_by_role("button", name="Load past.csv").click()
    page.get_by_text("3 rows stored").wait_for()
    assert api.model("fresh")["log"]["examples"] == 3


def test_an_operator_replays_a_decision(visit: Any, go: Any, api: Any) -> None:
    number = list(api.decisions("elec", "promote"))[-1]["number"]
    page = go(visit("operator"), f"/decisions?model=elec&number={number}")
    page.get_by_role("heading", name="The evidence").wait_for()
    page.get_by_role("button", name="Replay this decision").click()
    page.get_by_text("Identical.").wait_for(timeout=120_000)


def test_an_operator_asks_what_if_and_cancels_it(visit: Any, go: Any, api: Any) -> None:
    page = go(visit("operator"), "/what-if?model=elec")
    page.get_by_role("button", name="Play it again").click()
    page.wait_for_url("**/what-if?*run=*")
    run = page.url.split("run=")[1][:12]
    page.get_by_role("button", name="Cancel").click()
    deadline = time.monotonic() + 60
    while api.what_if_report("elec", run)["state"] in ("queued", "running"):
        assert time.monotonic() < deadline
        time.sleep(0.3)
    go(page, "/jobs?model=elec")
    page.get_by_text("Cancelled").first.wait_for()
    page.get_by_role("button", name="Retry").first.click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="Retry the job").click()
    page.get_by_text("Done:").wait_for()


def test_a_labeller_finds_a_frame_and_tells_what_is_true(visit: Any, go: Any, api: Any, bench: Any) -> None:
    page = go(visit("operator"), "/frames?model=gate")
    page.get_by_text("No truth yet", exact=True).first.click()  # the filter
    page.get_by_text("frame-005").wait_for(state="hidden")  # its truth was told
    page.get_by_role("link", name="frame-011").click()
    page.get_by_role("heading", name="frame-011").wait_for()
    bench("screenshots").ready(page)
    assert (
        page.get_by_role("img", name="Frame frame-011").locator("img").evaluate("i => i.naturalWidth") == 320
    )
    row(page, "star", "30", "40", "90", "80")
    page.get_by_role("img", name="1 star").wait_for()  # it is drawn before it is sent
    page.get_by_role("button", name="Send the true boxes").click()
    page.get_by_text("Stored:").wait_for()
    page.get_by_role("button", name="Replace the true boxes").wait_for()
    found = api.recorded_frame("gate", "frame-011")
    assert {"class": "star", "x1": 30.0, "y1": 40.0, "x2": 90.0, "y2": 80.0} in found["truth"]
    assert len(found["truth"]) == len(found["boxes"]) + 1


def row(page: Any, *cells: str) -> None:
    """Add a row to the table of boxes, at the pace of a person."""
    table = page.locator("[data-testid=stDataFrame]")
    table.scroll_into_view_if_needed()
    box = table.bounding_box()
    page.mouse.click(box["x"] + 80, box["y"] + box["height"] - 16)  # the empty row opens its first cell
    for place, cell in enumerate(cells):
        if place:
            page.keyboard.press("Enter")
        page.wait_for_timeout(800)
        page.keyboard.type(cell, delay=80)
        page.keyboard.press("Tab")
        page.wait_for_timeout(800)


def test_the_address_is_that_of_the_frame_or_decision(visit: Any, go: Any) -> None:
    page = visit("viewer")
    for address, link, part in (
        ("/frames?model=gate", "frame-008", "frame=frame-008"),
        ("/decisions?model=gate", "1 · Configured", "number=1"),
    ):
        go(page, address)
        page.get_by_role("link", name=link, exact=True).click()
        page.wait_for_url(f"**{part}")
        page.go_back()
        page.wait_for_url(f"**{address}")
        page.get_by_role("link", name=link, exact=True).wait_for()


def test_a_frame_with_nothing_on_it_is_told_so(visit: Any, go: Any, api: Any) -> None:
    page = go(visit("operator"), "/frames?model=gate&frame=frame-010")
    page.get_by_text("Nothing is on it").click()
    page.get_by_role("img", name="True: nothing").wait_for()
    page.get_by_role("button", name="Send the true boxes").click()
    page.get_by_text("Stored:").wait_for()
    assert api.recorded_frame("gate", "frame-010")["truth"] == []


def test_a_viewer_sees_frames_and_tells_nothing(visit: Any, go: Any) -> None:
    page = go(visit("viewer"), "/frames?model=gate&frame=frame-009")
    assert page.get_by_role("button", name="Send the true boxes").is_disabled()
    assert page.locator("[data-testid=stDataFrame]").count() == 0
    go(page, "/frames?model=gate&frame=nothing-of-the-kind")
    page.get_by_text("It is not there").wait_for()


def test_an_administrator_keeps_users_and_keys(visit: Any, go: Any, api: Any) -> None:
    page = go(visit("admin"), "/admin?admin-part=Users")
    page.get_by_text("Add a user").click()
    page.get_by_label("Name", exact=True).fill("bob")
    page.get_by_role("button", name="Add", exact=True).click()
    page.get_by_text("Invited.").wait_for()
    assert "evi_" in page.locator("code").first.inner_text()
    assert api.user("bob")["role"] == "viewer"
    go(page, "/admin?admin-part=Keys")
    page.get_by_text("Make a key").click()
    page.get_by_label("What it is for").fill("the till")
    page.get_by_role("button", name="Make the key").click()
    page.get_by_text("The key was made.").wait_for()
    secret = page.locator("code").first.inner_text().strip()
    with_it = {key["name"]: key for key in list(api.keys())}["the till"]
    assert with_it["state"] == "active"
    go(page, "/admin?admin-part=Keys")
    assert secret not in page.content()
    page.get_by_role("button", name="Revoke …").click()
    confirm(page, "Revoke the key")
    assert {key["name"]: key["state"] for key in list(api.keys())}["the till"] == "revoked"
    go(page, "/admin?admin-part=Audit")
    page.get_by_text("POST /v1/keys").first.wait_for()


def test_logging_out_ends_it(visit: Any, world: Any) -> None:
    page = visit("viewer")
    page.get_by_role("link", name="Log out").click()
    page.wait_for_url("**/login")
    page.goto(world.dashboard)
    assert "/login" in page.url


def test_its_death_does_not_disturb_serving(world: Any, api: Any) -> None:
    before = world.member("everlearn.dashboard")
    os.kill(before, signal.SIGKILL)
    assert api.predict("elec", [{"nswprice": 0.05}]).values
    deadline = time.monotonic() + 60
    while True:
        try:
            if world.member("everlearn.dashboard") != before:
                break
        except (LookupError, OSError):
            time.sleep(0.2)
        assert time.monotonic() < deadline
    environment = Path(f"/proc/{world.member('everlearn.dashboard')}/environ").read_text()
    assert world.key not in environment  # it gets no secret
