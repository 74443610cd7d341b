"""``everlearn report``: a model over a period, as one file to read, to print or to send."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from everlearn.cli.options import Data, Json, Key, Model, Url
from everlearn.errors import InvalidError, MissingExtraError, UnavailableError

if TYPE_CHECKING:
    from everlearn.client import Client

POINTS = 240
MOST_DECISIONS = 300
MOST_VERSIONS = 200
QUIET = ("hold",)


def report(
    model: Model,
    since: Annotated[
        str, typer.Option("--since", help="From when on: 12h, 7d, 4w, a date, or all.", metavar="WHEN")
    ] = "7d",
    until: Annotated[
        str | None,
        typer.Option("--until", help="Up to when (default: now); like --since.", metavar="WHEN"),
    ] = None,
    html: Annotated[bool, typer.Option("--html", help="Write HTML (the default).")] = False,
    pdf: Annotated[bool, typer.Option("--pdf", help="Write a PDF; needs the extra pdf.")] = False,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="The file; default: MODEL-report.html or .pdf here."),
    ] = None,
    url: Url = None,
    key: Key = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Write a report of a model: its score against the threshold, what was decided and why, and what it cost.

    The file stands by itself: no script, no picture beside it, no other host. --json prints the facts.
    """
    from everlearn.cli.connection import connect
    from everlearn.cli.output import show_json

    if html and pdf:
        raise InvalidError("--html and --pdf are two files: write one after the other")
    if pdf:
        need_weasyprint()
    now = time.time()
    span = moment(since, now, "--since"), now if until is None else moment(until, now, "--until") or now
    with connect(url, key, data) as client:
        facts = gather(client, model, *span)
    if as_json:
        show_json(facts)
        return
    from everlearn.cli.model_report_page import page

    path = output or Path(f"{model}-report.{'pdf' if pdf else 'html'}")
    if pdf:
        write_pdf(page(facts), path)
    else:
        path.write_text(page(facts), encoding="utf-8")
    typer.echo(f"wrote {path}")


def moment(text: str, now: float, option: str) -> float | None:
    """The time that ``7d`` (ago), a date or a time means; ``None`` for ``all``.

    >>> moment("1d", 100_000.0, "--since"), moment("1970-01-02", 0.0, "--since"), moment("all", 0.0, "")
    (13600.0, 86400.0, None)

    Raises InvalidError for anything else.
    """
    from everlearn.spec import parse_duration

    if text == "all":
        return None
    try:
        return now - parse_duration(text)
    except ValueError:
        pass
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        message = f"{option}: {text!r} is no time: write 12h, 7d, 4w, a date such as 2025-01-31, or all"
        raise InvalidError(message) from None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def gather(client: Client, model: str, since: float | None, until: float) -> dict[str, Any]:
    """All that the report tells, from the API alone."""
    told = client.model(model)
    course = client.timeline(model, points=POINTS, since=since, until=until)
    page = client.decisions_page(model, since=since, until=until, limit=MOST_DECISIONS)
    return {
        "model": model,
        "description": told["spec"].get("description") or "",
        "written_at": _iso(time.time()),
        "since": None if since is None else _iso(since),
        "until": _iso(until),
        "card": card_of(client, model),
        "spec": told["spec"],
        "timeline": course,
        "decisions": page["items"],
        "more_decisions": page["next"] is not None,
        "versions": _versions(client, model, since, until),
        "maturity": client.maturity(model),
        "drift": client.drift(model),
        "matrix": client.matrix(model),
        "segments": client.segments(model),
        "alerts": told["scores"].get("alerts", {}),
    }


def card_of(client: Client, model: str) -> Mapping[str, Any]:
    """The model's card, wherever it stands in the overview."""
    cursor: str | None = None
    while True:
        page = client.overview(limit=1000, cursor=cursor)
        for card in page["items"]:
            if card["name"] == model:
                found: Mapping[str, Any] = card
                return found
        cursor = page["next"]
        if cursor is None:
            raise UnavailableError(f"{model} has left the overview meanwhile: try again")


def _versions(client: Client, model: str, since: float | None, until: float) -> list[Mapping[str, Any]]:
    """The versions that were made in the period, and the champion; newest first."""
    first, last = _iso(since or 0.0), _iso(until)
    champion = client.model(model)["champion"]
    page = client.versions_page(model, limit=MOST_VERSIONS)["items"]
    return [v for v in page if first <= v["created_at"] <= last or v["number"] == champion]


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def need_weasyprint() -> None:
    """Raise MissingExtraError, or UnavailableError where the libraries that it draws with are missing."""
    try:
        with warnings.catch_warnings():  # without HarfBuzz's subsetting it draws all the same, and says so
            warnings.simplefilter("ignore", DeprecationWarning)
            import weasyprint  # type: ignore[import-untyped]  # noqa: F401
    except ModuleNotFoundError:
        raise MissingExtraError("--pdf", "pdf") from None
    except OSError as error:
        raise UnavailableError(
            f"--pdf needs Pango ({str(error).splitlines()[0]}): apt-get install libpango-1.0-0 "
            "libpangoft2-1.0-0 libharfbuzz-subset0; or write --html and print it"
        ) from None


def write_pdf(text: str, path: Path) -> None:
    """Print a page to a PDF; nothing is fetched from anywhere."""
    from weasyprint import HTML

    HTML(string=text, url_fetcher=_refuse).write_pdf(path)


def _refuse(url: str, *_: Any, **__: Any) -> Any:
    raise UnavailableError(f"the report asks for {url}, and must stand by itself")
