"""How fast pages open: every aggregate of the API, and the dashboard's first page, over long logs.

    python bench/overview.py [--models N] [--events N] [--calls N] [--data FOLDER] [--no-browser]
                             [--seed N] [--quick] [--json]

An installation with ``models`` models and ``events`` events in all is made, or found in ``--data``: written
in bulk, folded for real; the first model has a tenth of all events. Then ``everlearn up`` is started, and
every aggregate is asked for ``calls`` times, one after the other, of model after model. Where Chromium,
Playwright and the dashboard are installed, its first page is opened.

``--json`` prints one object:

models, events   what the installation holds
build_seconds    how long making it took (0 if it was found)
aggregates       {route: {median_ms, p95_ms, worst_ms, cpu_ms, kb}}: through HTTP, from sending to the body's
                 end; ``cpu_ms``: processor time of the API a call, which a busy machine does not stretch
long_timeline    the same for the timeline of the first model, with its ``windows``
first_paint      {login_ms, first_ms, card_ms, again_ms} or null where there is no browser: from asking for
                 the page until something is painted, and until the first card is there; ``again``: next time
goals            {aggregates_under_100_ms, first_paint_under_2_s}
seed, quick, seconds
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table

from live_server import LiveServer, free_port
from many_models import api_process, cpu_seconds
from overview_world import build, name_of

ROUTES = {
    "overview": "/v1/overview",
    "timeline": "/v1/models/{model}/timeline",
    "matrix": "/v1/models/{model}/matrix",
    "maturity": "/v1/models/{model}/maturity",
    "drift": "/v1/models/{model}/drift",
    "trial": "/v1/models/{model}/trial",
    "segments": "/v1/models/{model}/segments",
    "decisions": "/v1/models/{model}/decisions?limit=50",
    "scores": "/v1/models/{model}/scores",
}
GOAL_MS = 100.0
PAINT_MS = 2000.0
WARM_SECONDS = 20.0
WARM_CALLS = 3


def measure(client: httpx.Client, path: str, models: int, calls: int, api: int) -> dict[str, float]:
    """Ask for a route of one model after the other; the times, and the processor time of ``api``."""
    took, size, used = [], 0, 0.0
    for call in range(calls + WARM_CALLS):
        if call == WARM_CALLS:  # the first ones open a connection and import what they need
            used = cpu_seconds(api)
        address = path.format(model=name_of(call % models))
        started = time.perf_counter()
        answer = client.get(address)
        took.append(1000.0 * (time.perf_counter() - started))
        answer.raise_for_status()
        size = max(size, len(answer.content))
    used = cpu_seconds(api) - used
    return {**summed(took[WARM_CALLS:], size), "cpu_ms": round(1000.0 * used / calls, 2)}


def summed(took: list[float], size: int) -> dict[str, float]:
    """Median, 95th percentile and worst of some times in ms, and the greatest answer in kB."""
    ordered = sorted(took)
    p95 = ordered[min(len(ordered) - 1, round(0.95 * len(ordered)))]
    figures = {"median_ms": statistics.median(ordered), "p95_ms": p95, "worst_ms": ordered[-1]}
    return {name: round(value, 2) for name, value in figures.items()} | {"kb": round(size / 1000, 1)}


@contextmanager
def dashboard_of(url: str) -> Iterator[str]:
    """The dashboard over a server, by itself."""
    port = free_port()
    command = [sys.executable, "-m", "everlearn.dashboard", "--url", url, "--port", str(port)]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sys.stderr)
    try:
        deadline = time.monotonic() + 60.0
        while time.monotonic() < deadline:
            try:
                if httpx.get(f"http://127.0.0.1:{port}/login", timeout=2.0).status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(0.2)
        time.sleep(WARM_SECONDS)  # as long as anybody takes to log in
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


def first_paint(base: str, key: str) -> dict[str, float]:
    """Log in with the key in a new browser, and open the first page twice."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page()
        login = timed(lambda: page.goto(f"{base}/login?with=key"))
        page.fill("#key", key)
        page.press("#key", "Enter")
        first = opened(page, base)
        again = opened(page, base)
        browser.close()
    return {"login_ms": login, **first, "again_ms": again["card_ms"]}


def opened(page: Any, base: str) -> dict[str, float]:
    """Open the first page; when something was painted, and when the first card was there."""
    page.wait_for_load_state("load")
    started = time.perf_counter()
    page.goto(base, wait_until="commit")
    page.get_by_text("model-0", exact=False).first.wait_for(timeout=60_000)
    card = 1000.0 * (time.perf_counter() - started)
    asked = "performance.getEntriesByName('first-contentful-paint').map(entry => entry.startTime)[0] || 0"
    return {"first_ms": round(page.evaluate(asked), 1), "card_ms": round(card, 1)}


def timed(act: Callable[[], Any]) -> float:
    """Milliseconds that an act takes."""
    started = time.perf_counter()
    act()
    return round(1000.0 * (time.perf_counter() - started), 1)


def browser_there() -> bool:
    """Whether there is all that the first page needs."""
    return bool(shutil.which("chromium")) and all(find_spec(m) for m in ("playwright", "streamlit"))


def goals(aggregates: dict[str, Any], long: dict[str, Any], paint: dict[str, float] | None) -> dict[str, Any]:
    """Whether every median and 95th percentile keeps the goal, and the page too (null: not opened)."""
    each = [*aggregates.values(), long]
    return {
        "aggregates_under_100_ms": all(one["p95_ms"] < GOAL_MS for one in each),
        "first_paint_under_2_s": None if paint is None else paint["card_ms"] < PAINT_MS,
    }


def run(asked: argparse.Namespace, folder: Path, console: Console) -> dict[str, Any]:
    """Make the installation, start it, ask."""
    data, made = folder / "data", folder / "made.json"
    if not made.is_file():
        built = build(data, asked.models, asked.events, asked.seed, console)
        made.write_text(json.dumps(built))
        build_seconds = built["seconds"]
    else:
        built, build_seconds = json.loads(made.read_text()), 0.0
    with LiveServer(data, mlflow=False) as server:
        headers = {"Authorization": f"Bearer {server.key}"}
        with httpx.Client(base_url=server.url, headers=headers, timeout=60.0) as client:
            settle(client, console)
            found, api = {}, api_process(server.pid)
            for name, path in ROUTES.items():
                found[name] = measure(client, path, built["models"], asked.calls, api)
                console.print(f"{name}: {found[name]}", style="dim")
            address = f"/v1/models/{name_of(0)}/timeline?points=200"
            long = measure(client, address, 1, asked.calls, api)
            long["windows"] = client.get(address).json()["windows"]
        paint = None
        if browser_there() and not asked.no_browser:
            with dashboard_of(server.url) as base:
                paint = first_paint(base, server.key)
    told = {"models": built["models"], "events": built["events"], "build_seconds": build_seconds}
    return {
        **told,
        "aggregates": found,
        "long_timeline": long,
        "first_paint": paint,
        "goals": goals(found, long, paint),
    }


def settle(client: httpx.Client, console: Console) -> None:
    """Wait until the loops have read all, and the baselines are filled in."""
    deadline = time.monotonic() + 300.0
    while time.monotonic() < deadline:
        page = client.get("/v1/overview?limit=1000").json()["items"]
        jobs = sum(not one["finished_at"] for m in page for one in _jobs(client, m["name"]))
        if not jobs and not any(one["lag_events"] for one in page):
            return
        console.print("waiting for the loops and their jobs", style="dim")
        time.sleep(3.0)


def _jobs(client: httpx.Client, model: str) -> list[dict[str, Any]]:
    return list(client.get(f"/v1/models/{model}/jobs?limit=5").json()["items"])


def show(told: dict[str, Any]) -> None:
    """Print it as a table."""
    table = Table("route", "median ms", "p95 ms", "worst ms", "CPU ms", "kB")
    rows = {
        **told["aggregates"],
        f"timeline of {told['long_timeline']['windows']} windows": told["long_timeline"],
    }
    for name, one in rows.items():
        table.add_row(name, *(str(one[key]) for key in ("median_ms", "p95_ms", "worst_ms", "cpu_ms", "kb")))
    console = Console()
    console.print(f"{told['models']} models, {told['events']:,} events")
    console.print(table)
    console.print(f"first paint: {told['first_paint']}")
    console.print(f"goals: {told['goals']}")


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", type=int, default=100)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--calls", type=int, default=100, help="how often each route is asked for")
    parser.add_argument("--data", type=Path, help="a folder to keep the installation in, or to find it in")
    parser.add_argument("--no-browser", action="store_true", help="leave the dashboard out")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="ten models with 20,000 events")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    if asked.quick:
        asked.models, asked.events, asked.calls = 10, 20_000, 20
    started, console = time.monotonic(), Console(stderr=True)
    with tempfile.TemporaryDirectory(prefix="everlearn-overview-") as temporary:
        told = run(asked, asked.data or Path(temporary), console)
    told |= {"seed": asked.seed, "quick": asked.quick, "seconds": round(time.monotonic() - started, 1)}
    print(json.dumps(told)) if asked.json else show(told)


if __name__ == "__main__":
    main()
