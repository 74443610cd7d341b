"""Code that was compiled while the image was built is what runs: nothing is compiled again."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

WARM = "from everlearn.learners.ahead import warm; warm('linear', 'classification')"
COUNT = f"""{WARM}
from everlearn.learners.kernels import tidy
print("loaded", sum(tidy.stats.cache_hits.values()), "compiled", sum(tidy.stats.cache_misses.values()))
"""


def test_compiled_code_of_the_image_is_used_on_a_read_only_root(
    load: Callable[[str], ModuleType], root: Path, images: Any, tmp_path: Path, miss: Callable[[str], Any]
) -> None:
    box = load("box")
    if (why := box.missing()) is not None:
        miss(why)
    compiled = tmp_path / "numba"
    building = {**os.environ, **images["build-api"].environment, "NUMBA_CACHE_DIR": str(compiled)}
    subprocess.run([sys.executable, "-c", WARM], env=building, check=True)

    places = {"/tmp": None, "/opt/everlearn/numba": compiled}
    image = images["api"]
    argv = [*image.entrypoint, "python", "-c", COUNT]
    made = box.Box(root, image.user, tmp_path)
    boxed = made.start(argv, image.environment, places, ["/opt/everlearn/numba"], tmp_path / "use.log")
    assert boxed.process.wait(200) == 0, boxed.said()
    assert boxed.said().splitlines()[-1] == "loaded 1 compiled 0"
