"""Every setting of an installation, in one place. Only :mod:`everlearn.wiring` reads it.

Settings come from the environment; nothing else is read, and nothing is read when this module is
imported. :func:`describe` lists them for the documentation and for ``everlearn settings``.
"""

from __future__ import annotations

import os
import secrets
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from everlearn.errors import Fault, InvalidError

PREFIX = "EVERLEARN_"
KEY_BYTES = 32
LogLevel = Literal["TRACE", "DEBUG", "INFO", "WARNING", "ERROR"]


class Settings(BaseSettings):
    """What can be set, from the environment (``EVERLEARN_PORT=9000``) or by keyword (``port=9000``)."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        populate_by_name=True,
        hide_input_in_errors=True,
    )

    data: Path = Field(
        default=Path("everlearn-data"),
        description="Folder that holds everything of an embedded installation.",
    )
    database_url: str | None = Field(
        default=None, description="SQLAlchemy URL of the database; default: SQLite in the data folder."
    )
    database_synchronous: Literal["FULL", "NORMAL"] = Field(
        default="FULL", description="SQLite's promise at power loss: FULL keeps every acknowledged event."
    )
    artifacts: Path | None = Field(
        default=None, description="Folder of the stored versions; default: artifacts in the data folder."
    )
    threshold: float = Field(
        default=0.8,
        validation_alias=AliasChoices("PERFORMANCE_THRESHOLD"),
        description="Performance that a model must keep where its spec does not say.",
    )
    api_key: SecretStr | None = Field(
        default=None, description="The API key; default: made on first start and kept in the file key."
    )
    api_key_file: Path | None = Field(default=None, description="File that holds the API key instead.")
    mlflow_tracking_uri: str | None = Field(
        default=None,
        validation_alias=AliasChoices("MLFLOW_TRACKING_URI"),
        description="MLflow store to mirror to; default: SQLite in the data folder; off: no mirror.",
    )
    host: str = Field(default="127.0.0.1", description="Address that the API listens on.")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(
        default=8000, description="Port that the API listens on; 0 picks a free one."
    )
    workers: Annotated[int, Field(ge=1, le=64)] = Field(default=1, description="Number of API processes.")
    max_body_mb: Annotated[int, Field(ge=1)] = Field(
        default=64, description="Largest request body, in MiB (uploads too)."
    )
    log_level: LogLevel = Field(default="INFO", description="TRACE, DEBUG, INFO, WARNING or ERROR.")
    log_json: bool = Field(default=False, description="Log lines as JSON objects.")
    poll_seconds: Annotated[float, Field(gt=0, le=5)] = Field(
        default=0.03,
        description="How often an idle worker looks for new events, in seconds "
        "(five times as long after 2 s without any).",
    )
    lease_seconds: Annotated[float, Field(ge=1)] = Field(
        default=15.0, description="After how many seconds without a heartbeat a job is taken over."
    )
    tick_seconds: Annotated[float, Field(ge=1)] = Field(
        default=10.0, description="How often time enters the log of models that need it, in seconds."
    )

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, value: Any) -> Any:
        return value.upper() if isinstance(value, str) else value

    @classmethod
    def load(cls, **overrides: Any) -> Settings:
        """Settings from the environment, with overrides; ``None`` overrides nothing.

        Raises :class:`~everlearn.errors.InvalidError` that names every setting at fault, never its value.
        """
        given = {name: value for name, value in overrides.items() if value is not None}
        try:
            return cls(**given)
        except ValidationError as error:
            raise _settings_error(error) from None

    @property
    def database(self) -> str:
        """The database URL in force."""
        return self.database_url or f"sqlite:///{self.data.absolute() / 'everlearn.db'}"

    @property
    def artifacts_folder(self) -> Path:
        """The folder of stored versions in force."""
        return (self.artifacts or self.data / "artifacts").absolute()

    @property
    def mlflow_uri(self) -> str | None:
        """The MLflow store in force, or ``None`` when the mirror is off."""
        if self.mlflow_tracking_uri is None:
            return f"sqlite:///{self.data.absolute() / 'mlflow.db'}"
        return (
            None if self.mlflow_tracking_uri.strip().lower() in ("off", "none") else self.mlflow_tracking_uri
        )

    @property
    def key_path(self) -> Path:
        """The file that holds the API key, unless it is set outright."""
        return self.api_key_file or self.data / "key"

    def environment(self) -> dict[str, str]:
        """The settings that are not at their defaults as variables, for a child process."""
        values = {}
        for name in self.model_fields_set:
            value = getattr(self, name)
            if value is not None and name in type(self).model_fields:
                plain = value.get_secret_value() if isinstance(value, SecretStr) else value
                values[variable_of(name)] = str(plain.absolute() if isinstance(plain, Path) else plain)
        return values


@dataclass(frozen=True, slots=True)
class SettingInfo:
    """One setting as the documentation shows it."""

    field: str
    variable: str
    default: str
    description: str


def variable_of(field: str) -> str:
    """The environment variable of a field."""
    alias = Settings.model_fields[field].validation_alias
    return str(alias.choices[0]) if isinstance(alias, AliasChoices) else f"{PREFIX}{field.upper()}"


def describe() -> list[SettingInfo]:
    """Every setting with its variable, default and meaning."""
    return [
        SettingInfo(
            name, variable_of(name), "" if info.default is None else str(info.default), info.description or ""
        )
        for name, info in Settings.model_fields.items()
    ]


def read_key(settings: Settings) -> str | None:
    """The API key in force, or ``None`` if there is none yet. Raises InvalidError for an empty one."""
    if settings.api_key is not None:
        return _usable(settings.api_key.get_secret_value(), variable_of("api_key"))
    if not settings.key_path.is_file():
        if settings.api_key_file is not None:
            raise InvalidError(
                f"{variable_of('api_key_file')} names {settings.api_key_file}, which is not there: "
                "write the key into it, or unset the variable"
            )
        return None
    return _usable(settings.key_path.read_text(encoding="utf-8"), str(settings.key_path))


def make_key(settings: Settings) -> tuple[str, bool]:
    """The API key, made from 256 random bits when there is none; and whether it was made now.

    Two processes that make one at once end with the same key.
    """
    known = read_key(settings)
    if known is not None:
        return known, False
    key = secrets.token_urlsafe(KEY_BYTES)
    settings.data.mkdir(parents=True, exist_ok=True)
    handle, draft = tempfile.mkstemp(dir=settings.data, prefix=".key-")  # mkstemp: mode 600 from birth
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(key + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, settings.key_path)  # whole or not at all, and never over another's key
    except FileExistsError:
        return str(read_key(settings)), False
    finally:
        os.unlink(draft)
    return key, True


def _usable(key: str, where: str) -> str:
    key = key.strip()
    if len(key) < 16 or not key.isascii() or any(c.isspace() for c in key):
        raise InvalidError(
            f"The API key in {where} is not usable: it needs 16 or more ASCII characters without spaces "
            "(for example from: openssl rand -base64 32)"
        )
    return key


def _settings_error(error: ValidationError) -> InvalidError:
    faults = []
    for item in error.errors(include_url=False, include_input=False):
        first = str(item["loc"][0]) if item["loc"] else ""
        name = variable_of(first) if first in Settings.model_fields else first
        faults.append(Fault(name, item["msg"]))
    listed = "; ".join(f"{fault.field}: {fault.message}" for fault in faults)
    return InvalidError(f"A setting is not valid: {listed}", faults)
