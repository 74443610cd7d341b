"""What learns. Pure: arrays in, arrays out, no I/O; one algorithm a file.

>>> import numpy as np
>>> from everlearn import learners
>>> learner = learners.build("majority")
>>> learner.learn(np.zeros((3, 1)), ["a", "b", "a"])
>>> learner.predict(np.zeros((1, 1))).round(3)
array([[0.667, 0.333]])

Other packages add learners through the entry point group ``everlearn.learners``: a name, and a class
that keeps the contract (:class:`Learner`), which :func:`everlearn.learners.checks.check_learner` checks.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from everlearn.errors import Fault, InvalidError
from everlearn.learners.contract import Learner

__all__ = ["Learner", "build", "describe", "names"]

_BUILT_IN = {
    "blend": "everlearn.learners.blend:Blend",
    "linear": "everlearn.learners.linear:Linear",
    "window": "everlearn.learners.window:Window",
    "additive": "everlearn.learners.additive:Additive",
    "ridge": "everlearn.learners.ridge:Ridge",
    "knn": "everlearn.learners.knn:Knn",
    "forest": "everlearn.learners.forest:Forest",
    "patches": "everlearn.learners.patches:Patches",
    "rates": "everlearn.learners.rates:Rates",
    "river": "everlearn.learners.river_models:RiverModel",
    "sklearn": "everlearn.learners.sklearn_models:PartialFit",
    "image": "everlearn.learners.images.image:Image",
    "fine_tuning": "everlearn.learners.networks.fine_tuning:FineTuning",
    "joint": "everlearn.learners.networks.joint:Joint",
    "er": "everlearn.learners.networks.er:ExperienceReplay",
    "er_ace": "everlearn.learners.networks.er_ace:AsymmetricReplay",
    "der": "everlearn.learners.networks.der:DarkReplay",
    "der_pp": "everlearn.learners.networks.der_pp:DarkReplayLabels",
    "cls_er": "everlearn.learners.networks.cls_er:ComplementaryReplay",
    "oewc": "everlearn.learners.networks.oewc:OnlineEwc",
    "si": "everlearn.learners.networks.si:SynapticIntelligence",
    "mas": "everlearn.learners.networks.mas:MemoryAwareSynapses",
    "lwf": "everlearn.learners.networks.lwf:WithoutForgetting",
    "a_gem": "everlearn.learners.networks.a_gem:AveragedGem",
    "icarl": "everlearn.learners.networks.icarl:Icarl",
    "gdumb": "everlearn.learners.networks.gdumb:GDumb",
    "progressive": "everlearn.learners.networks.progressive:ProgressiveColumns",
    "majority": "everlearn.learners.majority:Majority",
    "persistence": "everlearn.learners.persistence:Persistence",
}
_GROUP = "everlearn.learners"


def names() -> list[str]:
    """The learners there are: the built-in ones, then those of other packages by name."""
    return [*_BUILT_IN, *sorted(set(_entry_points()) - set(_BUILT_IN))]


def build(name: str, **parameters: Any) -> Learner:
    """A new learner by name.

    Raises InvalidError for an unknown name (it lists the known ones) or parameter (it names the
    parameter and lists the valid ones), or for a parameter's value that the learner refuses.
    """
    maker = _load(name)
    valid = _parameters(maker)
    unknown = [] if valid is None else sorted(set(parameters) - set(valid))
    if valid is not None and unknown:
        message = f"is not a parameter of {name!r}: use {', '.join(valid)}"
        faults = [Fault(f"learner.{parameter}", message) for parameter in unknown]
        raise InvalidError(f"learner.{unknown[0]}: {message}", faults)
    return maker(**parameters)


def describe(name: str) -> dict[str, Any]:
    """A learner's parameters with their defaults, and what it says of itself: good for what, cannot what.

    >>> describe("majority")["parameters"]["task"]
    'classification'
    """
    maker = _load(name)
    signature = inspect.signature(maker)
    return {
        "name": name,
        "summary": (inspect.getdoc(maker) or "").partition("\n")[0],
        "good_for": getattr(maker, "good_for", ""),
        "cannot": getattr(maker, "cannot", ""),
        "text": (inspect.getdoc(maker) or "").partition("\n>>>")[0].rstrip(),
        "prefers": getattr(maker, "prefers", None),
        "incremental": getattr(maker, "incremental", None),
        "parameters": {
            key: None if parameter.default is inspect.Parameter.empty else parameter.default
            for key, parameter in signature.parameters.items()
        },
    }


def _load(name: str) -> Callable[..., Learner]:
    if name in _BUILT_IN:
        module, _, attribute = _BUILT_IN[name].partition(":")
        maker: Callable[..., Learner] = getattr(import_module(module), attribute)
        return maker
    found = _entry_points().get(name)
    if found is None:
        message = f"{name!r} is not a learner: use one of {', '.join(names())}"
        raise InvalidError(f"learner.name: {message}", [Fault("learner.name", message)])
    loaded: Callable[..., Learner] = found.load()
    return loaded


def _entry_points() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=_GROUP)}


def _parameters(maker: Callable[..., Learner]) -> list[str] | None:
    """The names of a learner's parameters, or None if it takes any."""
    parameters = inspect.signature(maker).parameters.values()
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
        return None
    return [parameter.name for parameter in parameters]
