"""Pictures of every page of the dashboard, with real data: wide and narrow, light and dark.

    python bench/screenshots.py [--out FOLDER] [--quick] [--seed N] [--json]

It starts an installation of its own, plays the electricity market through it, and saves pictures of every
page (``FOLDER/PAGE-wide-light.png``, ...; default: a new temporary folder). Needs Chromium and Playwright.

``--json`` prints one object:

folder          where the pictures are
pictures        how many there are
overflowing     pages that scroll sideways, by the names of their pictures
console_errors  what the pages complained about
seconds         of everything
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dashboard_world import PASSWORD, DashboardWorld, add_users, make_demand, make_elec, settle
from frames_world import make_frames
from live_elec import DEFAULT_FILE

SIZES = {"wide": (1280, 900), "narrow": (390, 844)}
SCHEMES = ("light", "dark")
TALLEST = 3200
PATIENCE = 120_000
"""Milliseconds that a page may take on a machine that does much else."""
PAGES = {
    "overview": "/",
    "model": "/model?model=elec",
    "model-candidate": "/model?model=elec&part=Candidate",
    "model-regimes": "/model?model=elec&part=Regimes",
    "model-labels": "/model?model=elec&part=Labels",
    "model-drift": "/model?model=elec&part=Drift",
    "model-segments": "/model?model=elec&part=Segments",
    "model-sources": "/model?model=elec&part=Sources",
    "model-new": "/model?model=fresh",
    "decisions": "/decisions?model=elec",
    "decision": "/decisions?model=elec&number={promotion}",
    "what-if": "/what-if?model=elec&run={run}",
    "try-it": "/try-it?model=demand",
    "try-it-detector": "/try-it?model=gate",
    "frames": "/frames?model=gate",
    "frame": "/frames?model=gate&frame=frame-003",
    "jobs": "/jobs?model=elec",
    "admin-users": "/admin?admin-part=Users",
    "admin-keys": "/admin?admin-part=Keys",
    "admin-audit": "/admin?admin-part=Audit",
}


def fill(world: DashboardWorld, file: Path, rows: int) -> dict[str, str]:
    """Models in several states; what the addresses of the pages need."""
    with world.client() as client:
        client.create_model(
            {"name": "fresh", "target": "y", "features": {"x": "numeric", "kind": "categorical"}}
        )
        make_elec(client, file, rows)
        run = client.what_if("elec", policies=["threshold", "never"])["id"] if rows else ""
        make_demand(client, file, min(rows, 1200))
        make_elec(client, file, 700, "elec-frozen", threshold=0.85)
        client.freeze("elec-frozen", "the new meters are being checked")
        make_frames(world.data)
        add_users(client)
        client.create_key("the shop's checkout", ["predict", "label"], models=["elec"])
        deadline = time.monotonic() + 240
        while client.what_if_report("elec", run)["state"] in ("queued", "running"):
            if time.monotonic() > deadline:
                break
            time.sleep(1)
        settle(client, "elec")
        promoted = list(client.decisions("elec", "promote", limit=10))
        return {"run": run, "promotion": str(promoted[0]["number"] if promoted else 1)}


@contextmanager
def browsing() -> Iterator[Any]:
    """Debian's Chromium. Raises SystemExit where it or Playwright is missing."""
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        raise SystemExit("Playwright is missing: pip install playwright") from None
    path = shutil.which("chromium")
    if path is None:
        raise SystemExit("Chromium is missing: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


def log_in(page: Any, base: str, name: str = "admin") -> None:
    """Log in as a user of the world."""
    page.goto(f"{base}/login")
    page.fill("#name", name)
    page.fill("#password", PASSWORD)
    page.press("#password", "Enter")
    ready(page)


def ready(page: Any) -> None:
    """Wait until a page has been drawn."""
    page.wait_for_selector("[data-testid=stMainBlockContainer] h1", timeout=PATIENCE)
    page.wait_for_function(
        "!document.querySelector('[data-testid=stSkeleton]')"
        " && document.querySelector('[data-testid=stApp]').dataset.testScriptState !== 'running'",
        timeout=PATIENCE,
    )
    page.wait_for_timeout(700)


def shoot(world: DashboardWorld, addresses: dict[str, str], folder: Path) -> dict[str, Any]:
    """All pictures; what was wrong with them."""
    errors: list[str] = []
    wide: list[str] = []
    count = 0
    with browsing() as browser:
        for size, (width, height) in SIZES.items():
            for scheme in SCHEMES:
                context = browser.new_context(
                    viewport={"width": width, "height": height}, color_scheme=scheme, reduced_motion="reduce"
                )
                page = context.new_page()
                page.on("console", lambda m: errors.append(m.text) if m.type == "error" else None)
                page.goto(f"{world.dashboard}/login")
                page.screenshot(path=folder / f"log-in-{size}-{scheme}.png")
                log_in(page, world.dashboard)
                for name, address in PAGES.items():
                    page.goto(world.dashboard + address.format(**addresses))
                    ready(page)
                    if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
                        wide.append(f"{name}-{size}-{scheme}")
                    whole = page.evaluate("document.querySelector('[data-testid=stMain]').scrollHeight")
                    page.set_viewport_size({"width": width, "height": max(height, min(int(whole), TALLEST))})
                    page.wait_for_timeout(600)
                    page.screenshot(path=folder / f"{name}-{size}-{scheme}.png")
                    page.set_viewport_size({"width": width, "height": height})
                    count += 1
                    print(f"{name}-{size}-{scheme}", file=sys.stderr)
                context.close()
    return {"pictures": count + 4, "overflowing": wide, "console_errors": errors}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, help="folder for the pictures")
    parser.add_argument("--data", type=Path, default=DEFAULT_FILE, help="the electricity data")
    parser.add_argument("--quick", action="store_true", help="a short stream")
    parser.add_argument("--seed", type=int, default=0, help="nothing here is drawn by chance")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    began = time.monotonic()
    folder = given.out or Path(tempfile.mkdtemp(prefix="everlearn-pictures-"))
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place, DashboardWorld(Path(place) / "data") as world:
        addresses = fill(world, given.data, 2600 if given.quick else 6000)
        found = shoot(world, addresses, folder)
    found = {"folder": str(folder), **found, "seconds": round(time.monotonic() - began, 1)}
    if given.json:
        print(json.dumps(found))
    else:
        for name, value in found.items():
            print(f"{name:15} {value}")


if __name__ == "__main__":
    main()
