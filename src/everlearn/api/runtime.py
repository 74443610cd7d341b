"""The served champions of this process, kept level with the store.

The store is the authority for which version answers. A poll (one cheap query) notices a new champion;
it is loaded and self-tested beside the old one, and then one reference is swapped. A request holds
one such reference from its beginning to its end, so one champion answers all of it (and, where the
spec's route gives it a share, one candidate). When a champion cannot be loaded, the version before it
goes on answering, and the load is tried again with backoff.

Of many models, those are in memory that are asked for, within a limit (see :class:`ServedCache`). Ahead of
requests as many are loaded as half of it holds. A model that is not in memory is loaded by its first request,
and others that ask for it meanwhile wait for that same load.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Container, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from loguru import logger

from everlearn.api.answering import Answering
from everlearn.api.cache import DEFAULT_BYTES, ServedCache
from everlearn.api.failures import FailedLoad, Failures, Tell
from everlearn.api.instruments import Instruments
from everlearn.api.loading import Loader
from everlearn.api.parts import Parts
from everlearn.api.served import Served
from everlearn.api.shelf import Shelf
from everlearn.api.trimming import Trimmer
from everlearn.errors import NotFoundError, UnavailableError
from everlearn.features.schema import Checked, Schema
from everlearn.ports import Announcements, all_specs
from everlearn.spec import ModelSpec
from everlearn.types import Champion, Output, Row
from everlearn.vision.frames import StoredImages

__all__ = ["FailedLoad", "Runtime", "Served"]

FRESH = 300.0
"""Seconds after its last request for which a model at version 0 has its baseline kept fresh."""

SPECS_EVERY = 2.0
"""Seconds between looks at the specs, which other processes may change."""

FINDINGS_EVERY = 0.5
"""Seconds between looks at what the loop has found: who abstains, and which candidate is on trial."""

AHEAD = 0.5
"""Share of the memory that is filled ahead of requests."""

AHEAD_PAUSE = 5.0
"""Seconds after a load ahead of requests that failed until the next is tried."""

FIRST_SECONDS, LATER_SECONDS = 2.0, 0.02
"""How long the first look at the store loads models ahead of requests, and each look after it."""

A_LOOK = 32
"""Models whose standing is read in one look: with more of them each is read less often."""

ANNOUNCED_EVERY = 0.25
"""Seconds between looks at the store where new champions are announced."""

LOADERS = 2
"""Threads that load models for requests: each has memory of its own that it does not give back."""

LOCKS = 64


class Runtime:
    """Keeps a :class:`Served` for every model. ``poll`` is how often it looks, in seconds.

    :meth:`start` looks in a thread of its own until :meth:`stop`; without it, a request looks first
    when the last look is older than ``poll``.
    """

    def __init__(
        self,
        parts: Parts,
        instruments: Instruments,
        *,
        poll: float = 0.05,
        memory: int = DEFAULT_BYTES,
        in_use: Container[str] = (),
        announcements: Announcements | None = None,
        tell: Tell = lambda *_: None,
    ) -> None:
        self._parts = parts
        self._instruments = instruments
        self._poll = poll
        self._loader = Loader(parts)
        self._answering = Answering(instruments)
        self._shelf = Shelf(parts, self._loader)
        self._served = ServedCache(memory, in_use)
        self._trimmer = Trimmer()
        self._failures = Failures(instruments, poll, tell)
        self._freshened: dict[str, float] = {}
        self._locks = [threading.RLock() for _ in range(LOCKS)]
        self._loads: dict[str, asyncio.Future[Served]] = {}
        self._threads: ThreadPoolExecutor | None = None
        self._announcements = announcements
        self._listener: threading.Thread | None = None
        self._news = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._looked = self._specs_read = self._findings_read = float("-inf")
        self._findings_due: list[str] = []
        self._ahead_from = float("-inf")
        self.error: str | None = None

    def start(self) -> None:
        """Begin to follow the store."""
        self._stopping.clear()
        self._thread = threading.Thread(target=self._follow, name="champions", daemon=True)
        self._thread.start()
        if self._announcements is not None:
            told = (self._news.set, self._stopping)
            listening = threading.Thread(
                target=self._announcements.follow, args=told, name="news", daemon=True
            )
            self._listener = listening
            listening.start()

    def stop(self) -> None:
        """Stop following; blocks until the thread has ended (a load in progress is waited for briefly)."""
        self._stopping.set()
        self._news.set()
        for thread in (self._thread, self._listener):
            if thread is not None:
                thread.join(timeout=2)
        self._thread = self._listener = None
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
            self._threads = None

    @property
    def images(self) -> StoredImages:
        """The images of frames, as the models in memory look them up."""
        return self._loader.images

    @property
    def failed(self) -> Mapping[str, FailedLoad]:
        """Models whose champion could not be loaded, for now."""
        return dict(self._failures.champions)

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
        served = self.at_hand(model)
        return served if served is not None else await self._loaded(model)

    def at_hand(self, model: str) -> Served | None:
        """The same, if nothing must be looked up for it."""
        served, asked = self._served.get(model), self._served.ask(model)
        now = time.monotonic()
        stale = self._thread is None and now - self._looked >= self._poll
        if served is None or stale or (served.version == 0 and now - asked > FRESH):
            return None
        return served

    async def _loaded(self, model: str) -> Served:
        """Load a model for a request, together with all others that ask for it meanwhile."""
        loop = asyncio.get_running_loop()
        load = self._loads.get(model)
        if load is None or load.get_loop() is not loop:
            if self._threads is None:
                self._threads = ThreadPoolExecutor(LOADERS, "loads")
            load = self._loads[model] = loop.run_in_executor(self._threads, self.refresh, model)
            load.add_done_callback(lambda done: self._ended(model, done))
        return await asyncio.shield(load)

    def _ended(self, model: str, load: asyncio.Future[Served]) -> None:
        if self._loads.get(model) is load:
            del self._loads[model]
        if not load.cancelled():
            load.exception()  # whoever waited may have gone

    def refresh(self, model: str) -> Served:
        """Look now, for one model; for a model that was just created, changed or asked for first."""
        with self._lock_of(model):
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
            failed = self._failures.champions.get(model)
            reason = "it is not loaded yet" if failed is None else failed.reason
            raise UnavailableError(f"Model {model!r} cannot answer: {reason}")
        return served

    def _lock_of(self, model: str) -> threading.RLock:
        return self._locks[hash(model) % LOCKS]

    def forget(self, model: str) -> None:
        """Drop a model that was deleted."""
        with self._lock_of(model):
            self._forget(model)

    async def answer(
        self, served: Served, rows: Sequence[Row], ids: Sequence[str]
    ) -> tuple[Checked, list[Output], list[int]]:
        """See :class:`Answering`."""
        return await self._answering.answer(served, rows, ids)

    def answer_now(
        self, served: Served, rows: Sequence[Row], ids: Sequence[str]
    ) -> tuple[Checked, list[Output], list[int]] | None:
        """See :class:`Answering`."""
        return self._answering.now(served, rows, ids)

    def look(self) -> None:
        """Bring every model in memory level with the store, and load some of the others ahead of requests."""
        champions = self._parts.versions.champions()
        for gone in self._known() - champions.keys():
            self.forget(gone)
        if time.monotonic() - self._specs_read >= SPECS_EVERY:
            self._read_specs()
        for model in list(self._served):
            with self._lock_of(model):
                if model in self._served and model in champions:
                    self._keep(model, champions[model], None)
        self._freshen()
        self._load_ahead(champions)
        self._read_findings()
        self._trimmer.trim()
        self._looked = time.monotonic()

    def _known(self) -> set[str]:
        return {*self._served, *self._failures.champions, *self._served.asked}

    def _load_ahead(self, champions: Mapping[str, Champion]) -> None:
        """Load models that nobody has asked for, the newest champions first, while there is room and time."""
        first, now = self._looked == float("-inf"), time.monotonic()
        if now < self._ahead_from:
            return
        until = now + (FIRST_SECONDS if first else LATER_SECONDS)
        room = self._served.limit * AHEAD - self._served.bytes
        absent = champions.keys() - self._served.keys() if room > 0 else ()
        for model in sorted(absent, key=lambda name: -champions[name].since):
            if time.monotonic() > until or room <= 0 or self._stopping.is_set():
                return
            with self._lock_of(model):
                self._keep(model, champions[model], None)
            served = self._served.get(model)
            if served is None:  # the store of versions may be down, and each try may take long
                self._ahead_from = time.monotonic() + AHEAD_PAUSE
                return
            room -= served.weight

    def _follow(self) -> None:
        while not self._stopping.is_set():
            try:
                self.look()
                self.error = None
            except Exception as error:  # the store may be down: what is loaded goes on answering
                if self.error is None:
                    logger.warning("The champions cannot be looked up: {}", error)
                self.error = f"{type(error).__name__}: {error}"
            told = self._announcements is not None and self._announcements.connected
            self._news.wait(max(self._poll, ANNOUNCED_EVERY) if told else self._poll)
            self._news.clear()

    def _keep(self, model: str, champion: Champion, spec: ModelSpec | None) -> None:
        served = self._served.get(model)
        if served is not None and served.champion == champion and served.version == champion.version:
            return
        if self._failures.waits(model, champion):
            return
        try:
            spec = spec or (served.spec if served else self._parts.models.get(model))
            self._served[model] = self._loader.load(spec, champion, champion.version, champion.digest)
        except Exception as error:
            self._failures.note(model, champion, error)
            if served is None and not isinstance(error, UnavailableError):  # older ones are no nearer
                self._load_older(model, champion, spec)
        else:
            self._failures.loaded(model, champion)
            self._instruments.swapped()
            if served is None:
                self._instruments.cold_load()
            level = "DEBUG" if served is None else "INFO"
            logger.log(level, "{}: version {} answers (term {})", model, champion.version, champion.term)
        gone = self._served.make_room(model)
        if gone or served is not None:
            self._trimmer.freed()
        self._instruments.evicted(gone)

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

    def _freshen(self) -> None:
        """Read anew what most labels say, for models at version 0 that were asked for lately."""
        young = [
            model
            for model, served in list(self._served.items())
            if served.version == 0 == served.champion.version and self._served.asked_within(model, FRESH)
        ]
        for model in _longest_ago(young, self._freshened):
            self._freshened[model] = time.monotonic()
            with self._lock_of(model):
                self._freshen_one(model)

    def _freshen_one(self, model: str) -> None:
        served = self._served.get(model)
        if served is None or served.version != 0:
            return
        try:
            baseline = self._loader.newer_baseline(model)
        except NotFoundError:  # deleted meanwhile: the next look forgets it
            return
        if baseline is not None:
            self._served[model] = replace(served, predictor=baseline)

    def _read_findings(self) -> None:
        if time.monotonic() - self._findings_read >= FINDINGS_EVERY and not self._findings_due:
            self._findings_due = list(self._served)
            self._findings_read = time.monotonic()
        looked_up = 0
        while self._findings_due and looked_up < A_LOOK:
            model = self._findings_due.pop()
            served = self._served.get(model)
            if served is None:
                continue
            looked_up += self._loader.has_findings(served.spec)
            try:
                with self._lock_of(model):
                    self._read_finding(model)
            except NotFoundError:  # deleted meanwhile: the next look forgets it
                continue

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
        model = served.spec.name
        if self._failures.trial_waits(model, number):
            return None
        try:
            digest = self._parts.versions.get(model, number).digest
            loaded = self._loader.load(served.spec, served.champion, number, digest, "candidate")
        except Exception as error:
            self._failures.note_trial(model, number, served.champion, error)
            return None
        self._failures.trial_loaded(model, number)
        return loaded

    def _read_specs(self) -> None:
        for spec in all_specs(self._parts.models):
            self._respec(spec.name, spec)
        self._specs_read = time.monotonic()

    def _respec(self, model: str, spec: ModelSpec) -> None:
        served = self._served.get(model)
        if served is not None and served.spec != spec:
            self._served[model] = replace(served, spec=spec, schema=Schema.from_spec(spec))

    def _forget(self, model: str) -> None:
        self._loader.forget(model)
        self._served.pop(model, None)
        self._failures.forget(model)
        self._answering.forget(model)
        for times in (self._served.asked, self._freshened):
            times.pop(model, None)


def _longest_ago(models: Iterable[str], times: Mapping[str, float]) -> list[str]:
    """Of some models as many as a look has time for: those whose turn was longest ago."""
    return sorted(models, key=lambda model: times.get(model, float("-inf")))[:A_LOOK]
