"""The compose file: understood by docker-compose, and within the rules of the house."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

Object = dict[str, Any]
OURS = ("everlearn-api:", "everlearn-worker:", "everlearn-dashboard:")
MLFLOW = {"MLFLOW_DISABLE_TELEMETRY", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION"}
"""Variables of MLflow's own server."""


def locked(composed: Object) -> Iterator[str]:
    """Nothing may be written but volumes, no rights are kept; everything has limits and a health check."""
    for name, service in composed["services"].items():
        if service.get("read_only") is not True:
            yield f"{name} can write to its root"
        if service.get("cap_drop") != ["ALL"] or service.get("cap_add"):
            yield f"{name} keeps capabilities"
        if service.get("security_opt") != ["no-new-privileges:true"]:
            yield f"{name} may gain privileges"
        if service.get("privileged") or "network_mode" in service:
            yield f"{name} is not kept apart"
        if not {"mem_limit", "cpus", "pids_limit"} <= set(service):
            yield f"{name} has no limits"
        if not re.search(r":v?\d+\.\d+\.?\d*", service["image"]):
            yield f"{name} has an image without a version"
        ours = service["image"].startswith(OURS)
        if not ours and ("healthcheck" not in service or service.get("user", "0").startswith("0")):
            yield f"{name} runs as root, or is not seen to be well"
        if not service.get("networks"):
            yield f"{name} is in the default network"


def closed(composed: Object) -> Iterator[str]:
    """The database can be reached from no network that leads outside; ports are this machine's alone."""
    if composed["networks"]["back"].get("internal") is not True:
        yield "the inner network leads outside"
    for name, service in composed["services"].items():
        if (
            name in ("postgres", "redis", "rabbitmq", "advance", "worker", "scheduler", "mirror", "migrate")
            and "front" in service["networks"]
        ):
            yield f"{name} can be reached from outside"
        for port in service.get("ports", []):
            if not port.startswith("127.0.0.1:"):
                yield f"{name} listens on {port}"


def configured(composed: Object, settings: set[str]) -> Iterator[str]:
    """Variables are settings that there are; secrets are files, which the service has."""
    for name, service in composed["services"].items():
        given = {f"/run/secrets/{one['source']}" for one in service.get("secrets", [])}
        for variable, value in service.get("environment", {}).items():
            if service["image"].startswith(OURS) and variable not in settings | MLFLOW:
                yield f"{name}: {variable} is no setting"
            if variable.endswith("_FILE") and value not in given:
                yield f"{name} names {value} in {variable}, which is no secret that it has"
            if variable.endswith(("_KEY", "_SECRET", "PASSWORD")) or re.search(r"://[^/@]*:[^/@]*@", value):
                yield f"{name} has a secret in {variable}"
        if name != "prometheus" and not given <= set(service.get("environment", {}).values()):
            yield f"{name} has a secret that it does not use"


@pytest.fixture
def faults(settings: set[str]) -> Callable[[Object], list[str]]:
    """Everything that is wrong with a compose file."""
    return lambda composed: [*locked(composed), *closed(composed), *configured(composed, settings)]


def test_the_services_keep_the_rules(
    composed: Callable[[], Object], faults: Callable[[Object], list[str]]
) -> None:
    assert faults(composed()) == []


def test_the_services_are_those_that_the_product_uses(composed: Callable[[], Object]) -> None:
    ours = {"api", "dashboard", "advance", "worker", "scheduler", "mirror", "migrate"}
    services = composed()["services"]
    assert set(services) - {"rabbitmq"} == ours | {
        "postgres", "redis", "mlflow", "prometheus", "grafana", "uptime-kuma"
    }  # fmt: skip
    assert services.get("rabbitmq", {"profiles": ["rabbitmq"]})["profiles"] == ["rabbitmq"]


def test_some_worker_works_on_every_queue(composed: Callable[[], Object]) -> None:
    from everlearn.types import QUEUES

    told = [composed()["services"][name]["command"][-1].split(",") for name in ("advance", "worker")]
    assert sorted(queue for queues in told for queue in queues) == sorted(QUEUES)


def test_nothing_starts_before_the_database_is_migrated(composed: Callable[[], Object]) -> None:
    services = composed()["services"]
    assert services["migrate"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    for name in ("api", "advance", "worker", "scheduler", "mirror"):
        assert services[name]["depends_on"]["migrate"]["condition"] == "service_completed_successfully"


def test_the_example_names_every_variable(deploy: Path) -> None:
    page = (deploy / "compose" / "compose.yaml").read_text(encoding="utf-8")
    example = (deploy / "compose" / ".env.example").read_text(encoding="utf-8")
    stated = dict(re.findall(r"^(\w+)=(.*)$", example, re.MULTILINE))
    assert stated.pop("COMPOSE_PROJECT_NAME") == "everlearn"
    assert dict(re.findall(r"\$\{(\w+):-([^}]*)\}", page)) == stated


def test_prometheus_asks_the_api(
    composed: Callable[[], Object], deploy: Path, routes: set[str], images: Any
) -> None:
    asked = yaml.safe_load((deploy / "compose" / "prometheus.yml").read_text(encoding="utf-8"))
    job, workers = asked["scrape_configs"]
    assert job["metrics_path"] in routes
    assert job["static_configs"] == [{"targets": [f"api:{images['api'].port}"]}]
    services = composed()["services"]
    assert job["authorization"]["credentials_file"] == "/run/secrets/metrics_key"
    assert services["prometheus"]["secrets"] == [{"source": "metrics_key"}]
    assert set(services["prometheus"]["networks"]) & set(services["api"]["networks"])
    (found,) = workers["dns_sd_configs"]
    for name in found["names"]:
        assert services[name]["environment"]["EVERLEARN_METRICS_PORT"] == str(found["port"])
        assert set(services["prometheus"]["networks"]) & set(services[name]["networks"])
        assert "ports" not in services[name]
    assert services["api"]["ports"] == [f"127.0.0.1:8000:{images['api'].port}/tcp"]


def put(service: str, **values: Any) -> Callable[[Object], Any]:
    return lambda composed: composed["services"][service].update(values)


def variable(service: str, **values: str) -> Callable[[Object], Any]:
    return lambda composed: composed["services"][service]["environment"].update(values)


PLANTED: dict[str, tuple[Callable[[Object], Any], str]] = {
    "writable root": (put("api", read_only=False), "api can write to its root"),
    "a capability": (put("postgres", cap_add=["SYS_ADMIN"]), "postgres keeps capabilities"),
    "privileges": (put("worker", security_opt=[]), "worker may gain privileges"),
    "privileged": (put("worker", privileged=True), "worker is not kept apart"),
    "no limit": (lambda c: c["services"]["mlflow"].pop("mem_limit"), "mlflow has no limits"),
    "no version": (put("prometheus", image="prom/prometheus"), "an image without a version"),
    "latest": (put("prometheus", image="prom/prometheus:latest"), "an image without a version"),
    "no health check": (lambda c: c["services"]["postgres"].pop("healthcheck"), "postgres runs as root, or"),
    "root": (put("prometheus", user="0:0"), "prometheus runs as root, or"),
    "the default network": (put("api", networks={}), "the default network"),
    "a way out": (lambda c: c["networks"]["back"].pop("internal"), "leads outside"),
    "an open database": (put("postgres", networks={"front": None}), "postgres can be reached"),
    "an open port": (put("api", ports=["8000:8000/tcp"]), "api listens on 8000"),
    "a made-up setting": (variable("worker", EVERLEARN_BROKER="redis"), "EVERLEARN_BROKER is no setting"),
    "a file not given": (
        variable("worker", EVERLEARN_API_KEY_FILE="/run/secrets/api_key"),
        "no secret that it has",
    ),
    "a secret in a variable": (variable("api", EVERLEARN_API_KEY="k"), "a secret in EVERLEARN_API_KEY"),
    "a password in a URL": (variable("api", EVERLEARN_DATABASE_URL="postgresql://e:p@d/e"), "a secret in"),
    "one secret too many": (
        lambda c: c["services"]["worker"]["secrets"].append({"source": "api_key"}),
        "a secret that it does not use",
    ),
}


@pytest.mark.parametrize("mistake", PLANTED)
def test_a_planted_mistake_is_found(
    mistake: str, composed: Callable[[], Object], faults: Callable[[Object], list[str]]
) -> None:
    plant, expected = PLANTED[mistake]
    file = composed()
    plant(file)
    assert [fault for fault in faults(file) if expected in fault], faults(file)
