"""Who is told of what: a YAML file that an operator writes."""

from __future__ import annotations

import ipaddress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator

from everlearn.adapters.guard import Guard
from everlearn.errors import Fault, InvalidError
from everlearn.loop.alerts import SEVERITIES
from everlearn.spec import parse_duration

KNOWN_HOSTS = ("discord.com", "discordapp.com", "hooks.slack.com")
"""Hosts of the services themselves, over HTTPS."""

Severity = Literal["critical", "warning"]
_Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,39}$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Mail(_Strict):
    """How to send an e-mail: a server that takes it, and from whom to whom."""

    host: str
    port: Annotated[int, Field(ge=1, le=65535)] = 587
    tls: Literal["starttls", "tls", "none"] = "starttls"
    user: str | None = None
    password: SecretStr | None = None
    password_file: Path | None = None
    sender: str
    to: Annotated[list[str], Field(min_length=1)]


class Receiver(_Strict):
    """Somebody to tell. ``models`` are names or patterns such as ``fraud-*``."""

    name: _Name
    kind: Literal["discord", "slack", "webhook", "email"]
    url: SecretStr | None = None
    url_file: Path | None = None
    secret: SecretStr | None = None
    secret_file: Path | None = None
    mail: Mail | None = None
    severities: Annotated[list[Severity], Field(min_length=1)] = list(SEVERITIES)  # type: ignore[arg-type]
    models: Annotated[list[str], Field(min_length=1)] = ["*"]

    @model_validator(mode="after")
    def _whole(self) -> Receiver:
        if self.kind == "email":
            if self.mail is None:
                raise ValueError("a receiver of kind email needs 'mail' (host, sender, to)")
        elif (self.url is None) == (self.url_file is None):
            raise ValueError(f"a receiver of kind {self.kind} needs either 'url' or 'url_file'")
        if self.kind == "webhook" and (self.secret is None) == (self.secret_file is None):
            raise ValueError(
                "a receiver of kind webhook needs 'secret' or 'secret_file', which sign what it gets"
            )
        return self

    def wants(self, model: str, severity: str) -> bool:
        """Whether it is to hear of this."""
        return severity in self.severities and any(fnmatchcase(model, pattern) for pattern in self.models)

    @property
    def target(self) -> str:
        """The URL to send to; read from its file each time, so that it can be replaced."""
        return _secret(self.url, self.url_file)

    @property
    def signing(self) -> bytes:
        """The secret that signs what is sent."""
        return _secret(self.secret, self.secret_file).encode()


class Plan(_Strict):
    """All of the file.

    ``cooldown`` is in which time the same alert of a model is told once; ``link`` is where people find the
    dashboard or the API. ``allow`` are hosts (``host`` or ``host:port``) that may be sent to besides those of
    Discord and Slack, ``allow_networks`` addresses that are not public (``10.1.0.0/16``).
    """

    cooldown: str = "10m"
    link: str | None = None
    allow: list[str] = []
    allow_networks: list[str] = []
    receivers: list[Receiver] = []

    @model_validator(mode="after")
    def _sound(self) -> Plan:
        parse_duration(self.cooldown)
        for network in self.allow_networks:
            ipaddress.ip_network(network)
        names = [receiver.name for receiver in self.receivers]
        if len(set(names)) < len(names):
            raise ValueError("two receivers have the same name")
        return self

    @property
    def cooldown_seconds(self) -> float:
        """``cooldown`` in seconds."""
        return parse_duration(self.cooldown)

    @property
    def guard(self) -> Guard:
        """What may be sent to at all."""
        return Guard(
            frozenset((*KNOWN_HOSTS, *self.allow)), tuple(map(ipaddress.ip_network, self.allow_networks))
        )

    def wanting(self, model: str, severity: str) -> list[Receiver]:
        """The receivers of an alert."""
        return [receiver for receiver in self.receivers if receiver.wants(model, severity)]


def read_plan(path: Path) -> Plan:
    """The plan in a file; an empty one where there is none.

    Raises InvalidError that names every field at fault, never what stands in it, and for a receiver whose URL
    may not be sent to.
    """
    import yaml

    if not path.is_file():
        return Plan()
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        plan = Plan.model_validate(content or {})
    except yaml.YAMLError as error:
        raise InvalidError(f"{path} is not YAML: {str(error).splitlines()[0]}") from None
    except ValidationError as error:
        raise _wrong(path, error) from None
    for receiver in plan.receivers:
        if receiver.kind != "email":
            plan.guard.check(receiver.target, f"receivers.{receiver.name}.url")
    return plan


def _wrong(path: Path, error: ValidationError) -> InvalidError:
    faults = []
    for item in error.errors(include_url=False, include_input=False):
        place = ".".join(map(str, item["loc"])) or "the file"
        faults.append(Fault(place, str(item["msg"]).removeprefix("Value error, ")))
    listed = "; ".join(f"{fault.field}: {fault.message}" for fault in faults)
    return InvalidError(f"{path}: {listed}", faults)


def _secret(value: SecretStr | None, file: Path | None) -> str:
    if value is not None:
        return value.get_secret_value()
    if file is None:
        return ""
    try:
        return file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise InvalidError(f"{file} cannot be read ({error.strerror}): write the secret into it") from error


def mail_password(mail: Mail) -> str:
    """The password of a mail account, or the empty text."""
    return _secret(mail.password, mail.password_file)


def describe(plan: Plan) -> list[dict[str, Any]]:
    """The receivers without their secrets."""
    return [
        {
            "name": receiver.name,
            "kind": receiver.kind,
            "severities": list(receiver.severities),
            "models": list(receiver.models),
        }
        for receiver in plan.receivers
    ]
