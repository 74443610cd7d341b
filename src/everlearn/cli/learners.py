"""``everlearn learners``: what a spec can name, what each is good for, and how fast it is here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from everlearn.cli.options import Json

Name = Annotated[str | None, typer.Argument(help="Show one in full: its parameters and what they mean.")]
Speed = Annotated[bool, typer.Option("--speed/--no-speed", help="Measure each on this machine (seconds).")]


def learners(name: Name = None, speed: Speed = True, as_json: Json = False) -> None:
    """List the learners that a spec can name, with their speed on this machine; needs no server."""
    from everlearn.cli.output import show_json
    from everlearn.learners import ahead, names

    if speed and not name:
        ahead.main()  # compiles, and says so, where nothing has been compiled yet
    items = described([name] if name else names(), speed=speed, quiet=as_json)
    if as_json:
        show_json({"items": items})
    elif name:
        _show_one(items[0])
    else:
        _show_all(items, speed)


def described(names: list[str], *, speed: bool, quiet: bool) -> list[dict[str, Any]]:
    """Each learner as it describes itself; one whose extra is missing has ``missing``: how to install it."""
    from everlearn.cli.gauge import gauge
    from everlearn.cli.output import progress
    from everlearn.errors import InvalidError, MissingExtraError
    from everlearn.learners import describe

    items = []
    with progress("Measuring the learners", quiet=quiet or not speed) as tell:
        for number, name in enumerate(names):
            tell(number, len(names))
            item: dict[str, Any] = {"name": name}
            try:
                item |= describe(name)
            except (ImportError, MissingExtraError) as error:
                item["missing"] = str(error)
                continue
            finally:
                items.append(item)
            try:
                item |= gauge(name) if speed else {}
            except (InvalidError, ImportError, MissingExtraError) as error:
                item["missing"] = str(error)
    return items


def _show_all(items: list[dict[str, Any]], speed: bool) -> None:
    from everlearn.cli.output import console, table

    measured = ("rows/s", "row us", "kB") if speed else ()
    rows = [
        (item["name"], item.get("prefers"), *(_figures(item) if speed else ()), _text(item)) for item in items
    ]
    table(("learner", "prefers", *measured, "good for"), rows)
    if speed:
        console().print(
            "rows/s: answered and learned, in batches of 100; row us: one row answered alone; kB: kept. "
            "8 numbers a row, 2 classes.\n'everlearn learners NAME' shows parameters, and what one cannot do."
        )


def _figures(item: Mapping[str, Any]) -> tuple[object, ...]:
    return tuple(item.get(key) for key in ("rows_per_second", "predict_us", "state_kb"))


def _text(item: Mapping[str, Any]) -> str:
    return str(item.get("missing") or item.get("good_for") or item.get("summary", ""))


def _show_one(item: Mapping[str, Any]) -> None:
    from everlearn.cli.output import console, pairs, table

    facts = {
        "learner": item["name"],
        "summary": item.get("summary"),
        "good for": item.get("good_for"),
        "cannot": item.get("cannot"),
        "prefers": item.get("prefers"),
        "rows a second": item.get("rows_per_second"),
        "one row, us": item.get("predict_us"),
        "state, kB": item.get("state_kb"),
        "missing": item.get("missing"),
    }
    pairs({key: value for key, value in facts.items() if value not in (None, "")})
    if "parameters" in item:
        table(("parameter", "default"), [(key, repr(value)) for key, value in item["parameters"].items()])
        console().print(f"\n{item['text']}")
