"""``everlearn what-if MODEL --workers``: the workers of the server play, a job for each setting."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from everlearn.errors import EverlearnError

if TYPE_CHECKING:
    from everlearn.client import Client
    from everlearn.loop.whatif import WhatIf

POLL_SECONDS = 0.5


def play(
    model: str,
    choices: Mapping[str, list[str]],
    price: float | None,
    url: str | None,
    key: str | None,
    data: Path | None,
    quiet: bool,
) -> WhatIf:
    """Ask for it, and wait for the report; when interrupted, what is not done is cancelled.

    Raises EverlearnError where a job of it failed, and says which.
    """
    from everlearn.cli.connection import connect
    from everlearn.loop.whatif_settings import parse_choice

    parsed = {kind: [parse_choice(text, f"--{kind}") for text in texts] for kind, texts in choices.items()}
    with connect(url, key, data) as client:
        asked = client.what_if(model, parsed["policy"], parsed["learner"], parsed["gate"], price)
        try:
            report = _wait(client, model, asked["id"], quiet)
        except BaseException:
            client.cancel_what_if(model, asked["id"])
            raise
        spec = client.model(model)["spec"]
    return _report(report, spec)


def _wait(client: Client, model: str, group: str, quiet: bool) -> Mapping[str, Any]:
    from everlearn.cli.output import progress

    with progress(f"what if: {model}", quiet=quiet) as told:
        while True:
            found = client.what_if_report(model, group)
            told(round(found["progress"] * 1000), 1000)
            if found["state"] == "done":
                report: Mapping[str, Any] = found["report"]
                return report
            wrong = [job for job in found["jobs"] if job["state"] in ("failed", "dead", "cancelled")]
            if wrong:
                name, error = wrong[0]["arguments"]["name"], wrong[0]["error"]
                raise EverlearnError(f"The setting {name!r} could not be played: {error}")
            time.sleep(POLL_SECONDS)


def _report(found: Mapping[str, Any], spec: Mapping[str, Any]) -> WhatIf:
    from everlearn.loop.whatif import Played, WhatIf
    from everlearn.spec import parse_spec

    lines = [Played(**{**line, "marks": [tuple(m) for m in line["marks"]]}) for line in found["settings"]]
    kept = {name: found[name] for name in ("rows", "events", "labels", "price", "seconds", "notes")}
    return WhatIf(parse_spec(spec), lines=lines, **kept)
