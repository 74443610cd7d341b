"""What a client can do. Each verb is written once: the request, and the parser of the answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from everlearn.client.accounts import AccountVerbs
from everlearn.client.answers import (
    ChampionAnswer,
    CommandAnswer,
    LabelReceipt,
    Prediction,
    Predictions,
    Record,
)
from everlearn.client.backfills import BackfillVerbs
from everlearn.client.binding import Listing, Load, Verb
from everlearn.client.calls import (
    Call,
    Pages,
    Progress,
    Series,
    get,
    new_id,
    path,
    read_record,
    reading,
    to_json,
    to_time,
    write,
)
from everlearn.client.frames import FrameVerbs
from everlearn.client.seeing import SeeingVerbs, kinds, span
from everlearn.client.uploads import upload_file, upload_rows

if TYPE_CHECKING:
    from datetime import datetime

    from everlearn.types import Row, Scalar


class Verbs(SeeingVerbs, BackfillVerbs, FrameVerbs, AccountVerbs):
    """The verbs of :class:`~everlearn.client.Client` and :class:`~everlearn.client.AsyncClient`.

    All raise :class:`~everlearn.errors.UnauthorizedError` for a wrong key,
    :class:`~everlearn.errors.NotFoundError` for an unknown model and
    :class:`~everlearn.errors.UnavailableError` when no answer comes in spite of retries.
    """

    # --- models ---

    @Listing
    def models(self, *, limit: int = 100) -> Pages:
        """Iterate over all models, fetched ``limit`` at a time."""
        return Pages(get(path(), limit=limit))

    @Verb
    def model(self, model: str) -> Call[Record]:
        """One model: its champion, state, scores, log, cursor and spec."""
        return get(path(model))

    @Verb
    def create_model(self, spec: Mapping[str, Any]) -> Call[Record]:
        """Make a model from its spec. Raises ConflictError if the name is taken, SpecError if it is wrong."""
        return write("POST", path(), dict(spec), read_record)

    @Verb
    def update_model(self, model: str, changes: Mapping[str, Any]) -> Call[Record]:
        """Change parts of a model's spec; name, task, target and features stay. Returns the model."""
        return write("PATCH", path(model), dict(changes), read_record)

    @Verb
    def delete_model(self, model: str) -> Call[None]:
        """Delete a model with all of its log, versions, decisions and jobs."""
        return Call("DELETE", path(model), lambda _: None, headers={"Idempotency-Key": new_id()})

    # --- serving ---

    @Verb
    def predict(
        self,
        model: str,
        rows: Sequence[Row],
        ids: Sequence[str] | None = None,
        at: Sequence[datetime | float | str] | None = None,
    ) -> Call[Predictions]:
        """Predict rows, up to 10,000 a request; they are stored durably before the answer comes.

        ``ids`` are made here when none are given, so a retry gets the same answers. Raises
        SchemaError that names each cell at fault, ConflictError for ids known with other features.
        """
        body: Record = {"rows": rows, "ids": list(ids) if ids is not None else [new_id() for _ in rows]}
        if at is not None:
            body["at"] = [to_time(time) for time in at]
        return _predict(model, body, Predictions.read)

    @Verb
    def predict_one(
        self,
        model: str,
        row: Row,
        id: str | None = None,  # noqa: A002 - the word of the API
        at: datetime | float | str | None = None,
    ) -> Call[Prediction]:
        """Predict one row."""
        body: Record = {"row": row, "id": id or new_id()}
        if at is not None:
            body["at"] = to_time(at)
        return _predict(model, body, lambda record: Predictions.read(record)[0])

    @Verb
    def prediction(self, model: str, id: str) -> Call[Record]:  # noqa: A002
        """A recorded prediction: features, output, version, time, row, and its label if there is one."""
        return get(path(model, "predictions", id))

    @Verb
    def label(
        self,
        model: str,
        labels: Mapping[str, Scalar] | Iterable[Mapping[str, Any]],
        *,
        correction: bool = False,
    ) -> Call[LabelReceipt]:
        """Send truths, as ``{id: value}`` or as items with ``id``, ``value``, ``correction`` and ``at``.

        In any order, at any time, again if in doubt. ``correction`` lets all of them replace values
        that are known. Raises SchemaError, and stores nothing, if a value is of the wrong type.
        """
        items = _items(labels)
        marked = [{**item, "correction": True} for item in items] if correction else items
        return write("POST", path(model, "labels"), {"labels": marked}, reading(LabelReceipt.read))

    @Load
    def load(
        self,
        model: str,
        rows: Iterable[Row],
        targets: Iterable[Scalar],
        at: Iterable[datetime | float | str] | None = None,
        *,
        chunk: int = 1000,
        progress: Progress | None = None,
        key: str | None = None,
    ) -> Series:
        """Load history: rows that come with their targets. Returns how many were stored.

        ``progress(done, total)`` is told rows. Give a ``key`` of your own to make repeating a
        broken load harmless: what is stored already is not stored twice.
        """
        return upload_rows(path(model, "examples"), rows, targets, at, chunk, progress, key or new_id())

    @Load
    def load_file(
        self,
        model: str,
        source: str | Path,
        *,
        chunk: int = 32 << 20,
        progress: Progress | None = None,
        key: str | None = None,
    ) -> Series:
        """Load history from a ``.csv`` or ``.parquet`` file that holds the target column.

        A CSV over ``chunk`` bytes goes in several requests. ``progress(done, total)`` is told
        bytes; ``key`` is as for :meth:`load`. Returns how many rows were stored.
        """
        return upload_file(path(model, "examples"), Path(source), chunk, progress, key or new_id())

    # --- versions and commands ---

    @Listing
    def versions(self, model: str, *, limit: int = 100) -> Pages:
        """Iterate over the versions, newest first."""
        return Pages(get(path(model, "versions"), limit=limit))

    @Verb
    def version(self, model: str, number: int) -> Call[Record]:
        """One version: what it learned from, its digest, metrics and state."""
        return get(path(model, "versions", number))

    @Verb
    def champion(self, model: str, at: datetime | float | str | None = None) -> Call[ChampionAnswer]:
        """Which version answers now, or answered at a time."""
        params = {} if at is None else {"at": to_time(at)}
        return Call("GET", path(model, "champion"), reading(ChampionAnswer.read), params)

    @Verb
    def promote(
        self, model: str, version: int, why: str | None = None, *, wait: float = 10.0
    ) -> Call[CommandAnswer]:
        """Make a version the champion by hand. Raises ConflictError with the reason if refused.

        Like all commands it waits up to ``wait`` seconds (60 at most) for the loop's decision.
        """
        return _command(path(model, "versions", version, "promote"), {}, why, wait)

    @Verb
    def rollback(self, model: str, why: str | None = None, *, wait: float = 10.0) -> Call[CommandAnswer]:
        """Put the previous champion back. Raises ConflictError if there is none."""
        return _command(path(model, "rollback"), {}, why, wait)

    @Verb
    def freeze(self, model: str, why: str | None = None, *, wait: float = 10.0) -> Call[CommandAnswer]:
        """Keep the champion: no updates until :meth:`unfreeze`. Serving and recording go on."""
        return _command(path(model, "freeze"), {}, why, wait)

    @Verb
    def unfreeze(self, model: str, why: str | None = None, *, wait: float = 10.0) -> Call[CommandAnswer]:
        """Let the model be updated again."""
        return _command(path(model, "unfreeze"), {}, why, wait)

    @Verb
    def retrain(
        self, model: str, force: bool = False, why: str | None = None, *, wait: float = 10.0
    ) -> Call[CommandAnswer]:
        """Ask for a retrain; it is skipped while the model is good enough, unless forced."""
        return _command(path(model, "retrain"), {"force": force}, why, wait)

    # --- who gives the labels ---

    @Verb
    def sources(self, model: str) -> Call[Record]:
        """``{"guard", "items"}``: who gives the labels, with their counts, share, disagreement and state."""
        return get(path(model, "sources"))

    @Verb
    def quarantine(
        self, model: str, source: str, why: str | None = None, *, wait: float = 10.0
    ) -> Call[CommandAnswer]:
        """Put a source aside: what it gives is stored, but neither learned nor scored."""
        return _command(path(model, "sources", source, "quarantine"), {}, why, wait)

    @Verb
    def release(
        self, model: str, source: str, why: str | None = None, *, wait: float = 10.0
    ) -> Call[CommandAnswer]:
        """Let a source in again. Raises ConflictError if it is not put aside."""
        return _command(path(model, "sources", source, "release"), {}, why, wait)

    @Verb
    def unlearn(
        self,
        model: str,
        source: str,
        since: int | None = None,
        why: str | None = None,
        *,
        wait: float = 10.0,
    ) -> Call[CommandAnswer]:
        """Take back what a source gave (from the position ``since`` on), and ask for a version without it."""
        body = {} if since is None else {"since": since}
        return _command(path(model, "sources", source, "unlearn"), body, why, wait)

    # --- erasures ---

    @Verb
    def erase(self, model: str, subject: str, *, deadline: str = "24h", force: bool = False) -> Call[Record]:
        """Remove all rows of a subject for good; the erasure, which goes on after the answer.

        ``deadline`` is how long a champion that learned the rows may answer while a clean one is made; with
        ``force`` it goes at once. Asked again, it tells of the same erasure.
        """
        params = {"deadline": deadline, "force": "true" if force else "false"}
        return Call("DELETE", path(model, "subjects", subject), read_record, params=params)

    @Verb
    def erasures(self, model: str) -> Call[Record]:
        """``{"items"}``: the erasures of a model, the newest first."""
        return get(path(model, "erasures"))

    @Verb
    def erasure(self, model: str, erasure: str) -> Call[Record]:
        """One erasure, with its certificate once it is done."""
        return get(path(model, "erasures", erasure))

    # --- the record ---

    @Listing
    def decisions(
        self,
        model: str,
        kind: str | Sequence[str] | None = None,
        since: datetime | float | str | None = None,
        until: datetime | float | str | None = None,
        *,
        limit: int = 100,
    ) -> Pages:
        """Iterate over the ledger, newest first; of some kinds (``"promote"``, …) and times if given."""
        return Pages(get(path(model, "decisions"), kind=kinds(kind), limit=limit, **span(since, until)))

    @Verb
    def why(self, model: str, number: int | None = None) -> Call[Record]:
        """Why a decision was made; by default the newest promotion, rollback or refusal.

        ``headline``, ``paragraph``, ``numbers`` (each with ``name``, ``value`` and ``meaning``) and
        ``why_not``, beside the decision itself. Raises NotFoundError if there is none.
        """
        return get(path(model, "decisions", "newest" if number is None else number, "why"))

    @Verb
    def scores(self, model: str) -> Call[Record]:
        """The matured scores of what was served, with the baselines beside them."""
        return get(path(model, "scores"))

    @Listing
    def jobs(self, model: str, *, limit: int = 100) -> Pages:
        """Iterate over the jobs, newest first."""
        return Pages(get(path(model, "jobs"), limit=limit))

    @Verb
    def job(self, model: str, id: str) -> Call[Record]:  # noqa: A002
        """One job: state, progress, attempts, error, traceback and result."""
        return get(path(model, "jobs", id))

    @Verb
    def cancel_job(self, model: str, id: str, why: str | None = None) -> Call[Record]:  # noqa: A002
        """End a job that waits or runs. Raises ConflictError if it has ended."""
        body = {} if why is None else {"why": why}
        return write("POST", path(model, "jobs", id, "cancel"), body, read_record)

    @Verb
    def retry_job(self, model: str, id: str) -> Call[Record]:  # noqa: A002
        """Queue a job again that is dead, failed or cancelled. Raises ConflictError for any other."""
        return write("POST", path(model, "jobs", id, "retry"), {}, read_record)

    @Verb
    def what_if(
        self,
        model: str,
        policies: Sequence[str | Mapping[str, Any]] = (),
        learners: Sequence[str | Mapping[str, Any]] = (),
        gates: Sequence[str | Mapping[str, Any]] = (),
        price: float | None = None,
    ) -> Call[Record]:
        """Have the workers play the recorded log again under all combinations of these settings.

        Gives ``{"id", "state", "progress", "jobs", "report"}``: ask :meth:`what_if_report` until it is done.
        """
        body: Record = {"policies": list(policies), "learners": list(learners), "gates": list(gates)}
        return write("POST", path(model, "what-if"), {**body, "price": price}, read_record)

    @Verb
    def what_if_report(self, model: str, id: str) -> Call[Record]:  # noqa: A002
        """How far a what-if is, and its report once its ``state`` is ``done``."""
        return get(path(model, "what-if", id))

    @Verb
    def cancel_what_if(self, model: str, id: str) -> Call[Record]:  # noqa: A002
        """End those jobs of a what-if that wait or run."""
        return write("POST", path(model, "what-if", id, "cancel"), {}, read_record)

    # --- the installation ---

    @Verb
    def health(self) -> Call[Record]:
        """``{"status": "ok", "version"}`` if the server answers at all; needs no key."""
        return get("/health")

    @Verb
    def ready(self) -> Call[Record]:
        """``{"status", "checks"}``: whether all that serving needs is there. It is not retried."""
        return Call("GET", "/v1/health/ready", read_record, accept=frozenset({503}))

    @Verb
    def status(self) -> Call[Record]:
        """The state of the model named ``default`` in one small object (``GET /model-status``)."""
        return get("/model-status")

    @Verb
    def generate(self, rows: int = 1000, drift: float | None = None, seed: int | None = None) -> Call[Record]:
        """Store a synthetic stream with a known drift as examples of the model ``default``."""
        body = {"rows": rows, "drift": drift, "seed": seed}
        return write("POST", "/generate", {k: v for k, v in body.items() if v is not None}, read_record)


def _predict(model: str, body: Record, read: Any) -> Call[Any]:
    """Predictions need no idempotency key: their ids make them repeatable."""
    headers = {"Content-Type": "application/json"}
    url = path(model, "predict")
    return Call("POST", url, reading(read), headers=headers, content=to_json(body))


def _items(labels: Mapping[str, Scalar] | Iterable[Mapping[str, Any]]) -> list[Record]:
    """Labels as the items of the API."""
    if isinstance(labels, Mapping):
        return [{"id": known, "value": value} for known, value in labels.items()]
    return [_item(label) for label in labels]


def _item(label: Mapping[str, Any]) -> Record:
    item = dict(label)
    return {**item, "at": to_time(item["at"])} if item.get("at") is not None else item


def _command(url: str, body: Record, why: str | None, wait: float) -> Call[CommandAnswer]:
    asked = body if why is None else {**body, "why": why}
    return write("POST", url, asked, reading(CommandAnswer.read), params={"wait": wait}, patience=wait)
