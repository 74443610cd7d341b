"""Where settings become adapters: the one place that reads settings and builds what they ask for."""

from __future__ import annotations

from functools import cached_property
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from everlearn.config import Settings, make_key, make_token_secrets, read_admin_password, read_key
from everlearn.config import describe as describe_settings
from everlearn.errors import InvalidError, NotFoundError
from everlearn.running import unusable_folder

__all__ = ["Installation", "describe_settings", "model_names"]

if TYPE_CHECKING:
    from everlearn.access.ports import AccessStore
    from everlearn.adapters.artifacts import FolderArtifacts
    from everlearn.adapters.clock import SystemClock
    from everlearn.adapters.sql import SqlStore
    from everlearn.adapters.tokens import Hs256
    from everlearn.ports import Jobs, Ledger, Log, Models, Outbox, Registry, Versions


class Installation:
    """The parts of one installation, each built when it is first asked for.

    >>> from everlearn.config import Settings
    >>> Installation(Settings(port=9000)).settings.port
    9000
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

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
    def jobs(self) -> Jobs:
        """The jobs."""
        return self.store.jobs

    @property
    def outbox(self) -> Outbox:
        """The outbox."""
        return self.store.outbox

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
    def artifacts(self) -> FolderArtifacts:
        """The stored versions."""
        from everlearn.adapters.artifacts import FolderArtifacts

        return FolderArtifacts(self.settings.artifacts_folder)

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
        try:
            self.settings.data.mkdir(parents=True, exist_ok=True, mode=0o700)
            make_token_secrets(self.settings)
            read_admin_password(self.settings)
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
        """Give back connections."""
        if "store" in self.__dict__:
            self.store.close()


def model_names(models: Models) -> list[str]:
    """The names of all models, read page by page."""
    names: list[str] = []
    cursor: str | None = None
    while True:
        page = models.list(cursor, 1000)
        names.extend(spec.name for spec in page.items)
        cursor = page.next
        if cursor is None:
            return names
