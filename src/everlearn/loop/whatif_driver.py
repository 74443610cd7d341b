"""Plays a recording under one setting, with trainings and answers taken from a library.

The loop, its jobs and their outcomes are those of :class:`~everlearn.loop.file_driver.FileDriver`; what
differs is that labels come in any order, that nothing is worked out twice, and that little is kept of
each row, for a million of them and many settings.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from everlearn.loop import remembering
from everlearn.loop.anchors import eligible
from everlearn.loop.file_driver import CHUNK, FileDriver
from everlearn.loop.gate import Mark, mark
from everlearn.loop.training import Trained, examples_wanted
from everlearn.loop.whatif_library import Library, digest_of
from everlearn.loop.whatif_record import HISTORY, TICK, Arrival, Recording, newest_known
from everlearn.predictor import Predictor
from everlearn.spec import ModelSpec
from everlearn.types import (
    Command,
    Event,
    Example,
    JobSpec,
    Label,
    LoadedExample,
    Output,
    Prediction,
    Row,
    Scalar,
    Tick,
)

UNKNOWN = Mark(0.0)
"""Holds the place of a row without a label, which nobody asks for."""

SLICE = 20_000
"""Moments between two reports of progress."""


class Player(FileDriver):
    """One setting over a recording. After :meth:`run`: ``outputs`` row by row, and the decisions.

    ``compute_seconds`` is what the trainings cost by themselves, shared or not, and
    ``labels_used`` how many different examples the versions were made from.
    """

    def __init__(self, spec: ModelSpec, recording: Recording, library: Library) -> None:
        super().__init__(spec, recording.stream, reports=False)
        self.outputs: list[Output] = []
        self._recording, self._library, self._clock = recording, library, library.clock
        self.compute_seconds = 0.0
        self._rows, self._at, self._ids = recording.rows, recording.at, recording.ids
        self._parts = digest_of(_parts(spec))
        self._marking = digest_of((spec.task, spec.metric, _parts(spec)["features"], spec.seed))
        self._chain: list[Output] | None = library.live(self._parts)
        self._unlearned: list[tuple[Row, Any]] = []
        self._chunk: list[Output] = []
        self._answering, self._from, self._until = -1, 0, 0
        self._known_seqs: list[int] = []
        self._sources: list[tuple[int, Arrival]] = []
        self._made: list[Example | None] = []
        self._used = bytearray(len(recording.arrivals) + 1)

    @property
    def labels_used(self) -> int:
        """How many examples went into the versions, each counted once."""
        return len(self._sources) if self._live else sum(self._used)

    def run(self, progress: Callable[[float], None]) -> None:
        """Play all moments."""
        recording, engine = self._recording, self._engine
        begins = recording.arrivals[0].at if recording.steps[0] < 0 else recording.at[0]
        self._fold(Command(self._take_seq(), begins, "configure", {"spec": self.spec.to_dict()}))
        moments = self.moments(progress)
        # Between two checks of the loop nothing can change who answers, so there is nothing to act on.
        while engine.run(moments, until_check=True):
            effects = engine.take()
            if effects.decisions or effects.jobs:
                self._follow(effects)
        self._follow(engine.take())

    def moments(self, progress: Callable[[float], None]) -> Iterator[Event]:
        """The events of the recording, answered as the champion of the moment does."""
        steps, arrivals, state = self._recording.steps, self._recording.arrivals, self._state
        rows, ids, times, asked, outputs = self._rows, self._ids, self._at, self._asked, self.outputs
        live = self._live
        for start in range(0, len(steps), SLICE):
            for step in steps[start : start + SLICE]:
                if step < 0:
                    yield self._arrive(arrivals[-1 - step])
                    continue
                version = state.champion
                if live and not state.prove:
                    output = self._live_answer(step)
                elif version == self._answering and step < self._until:
                    output = self._chunk[step - self._from]
                else:
                    output = self._next_chunk(version, step)
                self._seq = seq = self._seq + 1
                event = Prediction(seq, times[step], ids[step], step + 1, version, rows[step], output)
                asked.append(event)
                outputs.append(output)
                yield event
            progress(min(1.0, (start + SLICE) / len(steps)))

    # -- moments -----------------------------------------------------------------------------------

    def _arrive(self, arrival: Arrival) -> Event:
        row, at, value, correction, features = arrival
        self._seq = seq = self._seq + 1
        if row >= 0:
            asked = self._asked[row]
            if self._live and not eligible(row + 1, self.spec.regimes.anchor_every):
                self._unlearned.append((asked.features, value))
            self._note(seq, arrival)
            return Label(seq, at, asked.id, value, correction, asked)
        if row == TICK:
            return Tick(seq, at)
        assert row == HISTORY
        assert features is not None
        self._note(seq, arrival)
        return LoadedExample(seq, at, features, value)

    def _note(self, seq: int, arrival: Arrival) -> None:
        self._known_seqs.append(seq)
        self._sources.append((seq, arrival))
        self._made.append(None)

    # -- answers -----------------------------------------------------------------------------------

    def _next_chunk(self, version: int, i: int) -> Output:
        predictor = self._predictors.get(version)
        if predictor is None:
            self._answering = -1
            return self._state.baselines.majority()
        self._from = start = i - i % CHUNK
        self._until, self._answering = start + CHUNK, version
        self._chunk = self._answers(predictor, start)
        return self._chunk[i - start]

    def _answers(self, predictor: Predictor, start: int) -> list[Output]:
        key = f"{self._library.name_of(predictor)}/{start}"
        rows = self._rows
        return self._library.outputs(key, lambda: predictor.predict(rows[start : start + CHUNK]))

    def _live_answer(self, i: int) -> Output:
        """What the stream learner answers now: the same under all settings, until one goes back."""
        chain = self._chain
        if chain is not None and i < len(chain):
            return chain[i]
        self._catch_up()
        output = self._working.predict((self._rows[i],))[0]
        if chain is not None and i == len(chain):
            chain.append(output)
        return output

    def _catch_up(self) -> None:
        if self._unlearned:
            began = self._clock()
            rows, targets = zip(*self._unlearned, strict=True)
            self._working.learn(rows, targets)
            self._unlearned.clear()
            self.compute_seconds += self._clock() - began

    def _compare(self, job: JobSpec) -> dict[str, Any]:
        """What a job comes to, made of answers and tests that are worked out once."""
        if job.kind != "shadow":
            key = digest_of((self._named(job.arguments), self._marking))
            return self._library.remembered(key, lambda: super(Player, self)._compare(job))
        rows = [(int(name), truth) for name, truth in job.arguments["rows"]]
        return {"marks": {str(number): self._marks(number, rows) for number in job.arguments["versions"]}}

    def _named(self, plan: Mapping[str, Any]) -> dict[str, Any]:
        """A plan with versions by what they are: their numbers differ from setting to setting."""
        numbers = sorted(remembering.versions_of(plan))
        names = [self._library.name_of(self._predictors.get(number)) for number in numbers]
        return {
            **{name: value for name, value in plan.items() if name != "spec"},
            "versions": (numbers, names),
        }

    def _marks(self, number: int, rows: Sequence[tuple[int, Scalar]]) -> list[Mark]:
        """What a version's answers to rows are worth, beside the truths known to the loop now."""
        predictor, spec = self._predictors[number], self.spec
        chunks = {start: self._chunk_marks(predictor, start) for start in {i - i % CHUNK for i, _ in rows}}
        marks, truths = [], self._recording.truths
        for i, truth in rows:
            found = chunks[i - i % CHUNK][i % CHUNK]
            if truth != truths[i]:  # it was corrected later
                found = mark(truth, self._answers(predictor, i - i % CHUNK)[i % CHUNK], spec)
            marks.append(found)
        return marks

    def _chunk_marks(self, predictor: Predictor, start: int) -> list[Mark]:
        truths, spec = self._recording.truths[start : start + CHUNK], self.spec

        def make() -> list[Mark]:
            outputs = self._answers(predictor, start)
            both = zip(truths, outputs, strict=True)
            return [UNKNOWN if truth is None else mark(truth, output, spec) for truth, output in both]

        key = f"{self._marking}/{self._library.name_of(predictor)}/{start}"
        return self._library.remembered(key, make)

    # -- trainings ---------------------------------------------------------------------------------

    def _train(self, plan: Mapping[str, Any]) -> Trained:
        examples = self._wanted(plan)
        orders = [e.order for e in examples]
        key = self._key(plan, examples)

        def make() -> Trained:
            started = self._clock()
            trained = super(Player, self)._train(plan)
            facts = (orders, plan["upto"], self._clock() - started)
            self._library.facts(key, facts)
            return trained

        trained = self._library.trained(key, make)
        then, upto, seconds = self._library.facts(key) or (orders, plan["upto"], 0.0)
        if then is not orders:
            trained = _moved(trained, dict(zip(then, orders, strict=True)), upto, plan)
        self._use(trained, examples)
        self.compute_seconds += seconds
        return trained

    def _wanted(self, plan: Mapping[str, Any]) -> list[Example]:
        if plan["mode"] == "incremental":
            return self._examples(upto=plan["upto"], after=plan["learned_upto"])
        wants = self._working.learner.wants
        return self._examples(**examples_wanted(self.spec, plan, wants))

    def _key(self, plan: Mapping[str, Any], examples: Sequence[Example]) -> str:
        """All that a training depends on, in rows: positions differ from setting to setting."""
        champion = self._predictors.get(plan["champion"])
        unseen = sum(e.order > plan["learned_through"] for e in examples)
        fresh = sum(e.known > plan["learned_upto"] for e in examples)
        chain = "live" if self._chain is not None or not self._live else f"off {id(self)}"
        rows = [e.row for e in examples]
        matured = (plan["matured_row"], plan["matured_at"])
        known = (len(self._sources), digest_of(rows), unseen, fresh, matured)
        steered = (plan["mode"], plan["holdout"], plan.get("since"), plan.get("anchors"), chain)
        return digest_of((self._parts, self._library.name_of(champion), known, steered))

    def _use(self, trained: Trained, examples: Sequence[Example]) -> None:
        known = [e.known for e in examples if e.order >= trained.learned_from]
        start = bisect_left(self._known_seqs, min(known))
        end = bisect_left(self._known_seqs, max(known)) + 1
        self._used[start:end] = b"\1" * (end - start)

    def _snapshot(self, plan: Mapping[str, Any], champion: Predictor) -> Trained:
        self._catch_up()
        return super()._snapshot(plan, champion)

    def _go_back(self, version: int) -> None:
        self._unlearned.clear()
        self._chain = None
        super()._go_back(version)

    def _examples(self, *, upto: int, after: int = 0, newest: int | None = None) -> list[Example]:
        start, end = newest_known(self._known_seqs, upto, after, newest)
        made = self._made
        found = [made[k] or self._example(k) for k in range(start, end)]
        if self._recording.ordered:
            return found
        once = {e.order: e for e in found}  # a correction is known later than what it corrects
        return sorted(once.values(), key=lambda e: e.order)

    def _example(self, place: int) -> Example:
        seq, (row, at, value, _, features) = self._sources[place]
        if row >= 0:
            a = self._asked[row]
            made = Example(a.seq, seq, a.row, a.at, a.features, value, a.version, a.output)
        else:
            made = Example(seq, seq, 0, at, features or {}, value)
        self._made[place] = made
        return made


def _parts(spec: ModelSpec) -> dict[str, Any]:
    """The part of a spec that trainings depend on."""
    whole = spec.to_dict()
    kept = ("task", "target", "features", "learner", "update", "metric", "label_horizon", "regimes", "seed")
    return {
        **{name: whole[name] for name in kept},
        "gate": {name: whole["gate"][name] for name in ("holdout", "segments")},
    }


def _moved(trained: Trained, to: Mapping[int, int], upto: int, plan: Mapping[str, Any]) -> Trained:
    """A training made under another setting, in the positions of this one."""
    return replace(
        trained,
        answers=[msgspec.structs.replace(a, seq=to[a.seq]) for a in trained.answers],
        learned_from=to[trained.learned_from],
        learned_through=to.get(trained.learned_through, plan["learned_through"]),
        learned_upto=plan["upto"] if trained.learned_upto == upto else plan["learned_upto"],
    )
