"""The spec file that ``everlearn init`` writes: YAML with a comment where a choice can be made."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from everlearn.errors import InvalidError

if TYPE_CHECKING:
    from everlearn.spec import ModelSpec


def model_name(file: Path) -> str:
    """A model name from a file's name.

    >>> model_name(Path("My data (1).csv"))
    'My-data-1'
    """
    return re.sub(r"[^A-Za-z0-9._-]+", "-", file.stem).strip("-._")[:100] or "model"


def check_learner(spec: ModelSpec) -> None:
    """Raise InvalidError if there is no such learner."""
    from everlearn.learners import names

    known = names()
    if spec.learner.name not in known:
        raise InvalidError(f"--learner: there is no learner {spec.learner.name!r}; use {', '.join(known)}")


def write_yaml(spec: ModelSpec, notes: Sequence[str], source: str) -> str:
    """The spec as YAML, with comments on what may be changed; ``models create`` reads it."""
    features = "\n".join(f"  {_text(name)}: {kind}" for name, kind in spec.features.items())
    remarks = "".join(f"#   {note}\n" for note in notes)
    found = f"# Found in the data:\n{remarks}\n" if notes else ""
    metrics = (
        "r2, mae, rmse" if spec.task == "regression" else "accuracy, f1, auc, kappa_m, kappa_t, log_loss"
    )
    return f"""\
# What everlearn found in {source}. Check it, then: everlearn models create THIS_FILE
{found}name: {_text(spec.name)}
task: {spec.task}                # classification or regression
target: {_text(spec.target)}

# numeric, boolean, categorical or timestamp; remove what is not known when predicting.
features:
{features}

learner: {_text(spec.learner.name)}                    # 'everlearn learners' lists them
metric: {spec.metric}                   # {metrics}
# threshold: 0.8                   # performance to keep; default: PERFORMANCE_THRESHOLD
label_horizon: auto                # when labels are as complete as they get: auto, 2h, or {{rows: 500}}
# update: triggered                # triggered or stream; default: what the learner prefers
# strict: true                     # refuse columns that are not named here
"""


def _text(value: Any) -> str:
    """A YAML scalar, quoted where it must be."""
    import yaml

    return str(yaml.safe_dump(value, allow_unicode=True, width=10_000)).removesuffix("...\n").strip()
