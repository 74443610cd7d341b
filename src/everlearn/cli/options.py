"""Options that many commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
Data = Annotated[
    Path | None,
    typer.Option("--data", help="Data folder (EVERLEARN_DATA, else everlearn-data).", show_default=False),
]
Url = Annotated[
    str | None,
    typer.Option("--url", help="The server (EVERLEARN_URL, else the data folder's).", show_default=False),
]
Key = Annotated[
    str | None,
    typer.Option("--key", help="API key (EVERLEARN_API_KEY, else the data folder's).", show_default=False),
]
Model = Annotated[str, typer.Argument(help="Name of the model.", metavar="MODEL", show_default=False)]
Why = Annotated[str | None, typer.Option("--why", help="A reason, kept in the log.", show_default=False)]
Wait = Annotated[float, typer.Option("--wait", min=0, max=60, help="Seconds to wait for the decision.")]
