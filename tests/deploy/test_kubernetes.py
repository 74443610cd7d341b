"""The Kubernetes manifests: rendered, valid for the cluster's own schemas, and within the rules."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import kubernetes_validate
import pytest

Object = dict[str, Any]
OVERLAYS = ("dev", "production", "production-s3", "production-keda")
WITHOUT_SCHEMA = {"ServiceMonitor", "PodMonitor", "ScaledObject"}
"""Kinds of the Prometheus Operator and KEDA, which the cluster's schemas do not hold."""


@pytest.fixture(scope="session")
def faults(
    policies: ModuleType,
    images: Any,
    routes: set[str],
    settings: set[str],
    secret_keys: dict[str, dict[str, str]],
    told: Callable[[], set[str]],
) -> Callable[[list[Object]], list[str]]:
    """Everything that is wrong with a list of objects."""

    metrics = told()

    def find(objects: list[Object]) -> list[str]:
        return [
            *policies.unprivileged(objects),
            *policies.limited(objects),
            *policies.probed(objects, routes),
            *policies.configured(objects, settings, secret_keys),
            *policies.connected(objects, int(images["api"].port)),
            *policies.guarded(objects),
            *policies.scaled(objects, metrics),
        ]

    return find


def one(objects: list[Object], kind: str, name: str) -> Object:
    return next(o for o in objects if o["kind"] == kind and o["metadata"]["name"].startswith(name))


def pod(objects: list[Object], name: str, kind: str = "Deployment") -> Object:
    spec: Object = one(objects, kind, name)["spec"]["template"]["spec"]
    return spec


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_object_is_valid(overlay: str, rendered: Callable[[str], list[Object]]) -> None:
    newest = kubernetes_validate.latest_version()
    for thing in rendered(overlay):
        if thing["kind"] not in WITHOUT_SCHEMA:
            kubernetes_validate.validate(thing, newest, strict=True)


def test_a_field_that_there_is_not_is_seen(rendered: Callable[[str], list[Object]]) -> None:
    objects = rendered("production")
    pod(objects, "everlearn-api")["containers"][0]["readynessProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(
            one(objects, "Deployment", "everlearn-api"), kubernetes_validate.latest_version(), strict=True
        )


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_objects_keep_the_rules(
    overlay: str, rendered: Callable[[str], list[Object]], faults: Callable[[list[Object]], list[str]]
) -> None:
    assert faults(rendered(overlay)) == []


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_everything_is_there(overlay: str, rendered: Callable[[str], list[Object]]) -> None:
    objects = rendered(overlay)
    names = {(o["kind"], o["metadata"]["name"]) for o in objects}
    parts = {
        ("Deployment", f"everlearn-{part}")
        for part in ("api", "dashboard", "advance", "worker", "scheduler", "mirror")
    }
    assert names >= parts | {("Job", "everlearn-migrate"), ("Service", "everlearn-api")}
    assert names >= {(kind, "everlearn-api") for kind in ("HorizontalPodAutoscaler", "PodDisruptionBudget")}
    assert "Secret" not in {kind for kind, _ in names}
    place = one(objects, "Namespace", "everlearn")["metadata"]
    assert place["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert {o["metadata"].get("namespace", place["name"]) for o in objects} == {place["name"]}


def test_the_settings_can_be_loaded(
    rendered: Callable[[str], list[Object]], stated: ModuleType, images: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from everlearn.config import Settings

    processes = stated.of_kubernetes(rendered("production"), images)
    assert "EVERLEARN_DATABASE_URL" not in processes.pop("everlearn-dashboard").environment
    for process in processes.values():
        with monkeypatch.context() as patch:
            for name, value in process.environment.items():
                if name.startswith(("EVERLEARN_", "MLFLOW_", "PERFORMANCE_")):
                    patch.setenv(name, value)
            settings = Settings.load()
            assert settings.database.startswith("postgresql://everlearn@postgres.example.com")
            assert str(settings.artifacts_folder) == "/artifacts"


def test_versions_on_s3_need_no_volume(
    rendered: Callable[[str], list[Object]],
    faults: Callable[[list[Object]], list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from everlearn.config import Settings

    objects = rendered("production-s3")
    assert "PersistentVolumeClaim" not in {one["kind"] for one in objects}
    for name in ("EVERLEARN_ARTIFACTS", "EVERLEARN_ARTIFACTS_CACHE", "EVERLEARN_ARTIFACTS_CACHE_MB"):
        monkeypatch.setenv(name, settings_map(objects)[name])
    settings = Settings.load()
    assert settings.artifacts_url == "s3://versions.example.com/everlearn"
    for part in ("api", "worker", "mirror"):
        spec = pod(objects, f"everlearn-{part}")
        mounts = {mount["mountPath"]: mount["name"] for mount in spec["containers"][0]["volumeMounts"]}
        assert mounts[str(settings.artifacts_folder)] == "copies"
        assert "/artifacts" not in mounts, "where a forgotten bucket would lose versions without a word"
        room = next(volume["emptyDir"] for volume in spec["volumes"] if volume["name"] == "copies")
        assert room["sizeLimit"] == "2Gi"
        assert settings.artifacts_cache_mb < 2048
    objects.remove(one(objects, "NetworkPolicy", "everlearn-versions"))
    assert any("reach port 443" in fault for fault in faults(objects))


def test_what_is_kept_in_memory_fits_the_limit(rendered: Callable[[str], list[Object]]) -> None:
    """The cache of models and what an API process needs beside it: docs/serving.md."""
    for overlay in OVERLAYS:
        objects = rendered(overlay)
        limit = first(objects, "everlearn-api")["resources"]["limits"]["memory"]
        most = {"Gi": 1024, "Mi": 1}[limit[-2:]] * int(limit[:-2])
        assert int(settings_map(objects)["EVERLEARN_CACHE_MB"]) + 400 <= most, overlay


def test_the_example_secrets_are_refused(
    secret_keys: dict[str, dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from everlearn.config import Settings
    from everlearn.credentials import make_token_secrets, read_key
    from everlearn.errors import InvalidError

    example = secret_keys["everlearn"]
    with pytest.raises(InvalidError, match="too weak"):
        read_key(Settings.load(api_key=example["api-key"]))
    with pytest.raises(InvalidError, match="too weak"):
        make_token_secrets(Settings.load(token_secret=example["token-secret"]))


def settings_map(objects: list[Object]) -> dict[str, str]:
    data: dict[str, str] = one(objects, "ConfigMap", "everlearn-settings")["data"]
    return data


def first(objects: list[Object], name: str, kind: str = "Deployment") -> Object:
    container: Object = pod(objects, name, kind)["containers"][0]
    return container


def policy(objects: list[Object], name: str) -> Object:
    spec: Object = one(objects, "NetworkPolicy", f"everlearn-{name}")["spec"]
    return spec


PLANTED: dict[str, tuple[Callable[[list[Object]], Any], str]] = {
    "root": (lambda o: pod(o, "everlearn-api")["securityContext"].pop("runAsNonRoot"), "may run as root"),
    "root in a container": (
        lambda o: first(o, "everlearn-api")["securityContext"].update(runAsUser=0),
        "may run as root",
    ),
    "no seccomp": (
        lambda o: pod(o, "everlearn-worker")["securityContext"].pop("seccompProfile"),
        "no seccomp",
    ),
    "a token": (lambda o: pod(o, "everlearn-worker").pop("automountServiceAccountToken"), "a token"),
    "host network": (lambda o: pod(o, "everlearn-api").update(hostNetwork=True), "node's namespaces"),
    "host path": (
        lambda o: pod(o, "everlearn-api")["volumes"].append({"name": "x", "hostPath": {"path": "/"}}),
        "a path of its node",
    ),
    "writable root": (
        lambda o: pod(o, "everlearn-api")["initContainers"][0]["securityContext"].update(
            readOnlyRootFilesystem=False
        ),
        "can write to its root",
    ),
    "escalation": (
        lambda o: first(o, "everlearn-migrate", "Job")["securityContext"].pop("allowPrivilegeEscalation"),
        "may gain privileges",
    ),
    "a capability": (
        lambda o: first(o, "everlearn-api")["securityContext"]["capabilities"].update(add=["NET_ADMIN"]),
        "keeps capabilities",
    ),
    "no limit": (lambda o: first(o, "everlearn-worker")["resources"]["limits"].pop("memory"), "no limits"),
    "no request": (lambda o: first(o, "everlearn-worker")["resources"]["requests"].pop("cpu"), "no requests"),
    "endless scratch": (lambda o: pod(o, "everlearn-api")["volumes"][0].update(emptyDir={}), "without end"),
    "latest": (lambda o: first(o, "everlearn-api").update(image="everlearn-api:latest"), "without a version"),
    "no probe": (lambda o: first(o, "everlearn-api").pop("livenessProbe"), "has no livenessProbe"),
    "a made-up route": (
        lambda o: first(o, "everlearn-api")["readinessProbe"]["httpGet"].update(path="/ready"),
        "is no route",
    ),
    "a probe's port": (
        lambda o: first(o, "everlearn-api")["startupProbe"]["httpGet"].update(port="web"),
        "a port that it has not",
    ),
    "metrics elsewhere": (
        lambda o: one(o, "ServiceMonitor", "")["spec"]["endpoints"][0].update(path="/prometheus"),
        "is no route",
    ),
    "a made-up setting": (lambda o: settings_map(o).update(EVERLEARN_QUEUE="redis"), "is no setting"),
    "a password in the URL": (
        lambda o: settings_map(o).update(EVERLEARN_DATABASE_URL="postgresql://e:pw@db:5432/e"),
        "a secret in EVERLEARN_DATABASE_URL",
    ),
    "a key in a variable": (
        lambda o: first(o, "everlearn-api")["env"].append({"name": "EVERLEARN_API_KEY", "value": "k"}),
        "a secret in EVERLEARN_API_KEY",
    ),
    "a secret by variable": (
        lambda o: first(o, "everlearn-api")["env"].append({"name": "PGPASSWORD", "valueFrom": {}}),
        "a secret in a variable",
    ),
    "a file not mounted": (
        lambda o: first(o, "everlearn-api")["env"][0].update(value="/run/secrets/key"),
        "no mounted secret",
    ),
    "a made-up key": (
        lambda o: pod(o, "everlearn-worker")["volumes"][-1]["secret"]["items"][0].update(key="pw"),
        "wants pw of everlearn",
    ),
    "metrics without a key": (
        lambda o: one(o, "ServiceMonitor", "")["spec"]["endpoints"][0].pop("authorization"),
        "without a key",
    ),
    "another port": (
        lambda o: first(o, "everlearn-api")["ports"][0].update(containerPort=8080),
        "has port 8080",
    ),
    "a service's port": (
        lambda o: one(o, "Service", "everlearn-api")["spec"]["ports"][0].update(targetPort="web"),
        "names port web",
    ),
    "a policy's port": (
        lambda o: policy(o, "callers")["ingress"][0]["ports"][0].update(port="web"),
        "names port web",
    ),
    "a monitor's port": (
        lambda o: one(o, "ServiceMonitor", "")["spec"]["endpoints"][0].update(port="web"),
        "the monitor names port web",
    ),
    "a port of workers that none has": (
        lambda o: one(o, "PodMonitor", "")["spec"]["podMetricsEndpoints"][0].update(port="web"),
        "the monitor of workers names port web",
    ),
    "workers that nobody reads": (
        lambda o: one(o, "PodMonitor", "")["spec"]["selector"]["matchLabels"].update(also="this"),
        "the monitor of workers selects no pod",
    ),
    "a monitor for nothing": (
        lambda o: one(o, "Service", "everlearn-api")["metadata"]["labels"].clear(),
        "the monitor selects no service",
    ),
    "a budget for nothing": (
        lambda o: one(o, "PodDisruptionBudget", "")["spec"]["selector"].update(matchLabels={"app": "x"}),
        "selects no pod",
    ),
    "a fixed number": (
        lambda o: one(o, "Deployment", "everlearn-api")["spec"].update(replicas=2),
        "a fixed number of replicas",
    ),
    "a stranger's pods": (
        lambda o: one(o, "Deployment", "everlearn-worker")["spec"]["selector"].update(
            matchLabels={"app": "x"}
        ),
        "does not select its own pods",
    ),
    "no way to the database": (
        lambda o: policy(o, "database")["egress"][0]["ports"][0].update(port=5433),
        "reach port 5432",
    ),
    "no way to MLflow": (
        lambda o: settings_map(o).update(MLFLOW_TRACKING_URI="http://mlflow:8080"),
        "reach port 8080",
    ),
    "no way to the broker": (
        lambda o: settings_map(o).update(EVERLEARN_BROKER_URL="amqp://rabbitmq:5672//"),
        "reach port 5672",
    ),
    "open to the network": (
        lambda o: policy(o, "deny").update(policyTypes=["Egress"]),
        "is open to the network",
    ),
    "two schedulers": (
        lambda o: one(o, "Deployment", "everlearn-scheduler")["spec"].update(replicas=2),
        "may run twice",
    ),
    "a rolling mirror": (
        lambda o: one(o, "Deployment", "everlearn-mirror")["spec"].pop("strategy"),
        "may run twice",
    ),
    "a fixed number of workers": (
        lambda o: one(o, "Deployment", "everlearn-worker")["spec"].update(replicas=2),
        "a fixed number of replicas",
    ),
    "scaled schedulers": (
        lambda o: one(o, "ScaledObject", "everlearn-worker")["spec"]["scaleTargetRef"].update(
            name="everlearn-scheduler"
        ),
        "everlearn-scheduler may run twice",
    ),
    "no worker left": (
        lambda o: one(o, "ScaledObject", "everlearn-advance")["spec"].update(minReplicaCount=0),
        "may have no worker at all",
    ),
    "a made-up field of KEDA": (
        lambda o: one(o, "ScaledObject", "everlearn-worker")["spec"].update(minReplicas=1),
        "KEDA knows no minReplicas",
    ),
    "scaled by what nobody tells": (
        lambda o: one(o, "ScaledObject", "everlearn-worker")["spec"]["triggers"][0]["metadata"].update(
            query="sum(everlearn_queue_depth)"
        ),
        "asks for everlearn_queue_depth",
    ),
    "an API that writes versions": (
        lambda o: first(o, "everlearn-api")["volumeMounts"][-1].pop("readOnly"),
        "can write versions",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("mistake", PLANTED)
def test_a_planted_mistake_is_found(
    mistake: str, rendered: Callable[[str], list[Object]], faults: Callable[[list[Object]], list[str]]
) -> None:
    plant, expected = PLANTED[mistake]
    objects = rendered("production-keda")
    plant(objects)
    assert [fault for fault in faults(objects) if expected in fault], faults(objects)
