"""What must be true of an installation whatever was done to it, read from its database and its artifacts.

:func:`check` counts what is not. :data:`PLANTS` are faults that a broken product would leave behind, each put
into a copy of the database: a checker that does not see them proves nothing.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from everlearn.client import Prediction
from everlearn.types import Label
from everlearn.types import Prediction as Logged
from live_record import same

TOLERANCE = 1e-9


@dataclass(slots=True)
class History:
    """What the clients were told, and what was seen from outside while it went on."""

    answers: dict[tuple[str, str], Prediction] = field(default_factory=dict)
    """Every acknowledged answer, by model and id."""
    features: dict[tuple[str, str], Mapping[str, float]] = field(default_factory=dict)
    labels: dict[tuple[str, str], str] = field(default_factory=dict)
    """Every acknowledged label."""
    champions: list[tuple[str, int, int, tuple[int, ...]]] = field(default_factory=list)
    """Looks at the store: model, term, its champion, and the versions that stand as champion."""
    failed: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def acknowledged(self) -> int:
        """How many predictions and labels they are."""
        return len(self.answers) + len(self.labels)


LOOK = """
    SELECT m.name, m.term, m.champion,
           array(SELECT v.number FROM versions v WHERE v.model_id = m.id AND v.state = 'champion')
    FROM models m
"""


def look(connection: Any, history: History) -> None:
    """Note who is champion, in one statement: one state of the database."""
    for name, term, champion, standing in connection.execute(LOOK).fetchall():
        history.champions.append((name, term, champion, tuple(standing)))


def check(url: str, folder: Path, history: History, replay: bool = True) -> dict[str, int]:
    """Count what is wrong: ``lost``, ``doubled``, ``two_champions``, ``out_of_order``, ``replay_differs`` and
    ``wrong_version``."""
    import psycopg

    from everlearn.wiring import Installation

    installation = Installation.load(data=folder, database_url=url)
    models = installation.model_names()
    found: Counter[str] = Counter()
    with psycopg.connect(url) as connection:
        now = History()
        look(connection, now)
        found["two_champions"] = _not_one([*history.champions, *now.champions])
        for model in models:
            found["out_of_order"] += _out_of_order(connection, model)
    found["out_of_order"] += _backwards(history.champions)
    for model in models:
        lost, doubled = _log(installation, model, history)
        found["lost"] += lost
        found["doubled"] += doubled
        found["wrong_version"] += _wrong_answers(installation, model, history)
    installation.close()
    if replay:
        found["replay_differs"] = sum(_differences(url, folder, model) for model in models)
    names = ("lost", "doubled", "two_champions", "out_of_order", "replay_differs", "wrong_version")
    return {name: found[name] for name in names}


def _log(installation: Any, model: str, history: History) -> tuple[int, int]:
    """Acknowledged predictions and labels that the log lacks or holds otherwise, and those it holds twice."""
    predictions, labels, joined = Counter[str](), Counter[str](), dict[str, Any]()
    wrong, cursor = 0, 0
    while events := installation.log.read(model, cursor, 5000):
        cursor = events[-1].seq
        for event in events:
            if isinstance(event, Logged):
                predictions[event.id] += 1
                wrong += not same(history.answers.get((model, event.id)), event)
            elif isinstance(event, Label):
                labels[event.id] += 1
                joined[event.id] = event
    for (of, key), value in history.labels.items():
        if of == model and key in joined:
            wrong += joined[key].value != value or joined[key].prediction is None
    lacking = sum(of == model and not predictions[key] for of, key in history.answers)
    lacking += sum(of == model and not labels[key] for of, key in history.labels)
    doubled = sum(count - 1 for found in (predictions, labels) for count in found.values())
    return lacking + wrong, doubled


def _not_one(looks: Iterable[tuple[str, int, int, tuple[int, ...]]]) -> int:
    """Looks at which there was not exactly one champion, or one term had two."""
    wrong, known = 0, dict[tuple[str, int], int]()
    for model, term, champion, standing in looks:
        wrong += standing != (champion,) or known.setdefault((model, term), champion) != champion
    return wrong


def _backwards(looks: Sequence[tuple[str, int, int, tuple[int, ...]]]) -> int:
    """How often a term was seen after a later one."""
    newest: dict[str, int] = {}
    wrong = 0
    for model, term, _, _ in looks:
        wrong += term < newest.get(model, 0)
        newest[model] = max(term, newest.get(model, 0))
    return wrong


def _out_of_order(connection: Any, model: str) -> int:
    """Promotions that are not the next one, or that no decision of their own in the ledger tells of."""
    query = """
        SELECT p.term, p.version, p.decision, d.kind, d.version, d.number
        FROM promotions p JOIN models m ON m.id = p.model_id
        LEFT JOIN decisions d ON d.model_id = p.model_id AND d.number = p.decision
        WHERE m.name = %s ORDER BY p.term
    """
    wrong, last = 0, 0
    rows = connection.execute(query, (model,)).fetchall()
    for place, (term, version, decision, kind, decided, number) in enumerate(rows):
        wrong += term != rows[0][0] + place
        if decision is None:  # how a model is born
            wrong += place > 0
            continue
        wrong += number is None or kind not in ("promote", "rollback") or decided != version
        wrong += decision <= last
        last = max(last, decision)
    newest = connection.execute("SELECT term, champion, decisions FROM models WHERE name = %s", (model,))
    term, champion, decisions = newest.fetchone()
    wrong += bool(rows) and (rows[-1][0], rows[-1][1]) != (term, champion)
    counted = connection.execute(
        "SELECT count(*), coalesce(max(d.number), 0) FROM decisions d JOIN models m ON m.id = d.model_id "
        "WHERE m.name = %s",
        (model,),
    )
    return wrong + (counted.fetchone() != (decisions, decisions))


def _wrong_answers(installation: Any, model: str, history: History) -> int:
    """Acknowledged answers that the version they name does not give."""
    from everlearn.predictor import Predictor

    by_version: dict[int, list[str]] = {}
    for (of, key), answer in history.answers.items():
        if of == model:
            by_version.setdefault(answer.version, []).append(key)
    wrong = 0
    for number, keys in by_version.items():
        digest = installation.versions.get(model, number).digest
        if digest is None:  # the baseline follows the labels: what it said is not its artifact's
            continue
        predictor = Predictor.from_bundle(installation.artifacts.get(digest))
        outputs = predictor.predict([history.features[model, key] for key in keys])
        for key, output in zip(keys, outputs, strict=True):
            told, probabilities = history.answers[model, key], output.probabilities or {}
            near = all(
                abs(probabilities[name] - value) <= TOLERANCE
                for name, value in (told.probabilities or {}).items()
            )
            wrong += told.value != output.value or not near
    return wrong


def _differences(url: str, folder: Path, model: str) -> int:
    """What ``everlearn replay --recorded --verify`` says is not as recorded."""
    command = [sys.executable, "-m", "everlearn", "replay", "--recorded", model, "--verify", "--json"]
    environment = {**os.environ, "EVERLEARN_DATABASE_URL": url, "EVERLEARN_DATA": str(folder)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    try:
        found = json.loads(done.stdout)
    except ValueError:
        sys.stderr.write(done.stderr[-2000:])
        return 1
    for difference in found["differences"]:
        sys.stderr.write(f"{model}: {difference}\n")
    return 0 if found["identical"] and done.returncode == 0 else max(1, len(found["differences"]))


# -- planted faults --------------------------------------------------------------------------------------


def _model(connection: Any) -> tuple[int, str]:
    """The model with the most promotions."""
    query = "SELECT id, name FROM models ORDER BY term DESC LIMIT 1"
    number, name = connection.execute(query).fetchone()
    return number, name


def _some_answer(history: History, name: str) -> str:
    """The id of an answer that was labelled."""
    return next(key for of, key in history.labels if of == name)


def _lost_ack(connection: Any, history: History) -> None:
    """A prediction was acknowledged before it was stored, and its process died."""
    number, name = _model(connection)
    key = _some_answer(history, name)
    connection.execute("DELETE FROM events WHERE model_id = %s AND key = %s AND kind = 1", (number, key))


def _double_apply(connection: Any, history: History) -> None:
    """A label that was sent again was stored again."""
    number, name = _model(connection)
    key = _some_answer(history, name)
    connection.execute(
        "UPDATE models SET last_seq = last_seq + 1, labels = labels + 1 WHERE id = %s", (number,)
    )
    names = "kind, at, key, ref, row, version, features, value, body, source"
    again = (
        f"INSERT INTO events (model_id, seq, {names}) "
        f"SELECT model_id, (SELECT last_seq FROM models WHERE id = model_id), {names} "
        "FROM events WHERE model_id = %s AND key = %s AND kind = 2"
    )
    connection.execute(again, (number, key))


def _two_champions(connection: Any, _: History) -> None:
    """A promotion did not archive the champion before."""
    number, _ = _model(connection)
    connection.execute(
        "UPDATE versions SET state = 'champion' WHERE model_id = %s AND number = "
        "(SELECT max(number) FROM versions WHERE model_id = %s AND state = 'archived')",
        (number, number),
    )


def _stale_promotion(connection: Any, _: History) -> None:
    """A worker that woke up late promoted once more what it had decided long ago."""
    number, _ = _model(connection)
    old = connection.execute(
        "SELECT version, at, decision FROM promotions WHERE model_id = %s AND decision IS NOT NULL "
        "ORDER BY term LIMIT 1",
        (number,),
    ).fetchone()
    row = connection.execute(
        "UPDATE models SET term = term + 1, champion = %s WHERE id = %s RETURNING term", (old[0], number)
    ).fetchone()
    connection.execute(
        "UPDATE versions SET state = 'archived' WHERE model_id = %s AND state = 'champion'", (number,)
    )
    connection.execute(
        "UPDATE versions SET state = 'champion' WHERE model_id = %s AND number = %s", (number, old[0])
    )
    connection.execute(
        "INSERT INTO promotions (model_id, term, version, at, decision) VALUES (%s, %s, %s, %s, %s)",
        (number, row[0], *old),
    )


def _skipped_decision(connection: Any, _: History) -> None:
    """A step was written without one of its decisions, and the later ones were numbered on."""
    number, _ = _model(connection)
    gone = connection.execute(
        "SELECT number FROM decisions WHERE model_id = %s AND kind NOT IN ('promote', 'rollback') "
        "ORDER BY number DESC LIMIT 1",
        (number,),
    ).fetchone()[0]
    connection.execute("DELETE FROM decisions WHERE model_id = %s AND number = %s", (number, gone))
    for table, column in (("promotions", "decision"), ("decisions", "number")):
        # One by one upwards, so that no number is there twice on the way.
        after = connection.execute(
            f"SELECT {column} FROM {table} WHERE model_id = %s AND {column} > %s ORDER BY {column}",
            (number, gone),
        ).fetchall()
        for (value,) in after:
            connection.execute(
                f"UPDATE {table} SET {column} = %s WHERE model_id = %s AND {column} = %s",
                (value - 1, number, value),
            )
    connection.execute("UPDATE models SET decisions = decisions - 1 WHERE id = %s", (number,))


def _wrong_version(connection: Any, history: History) -> None:
    """A swap in the middle of a request: one version answered, and another was named, and stored."""
    number, name = _model(connection)
    versions = connection.execute(
        "SELECT number FROM versions WHERE model_id = %s AND digest IS NOT NULL ORDER BY number", (number,)
    ).fetchall()
    for (of, key), answer in list(history.answers.items()):
        other = next((v for (v,) in versions if v != answer.version), None)
        if of == name and answer.version > 0 and other is not None:
            connection.execute(
                "UPDATE events SET version = %s WHERE model_id = %s AND key = %s AND kind = 1",
                (other, number, key),
            )
            fields = (answer.id, other, answer.value, answer.probabilities)
            history.answers[of, key] = type(answer)(*fields)
            return


PLANTS: dict[str, tuple[str, Callable[[Any, History], None]]] = {
    "lost_ack": ("lost", _lost_ack),
    "double_apply": ("doubled", _double_apply),
    "two_champions": ("two_champions", _two_champions),
    "stale_promotion": ("out_of_order", _stale_promotion),
    "skipped_decision": ("replay_differs", _skipped_decision),
    "wrong_version": ("wrong_version", _wrong_version),
}
"""Faults by name: the count that must see it, and how it is put into a copy of the database."""


def planted(name: str, url: str, folder: Path, history: History) -> bool:
    """Put a fault into a copy of the database, and say whether the checker sees it there."""
    import psycopg

    count, plant = PLANTS[name]
    own = History(dict(history.answers), history.features, dict(history.labels), list(history.champions))
    with psycopg.connect(url) as connection:
        plant(connection, own)
    return check(url, folder, own, replay=count == "replay_differs")[count] > 0
