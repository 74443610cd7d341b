"""What every test may ask for: the repository, the shared data, a database, and services, skipped or (in CI)
failed where they are missing.

``--database postgres`` runs what can reach a database on PostgreSQL instead: see :data:`WITHOUT_DATABASE`.
"""

from __future__ import annotations

import os
import socket
import sys
import uuid
from collections.abc import Callable, Iterator
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import Any, Never

import hypothesis
import pytest

ROOT = Path(__file__).resolve().parent.parent
SETTINGS = ("PERFORMANCE_THRESHOLD", "MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")
POSTGRES = "postgresql://postgres@127.0.0.1:5432"

WITHOUT_DATABASE = ("access", "bench", "deploy", "features", "learners", "loop", "adapters")
"""Folders left out with ``--database postgres``. All but the last open no database of an installation;
``adapters`` holds the SQL stores to one contract on both databases, whichever is asked for."""

WITHOUT_DATABASE_FILES = (
    "test_architecture", "test_calibration", "test_docs", "test_imports", "test_logs", "test_predictor",
    "test_processes", "test_retention", "test_running", "test_slow_callers",
)  # fmt: skip
"""Files left out for the same reasons."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Choose the database."""
    parser.addoption(
        "--database",
        choices=("sqlite", "postgres"),
        default="sqlite",
        help="What the tests store in. sqlite: files, and in memory where any store will do.",
    )
    parser.addoption(
        "--without",
        action="append",
        default=[],
        metavar="PACKAGE",
        help="Let a package (torch, say) be missing: tests that need it are skipped, all else must hold.",
    )


class Missing(MetaPathFinder):
    """Says of some packages that they are not installed."""

    def __init__(self, packages: list[str]) -> None:
        self._packages = packages

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> None:
        """Refuse to find one of them."""
        if fullname.partition(".")[0] in self._packages:
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)


def pytest_configure(config: pytest.Config) -> None:
    """Keep the developer's own settings out of the tests, and slow machines from failing hypothesis."""
    for name in list(os.environ):
        if name.startswith("EVERLEARN_") or name in SETTINGS:
            del os.environ[name]
    if config.getoption("--without"):
        sys.meta_path.insert(0, Missing(config.getoption("--without")))
    os.environ["EVERLEARN_DASHBOARD"] = "0"  # an installation of a test has one only if it asks for it
    in_ci = os.environ.get("CI") == "true"
    hypothesis.settings.register_profile("everlearn", deadline=None, derandomize=in_ci)
    hypothesis.settings.load_profile("everlearn")
    config.addinivalue_line("markers", "sqlite: about SQLite's own files; left out with --database postgres")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With ``--database postgres``, keep what can reach a database and is not of SQLite's files."""
    if config.getoption("--database") == "sqlite":
        return
    kept = [item for item in items if _reaches_database(item)]
    config.hook.pytest_deselected(items=[item for item in items if item not in set(kept)])
    items[:] = kept


def _reaches_database(item: pytest.Item) -> bool:
    if not item.path.is_relative_to(ROOT / "tests") or item.get_closest_marker("sqlite"):
        return False
    folder = item.path.relative_to(ROOT / "tests").parts[0]
    return folder not in WITHOUT_DATABASE and item.path.stem not in WITHOUT_DATABASE_FILES


def _miss(reason: str) -> Never:
    """Skip the test; under ``CI=true`` nothing may be missing, so fail it."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{reason} (CI=true: nothing may be missing)", pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def miss() -> Callable[[str], Never]:
    """Call it with the reason when something a test needs is not there."""
    return _miss


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Callable[[str], Path]:
    """Give the path of a data file that lies beside the repository and is never part of it."""

    def find(name: str) -> Path:
        places = [ROOT.parent / "shared" / "data" / name, ROOT / "shared" / "data" / name]
        for place in places:
            if place.exists():
                return place
        _miss(f"shared/data/{name} is missing beside the repository")

    return find


@pytest.fixture(scope="session")
def service() -> Callable[[str, int], tuple[str, int]]:
    """Give the address of a service on this machine that answers on its port."""

    def find(name: str, port: int) -> tuple[str, int]:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=2).close()
        except OSError:
            _miss(f"{name} does not answer on 127.0.0.1:{port}")
        return "127.0.0.1", port

    return find


# -- databases ---------------------------------------------------------------------------------------


class Postgres:
    """Migrated, empty databases of this test process alone.

    Their names begin with a prefix that a connection carries as long as the process lives, so that what a
    killed run left is known, and dropped by the next.
    """

    def __init__(self) -> None:
        import psycopg

        self._prefix = f"everlearn_t_{uuid.uuid4().hex[:12]}"
        self._admin = psycopg.connect(
            f"{POSTGRES}/postgres", autocommit=True, application_name=self._prefix, connect_timeout=10
        )
        self._free: list[str] = []
        self._made = 0
        self._drop_leftovers()
        self._template = self.create()
        self._head = self._migrate(self._template)

    def create(self, template: str | None = None) -> str:
        """A new database's name: an empty one, or a copy of another."""
        name = f"{self._prefix}_{self._made}"
        self._made += 1
        self._admin.execute(f"CREATE DATABASE {name} TEMPLATE {template or 'template0'}".encode())
        # No test cuts the power, and a commit that waits for the disk takes longer than most tests.
        self._admin.execute(f"ALTER DATABASE {name} SET synchronous_commit TO off".encode())
        return name

    def url(self, name: str) -> str:
        """Its URL."""
        return f"{POSTGRES}/{name}"

    def take(self) -> str:
        """A migrated, empty database's name."""
        if not self._free:
            return self.create(self._template)
        name = self._free.pop()
        self._empty(name)
        return name

    def give_back(self, name: str) -> None:
        """It is used no more; whoever is still connected is cut off."""
        query = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s"
        self._admin.execute(query, [name])
        self._free.append(name)

    def close(self) -> None:
        """Drop every database."""
        self._drop(self._prefix)
        self._admin.close()

    def _migrate(self, name: str) -> str:
        """Make the tables; returns the schema's revision."""
        from everlearn.adapters.sql import SqlStore

        store = SqlStore(self.url(name))
        store.migrate()
        revision = store.check().rpartition(" ")[2]
        store.close()
        return revision

    def _empty(self, name: str) -> None:
        import psycopg

        from everlearn.adapters.sql.tables import metadata

        statements = [f'DELETE FROM "{table.name}"' for table in reversed(metadata.sorted_tables)]
        with psycopg.connect(self.url(name), autocommit=True) as connection:
            connection.execute("; ".join(statements).encode())
            connection.execute("UPDATE alembic_version SET version_num = %s", [self._head])

    def _drop_leftovers(self) -> None:
        query = (
            "SELECT DISTINCT substring(datname from '^everlearn_t_[0-9a-f]{12}') AS prefix FROM pg_database"
        )
        living = "SELECT 1 FROM pg_stat_activity WHERE application_name = prefix"
        found = self._admin.execute(
            f"SELECT prefix FROM ({query}) x WHERE prefix IS NOT NULL AND NOT EXISTS ({living})".encode()
        )
        for (prefix,) in found.fetchall():
            self._drop(prefix)

    def _drop(self, prefix: str) -> None:
        query = "SELECT datname FROM pg_database WHERE starts_with(datname, %s)"
        for (name,) in self._admin.execute(query, [prefix]).fetchall():
            self._admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)".encode())


@pytest.fixture(scope="session")
def postgres(service: Callable[[str, int], object]) -> Iterator[Postgres]:
    """PostgreSQL, with databases of this test process alone; skips (or in CI fails) where none answers."""
    service("PostgreSQL", 5432)
    made = Postgres()
    yield made
    made.close()


@pytest.fixture
def fresh_postgres(postgres: Postgres) -> Iterator[str]:
    """The URL of a migrated, empty PostgreSQL database of this test alone."""
    name = postgres.take()
    yield postgres.url(name)
    postgres.give_back(name)


@pytest.fixture(scope="session")
def on_postgres(request: pytest.FixtureRequest) -> bool:
    """Whether the tests run with ``--database postgres``."""
    return bool(request.config.getoption("--database") == "postgres")


@pytest.fixture(autouse=True)
def installation_database(
    request: pytest.FixtureRequest, on_postgres: bool, monkeypatch: pytest.MonkeyPatch
) -> str | None:
    """With ``--database postgres``, the database of every installation that a test opens or starts."""
    if not on_postgres:
        return None
    url: str = request.getfixturevalue("fresh_postgres")
    monkeypatch.setenv("EVERLEARN_DATABASE_URL", url)
    return url


@pytest.fixture(scope="module")
def module_database(request: pytest.FixtureRequest, on_postgres: bool) -> Iterator[None]:
    """The same for an installation that all tests of a file share."""
    if not on_postgres:
        yield
        return
    postgres: Postgres = request.getfixturevalue("postgres")
    name = postgres.take()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EVERLEARN_DATABASE_URL", postgres.url(name))
        yield
    postgres.give_back(name)


@pytest.fixture
def any_store(installation_database: str | None) -> Iterator[Any]:
    """A store for a test that does not care which: in memory, or with ``--database postgres`` on it.

    Versions' artifacts are in memory.
    """
    from everlearn.adapters.memory import MemoryArtifacts, MemoryStore

    if installation_database is None:
        yield MemoryStore()
        return
    from everlearn.adapters.sql import SqlStore

    class Store(SqlStore):
        artifacts = MemoryArtifacts()

    store = Store(installation_database)
    yield store
    store.close()
