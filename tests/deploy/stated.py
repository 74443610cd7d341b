"""What the Dockerfile, the compose file and the Kubernetes objects state, as processes to start."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

Object = dict[str, Any]
OURS = "everlearn-"


@dataclass(frozen=True)
class Stage:
    """A stage of the Dockerfile, with what it has from the stages it is built from."""

    base: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    user: str = "0"
    entrypoint: Sequence[str] = ()
    command: Sequence[str] = ()
    health: Sequence[str] = ()
    port: str = ""


@dataclass(frozen=True)
class Process:
    """A container's process: what it runs, with which variables, and what is mounted where.

    ``mounts`` maps a path to ``secret/NAME``, ``volume/NAME`` or ``tmp``; ``read_only`` are those of volumes.
    """

    name: str
    argv: Sequence[str]
    environment: Mapping[str, str]
    mounts: Mapping[str, str]
    read_only: Sequence[str] = ()
    replicas: int = 1


def instructions(dockerfile: str) -> Iterator[tuple[str, str]]:
    """The instructions of a Dockerfile with their arguments, continued lines joined."""
    lines = [line for line in dockerfile.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        word, _, rest = line.strip().partition(" ")
        yield word.upper(), rest.strip()


def stages(dockerfile: str) -> dict[str, Stage]:
    """The stages by their names."""
    found: dict[str, Stage] = {}
    name, stage = "", Stage()
    for word, rest in instructions(dockerfile):
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            stage = replace(found[base], base=base) if base in found else Stage(base)
        elif word in ("ENV", "LABEL"):
            pairs = dict(pair.split("=", 1) for pair in shlex.split(rest))
            which = "environment" if word == "ENV" else "labels"
            stage = replace(stage, **{which: {**getattr(stage, which), **pairs}})
        elif word == "USER":
            stage = replace(stage, user=rest)
        elif word == "EXPOSE":
            stage = replace(stage, port=rest)
        elif word in ("ENTRYPOINT", "CMD"):
            stage = replace(stage, **{{"CMD": "command"}.get(word, word.lower()): json.loads(rest)})
        elif word == "HEALTHCHECK":
            stage = replace(stage, health=json.loads(rest.partition(" CMD ")[2]))
        if name:
            found[name] = stage
    return found


def stage_of(image: str, images: Mapping[str, Stage]) -> Stage | None:
    """The stage that an image is built from; ``None`` for other people's images."""
    name = image.rpartition("/")[2].partition(":")[0]
    return images[name.removeprefix(OURS)] if name.startswith(OURS) else None


def pods(objects: Sequence[Object]) -> Iterator[tuple[str, Object, Object]]:
    """Everything that makes pods: its name, itself, and the pod's template."""
    for one in objects:
        if one["kind"] in ("Deployment", "StatefulSet", "DaemonSet", "Job"):
            yield f"{one['kind']} {one['metadata']['name']}", one, one["spec"]["template"]


def containers(template: Object) -> list[Object]:
    """All containers of a pod."""
    spec = template["spec"]
    return [*spec.get("initContainers", []), *spec["containers"]]


def config(objects: Sequence[Object]) -> dict[str, dict[str, str]]:
    """The configuration maps by their names."""
    return {one["metadata"]["name"]: one["data"] for one in objects if one["kind"] == "ConfigMap"}


def variables(container: Object, objects: Sequence[Object]) -> dict[str, str]:
    """The variables that a container is given by the objects, those of maps included."""
    maps = config(objects)
    given: dict[str, str] = {}
    for source in container.get("envFrom", []):
        given |= maps[source["configMapRef"]["name"]]
    return given | {one["name"]: one["value"] for one in container.get("env", []) if "value" in one}


def mounts(container: Object, template: Object) -> dict[str, str]:
    """What is mounted where; the files of a secret one by one."""
    volumes = {volume["name"]: volume for volume in template["spec"].get("volumes", [])}
    found = {}
    for mount in container.get("volumeMounts", []):
        volume, path = volumes.get(mount["name"], {}), mount["mountPath"]
        if "secret" in volume:
            for item in volume["secret"]["items"]:
                found[f"{path}/{item['path']}"] = f"secret/{item['key']}"
        elif "emptyDir" in volume:
            found[path] = "tmp"
        else:
            found[path] = f"volume/{mount['name']}"
    return found


def of_kubernetes(objects: Sequence[Object], images: Mapping[str, Stage]) -> dict[str, Process]:
    """Every process of our images, by the name of what makes its pod; ``NAME/CONTAINER`` before it starts."""
    found = {}
    for _, one, template in pods(objects):
        for container in containers(template):
            stage = stage_of(container["image"], images)
            if stage is None:
                continue
            first = container in template["spec"].get("initContainers", [])
            name = one["metadata"]["name"] + (f"/{container['name']}" if first else "")
            argv = [*container.get("command", stage.entrypoint), *container.get("args", stage.command)]
            environment = {**stage.environment, **variables(container, objects)}
            reads = [mount["mountPath"] for mount in container["volumeMounts"] if mount.get("readOnly")]
            replicas = one["spec"].get("replicas", 1)
            found[name] = Process(name, argv, environment, mounts(container, template), reads, replicas)
    return found


def of_compose(composed: Object, images: Mapping[str, Stage]) -> dict[str, Process]:
    """Every service of our images, by its name."""
    found = {}
    for name, service in composed["services"].items():
        stage = stage_of(service["image"], images)
        if stage is None:
            continue
        secrets = [one["source"] for one in service.get("secrets", [])]
        where = {f"/run/secrets/{secret}": f"secret/{secret}" for secret in secrets}
        reads = []
        for volume in service.get("volumes", []):
            source, path, *how = volume.split(":")
            where[path] = f"volume/{source}"
            reads += [path] if how == ["ro"] else []
        where |= {mount.partition(":")[0]: "tmp" for mount in service.get("tmpfs", [])}
        argv = [*service.get("entrypoint", stage.entrypoint), *service.get("command", stage.command)]
        environment = {**stage.environment, **service.get("environment", {})}
        found[name] = Process(name, argv, environment, where, reads)
    return found
