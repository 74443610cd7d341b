"""The Grafana dashboards, one a module; :mod:`boards.parts` has what they are made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from grafana_foundation_sdk.builders.dashboard import Dashboard

from boards.fleet import fleet
from boards.model import model
from boards.operations import operations

BOARDS: Mapping[str, Callable[[], Dashboard]] = {"operations": operations, "model": model, "fleet": fleet}
"""Each dashboard by the name of its file."""
