"""Every setting of an installation, in one place. Only :mod:`everlearn.wiring` reads it.

Settings come from the environment; nothing else is read, and nothing is read when this module is
imported. :func:`describe` lists them for the documentation and for ``everlearn settings``.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from everlearn.errors import Fault, InvalidError
from everlearn.types import QUEUES

PREFIX = "EVERLEARN_"
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
    alerts: Path | None = Field(
        default=None,
        description="File that says who is told of alerts; default: alerts.yaml in the data folder.",
    )
    artifacts: str | None = Field(
        default=None,
        description="Folder of the stored versions, or the URL of a store that fsspec knows "
        "(s3://BUCKET/PREFIX); default: artifacts in the data folder.",
    )
    artifacts_cache: Path | None = Field(
        default=None,
        description="Folder for copies of versions that are stored at a URL; "
        "default: artifacts-cache in the data folder.",
    )
    artifacts_cache_mb: Annotated[int, Field(ge=1)] = Field(
        default=1024, description="How much the copies may take, in MiB."
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
    dashboard: bool = Field(
        default=True, description="Whether up starts the dashboard too, where its extra is installed."
    )
    dashboard_host: str = Field(default="127.0.0.1", description="Address that the dashboard listens on.")
    dashboard_port: Annotated[int, Field(ge=0, le=65535)] = Field(
        default=8501, description="Port that the dashboard listens on; 0 picks a free one."
    )
    max_body_mb: Annotated[int, Field(ge=1)] = Field(
        default=64, description="Largest request body, in MiB (uploads too)."
    )
    image_hosts: str = Field(
        default="",
        description="Hosts that images of frames may be fetched from by URL, with commas between: HOST for "
        "https on port 443, HOST:PORT for any other; default: none.",
    )
    image_networks: str = Field(
        default="",
        description="Networks that are not public in which those hosts may be, with commas between, such as "
        "10.1.0.0/16; default: none.",
    )
    cache_mb: Annotated[int, Field(ge=1)] = Field(
        default=1024, description="How much the models in memory of each API process may take, in MiB."
    )
    model_requests: Annotated[int, Field(ge=0)] = Field(
        default=1000,
        description="Requests that each model may have under way in each API process; 0: any number.",
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
        description="How often a worker that has caught up looks for new events, in seconds "
        "(five times as long after 2 s without any).",
    )
    lease_seconds: Annotated[float, Field(ge=1)] = Field(
        default=15.0, description="After how many seconds without a heartbeat a job is taken over."
    )
    job_seconds: Annotated[float, Field(gt=0)] = Field(
        default=3600.0, description="Seconds that one job may take; one that takes longer fails."
    )
    job_memory_mb: Annotated[int, Field(ge=256)] | None = Field(
        default=None,
        description="MiB of memory that the process of a job may use; default: three quarters of what the "
        "machine or container has.",
    )
    model_jobs: Annotated[int, Field(ge=0)] = Field(
        default=4, description="Jobs of one model and queue that may run at the same time; 0: any number."
    )
    otel_endpoint: str | None = Field(
        default=None,
        validation_alias=AliasChoices("EVERLEARN_OTEL_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"),
        description="OpenTelemetry collector that traces go to over OTLP/HTTP, such as "
        "http://127.0.0.1:4318; OTEL_EXPORTER_OTLP_ENDPOINT says the same; unset: no traces.",
    )
    metrics_port: Annotated[int, Field(ge=1, le=65535)] | None = Field(
        default=None,
        description="Port on which a worker that runs alone tells Prometheus what only it knows, at the "
        "address EVERLEARN_HOST; unset: nowhere.",
    )
    heartbeat_url: SecretStr | None = Field(
        default=None,
        description="Address of a monitor that workers push heart-beats to, such as Uptime Kuma's "
        "/api/push/TOKEN; unset: none.",
    )
    heartbeat_url_file: Path | None = Field(default=None, description="File that holds that address instead.")
    uptime_kuma_url: str | None = Field(
        default=None, description="The Uptime Kuma that 'everlearn uptime-kuma sync' makes monitors in."
    )
    uptime_kuma_user: str | None = Field(default=None, description="Who logs in there.")
    uptime_kuma_password: SecretStr | None = Field(default=None, description="Their password.")
    uptime_kuma_password_file: Path | None = Field(
        default=None, description="File that holds their password instead."
    )
    uptime_kuma_key: SecretStr | None = Field(
        default=None,
        description="Key that monitors of models send: one that may read; unset: no such monitors.",
    )
    uptime_kuma_key_file: Path | None = Field(default=None, description="File that holds that key instead.")
    queues: str = Field(
        default="advance,train,vision,maintenance",
        description="The queues that a worker works on, with commas between.",
    )
    broker_url: SecretStr | None = Field(
        default=None,
        description="Broker that tells workers of work, redis:// or amqp://; default: they look into the "
        "database for it.",
    )
    broker_url_file: Path | None = Field(
        default=None, description="File that holds the broker's URL instead."
    )
    broker_prefix: str = Field(
        default="everlearn", description="What the names of the queues in the broker begin with."
    )
    broker_visibility_seconds: Annotated[float, Field(ge=1)] = Field(
        default=3600.0,
        description="Seconds after which Redis delivers a message again that no worker has finished.",
    )
    retention_days: Annotated[float, Field(gt=0)] | None = Field(
        default=None,
        description="Days after which events that nothing needs any more are dropped from the logs; "
        "unset: never.",
    )
    tick_seconds: Annotated[float, Field(ge=1)] = Field(
        default=10.0, description="How often time enters the log of models that need it, in seconds."
    )

    @field_validator("queues")
    @classmethod
    def _known_queues(cls, value: str) -> str:
        given = [name.strip() for name in value.split(",") if name.strip()]
        strange = sorted(set(given) - set(QUEUES))
        if strange or not given:
            raise ValueError(f"{', '.join(strange) or 'nothing'}: name some of {', '.join(QUEUES)}")
        return ",".join(given)

    @field_validator("image_hosts")
    @classmethod
    def _plain_hosts(cls, value: str) -> str:
        given = _listed(value)
        for host in given:
            if "/" in host or "@" in host or urlsplit(f"//{host}").netloc != host or "*" in host:
                raise ValueError("write hosts such as images.example.org or 10.1.2.3:8080, and no URLs")
        return ",".join(given)

    @field_validator("image_networks")
    @classmethod
    def _real_networks(cls, value: str) -> str:
        for network in _listed(value):
            ipaddress.ip_network(network)
        return ",".join(_listed(value))

    @field_validator("broker_prefix")
    @classmethod
    def _plain_prefix(cls, value: str) -> str:
        if not value or not all(c.isascii() and (c.isalnum() or c in "-_.") for c in value):
            raise ValueError("use letters, digits, '-', '_' and '.' only")
        return value

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, value: Any) -> Any:
        return value.upper() if isinstance(value, str) else value

    @field_validator("artifacts", mode="before")
    @classmethod
    def _place(cls, value: Any) -> Any:
        """A folder as an absolute path, a URL as it is: it must name a store, and no secret."""
        text = str(value) if isinstance(value, Path) else value
        if not isinstance(text, str):
            return value
        scheme, found, rest = text.strip().partition("://")
        if not found:
            return str(Path(text).absolute())
        if scheme == "file":
            return str(Path("/" + rest.lstrip("/")))
        if not scheme or not rest.strip("/"):
            raise ValueError("names no store: use s3://BUCKET/PREFIX, or a folder")
        if ":" in rest.partition("/")[0].rpartition("@")[0]:
            raise ValueError(
                "holds a secret: leave it out; credentials come from the environment (AWS_ACCESS_KEY_ID, ...)"
            )
        return text.strip()

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
    def artifacts_url(self) -> str | None:
        """Where the stored versions are, if not in a folder."""
        return self.artifacts if self.artifacts and "://" in self.artifacts else None

    @property
    def artifacts_folder(self) -> Path:
        """The folder of stored versions in force; of their copies, where they are stored at a URL."""
        if self.artifacts_url is not None:
            return (self.artifacts_cache or self.data / "artifacts-cache").absolute()
        return Path(self.artifacts or self.data / "artifacts").absolute()

    @property
    def mlflow_uri(self) -> str | None:
        """The MLflow store in force, or ``None`` when the mirror is off."""
        if self.mlflow_tracking_uri is None:
            return f"sqlite:///{self.data.absolute() / 'mlflow.db'}"
        return (
            None if self.mlflow_tracking_uri.strip().lower() in ("off", "none") else self.mlflow_tracking_uri
        )

    @property
    def queue_names(self) -> list[str]:
        """The queues that a worker works on."""
        return self.queues.split(",")

    @property
    def image_host_names(self) -> list[str]:
        """The hosts that images may be fetched from."""
        return _listed(self.image_hosts)

    @property
    def image_network_names(self) -> list[str]:
        """The networks that are not public in which they may be."""
        return _listed(self.image_networks)

    @property
    def alerts_path(self) -> Path:
        """The file that says who is told of alerts."""
        return self.alerts or self.data / "alerts.yaml"

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


def _listed(text: str) -> list[str]:
    """What stands between commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


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


def _settings_error(error: ValidationError) -> InvalidError:
    faults = []
    for item in error.errors(include_url=False, include_input=False):
        first = str(item["loc"][0]) if item["loc"] else ""
        name = variable_of(first) if first in Settings.model_fields else first
        faults.append(Fault(name, item["msg"].removeprefix("Value error, ")))
    listed = "; ".join(f"{fault.field}: {fault.message}" for fault in faults)
    return InvalidError(f"A setting is not valid: {listed}", faults)
