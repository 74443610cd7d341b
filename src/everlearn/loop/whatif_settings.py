"""Which settings a what-if compares: what is asked for, crossed, and the policies it is measured by."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

from everlearn.errors import InvalidError
from everlearn.learners import build
from everlearn.loop.defaults import with_defaults
from everlearn.spec import ModelSpec, parse_spec

CADENCES = (250, 500, 1000, 2500, 5000)
"""Labels between two updates of the fixed cadences, of which the best in hindsight is shown."""

MOST_ALWAYS = 400
"""How often *always* trains at most: on long streams it looks more rarely, and its name says how often."""

Choice = Mapping[str, Any]
Role = Literal["setting", "never", "cadence", "cusum", "always"]

_PARTS = re.compile(r",(?![^\[{]*[\]}])")


@dataclass(frozen=True, slots=True)
class Setting:
    """A name to show, the spec to play under, and what it stands for."""

    name: str
    spec: ModelSpec
    role: Role = "setting"


def parse_choice(text: str, option: str) -> dict[str, Any]:
    """A choice as a name, as JSON, or as ``name:key=value,…``; raises InvalidError that names the option.

    >>> parse_choice("every:every=500", "--policy")
    {'name': 'every', 'every': 500}
    >>> parse_choice('{"name": "window", "size": 2000}', "--learner")
    {'name': 'window', 'size': 2000}
    """
    text = text.strip()
    if text.startswith("{"):
        return _object(text, option)
    name, _, rest = text.partition(":")
    if not name.strip():
        raise InvalidError(f"{option}: {text!r} names nothing: write a name, name:key=value,… or JSON")
    found: dict[str, Any] = {"name": name.strip()}
    for part in filter(None, _PARTS.split(rest)):
        key, equals, value = part.partition("=")
        if not equals:
            raise InvalidError(f"{option}: {part!r} in {text!r} is no key=value")
        found[key.strip()] = _value(value.strip())
    return found


def _object(text: str, option: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise InvalidError(f"{option} is no JSON: {error}") from None
    if not isinstance(value, dict):
        raise InvalidError(f"{option}: {text!r} is no JSON object")
    return value


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def crossed(
    base: ModelSpec,
    policies: Sequence[Choice] = (),
    learners: Sequence[Choice] = (),
    gates: Sequence[Choice] = (),
) -> list[Setting]:
    """Every combination of what is given, for ``base`` with what is left out; at least ``base`` itself."""
    many = {"policy": len(policies) != 0, "learner": len(learners) > 1, "gate": len(gates) != 0}
    made: list[Setting] = []
    for policy, learner, gate in product(policies or (None,), learners or (None,), gates or (None,)):
        spec = changed(base, policy=policy, learner=learner, gate=gate)
        said = [("policy", policy), ("learner", learner), ("gate", gate)]
        words = [_said(choice) for kind, choice in said if choice and many[kind]]
        made.append(Setting(" + ".join(words) or "as it is", spec))
    return list({setting.name: setting for setting in made}.values())


def _said(choice: Choice) -> str:
    """A choice in a few words.

    >>> _said({"name": "every", "every": 500, "min_labels": 100})
    'every (every 500, min_labels 100)'
    """
    rest = ", ".join(f"{key} {_short(value)}" for key, value in choice.items() if key != "name")
    name = str(choice.get("name", "")).strip()
    return f"{name} ({rest})" if name and rest else name or rest


def _short(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def changed(
    base: ModelSpec,
    *,
    policy: Choice | None = None,
    learner: Choice | None = None,
    gate: Choice | None = None,
    **others: Any,
) -> ModelSpec:
    """A spec with another policy and gate (which keep what is not said) or another learner."""
    spec = base.to_dict()
    if policy is not None:
        spec["policy"] = {**spec["policy"], "any_of": [], **policy}
    if gate is not None:
        spec["gate"] = {**spec["gate"], **gate}
    if learner is not None:
        spec |= {"learner": dict(learner), "update": None}
    for name, value in others.items():
        spec[name] = {**spec[name], **value} if isinstance(value, Mapping) else value
    return with_defaults(parse_spec(spec))


def references(base: ModelSpec, labels: int, name: str = "") -> Iterator[Setting]:
    """*Never*, fixed cadences, CUSUM and *always*, with the base's learner.

    They are what teams do without everlearn: they retrain and put into service, with no gate, no way
    back and no cheaper rung of the ladder. *Always* is, for a stream learner, to learn from each label.
    """
    plain = {"gate": {"name": "open"}, "rollback": {"bake": 0}, "drift": {"features": False}}
    mark = f" + {name}" if name else ""

    def made(role: Role, title: str, policy: Choice, **others: Any) -> Setting:
        steps = {"recalibrate": False, "reuse": False, **policy}
        given = {**plain, "update": "triggered", **others}
        return Setting(f"{title}{mark}", changed(base, policy=steps, **given), role)

    yield made("never", "never", {"name": "never"})
    for every in CADENCES:
        if every < labels:
            yield made("cadence", f"every {every}", {"name": "every", "every": every})
    watch = {"features": False, "detectors": ["cusum"]}
    yield made("cusum", "CUSUM", {"name": "on_drift"}, drift=watch)
    if base.update == "stream":
        yield made("always", "always", {"name": base.policy.name}, update="stream")
    else:
        checks = max(base.policy.check_every, labels // MOST_ALWAYS)
        yield made("always", f"always (every {checks})", {"name": "always", "check_every": checks})


def lean(spec: ModelSpec) -> ModelSpec:
    """A spec without the watch on features, where that could only warn: it then decides the same, sooner."""
    policies = (spec.policy, *spec.policy.any_of)
    if not spec.drift.features or any(policy.on_unlabelled == "update" for policy in policies):
        return spec
    return spec.model_copy(update={"drift": spec.drift.model_copy(update={"features": False})})


def learner_name(spec: ModelSpec) -> str:
    """A learner in a few words."""
    return _said(spec.learner.model_dump())


def window_of(spec: ModelSpec) -> int | None:
    """How many newest examples a learner learns from afresh; ``None`` for all."""
    named = spec.learner
    return build(named.name, task=spec.task, **named.parameters).wants
