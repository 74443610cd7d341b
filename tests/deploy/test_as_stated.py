"""What the manifests state is started on this machine and used: the same commands, variables, users, mounts.

Only addresses differ: the database is one of the test and has no TLS, and ports are free ones. Each process
has the read-only root, the user and the mounts that it would have in its container.
"""

from __future__ import annotations

import random
import re
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import Any

import httpx
import pytest
from sqlalchemy import create_engine, text

from everlearn.client import Client
from everlearn.types import Tick

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(400),
    pytest.mark.skipif(sys.platform != "linux", reason="containers are Linux's"),
]

POSTGRES = "postgresql+psycopg://postgres@127.0.0.1:5432/test"
MAKE_KEY = ["everlearn", "keys", "create", "prometheus", "--scope", "read"]
SPEC: dict[str, Any] = {
    "name": "market",
    "target": "way",
    "features": {"price": "numeric", "demand": "numeric"},
    "learner": {"name": "window", "size": 600, "estimator": "logistic"},
    "label_horizon": "1s",
    "policy": {"first_rows": 100, "min_labels": 60, "window": 100, "cooldown": 50, "check_every": 10},
    "gate": {"holdout": 80, "min_rows": 20},
}


@pytest.fixture
def database(service: Callable[[str, int], object]) -> Iterator[str]:
    """A database that belongs to a role without any other right."""
    service("PostgreSQL", 5432)
    name = f"everlearn_{uuid.uuid4().hex[:16]}"
    admin = create_engine(POSTGRES, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE ROLE {name} LOGIN"))
        connection.execute(text(f"CREATE DATABASE {name} OWNER {name}"))
    yield f"postgresql://{name}@127.0.0.1:5432/{name}"
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
        connection.execute(text(f"DROP ROLE {name}"))
    admin.dispose()


@pytest.fixture
def broker(service: Callable[[str, int], object]) -> Iterator[dict[str, str]]:
    """Queues in Redis that are this test's alone."""
    import redis

    service("Redis", 6379)
    prefix = f"test-{uuid.uuid4().hex[:12]}"
    yield {"EVERLEARN_BROKER_URL": "redis://127.0.0.1:6379/0", "EVERLEARN_BROKER_PREFIX": prefix}
    with redis.Redis() as client:
        for key in client.scan_iter(f"{prefix}*"):
            client.delete(key)


@pytest.fixture
def place(
    load: Callable[[str], ModuleType],
    root: Any,
    images: Any,
    database: str,
    tmp_path: Any,
    miss: Callable[[str], Any],
) -> Iterator[Callable[..., Any]]:
    """Make a site of stated processes; whatever of it runs at the end is killed."""
    box, sites = load("box"), load("sites")
    if (why := box.missing()) is not None:
        miss(f"no process can be given a root of its own here: {why}")
    made = []

    def make(processes: Mapping[str, Any], **addresses: str) -> Any:
        given = {"EVERLEARN_DATABASE_URL": database, **addresses}
        made.append(sites.Site(processes, box.Box(root, images["base"].user, tmp_path), tmp_path, given))
        return made[-1]

    yield make
    for site in made:
        for boxed in site.started.values():
            boxed.kill()


@pytest.fixture
def free_port(load: Callable[[str], ModuleType]) -> Callable[[], int]:
    find: Callable[[], int] = load("sites").free_port
    return find


@pytest.fixture
def answers(load: Callable[[str], ModuleType]) -> Callable[..., int]:
    ask: Callable[..., int] = load("sites").answers
    return ask


def rows(count: int, seed: int) -> tuple[list[dict[str, float]], list[str]]:
    """Rows with their truths."""
    draw = random.Random(seed)
    made = [{"price": draw.random(), "demand": draw.random()} for _ in range(count)]
    return made, ["UP" if row["price"] > row["demand"] else "DOWN" for row in made]


def use(site: Any, one: Client, other: Client) -> int:
    """A model's life by way of two replicas; returns the champion that both answer with."""
    one.create_model(SPEC)
    assert one.load("market", *rows(300, seed=1)) == 300
    asked, truths = rows(40, seed=2)
    served = one.predict("market", asked)
    receipt = other.label("market", dict(zip(served.ids, truths, strict=True)))
    assert receipt.accepted == 40
    site.until(lambda: one.model("market")["champion"] > 0, "a promotion")
    asked, truths = rows(20, seed=3)
    site.until(lambda: {p.version for p in other.predict("market", asked)} != {0}, "the other's swap")
    site.until(lambda: {p.version for p in one.predict("market", asked)} != {0}, "this one's swap")
    champion: int = one.model("market")["champion"]
    ours, theirs = one.predict("market", asked), other.predict("market", asked)
    assert {p.version for p in [*ours, *theirs]} == {champion}
    assert [p.probabilities for p in ours] == [p.probabilities for p in theirs]
    assert sum(p.value == truth for p, truth in zip(ours, truths, strict=True)) >= 18
    return champion


def ticks(database: str) -> int:
    """How many ticks of the clock the model's log holds."""
    from everlearn.adapters.sql import SqlStore

    store = SqlStore(database)
    try:
        return sum(isinstance(event, Tick) for event in store.log.read("market", 0, 10_000))
    finally:
        store.close()


def own_page(process: Any, free_port: Callable[[], int], pages: list[int]) -> dict[str, str]:
    """A port of its own for the metrics of a worker, which has the stated one to itself in a container."""
    if "EVERLEARN_METRICS_PORT" not in process.environment:
        return {}
    pages.append(free_port())
    return {"EVERLEARN_METRICS_PORT": str(pages[-1])}


LOOK = """
id -u; id -g; id -G
grep -E '^(CapEff|CapBnd|NoNewPrivs)' /proc/self/status | cut -f2
for path in / /etc /usr /opt/everlearn /artifacts /run/secrets /tmp; do
    touch $path/new 2> /dev/null && echo writes $path
done
cat /run/secrets/password
"""


def test_a_process_is_held_as_a_container_holds_it(
    load: Callable[[str], ModuleType], root: Any, tmp_path: Any, miss: Callable[[str], Any]
) -> None:
    box = load("box")
    if (why := box.missing()) is not None:
        miss(why)
    (tmp_path / "password").write_text("known\n")
    (tmp_path / "versions").mkdir(mode=0o777)
    places = {
        "/tmp": None,
        "/artifacts": tmp_path / "versions",
        "/run/secrets/password": tmp_path / "password",
    }
    held = box.Box(root, "10001:10002", tmp_path)
    environment = {"PATH": "/usr/bin:/bin"}
    boxed = held.start(["sh", "-c", LOOK], environment, places, ["/artifacts"], tmp_path / "look.log")
    assert boxed.process.wait(20) == 0
    nothing = "0000000000000000"
    assert boxed.said().split("\n")[:-1] == [
        *("10001", "10002", "10002", nothing, nothing, "1"),
        *("writes /tmp", "known"),
    ]


def test_the_production_overlay_runs(
    place: Callable[..., Any],
    rendered: Callable[[str], list[Any]],
    stated: ModuleType,
    images: Any,
    free_port: Callable[[], int],
    answers: Callable[..., int],
    database: str,
    broker: dict[str, str],
) -> None:
    objects = rendered("production")
    processes = stated.of_kubernetes(objects, images)
    site = place(processes, MLFLOW_TRACKING_URI="http://127.0.0.1:1", **broker)  # MLflow is down
    waiting = site.start("everlearn-api/schema")
    site.run("everlearn-migrate")
    site.until(lambda: waiting.process.poll() == 0, "the wait for the schema")
    parts = ("everlearn-advance", "everlearn-worker", "everlearn-scheduler", "everlearn-mirror")
    for name in parts:
        site.run(f"{name}/schema")
    pages: list[int] = []
    for name in parts:
        for copy in range(processes[name].replicas):
            site.start(name, str(copy + 1), **own_page(processes[name], free_port, pages))

    ports = [free_port(), free_port()]
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    (scaler,) = [one for one in objects if one["kind"] == "HorizontalPodAutoscaler"]
    assert scaler["spec"]["minReplicas"] == len(ports)
    for copy, port in enumerate(ports):
        site.start("everlearn-api", str(copy + 1), EVERLEARN_PORT=str(port))
    (api,) = [pod for name, _, pod in stated.pods(objects) if name == "Deployment everlearn-api"]
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        path = api["spec"]["containers"][0][probe]["httpGet"]["path"]
        for url in urls:
            site.until(lambda url=url, path=path: answers(url + path) == 200, f"{probe} of {url}")

    with Client(urls[0], site.api_key) as one, Client(urls[1], site.api_key) as other:
        use(site, one, other)
    assert {answers(f"http://127.0.0.1:{port}/metrics") for port in pages} == {200}
    (monitor,) = [one for one in objects if one["kind"] == "ServiceMonitor"]
    page = urls[1] + monitor["spec"]["endpoints"][0]["path"]
    assert answers(page) == 401
    made = site.start("everlearn-api", "keys", MAKE_KEY, EVERLEARN_PORT=str(ports[0]))  # as `exec` does
    assert made.process.wait(60) == 0, made.said()
    assert answers(page, Authorization=f"Bearer {re.findall('evl_.+', made.said())[0]}") == 200
    site.until(lambda: ticks(database) > 0, "a tick of the clock")
    site.stop()


def test_the_compose_file_runs(
    place: Callable[..., Any],
    composed: Callable[[], Any],
    stated: ModuleType,
    images: Any,
    free_port: Callable[[], int],
    answers: Callable[..., int],
    broker: dict[str, str],
) -> None:
    processes = stated.of_compose(composed(), images)
    port, second, mlflow = free_port(), free_port(), free_port()
    hosts = "--allowed-hosts=mlflow:5000,127.0.0.1:5000,localhost:5000"
    elsewhere = {"--port=5000": f"--port={mlflow}", hosts: hosts.replace("5000", str(mlflow))}
    assert elsewhere.keys() <= set(processes["mlflow"].argv)
    site = place(processes, MLFLOW_TRACKING_URI=f"http://127.0.0.1:{mlflow}", **broker)
    site.run("migrate")
    site.start("mlflow", **elsewhere)
    pages: list[int] = []
    for name in ("advance", "worker", "scheduler", "mirror"):
        site.start(name, **own_page(processes[name], free_port, pages))
    for copy, own in enumerate((port, second)):
        site.start("api", str(copy + 1), EVERLEARN_PORT=str(own))
    health = [word.replace("8000", str(port)) for word in images["api"].health]
    url = f"http://127.0.0.1:{port}"
    site.until(lambda: answers(f"{url}/v1/health/ready") == 200, "the API's start")
    site.run("api", "health", health)
    site.run("worker", "health", images["worker"].health)

    with Client(url, site.api_key) as one, Client(f"http://127.0.0.1:{second}", site.api_key) as other:
        site.until(lambda: answers(f"http://127.0.0.1:{second}/v1/health/ready") == 200, "the second API")
        champion = use(site, one, other)
    assert {answers(f"http://127.0.0.1:{port}/metrics") for port in pages} == {200}
    there = f"http://127.0.0.1:{mlflow}/api/2.0/mlflow/registered-models/alias"
    asked = f"{there}?name=market&alias=champion"

    def mirrored() -> bool:
        if answers(asked, Host=f"mlflow:{mlflow}") != 200:
            return False
        tags = httpx.get(asked).json()["model_version"]["tags"]
        return str(champion) in {tag["value"] for tag in tags}

    site.until(mirrored, "the champion in MLflow")
    site.stop()
