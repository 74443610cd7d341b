"""Commands that need no server: init, replay, learners, settings, doctor, and how errors look."""

from __future__ import annotations

import importlib.util
import json
import random
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy import text

from everlearn.cli.chart import chart, trail
from everlearn.cli.output import pairs, table
from everlearn.cli.specs import model_name
from everlearn.config import Settings
from everlearn.credentials import make_key
from everlearn.spec import parse_spec
from everlearn.types import EventKind, NewEvent
from everlearn.wiring import Installation

Run = Callable[..., Any]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


# -- init --------------------------------------------------------------------------------------------


def test_init_writes_a_spec_that_models_create_reads(run: Run, flowers: Path, tmp_path: Path) -> None:
    ended = run("init", flowers, "--target", "kind")
    assert ended.code == 0
    assert "everlearn models create spec.yaml" in ended.out
    spec = parse_spec(yaml.safe_load((tmp_path / "spec.yaml").read_text()))
    assert (spec.name, spec.task, spec.target) == ("my-flowers", "classification", "kind")
    assert spec.features == {"height": "numeric", "colour": "categorical", "wild": "boolean"}


def test_init_never_writes_over_a_spec_unasked(run: Run, flowers: Path, tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text("mine")
    refused = run("init", flowers, "--target", "kind")
    assert refused.code == 1
    assert "--force" in refused.err
    assert (tmp_path / "spec.yaml").read_text() == "mine"
    assert run("init", flowers, "--target", "kind", "--force").code == 0


def test_init_quotes_what_yaml_would_misread(run: Run, tmp_path: Path) -> None:
    table = tmp_path / "on.csv"
    table.write_text("yes,a: b,# c,y\n" + "".join(f"{i},{i % 3},{i % 5},{i % 2}\n" for i in range(30)))
    said = run("init", table, "--target", "y", "--json").json
    loaded = yaml.safe_load(Path(said["path"]).read_text())
    assert set(loaded["features"]) == {"yes", "a: b", "# c"}
    assert said["spec"]["name"] == loaded["name"] == "on"


def test_names_of_models_come_from_names_of_files() -> None:
    assert model_name(Path("x/Größe (neu).csv")) == "Gr-e-neu"
    assert model_name(Path("---.csv")) == "model"


# -- replay ------------------------------------------------------------------------------------------


@pytest.fixture
def drifting(tmp_path: Path) -> Path:
    """A table whose concept turns around half-way."""
    rng = random.Random(1)
    path = tmp_path / "drift.csv"
    lines = ["a,b,noise,y"]
    for i in range(1600):
        a, b = rng.gauss(0, 1), rng.gauss(0, 1)
        lines.append(f"{a:.4f},{b:.4f},{rng.random():.3f},{'yes' if (a + b > 0) != (i > 800) else 'no'}")
    path.write_text("\n".join(lines) + "\n")
    return path


LEARNER = '{"name": "window", "size": 500, "estimator": "logistic"}'


def test_replay_shows_served_beside_its_rivals(run: Run, drifting: Path) -> None:
    ended = run("replay", drifting, "--target", "y", "--label-delay", 50, "--learner", LEARNER)
    assert ended.code == 0, ended.err
    for words in ("served", "never updated", "refit by the calendar (500)", "persistence", "majority"):
        assert words in ended.out
    assert "promote" in ended.out
    assert "accuracy over time" in ended.out
    assert "0.80 ┤" in ended.out


def test_replay_twice_is_the_same_json_but_for_seconds(run: Run, drifting: Path) -> None:
    args = ("replay", drifting, "--target", "y", "--label-delay", "50", "--learner", LEARNER, "--json")

    def timeless(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: timeless(v) for k, v in value.items() if "second" not in k}
        return [timeless(v) for v in value] if isinstance(value, list) else value

    first, second = run(*args).json, run(*args).json
    assert timeless(first) == timeless(second)
    assert first["rows"] == 1600
    assert first["served"]["accuracy"] > first["baselines"]["never_updated"]["accuracy"]


def test_replay_of_some_columns(run: Run, drifting: Path) -> None:
    base = ("replay", drifting, "--target", "y", "--learner", "majority", "--no-baselines", "--json")
    assert run(*base, "--features", "a", "--features", "b=numeric").code == 0
    assert "rows[0].b" in run(*base, "--features", "b=categorical").err
    assert run(*base, "--drop", "noise").code == 0
    assert "no column 'c'" in run(*base, "--features", "c").err
    assert "no column 'd'" in run(*base, "--drop", "d").err


@pytest.mark.skipif(importlib.util.find_spec("matplotlib") is None, reason="needs the extra plot")
def test_replay_draws_a_picture(run: Run, drifting: Path, tmp_path: Path) -> None:
    picture = tmp_path / "score.png"
    args = ("--target", "y", "--learner", LEARNER, "--no-baselines", "--plot", picture)
    assert run("replay", drifting, *args).code == 0
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_replay_without_the_plot_extra_says_so_at_once(
    run: Run, drifting: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("everlearn.cli.report.find_spec", lambda _: None)
    ended = run("replay", drifting, "--target", "y", "--plot", "x.png")
    assert (ended.code, ended.err) == (1, "error: --plot needs an extra: pip install 'everlearn[plot]'\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nothing.csv", "--target", "y"], "nothing.csv"),
        (["drift.csv"], "--target"),
        (["drift.csv", "--target", "z"], "'z'"),
        (["drift.csv", "--target", "y", "--learner", "oracle"], "oracle"),
        (["drift.csv", "--target", "y", "--learner", '{"name": '], "--learner"),
        (["drift.csv", "--target", "y", "--label-delay", "soon"], "soon"),
        (["--recorded", "m"], "--verify"),
        pytest.param(["--recorded", "m", "--verify"], "no installation", marks=pytest.mark.sqlite),
    ],
)
@pytest.mark.usefixtures("drifting")
def test_what_is_wrong_is_one_line_and_exit_code_1(run: Run, arguments: list[str], words: str) -> None:
    ended = run("replay", *arguments)
    assert ended.code == 1
    assert words in ended.err
    assert ended.err.count("\n") == 1
    assert ended.out == ""


@pytest.mark.parametrize("content", ["", "\n", "a,b\n", '"', "a,b\n1,2,3\n"])
def test_a_file_that_is_no_table(run: Run, tmp_path: Path, content: str) -> None:
    (tmp_path / "bad.csv").write_text(content)
    ended = run("init", "bad.csv", "--target", "z")
    assert ended.code == 1
    assert ended.err.startswith("error: ")
    assert "Unexpected" not in ended.err


def test_a_file_that_is_no_text(run: Run, tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_bytes(b"a,b\n\xff\xfe,1\n")
    assert "UTF-8" in run("init", "bad.csv", "--target", "b").err


# -- verify ------------------------------------------------------------------------------------------


def test_a_record_is_proven_and_a_forged_one_is_found(run: Run, recorded: Path) -> None:
    proven = run("replay", "--recorded", "m", "--verify", "--data", recorded)
    assert (proven.code, proven.out.splitlines()[0]) == (0, "identical")
    said = run("replay", "--recorded", "m", "--verify", "--data", recorded, "--json").json
    assert said["identical"]
    assert said["artifacts_checked"] >= 1

    forge(recorded)
    found = run("replay", "--recorded", "m", "--verify", "--data", recorded)
    assert (found.code, found.out.splitlines()[0]) == (1, "different")
    assert "forged" in found.err


def forge(data: Path) -> None:
    change(data, "UPDATE decisions SET reason = 'forged' WHERE kind = 'promote'")


def change(data: Path, statement: str) -> None:
    """Change the database of a data folder behind everybody's back."""
    installation = Installation.load(data=data)
    with installation.store._database.write() as connection:
        connection.execute(text(statement))
    installation.close()


# -- doctor ------------------------------------------------------------------------------------------


@pytest.mark.sqlite
def test_doctor_before_anything_is_there_changes_nothing(run: Run, tmp_path: Path) -> None:
    ended = run("doctor")
    assert ended.code == 0
    assert "-> everlearn up" in ended.out
    assert list(tmp_path.iterdir()) == []


def test_doctor_finds_what_is_broken_and_how_to_mend_it(
    run: Run, recorded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "off")
    well = run("doctor", "--data", recorded, "--json")
    checks = {check["name"]: check for check in well.json["checks"]}
    assert checks["database"]["state"] == checks["loop"]["state"] == checks["key"]["state"] == "ok"
    assert checks["server"]["state"] == "warn"

    (recorded / "key").chmod(0o644)
    ended = run("doctor", "--data", recorded)
    assert ended.code == 1
    assert f"chmod 600 {recorded / 'key'}" in ended.out


def test_doctor_sees_an_old_schema_a_standing_loop_and_a_typing_error(
    run: Run, recorded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "off")
    monkeypatch.setenv("EVERLEARN_PROT", "9000")
    monkeypatch.setattr("everlearn.doctor.LOOK_SECONDS", 0.01)
    installation = Installation.load(data=recorded)
    installation.log.append("m", [NewEvent(EventKind.TICK, 1_800_000_500.0, "tick:1")])
    installation.close()
    checks = {check["name"]: check for check in run("doctor", "--data", recorded, "--json").json["checks"]}
    assert checks["loop"]["state"] == "warn"
    assert "m" in checks["loop"]["text"]
    assert "EVERLEARN_PROT" in checks["settings"]["text"]

    change(recorded, "UPDATE alembic_version SET version_num = 'older'")
    ended = run("doctor", "--data", recorded)
    assert ended.code == 1
    assert "FAIL  database" in ended.out


# -- the rest ----------------------------------------------------------------------------------------


def test_learners_are_listed(run: Run) -> None:
    items = {item["name"]: item for item in run("learners", "--json", "--no-speed").json["items"]}
    assert {"blend", "linear", "window", "majority", "persistence"} <= set(items)
    assert items["linear"]["prefers"] == "stream"
    assert items["blend"]["parameters"]["budget"] == "balanced"
    assert "window" in run("learners", "--no-speed").out


def test_a_learner_is_shown_in_full_with_its_speed_here(run: Run) -> None:
    (item,) = run("learners", "linear", "--json").json["items"]
    assert item["rows_per_second"] > 1000
    assert 0 < item["predict_us"] < 10_000
    assert item["state_kb"] > 0
    shown = run("learners", "linear").out
    for part in ("good for", "cannot", "rows a second", "steps", "``steps``"):
        assert part in shown
    assert "'nothing' is not a learner" in run("learners", "nothing").err


def test_settings_show_what_is_in_force_but_no_secrets(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERFORMANCE_THRESHOLD", "0.66")
    monkeypatch.setenv("EVERLEARN_API_KEY", "never-shown-anywhere")
    items = {item["variable"]: item for item in run("settings", "--json").json["items"]}
    assert (items["PERFORMANCE_THRESHOLD"]["value"], items["PERFORMANCE_THRESHOLD"]["set"]) == ("0.66", True)
    assert "never-shown" not in json.dumps(items) + run("settings").out


def test_no_key_yet_is_explained(run: Run) -> None:
    ended = run("status")
    assert ended.code == 1
    assert "everlearn up" in ended.err


def test_a_server_that_does_not_answer_is_one_line(run: Run, tmp_path: Path) -> None:
    make_key(Settings.load(data=tmp_path / "d"))
    assert stat.S_IMODE((tmp_path / "d" / "key").stat().st_mode) == 0o600
    ended = run("status", "--data", tmp_path / "d", "--url", "http://127.0.0.1:9")
    assert (ended.code, ended.err.count("\n")) == (1, 1)


def test_wrong_usage_is_exit_code_2(run: Run) -> None:
    assert run("no-such-command").code == 2
    assert run("promote", "m", "x").code == 2
    assert run("--version").out.startswith("everlearn ")


def test_an_unexpected_error_is_one_line_unless_debugging(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> list[str]:
        raise RuntimeError("a bug")

    monkeypatch.setattr("everlearn.learners.names", broken)
    ended = run("learners", "--no-speed")
    assert (ended.code, ended.err.count("\n")) == (1, 1)
    assert "EVERLEARN_DEBUG=1" in ended.err
    monkeypatch.setenv("EVERLEARN_DEBUG", "1")
    with pytest.raises(RuntimeError, match="a bug"):
        run("learners", "--no-speed")


def test_the_chart_is_as_wide_as_its_points() -> None:
    points = trail([0.0] * 50 + [1.0] * 50, count=10, window=10)
    assert points == [0.0] * 5 + [1.0] * 5
    drawn = chart(points, threshold=0.8, marks={5: "P"}, height=5).splitlines()
    assert drawn[0] == "1.00 │     •••••"
    assert drawn[-2] == "0.00 │•••••"
    assert drawn[-1] == " " * 11 + "P"
    assert chart([]) == ""
    assert trail([], count=3, window=3) == []


def test_long_values_go_on_below_themselves_and_lines_end_without_blanks(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    pairs({"model": "m", "features": ", ".join(f"a-column-{i}" for i in range(40))})
    table(("name", "text"), [("a", "b" * 10), ("c", None)])
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) > 5
    assert all(line == line.rstrip() and len(line) <= 160 for line in shown)
    assert shown[2].startswith(" " * 10 + "a-column-")
