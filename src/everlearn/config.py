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

from everlearn.access.secrets import MIN_PASSWORD, MIN_SIGNING, weakness
from everlearn.errors import Fault, InvalidError

PREFIX = "EVERLEARN_"
KEY_BYTES = 32
MIN_KEY = 16
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
        default="NORMAL",
        description="SQLite's promise at a power cut: NORMAL may lose the last tenth of a second (but see "
        "durability in a model's spec), FULL flushes every commit to disk before it is answered.",
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
    token_secret: SecretStr | None = Field(
        default=None,
        description="Secrets that sign logins, the newest first, with commas between; "
        "default: made on first start and kept in the file token-secret.",
    )
    token_secret_file: Path | None = Field(
        default=None, description="File that holds the secrets that sign logins instead."
    )
    admin_password: SecretStr | None = Field(
        default=None,
        description="Password of the first user, admin, where there are no users yet; "
        "default: the first start prints an invitation.",
    )
    admin_password_file: Path | None = Field(
        default=None, description="File that holds the password of the first user instead."
    )
    rate_limit: Annotated[float, Field(ge=0)] = Field(
        default=0.0,
        description="Requests a second that each key or user may make of each API process; 0: any number.",
    )
    labels_per_day: Annotated[int, Field(ge=1)] | None = Field(
        default=None,
        description="Labels and examples a day that each key or user may give to each API process, where its "
        "key names no number; unset: any number.",
    )
    development: bool = Field(
        default=False, description="Let weak keys and secrets pass: for a developer's own machine."
    )
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
    client_timeout: Annotated[float, Field(gt=0, le=3600)] = Field(
        default=20.0,
        description="Seconds that the API waits for a caller: for a request's headers, for its body (and a "
        "second more for every 500 bytes), and for one that does not read its answer.",
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

    @property
    def token_secret_path(self) -> Path:
        """The file that holds the secrets that sign logins, unless they are set outright."""
        return self.token_secret_file or self.data / "token-secret"

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
    """The API key in force, or ``None`` if there is none yet. Raises InvalidError for an unusable one."""
    key, where = _given(settings, "api_key", settings.key_path)
    return None if key is None else _usable(key, where, settings)


def make_key(settings: Settings) -> tuple[str, bool]:
    """The API key, made from 256 random bits when there is none; and whether it was made now.

    Two processes that make one at once end with the same key.
    """
    known = read_key(settings)
    if known is not None:
        return known, False
    key = secrets.token_urlsafe(KEY_BYTES)
    if not _write_once(settings.key_path, key, settings.data):
        return str(read_key(settings)), False
    return key, True


def make_token_secrets(settings: Settings) -> list[str]:
    """The secrets that sign logins, the newest first; made from 256 random bits when there is none.

    Raises InvalidError for a weak one.
    """
    text, where = _given(settings, "token_secret", settings.token_secret_path)
    if text is None:
        _write_once(settings.token_secret_path, secrets.token_urlsafe(KEY_BYTES), settings.data)
        text = settings.token_secret_path.read_text(encoding="utf-8")
    found = text.replace(",", " ").split()
    if not found or any(len(secret) < MIN_SIGNING or not secret.isascii() for secret in found):
        raise InvalidError(
            f"A secret in {where} cannot sign logins: each needs {MIN_SIGNING} or more ASCII characters "
            "(for example from: openssl rand -base64 32)"
        )
    for secret in found:
        _refuse_weak(secret, MIN_SIGNING, where, settings)
    return found


def read_admin_password(settings: Settings) -> str | None:
    """The password that the first user shall have, or ``None``. Raises InvalidError for a weak one."""
    if settings.admin_password is None and settings.admin_password_file is None:
        return None
    password, where = _given(settings, "admin_password", settings.admin_password_file or Path())
    password = (password or "").rstrip("\r\n")
    _refuse_weak(password, MIN_PASSWORD, where, settings)
    return password


def _given(settings: Settings, field: str, path: Path) -> tuple[str | None, str]:
    """A secret from its variable or its file, and where it stood. Raises InvalidError for a missing file."""
    value: SecretStr | None = getattr(settings, field)
    if value is not None:
        return value.get_secret_value(), variable_of(field)
    if not path.is_file():
        if getattr(settings, f"{field}_file") is not None:
            raise InvalidError(
                f"{variable_of(f'{field}_file')} names {path}, which is not there: "
                "write the secret into it, or unset the variable"
            )
        return None, variable_of(field)
    return path.read_text(encoding="utf-8"), str(path)


def _write_once(path: Path, secret: str, folder: Path) -> bool:
    """Write a secret for its owner alone, whole or not at all; ``False`` if another process was first."""
    folder.mkdir(parents=True, exist_ok=True)
    handle, draft = tempfile.mkstemp(dir=folder, prefix=".key-")  # mkstemp: mode 600 from birth
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(secret + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)  # whole or not at all, and never over another's
    except FileExistsError:
        return False
    finally:
        os.unlink(draft)
    return True


def _usable(key: str, where: str, settings: Settings) -> str:
    key = key.strip()
    if len(key) < MIN_KEY or not key.isascii() or any(c.isspace() for c in key):
        raise InvalidError(
            f"The API key in {where} is not usable: it needs {MIN_KEY} or more ASCII characters without "
            "spaces (for example from: openssl rand -base64 32)"
        )
    _refuse_weak(key, MIN_KEY, where, settings)
    return key


def _refuse_weak(secret: str, least: int, where: str, settings: Settings) -> None:
    why = None if settings.development else weakness(secret, least)
    if why is not None:
        raise InvalidError(
            f"The secret in {where} is too weak: {why}. Make one with: openssl rand -base64 32 "
            f"({variable_of('development')}=1 lets it pass on a developer's own machine)"
        )


def _settings_error(error: ValidationError) -> InvalidError:
    faults = []
    for item in error.errors(include_url=False, include_input=False):
        first = str(item["loc"][0]) if item["loc"] else ""
        name = variable_of(first) if first in Settings.model_fields else first
        faults.append(Fault(name, item["msg"]))
    listed = "; ".join(f"{fault.field}: {fault.message}" for fault in faults)
    return InvalidError(f"A setting is not valid: {listed}", faults)
