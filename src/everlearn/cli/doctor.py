"""``everlearn doctor``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from everlearn.cli.options import Data, Json

if TYPE_CHECKING:
    from everlearn.doctor_findings import Finding

SIGNS = {"ok": "ok  ", "warn": "warn", "fail": "FAIL"}


def doctor(data: Data = None, as_json: Json = False) -> None:
    """Look at everything an installation needs; exits 1 if something is broken."""
    from everlearn.cli.output import show_json
    from everlearn.doctor import examine
    from everlearn.wiring import Installation

    installation = Installation.load(data=data)
    found: list[Finding] = []
    for finding in examine(installation):
        found.append(finding)
        if not as_json:
            typer.echo(f"{SIGNS[finding.state]}  {finding.name:<11}  {finding.text}")
            if finding.mend and finding.state != "ok":
                typer.echo(f"{'':<17}  -> {finding.mend}")
    installation.close()
    broken = [finding.name for finding in found if finding.state == "fail"]
    if as_json:
        show_json({"ok": not broken, "checks": [finding.to_dict() for finding in found]})
    if broken:
        raise typer.Exit(1)
