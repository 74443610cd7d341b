"""Where settings become adapters: the one place that reads settings and builds what they ask for."""

from __future__ import annotations

from functools import cached_property
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from everlearn.config import Settings
from everlearn.config import describe as describe_settings
from everlearn.credentials import (
    make_key,
    make_token_secrets,
    read_admin_password,
    read_broker_url,
    read_key,
    read_secret,
)
from everlearn.errors import InvalidError, NotFoundError
from everlearn.running import unusable_folder

__all__ = ["Installation", "describe_settings", "model_names"]

if TYPE_CHECKING:
    from collections.abc import Callable

    from everlearn.access.ports import AccessStore
    from everlearn.adapters.alerts import Alerting
    from everlearn.adapters.alerts.plan import Plan
    from everlearn.adapters.clock import SystemClock
    from everlearn.adapters.sql import SqlStore
    from everlearn.adapters.sql.retention import SqlRetention
    from everlearn.adapters.tokens import Hs256
    from everlearn.adapters.tracing import Untraced
    from everlearn.adapters.uptime_kuma_plan import KumaAccount
    from everlearn.certificates import Seal
    from everlearn.ports import (
        Announcements,
        Artifacts,
        Backlog,
        Erasures,
        Jobs,
        Leases,
        Ledger,
        Log,
        Models,
        Outbox,
        Registry,
        Remains,
        Scores,
        Tallies,
        Versions,
    )


class Installation:
    """The parts of one installation, each built when it is first asked for.

    >>> from everlearn.config import Settings
    >>> Installation(Settings(port=9000)).settings.port
    9000
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._tracer: Untraced | None = None

    @classmethod
    def load(cls, **overrides: Any) -> Installation:
        """The installation that the environment describes; see :meth:`Settings.load`."""
        return cls(Settings.load(**overrides))

    @cached_property
    def clock(self) -> SystemClock:
        """The wall clock."""
        from everlearn.adapters.clock import SystemClock

        return SystemClock()

    @cached_property
    def store(self) -> SqlStore:
        """The database; connects when first used."""
        from everlearn.adapters.sql import SqlStore

        return SqlStore(self.settings.database, synchronous=self.settings.database_synchronous)

    @property
    def models(self) -> Models:
        """The models."""
        return self.store.models

    @property
    def log(self) -> Log:
        """The log."""
        return self.store.log

    @property
    def versions(self) -> Versions:
        """The versions."""
        return self.store.versions

    @property
    def ledger(self) -> Ledger:
        """The ledger."""
        return self.store.ledger

    @property
    def scores(self) -> Scores:
        """The score over time, and where all models stand."""
        return self.store.scores

    @property
    def jobs(self) -> Jobs:
        """The jobs."""
        return self.store.jobs

    @property
    def backlog(self) -> Backlog:
        """The backlog."""
        return self.store.backlog

    @property
    def leases(self) -> Leases:
        """The leases."""
        return self.store.leases

    @property
    def erasures(self) -> Erasures:
        """The erasures."""
        return self.store.erasures

    @property
    def remains(self) -> Remains:
        """What erasures may have left."""
        return self.store.remains

    @property
    def seal(self) -> Seal:
        """Signs certificates; makes its secret if there is none yet."""
        from everlearn.certificates import Seal

        return Seal(make_token_secrets(self.settings))

    @property
    def retention(self) -> SqlRetention:
        """What dropping old events asks of the database."""
        return self.store.retention

    @property
    def announcements(self) -> Announcements | None:
        """New champions, told as they are promoted; ``None`` where the database cannot."""
        return self.store.announcements

    @property
    def outbox(self) -> Outbox:
        """The outbox."""
        return self.store.outbox

    @property
    def tallies(self) -> Tallies:
        """What monitoring reads."""
        return self.store.tallies

    @property
    def access(self) -> AccessStore:
        """Keys, users, sessions and the audit log."""
        return self.store.access

    @property
    def signer(self) -> Hs256:
        """Signs logins; makes its secret if there is none yet."""
        from everlearn.adapters.tokens import Hs256

        return Hs256(make_token_secrets(self.settings))

    @cached_property
    def artifacts(self) -> Artifacts:
        """The stored versions. Raises InvalidError or MissingExtraError for a URL that cannot be used."""
        settings = self.settings
        if settings.artifacts_url is None:
            from everlearn.adapters.artifacts import FolderArtifacts

            return FolderArtifacts(settings.artifacts_folder)
        from everlearn.adapters.artifact_cache import ArtifactCache
        from everlearn.adapters.object_store import ObjectArtifacts

        cache = ArtifactCache(settings.artifacts_folder, settings.artifacts_cache_mb << 20)
        return ObjectArtifacts(settings.artifacts_url, cache)

    @property
    def alert_plan(self) -> Plan:
        """Who is told of alerts; raises InvalidError for a file that cannot be."""
        from everlearn.adapters.alerts.plan import read_plan

        path = self.settings.alerts_path
        if self.settings.alerts is not None and not path.is_file():
            raise InvalidError(f"EVERLEARN_ALERTS names {path}, which is not there: write it, or unset it")
        return read_plan(path)

    def alerting(self, may: Callable[[], bool]) -> Alerting:
        """What routes and delivers alerts, while ``may`` lets it."""
        from everlearn.adapters.alerts import Alerting

        return Alerting(
            self.outbox,
            self.ledger,
            self.alert_plan,
            self.clock,
            may=may,
            scores=self.scores,
            tracer=self.tracer("scheduler"),
        )

    def tracer(self, part: str) -> Untraced:
        """What traces the work of a process; raises MissingExtraError where its library is not there."""
        if self._tracer is None:
            from everlearn.adapters.tracing import tracing

            self._tracer = tracing(part, self.settings.otel_endpoint)
        return self._tracer

    @property
    def heartbeat_url(self) -> str | None:
        """Where workers push heart-beats to; raises InvalidError for what is no address."""
        from everlearn.adapters.heartbeats import check_address

        url = read_secret(self.settings, "heartbeat_url")
        return None if url is None else check_address(url)

    def uptime_kuma(self, url: str | None = None) -> KumaAccount:
        """Where Uptime Kuma is and who logs in there; raises InvalidError that names what is not set."""
        from everlearn.adapters.uptime_kuma_plan import KumaAccount

        settings = self.settings
        return KumaAccount.of(
            url or settings.uptime_kuma_url,
            settings.uptime_kuma_user,
            read_secret(settings, "uptime_kuma_password"),
            read_secret(settings, "uptime_kuma_key"),
        )

    @property
    def mirrors(self) -> bool:
        """Whether there is an MLflow to mirror to; imports nothing."""
        return self.settings.mlflow_uri is not None and find_spec("mlflow") is not None

    @cached_property
    def registry(self) -> Registry | None:
        """The MLflow mirror, or ``None`` when it is off or MLflow is not installed. Slow to import."""
        uri = self.settings.mlflow_uri
        if uri is None or not self.mirrors:
            return None
        from everlearn.adapters.mlflow import MlflowRegistry

        embedded = self.settings.mlflow_tracking_uri is None
        return MlflowRegistry(
            uri,
            models=self.models,
            versions=self.versions,
            ledger=self.ledger,
            artifacts=self.artifacts,
            artifact_root=str(self.settings.data.absolute() / "mlartifacts") if embedded else None,
        )

    @property
    def broker_url(self) -> str | None:
        """The broker that tells workers of work, or ``None``. Raises InvalidError for one that is none."""
        return read_broker_url(self.settings)

    @property
    def api_key(self) -> str:
        """The API key; raises InvalidError if none was made yet."""
        key = read_key(self.settings)
        if key is None:
            raise InvalidError(
                f"There is no API key in {self.settings.key_path}: run 'everlearn up', which makes one, "
                "or set EVERLEARN_API_KEY"
            )
        return key

    def prepare(self) -> tuple[str, bool]:
        """Make the data folder, the key and the secret of logins; returns the key and whether it is new.

        Raises InvalidError where the folder cannot be made or written, or a secret is too weak.
        """
        from everlearn.adapters.tracing import wanted

        try:
            self.settings.data.mkdir(parents=True, exist_ok=True, mode=0o700)
            make_token_secrets(self.settings)
            read_admin_password(self.settings)
            _ = self.artifacts  # a URL that cannot be used stops the start
            wanted(self.settings.otel_endpoint)  # and so does a library that is not there
            return make_key(self.settings)
        except OSError as error:
            raise unusable_folder(self.settings.data, error) from error

    def migrate(self) -> None:
        """Bring the database to the newest schema."""
        self.store.migrate()

    def first_admin(self) -> str | None:
        """Where there are no users yet, make the first one, ``admin``.

        Returns the token of the invitation by which to choose a password, or ``None`` where there are users,
        or the settings hold a password.
        """
        from everlearn.access.accounts import first_admin
        from everlearn.adapters.passwords import Argon2

        password = read_admin_password(self.settings)
        return first_admin(self.access, Argon2(), password, self.clock.now())

    def require_database(self) -> None:
        """Raise NotFoundError where no installation is, instead of making an empty database there."""
        settings = self.settings
        if settings.database_url is None and not (settings.data / "everlearn.db").is_file():
            raise NotFoundError(
                f"There is no installation in {settings.data}: name its folder with --data, "
                "or start one with 'everlearn up'"
            )

    def model_names(self) -> list[str]:
        """The names of all models."""
        return model_names(self.models)

    def close(self) -> None:
        """Give back connections, and hand over the last spans."""
        if self._tracer is not None:
            self._tracer.close()
        if "store" in self.__dict__:
            self.store.close()


def model_names(models: Models) -> list[str]:
    """The names of all models."""
    from everlearn.ports import all_specs

    return [spec.name for spec in all_specs(models)]
