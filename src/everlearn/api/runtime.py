"""The served champions of this process, kept level with the store.

The store is the authority for which version answers. A poll (one cheap query) notices a new champion;
it is loaded and self-tested beside the old one, and then one reference is swapped. A request holds
one such reference from its beginning to its end, so one champion answers all of it (and, where the
spec's route gives it a share, one candidate). When a champion cannot be loaded, the version before it
goes on answering, and the load is tried again with backoff.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from loguru import logger

from everlearn.api.instruments import Instruments
from everlearn.api.joining import Joined
from everlearn.api.loading import FailedLoad, Loader
from everlearn.api.parts import Parts
from everlearn.api.served import Served
from everlearn.api.shelf import Shelf
from everlearn.errors import NotFoundError, UnavailableError
from everlearn.features.schema import Checked, Schema
from everlearn.spec import ModelSpec
from everlearn.types import Champion, Output, Row

__all__ = ["FailedLoad", "Runtime", "Served"]

FEW = 32
"""Rows of a request up to which they are answered together with those of other requests."""

LONG = 0.005
"""Seconds of CPU work from which on a request is answered in a thread, so that it holds up no other."""

FRESH = 300.0
"""Seconds after its last request for which a model at version 0 has its baseline kept fresh."""

SPECS_EVERY = 2.0
"""Seconds between looks at the specs, which other processes may change."""

FINDINGS_EVERY = 0.5
"""Seconds between looks at what the loop has found: who abstains, and which candidate is on trial."""

MAX_BACKOFF = 60.0


class Runtime:
    """Keeps a :class:`Served` for every model. ``poll`` is how often it looks, in seconds.

    :meth:`start` looks in a thread of its own until :meth:`stop`; without it, a request looks first
    when the last look is older than ``poll``.
    """

    def __init__(self, parts: Parts, instruments: Instruments, *, poll: float = 0.05) -> None:
        self._parts = parts
        self._instruments = instruments
        self._poll = poll
        self._loader = Loader(parts)
        self._joined = Joined()
        self._shelf = Shelf(parts, self._loader)
        self._served: dict[str, Served] = {}
        self._failed: dict[str, FailedLoad] = {}
        self._failed_trials: dict[tuple[str, int], FailedLoad] = {}
        self._asked: dict[str, float] = {}
        self._cost: dict[str, float] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._looked = self._specs_read = self._findings_read = float("-inf")
        self.error: str | None = None

    def start(self) -> None:
        """Begin to follow the store."""
        self._stopping.clear()
        self._thread = threading.Thread(target=self._follow, name="champions", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop following; blocks until the thread has ended (a load in progress is waited for briefly)."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(timeout=2)
            self._thread = None

    @property
    def failed(self) -> Mapping[str, FailedLoad]:
        """Models whose champion could not be loaded, for now."""
        return dict(self._failed)

    @property
    def loading(self) -> bool:
        """Whether the first look at the store has not ended yet."""
        return self._thread is not None and self._looked == float("-inf")

    def serving(self, model: str) -> int | None:
        """The number of the version that answers in this process; None if the model is not loaded."""
        served = self._served.get(model)
        return None if served is None else served.version

    async def version(self, model: str, number: int) -> Served:
        """One version of a model, whatever answers for it now; raises NotFoundError, or UnavailableError."""
        served = await self.served(model)
        if number == served.version:
            return replace(served, candidate=None)
        if served.candidate is not None and number == served.candidate.version:
            return served.candidate.of(served)
        return await asyncio.to_thread(self._shelf.take, served, number)

    async def served(self, model: str) -> Served:
        """What answers for a model now; raises NotFoundError, or UnavailableError if nothing loads."""
        served, asked = self._served.get(model), self._asked.get(model, float("-inf"))
        now = time.monotonic()
        self._asked[model] = now
        stale = self._thread is None and now - self._looked >= self._poll
        if served is None or stale or (served.version == 0 and now - asked > FRESH):
            served = await asyncio.to_thread(self.refresh, model)
        return served

    def refresh(self, model: str) -> Served:
        """Look now, for one model; for a model that was just created, changed or asked for first."""
        with self._lock:
            try:
                champion = self._parts.versions.champion(model)
                spec = self._parts.models.get(model)
            except NotFoundError:
                self._forget(model)
                raise
            self._respec(model, spec)
            self._keep(model, champion, spec)
            self._read_finding(model)
            served = self._served.get(model)
        if served is None:
            reason = self._failed[model].reason if model in self._failed else "it is not loaded yet"
            raise UnavailableError(f"Model {model!r} cannot answer: {reason}")
        return served

    def forget(self, model: str) -> None:
        """Drop a model that was deleted."""
        with self._lock:
            self._forget(model)

    async def answer(
        self, served: Served, rows: Sequence[Row], ids: Sequence[str]
    ) -> tuple[Checked, list[Output], list[int]]:
        """Check and answer rows (see :meth:`Served.answer`), in a thread if it is going to take long.

        Few rows are answered together with those of other requests, where the learner gains by it.
        """
        model = served.spec.name
        started = time.perf_counter()
        if len(rows) <= FEW and served.joins:
            result = await self._jointly(served, rows, ids)
            self._instruments.predicted(served.roles(result[2]), time.perf_counter() - started)
            return result
        if len(rows) * self._cost.get(model, LONG / 64) > LONG:
            result, worked = await asyncio.to_thread(_answered, served, rows, ids)
        else:
            result, worked = _answered(served, rows, ids)
        self._cost[model] = worked / max(1, len(rows))
        self._instruments.predicted(served.roles(result[2]), time.perf_counter() - started)
        return result

    async def _jointly(
        self, served: Served, rows: Sequence[Row], ids: Sequence[str]
    ) -> tuple[Checked, list[Output], list[int]]:
        checked = served.schema.check(rows)
        clean = checked.rows
        outputs, versions = [Output(None)] * len(clean), [0] * len(clean)
        for side, places in served.sides(clean, ids):
            by, given = await self._of(served, side, [clean[i] for i in places])
            for i, output in zip(places, given, strict=True):
                outputs[i], versions[i] = output, by.version
        return checked, outputs, versions

    async def _of(self, served: Served, side: Served, rows: Sequence[Row]) -> tuple[Served, list[Output]]:
        """What a side says, and who did say it (see :meth:`Served.ask`)."""
        try:
            if side.joins:
                return side, await self._joined.ask(side.predictor, rows)
            return side, side.outputs(rows)
        except Exception as error:
            if side is served:
                raise
            served.stand_in(side, error)
            return await self._of(served, served, rows)

    def look(self) -> None:
        """Bring every model level with the store."""
        champions = self._parts.versions.champions()
        with self._lock:
            for gone in self._served.keys() - champions.keys():
                self._forget(gone)
            if time.monotonic() - self._specs_read >= SPECS_EVERY:
                self._read_specs()
            for model, champion in champions.items():
                self._keep(model, champion, None)
            if time.monotonic() - self._findings_read >= FINDINGS_EVERY:
                self._read_findings()
            self._looked = time.monotonic()

    def _follow(self) -> None:
        while not self._stopping.is_set():
            try:
                self.look()
                self.error = None
            except Exception as error:  # the store may be down: what is loaded goes on answering
                if self.error is None:
                    logger.warning("The champions cannot be looked up: {}", error)
                self.error = f"{type(error).__name__}: {error}"
            self._stopping.wait(self._poll)

    def _keep(self, model: str, champion: Champion, spec: ModelSpec | None) -> None:
        served = self._served.get(model)
        if served is not None and served.champion == champion and served.version == champion.version:
            if champion.version == 0:
                self._freshen(model, served)
            return
        failed = self._failed.get(model)
        if failed and failed.champion == champion and served and time.monotonic() < failed.retry_at:
            return
        try:
            spec = spec or (served.spec if served else self._parts.models.get(model))
            self._served[model] = self._loader.load(spec, champion, champion.version, champion.digest)
        except Exception as error:
            self._note(model, champion, error)
            if served is None:
                self._load_older(model, champion, spec)
        else:
            self._failed.pop(model, None)
            self._instruments.swapped()
            logger.info("{}: version {} answers (term {})", model, champion.version, champion.term)

    def _load_older(self, model: str, champion: Champion, spec: ModelSpec | None) -> None:
        """With nothing loaded yet, the nearest ancestor that loads answers: no request fails for this."""
        number = self._parts.versions.get(model, champion.version).parent if spec else None
        while spec is not None and number is not None:
            version = self._parts.versions.get(model, number)
            number = version.parent
            try:
                self._served[model] = self._loader.load(
                    spec, champion, version.number, version.digest, "other"
                )
            except Exception as error:
                logger.warning("{}: version {} does not load either: {}", model, version.number, error)
            else:
                logger.warning(
                    "{}: version {} answers instead of {}", model, version.number, champion.version
                )
                return

    def _note(self, model: str, champion: Champion, error: Exception) -> None:
        before = self._failed.get(model)
        failed = self._failed[model] = self._again(
            champion, before if before and before.champion == champion else None, error
        )
        words = (
            f"version {champion.version} cannot be loaded, next try in {self._wait(failed):.1f} s: {error}"
        )
        if failed.attempts == 1:  # a person hears of it once, the log of every try
            logger.error("alert: {}: load: {}", model, words)
        else:
            logger.warning("{}: {}", model, words)

    def _again(self, champion: Champion, before: FailedLoad | None, error: Exception) -> FailedLoad:
        attempts = before.attempts + 1 if before else 1
        self._instruments.failed_load()
        failed = FailedLoad(champion, attempts, 0.0, f"{type(error).__name__}: {error}")
        return replace(failed, retry_at=time.monotonic() + self._wait(failed))

    def _wait(self, failed: FailedLoad) -> float:
        """Seconds from a failed load to the next try."""
        return min(MAX_BACKOFF, self._poll * 2.0 ** min(failed.attempts, 60))

    def _freshen(self, model: str, served: Served) -> None:
        if time.monotonic() - self._asked.get(model, float("-inf")) > FRESH:
            return
        baseline = self._loader.newer_baseline(model)
        if baseline is not None:
            self._served[model] = replace(served, predictor=baseline)

    def _read_findings(self) -> None:
        for model in list(self._served):
            try:
                self._read_finding(model)
            except NotFoundError:  # deleted meanwhile: the next look forgets it
                continue
        self._findings_read = time.monotonic()

    def _read_finding(self, model: str) -> None:
        served = self._served.get(model)
        if served is None:
            return
        found = self._loader.findings(served.spec)
        if found.abstaining != served.abstaining:
            served = self._served[model] = replace(served, abstaining=found.abstaining)
            logger.info("{}: {}", model, "abstains" if found.abstaining else "answers as usual again")
        candidate = self._on_trial(served, found.on_trial)
        if candidate is not served.candidate:
            self._served[model] = replace(served, candidate=candidate)
            words = "none" if candidate is None else f"version {candidate.version}"
            logger.info("{}: on trial, with its share of the answers: {}", model, words)

    def _on_trial(self, served: Served, number: int | None) -> Served | None:
        """The candidate that answers its share, loaded; none where the champion itself does not answer."""
        if number is None or served.role != "champion" or served.version in (0, number):
            return None
        if served.candidate is not None and served.candidate.version == number:
            return served.candidate
        key = (served.spec.name, number)
        failed = self._failed_trials.get(key)
        if failed is not None and time.monotonic() < failed.retry_at:
            return None
        try:
            digest = self._parts.versions.get(served.spec.name, number).digest
            loaded = self._loader.load(served.spec, served.champion, number, digest, "candidate")
        except Exception as error:
            self._failed_trials[key] = self._again(served.champion, failed, error)
            logger.warning(
                "{}: version {} is on trial and cannot be loaded: {}", served.spec.name, number, error
            )
            return None
        self._failed_trials.pop(key, None)
        return loaded

    def _read_specs(self) -> None:
        cursor: str | None = None
        while True:
            page = self._parts.models.list(cursor, 1000)
            for spec in page.items:
                self._respec(spec.name, spec)
            cursor = page.next
            if cursor is None:
                break
        self._specs_read = time.monotonic()

    def _respec(self, model: str, spec: ModelSpec) -> None:
        served = self._served.get(model)
        if served is not None and served.spec != spec:
            self._served[model] = replace(served, spec=spec, schema=Schema.from_spec(spec))

    def _forget(self, model: str) -> None:
        self._loader.forget(model)
        for known in (self._served, self._failed, self._asked, self._cost):
            known.pop(model, None)
        for key in [key for key in self._failed_trials if key[0] == model]:
            del self._failed_trials[key]


def _answered(
    served: Served, rows: Sequence[Row], ids: Sequence[str]
) -> tuple[tuple[Checked, list[Output], list[int]], float]:
    """What is answered, and the seconds of work in it: to wait for a turn is none."""
    started = time.thread_time()
    result = served.answer(rows, ids)
    return result, time.thread_time() - started
