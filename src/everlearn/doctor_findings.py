"""What the doctor says of one thing."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from everlearn.wiring import Installation

State = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found about one thing. ``mend`` is the command or change that helps, if one is needed."""

    name: str
    state: State
    text: str
    mend: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The finding as JSON values."""
        return asdict(self)


def has_database(installation: Installation) -> bool:
    """Whether there is a database to look into; none is made."""
    settings = installation.settings
    return settings.database_url is not None or (settings.data / "everlearn.db").is_file()
