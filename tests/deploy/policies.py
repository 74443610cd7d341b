"""What must hold of the rendered Kubernetes objects. Each rule gives a line for every fault it finds."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any
from urllib.parse import urlsplit

import stated

Object = dict[str, Any]
ALONE = ("everlearn-scheduler", "everlearn-mirror")
"""What must not run twice, or need not."""
WINDOW = "everlearn-dashboard"
"""What knows the API alone: it has none of the settings."""
WINDOW_ROUTES = {"/_stcore/health"}
SCALED_FIELDS = {
    "scaleTargetRef", "pollingInterval", "cooldownPeriod", "initialCooldownPeriod", "idleReplicaCount",
    "minReplicaCount", "maxReplicaCount", "fallback", "advanced", "triggers",
}  # fmt: skip
"""Of KEDA's ScaledObject, keda.sh/v1alpha1."""
TOLD = ("everlearn-advance", "everlearn-worker")
"""What a broker tells of work."""


def unprivileged(objects: Sequence[Object]) -> Iterator[str]:
    """Not root, no way to become it, no way to write but to volumes, no word with the cluster."""
    for name, _, template in stated.pods(objects):
        pod = template["spec"]
        context = pod.get("securityContext", {})
        if context.get("runAsNonRoot") is not True or not context.get("runAsUser"):
            yield f"{name} may run as root"
        if context.get("seccompProfile", {}).get("type") != "RuntimeDefault":
            yield f"{name} has no seccomp profile"
        if pod.get("automountServiceAccountToken") is not False:
            yield f"{name} is given a token of the cluster"
        if any(pod.get(key) for key in ("hostNetwork", "hostPID", "hostIPC")):
            yield f"{name} shares its node's namespaces"
        if any("hostPath" in volume for volume in pod.get("volumes", [])):
            yield f"{name} mounts a path of its node"
        for one in stated.containers(template):
            yield from _locked(f"{name}: {one['name']}", one.get("securityContext", {}))


def _locked(name: str, locks: Object) -> Iterator[str]:
    if locks.get("readOnlyRootFilesystem") is not True:
        yield f"{name} can write to its root"
    if locks.get("allowPrivilegeEscalation") is not False or locks.get("privileged"):
        yield f"{name} may gain privileges"
    if locks.get("capabilities") != {"drop": ["ALL"]}:
        yield f"{name} keeps capabilities"
    if locks.get("runAsNonRoot") is False or locks.get("runAsUser") == 0:
        yield f"{name} may run as root"


def limited(objects: Sequence[Object]) -> Iterator[str]:
    """Every container says what it needs and what it may take; every scratch volume has a size."""
    for name, _, template in stated.pods(objects):
        for one in stated.containers(template):
            for kind in ("requests", "limits"):
                if not {"cpu", "memory"} <= set(one.get("resources", {}).get(kind, {})):
                    yield f"{name}: {one['name']} has no {kind}"
            if ":" not in one["image"].rpartition("/")[2] or one["image"].endswith(":latest"):
                yield f"{name}: {one['name']} has an image without a version"
        for volume in template["spec"].get("volumes", []):
            if "emptyDir" in volume and not volume["emptyDir"].get("sizeLimit"):
                yield f"{name}: {volume['name']} may grow without end"


def probed(objects: Sequence[Object], routes: set[str]) -> Iterator[str]:
    """What answers HTTP is probed, at routes that there are and ports that it has."""
    for name, _, template in stated.pods(objects):
        for one in stated.containers(template):
            ports = {port["name"] for port in one.get("ports", [])}
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                if "http" in ports and probe not in one:
                    yield f"{name}: {one['name']} has no {probe}"
                asked = one.get(probe, {}).get("httpGet")
                known = WINDOW_ROUTES if WINDOW in one["image"] else routes
                if asked and asked["path"] not in known:
                    yield f"{name}: {one['name']} is probed at {asked['path']}, which is no route"
                if asked and asked["port"] not in ports:
                    yield f"{name}: {one['name']} is probed at a port that it has not"
    for monitor in of_kind(objects, "ServiceMonitor"):
        for end in monitor["spec"]["endpoints"]:
            if end["path"] not in routes:
                yield f"the metrics are asked for at {end['path']}, which is no route"


def configured(
    objects: Sequence[Object], settings: set[str], secrets: Mapping[str, Mapping[str, str]]
) -> Iterator[str]:
    """Variables are settings that there are; secrets are files, from keys that there are."""
    for name, _, template in stated.pods(objects):
        for volume in template["spec"].get("volumes", []):
            source = volume.get("secret", {"items": []})
            for item in source["items"]:
                if item["key"] not in secrets.get(source["secretName"], {}):
                    yield f"{name} wants {item['key']} of {source['secretName']}, which is not there"
        for one in stated.containers(template):
            if any("valueFrom" in variable for variable in one.get("env", [])):
                yield f"{name}: {one['name']} has a secret in a variable"
            known = settings if is_ours(one) else None
            given, mounted = stated.variables(one, objects), stated.mounts(one, template)
            yield from _variables(f"{name}: {one['name']}", given, mounted, known)
    for monitor in of_kind(objects, "ServiceMonitor"):
        for end in monitor["spec"]["endpoints"]:
            wanted = end.get("authorization", {}).get("credentials", {})
            if wanted.get("key") not in secrets.get(wanted.get("name", ""), {}):
                yield "the metrics are asked for without a key that is there"


def _variables(
    name: str, given: Mapping[str, str], mounted: Mapping[str, str], settings: set[str] | None
) -> Iterator[str]:
    for variable, value in given.items():
        if settings is not None and variable not in settings:
            yield f"{name}: {variable} is no setting"
        if variable.endswith("_FILE") and not mounted.get(value, "").startswith("secret/"):
            yield f"{name} names {value} in {variable}, which is no mounted secret"
        if variable.endswith(("_KEY", "_SECRET", "PASSWORD")) or urlsplit(value).password:
            yield f"{name} has a secret in {variable}"


def connected(objects: Sequence[Object], port: int) -> Iterator[str]:
    """Selectors find pods, names of ports are ports, and the numbers are those of the product."""
    for kind in ("Service", "NetworkPolicy", "PodDisruptionBudget"):
        for one in of_kind(objects, kind):
            found = selected(objects, one)
            if not found:
                yield f"{kind} {one['metadata']['name']} selects no pod"
            for asked in asked_ports(one):
                if any(asked not in ports_of(template) for template in found):
                    yield f"{kind} {one['metadata']['name']} names port {asked}, which a pod has not"
    for name, one, template in stated.pods(objects):
        if one["kind"] != "Job" and not matches(one["spec"]["selector"]["matchLabels"], template):
            yield f"{name} does not select its own pods"
        if ports_of(template).get("http", port) != port:
            yield f"{name} has port {ports_of(template)['http']}, and the image {port}"
    yield from _watched(objects)
    yield from _watched_pods(objects)
    yield from _reachable(objects)


def _watched(objects: Sequence[Object]) -> Iterator[str]:
    """The monitor and the autoscaler are for things that there are."""
    for monitor in of_kind(objects, "ServiceMonitor"):
        labels = monitor["spec"]["selector"]["matchLabels"]
        services = [one for one in of_kind(objects, "Service") if subset(labels, one["metadata"]["labels"])]
        if not services:
            yield "the monitor selects no service"
        for end in monitor["spec"]["endpoints"]:
            if any(end["port"] not in {port["name"] for port in one["spec"]["ports"]} for one in services):
                yield f"the monitor names port {end['port']}, which a service has not"
    for scaler in [*of_kind(objects, "HorizontalPodAutoscaler"), *of_kind(objects, "ScaledObject")]:
        target = {"kind": "Deployment", **scaler["spec"]["scaleTargetRef"]}
        found = [one for one in of_kind(objects, target["kind"]) if one["metadata"]["name"] == target["name"]]
        if not found or "replicas" in found[0]["spec"]:
            yield f"{target['name']} is not there to be scaled, or has a fixed number of replicas"
        if target["name"] in ALONE:
            yield f"{target['name']} may run twice"


def scaled(objects: Sequence[Object], told: Set[str]) -> Iterator[str]:
    """KEDA is asked for what it knows, and asks Prometheus for what everlearn tells."""
    for scaler in of_kind(objects, "ScaledObject"):
        name, spec = scaler["metadata"]["name"], scaler["spec"]
        yield from (f"{name}: KEDA knows no {field}" for field in sorted(spec.keys() - SCALED_FIELDS))
        if not 0 < spec.get("minReplicaCount", 0) <= spec.get("maxReplicaCount", 100):
            yield f"{name} may have no worker at all, or fewer than it must"
        for trigger in spec["triggers"]:
            asked = trigger["metadata"]
            if trigger["type"] != "prometheus" or asked.keys() != {"serverAddress", "query", "threshold"}:
                yield f"{name} is not scaled by a query of Prometheus"
            elif unknown := set(re.findall(r"\beverlearn_\w+", asked["query"])) - told:
                yield f"{name} asks for {', '.join(sorted(unknown))}, which nobody tells"
            elif float(asked["threshold"]) <= 0:
                yield f"{name} is scaled by nothing"


def _watched_pods(objects: Sequence[Object]) -> Iterator[str]:
    """So is the monitor of workers."""
    for monitor in of_kind(objects, "PodMonitor"):
        labels = monitor["spec"]["selector"]["matchLabels"]
        found = [pod for _, _, pod in stated.pods(objects) if subset(labels, pod["metadata"]["labels"])]
        if not found:
            yield "the monitor of workers selects no pod"
        for end in monitor["spec"]["podMetricsEndpoints"]:
            if any(end["port"] not in ports_of(template) for template in found):
                yield f"the monitor of workers names port {end['port']}, which a pod has not"


def _reachable(objects: Sequence[Object]) -> Iterator[str]:
    """The network lets each process of ours reach what the settings name, where they say that it is."""
    for name, one, template in stated.pods(objects):
        for container in stated.containers(template):
            if not is_ours(container):
                continue
            given, wanted = stated.variables(container, objects), []
            wanted.append(
                8000 if WINDOW in container["image"] else urlsplit(given["EVERLEARN_DATABASE_URL"]).port
            )
            if one["metadata"]["name"] == "everlearn-mirror" and given["MLFLOW_TRACKING_URI"] != "off":
                wanted.append(urlsplit(given["MLFLOW_TRACKING_URI"]).port)
            if one["metadata"]["name"] in TOLD and "EVERLEARN_BROKER_URL" in given:
                wanted.append(urlsplit(given["EVERLEARN_BROKER_URL"]).port)
            if given.get("EVERLEARN_ARTIFACTS", "").startswith("s3://"):
                wanted.append(443)
            open_ports = {
                port["port"]
                for policy in of_kind(objects, "NetworkPolicy")
                if matches(policy["spec"]["podSelector"].get("matchLabels", {}), template)
                for rule in policy["spec"].get("egress", [])
                for port in rule["ports"]
            }
            for port in wanted:
                if port not in open_ports:
                    yield f"{name}: the network does not let {container['name']} reach port {port}"


def guarded(objects: Sequence[Object]) -> Iterator[str]:
    """No pod is open to the network by default; what must be alone is alone; the API only reads versions."""
    denied = [
        policy["spec"]["podSelector"].get("matchLabels", {})
        for policy in of_kind(objects, "NetworkPolicy")
        if set(policy["spec"]["policyTypes"]) == {"Ingress", "Egress"}
    ]
    for name, one, template in stated.pods(objects):
        if not any(matches(labels, template) for labels in denied):
            yield f"{name} is open to the network"
        spec = one["spec"]
        alone = one["metadata"]["name"] in ALONE
        if alone and (spec.get("replicas", 1) > 1 or spec.get("strategy", {}).get("type") != "Recreate"):
            yield f"{name} may run twice"
        for container in template["spec"]["containers"]:
            for mount in container.get("volumeMounts", []):
                reads = one["metadata"]["name"] in ("everlearn-api", "everlearn-mirror")
                if reads and mount["name"] == "artifacts" and not mount.get("readOnly"):
                    yield f"{name} can write versions"


def of_kind(objects: Sequence[Object], kind: str) -> list[Object]:
    """The objects of a kind."""
    return [one for one in objects if one["kind"] == kind]


def subset(labels: Mapping[str, str], of: Mapping[str, str]) -> bool:
    """Whether all labels are among those."""
    return labels.items() <= of.items()


def matches(labels: Mapping[str, str], template: Object) -> bool:
    """Whether a selector's labels find a pod."""
    return subset(labels, template["metadata"]["labels"])


def selected(objects: Sequence[Object], one: Object) -> list[Object]:
    """The templates of the pods that an object selects."""
    spec = one["spec"]
    selector = spec.get("podSelector", spec.get("selector", {}))
    labels = selector.get("matchLabels", selector)
    return [template for _, _, template in stated.pods(objects) if matches(labels, template)]


def ports_of(template: Object) -> dict[str, int]:
    """A pod's ports by their names."""
    return {
        port["name"]: port["containerPort"]
        for container in stated.containers(template)
        for port in container.get("ports", [])
    }


def is_ours(container: Object) -> bool:
    """Whether a container runs an image of ours."""
    name: str = container["image"].rpartition("/")[2]
    return name.startswith(stated.OURS)


def asked_ports(one: Object) -> list[str]:
    """The ports by which a service or a policy wants to reach its pods."""
    if one["kind"] == "Service":
        return [port["targetPort"] for port in one["spec"]["ports"]]
    return [port["port"] for rule in one["spec"].get("ingress", []) for port in rule["ports"]]
