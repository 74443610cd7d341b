"""scikit-learn without pandas, for a process that has no table in memory.

scikit-learn asks for pandas where it has no use for it: when it is imported (``sklearn.utils.fixes`` keeps a
name that nothing reads), and whenever it looks whether a value is ``pandas.NA`` (the others of
:data:`ASKERS`), which nothing can be while pandas is not loaded. All of them take its absence for an answer.
So these, and no one else, are told that it is absent, until somebody who has a use for it has loaded it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

ASKERS = frozenset(
    {
        "sklearn.compose._column_transformer",
        "sklearn.utils._mask",
        "sklearn.utils._missing",
        "sklearn.utils.fixes",
    }
)
_MACHINERY = frozenset({"importlib._bootstrap", "_frozen_importlib", __name__})


class PandasSpared(MetaPathFinder):
    """Finds nothing; says to scikit-learn's idle questions that there is no pandas."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,  # noqa: ARG002 (as importlib calls it)
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        """Nothing. Raises ModuleNotFoundError where one of :data:`ASKERS` asks for pandas."""
        if fullname == "pandas" and _asker() in ASKERS:
            raise ModuleNotFoundError("pandas is not loaded for this", name=fullname)
        return None


def _asker() -> str:
    """The module that imports."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__") in _MACHINERY:
        frame = frame.f_back
    return str(frame.f_globals.get("__name__"))


def spare_pandas() -> None:
    """Spare this process pandas, until somebody needs it. Harmless when repeated."""
    if not any(isinstance(finder, PandasSpared) for finder in sys.meta_path):
        sys.meta_path.insert(0, PandasSpared())
