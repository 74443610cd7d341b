"""The mirror of models and versions in MLflow 3, for people and tools that look there.

The database is the authority: a message says *that* something changed, and the mirror makes MLflow
agree with what the database says now. So messages may be repeated, come in any order, or be cut off
half-way, and MLflow ends up the same. What is mirrored, and as what, is told in ``docs/mlflow.md``.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from everlearn import __version__
from everlearn.adapters import mlflow_describe as describe
from everlearn.adapters.bundles import encode_bundle
from everlearn.adapters.mlflow_connection import connect, reached, shown, sqlite_file
from everlearn.errors import InvalidError
from everlearn.ports import Artifacts, Ledger, Models, Versions
from everlearn.predictor import Predictor
from everlearn.spec import ModelSpec
from everlearn.types import Decision, Version

CHAMPION = "champion"
FOLDER = "model"
LOADER = "everlearn.adapters.mlflow_pyfunc"

_METRICS_A_CALL = 500
_PARAMETERS_A_CALL = 100


class MlflowRegistry:
    """:class:`everlearn.ports.Registry` on MLflow.

    ``uri`` is a tracking server (``http://…``) or store (``sqlite:///…``) that holds the registry
    too. ``artifact_root`` is the folder for what a store without a server keeps as files; by default
    ``mlartifacts`` beside a SQLite store. MLflow is imported and reached with the first call.
    """

    def __init__(
        self,
        uri: str,
        *,
        models: Models,
        versions: Versions,
        ledger: Ledger,
        artifacts: Artifacts,
        artifact_root: str | None = None,
    ) -> None:
        self.uri = uri
        self._models = models
        self._versions = versions
        self._ledger = ledger
        self._artifacts = artifacts
        self._root = _root(uri, artifact_root)
        self._connected: Any = None
        self._one_at_a_time = threading.Lock()

    def mirror(self, message: Mapping[str, Any]) -> None:
        """Make MLflow agree about a model, a version, or a champion.

        Raises UnavailableError when MLflow does not answer, NotFoundError for what is gone, and
        InvalidError for a message of another kind or a name that another tool holds in MLflow.
        """
        kinds = {
            "model": self._mirror_model,
            "version": self._mirror_version,
            CHAMPION: self._mirror_champion,
        }
        if message.get("kind") not in kinds:
            raise InvalidError(f"kind: {message.get('kind')!r} is not one of {', '.join(kinds)}")
        with self._one_at_a_time, reached(self.uri):
            kinds[message["kind"]](message)

    def check(self) -> str:
        """A line that says where MLflow is and that it answers; raises UnavailableError."""
        with reached(self.uri):
            self._client.search_experiments(max_results=1)
            self._client.search_registered_models(max_results=1)
            from mlflow.version import VERSION

            return f"MLflow at {shown(self.uri)} answers (client {VERSION})"

    @property
    def _client(self) -> Any:
        if self._connected is None:
            self._connected = connect(self.uri)
        return self._connected

    def _mirror_model(self, message: Mapping[str, Any]) -> None:
        spec = self._models.get(message["model"])
        self._experiment(spec)
        self._registered(spec)

    def _mirror_version(self, message: Mapping[str, Any]) -> None:
        self._version(message["model"], message["number"], message.get("job"))

    def _mirror_champion(self, message: Mapping[str, Any]) -> None:
        """Point the alias at what answers now, which may be newer than the message."""
        model = message["model"]
        registered = self._registered(self._models.get(model))
        champion = self._version(model, self._versions.champion(model).version)
        points_at = registered.aliases.get(CHAMPION)
        if champion is None and points_at is not None:
            self._client.delete_registered_model_alias(model, CHAMPION)
        elif champion is not None and str(points_at) != str(champion.version):
            self._client.set_registered_model_alias(model, CHAMPION, champion.version)
        self._explain(message)

    def _explain(self, message: Mapping[str, Any]) -> None:
        """Tag the version that a message promotes with the decision, unless a later one is there."""
        promoted = self._version(message["model"], message["version"])
        if promoted is None or int(promoted.tags.get(describe.TERM, -1)) >= message["term"]:
            return
        tags = describe.promotion_tags(message, self._decision(message))
        # The term goes last: while it is missing, a repeated message completes the others.
        for name, value in sorted(tags.items(), key=lambda tag: tag[0] == describe.TERM):
            self._client.set_model_version_tag(message["model"], promoted.version, name, value)

    def _decision(self, message: Mapping[str, Any]) -> Decision | None:
        newest = self._ledger.decisions(message["model"]).items
        return next((found for found in newest if found.number == message.get("decision")), None)

    def _version(self, model: str, number: int, job: str | None = None) -> Any:
        """The MLflow model version of a version, made if it is not there; ``None`` for version 0."""
        version = self._versions.get(model, number)
        if version.digest is None:
            return None
        spec = self._models.get(model)
        self._registered(spec)
        where = f"name = '{model}' and tags.`{describe.KEY}` = '{describe.key_of(version)}'"
        if known := self._client.search_model_versions(where, max_results=1):
            return known[0]
        run = self._run(self._experiment(spec), version, job)
        return self._client.create_model_version(
            model,
            source=f"{run.info.artifact_uri}/{FOLDER}",
            run_id=run.info.run_id,
            tags=describe.version_tags(version, job),
            description=f"everlearn version {number}: {version.learner}, learned from {version.rows} rows",
            await_creation_for=0,
        )

    def _run(self, experiment: str, version: Version, job: str | None) -> Any:
        """The finished run of a version: what a crash left half-done is completed, not repeated."""
        where = f"tags.`{describe.KEY}` = '{describe.key_of(version)}'"
        known = self._client.search_runs([experiment], where, max_results=1)
        if known and known[0].info.status == "FINISHED":
            return known[0]
        moment = int(version.created_at * 1000)
        run = (
            known[0]
            if known
            else self._client.create_run(
                experiment,
                start_time=moment,
                tags=describe.version_tags(version, job),
                run_name=f"{version.model} v{version.number}",
            )
        )
        self._log_numbers(run.info.run_id, version, moment)
        self._log_model(run.info.run_id, version)
        self._client.set_terminated(run.info.run_id, end_time=moment)
        return run

    def _log_numbers(self, run_id: str, version: Version, moment: int) -> None:
        from mlflow.entities import Metric, Param

        params = [Param(name, value) for name, value in describe.parameters(version).items()]
        metrics = [Metric(name, value, moment, 0) for name, value in describe.metrics(version).items()]
        for i in range(0, len(params), _PARAMETERS_A_CALL):
            self._client.log_batch(run_id, params=params[i : i + _PARAMETERS_A_CALL])
        for i in range(0, len(metrics), _METRICS_A_CALL):
            self._client.log_batch(run_id, metrics=metrics[i : i + _METRICS_A_CALL])

    def _log_model(self, run_id: str, version: Version) -> None:
        """Upload a version as a pyfunc: its bundle as it is stored, and how to load it."""
        import mlflow.pyfunc

        digest = str(version.digest)
        bundle = self._artifacts.get(digest)
        predictor = Predictor.from_bundle(bundle)
        extra = "[vision]" if predictor.spec.task == "detection" else ""
        with TemporaryDirectory(prefix="everlearn-mirror-") as folder:
            stored = self._artifacts.path(digest)
            if stored is None or Path(stored).name != digest:
                stored = _write(encode_bundle(bundle), Path(folder) / digest)
            mlflow.pyfunc.save_model(
                path=f"{folder}/{FOLDER}",
                loader_module=LOADER,
                data_path=stored,
                signature=describe.signature(predictor),
                pip_requirements=[f"everlearn{extra}=={__version__}"],
                metadata={
                    "everlearn": {
                        "model": version.model,
                        "version": version.number,
                        "digest": digest,
                        "features": dict(predictor.spec.features),
                    }
                },
            )
            self._client.log_artifacts(run_id, f"{folder}/{FOLDER}", FOLDER)

    def _experiment(self, spec: ModelSpec) -> str:
        """The id of the experiment that holds a model's runs, made or brought back if need be."""
        name = f"everlearn/{spec.name}"
        known = self._client.get_experiment_by_name(name)
        if known is None:
            location = None if self._root is None else str(self._root / spec.name)
            tags = {describe.MODEL: spec.name}
            return str(self._client.create_experiment(name, artifact_location=location, tags=tags))
        if known.lifecycle_stage == "deleted":
            self._client.restore_experiment(known.experiment_id)
        return str(known.experiment_id)

    def _registered(self, spec: ModelSpec) -> Any:
        """The registered model of a model, as the spec in force describes it."""
        found = self._client.search_registered_models(f"name = '{spec.name}'", max_results=1)
        tags = describe.model_tags(spec)
        if not found:
            return self._client.create_registered_model(spec.name, tags=tags, description=spec.description)
        registered = found[0]
        if registered.tags.get(describe.MODEL) != spec.name:
            raise InvalidError(
                f"MLflow at {shown(self.uri)} has a registered model {spec.name!r} that everlearn did not "
                f"make: rename it there, or tag it {describe.MODEL}={spec.name} to let everlearn take it over"
            )
        for name, value in tags.items():
            if registered.tags.get(name, "") != value:
                self._client.set_registered_model_tag(spec.name, name, value)
        if (registered.description or "") != spec.description:
            self._client.update_registered_model(spec.name, spec.description)
        return registered


def _root(uri: str, artifact_root: str | None) -> Path | None:
    if artifact_root is not None:
        return Path(artifact_root).absolute()
    file = sqlite_file(uri)
    return None if file is None else file.absolute().parent / "mlartifacts"


def _write(files: Mapping[str, bytes], folder: Path) -> str:
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return str(folder)
