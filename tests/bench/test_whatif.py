"""The benchmark of what-if plays a small record with the product's own driver."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest


@pytest.mark.usefixtures("bench")
@pytest.mark.parametrize("database", ["memory", pytest.param("sqlite", marks=pytest.mark.slow)])
def test_its_object_has_the_keys_that_it_names(capsys: pytest.CaptureFixture[str], database: str) -> None:
    import whatif

    whatif.main(["--events", "1600", "--database", database, "--seed", "3", "--json"])
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    named = (whatif.__doc__ or "").split("prints one object:")[1]
    assert [key for key in found if key not in named] == []
    assert found["policies"] == len(found["per_policy"]) == 10
    assert found["events"] >= 1600
    assert all(line["reused"] in (0.0, 1.0) for line in found["per_policy"])
    assert found["per_policy"][0]["trained"] >= 1


def test_the_record_is_the_same_for_the_same_seed(bench: Path) -> None:
    import whatif

    assert list(whatif.make_events(200, 5)) == list(whatif.make_events(200, 5))
    assert list(whatif.make_events(200, 5)) != list(whatif.make_events(200, 6))
