"""``everlearn what-if`` on files and on the record of a model, and its report."""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from everlearn.types import EventKind, NewEvent

Run = Callable[..., Any]
LOGISTIC = '{"name": "window", "size": 200, "estimator": "logistic"}'


@pytest.fixture
def file(flowers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A table of 400 rows, in a folder without an installation."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EVERLEARN_DATA", str(tmp_path / "data"))
    return flowers


@pytest.fixture
def asked(file: Path) -> tuple[object, ...]:
    """The arguments of a small what-if."""
    return ("what-if", file, "--target", "kind", "--label-delay", 10, "--learner", LOGISTIC)


def test_a_table_a_figure_and_the_references(run: Run, asked: tuple[object, ...]) -> None:
    shown = run(*asked, "--policy", "never", "--policy", "every:every=100,min_labels=20")
    assert shown.code == 0, shown.err
    for words in (
        "every (every 100, min_labels 20)",
        "every 250 labels (best of 250)",
        "CUSUM",
        "always",
        "oracle",
    ):
        assert words in shown.out
    for column in ("accuracy", "regret", "updates", "compute s", "labels used"):
        assert column in shown.out
    assert re.search(r"^   A │ *\|", shown.out, re.MULTILINE)


def test_json_has_every_line_and_two_calls_agree(run: Run, asked: tuple[object, ...]) -> None:
    def timeless(found: Any) -> Any:
        if isinstance(found, dict):
            return {k: timeless(v) for k, v in found.items() if "second" not in k}
        return [timeless(v) for v in found] if isinstance(found, list) else found

    found = run(*asked, "--gate", "open", "--gate", "proof:alpha=0.1", "--price", 5, "--json").json
    assert (found["rows"], found["events"], found["labels"], found["price"]) == (400, 800, 400, 5.0)
    assert [line["name"] for line in found["settings"]][:2] == ["open", "proof (alpha 0.1)"]
    assert found["best"] in ("open", "proof (alpha 0.1)")
    again = run(*asked, "--gate", "open", "--gate", "proof:alpha=0.1", "--price", 5, "--json").json
    assert timeless(found) == timeless(again)


def test_what_is_known_is_taken_from_the_folder(run: Run, asked: tuple[object, ...], tmp_path: Path) -> None:
    call = (*asked, "--policy", "never", "--cache", tmp_path / "kept", "--json")
    assert not any(line["cached"] for line in run(*call).json["settings"])
    assert all(line["cached"] for line in run(*call).json["settings"])
    assert not any(line["cached"] for line in run(*call, "--fresh").json["settings"])
    for file in (tmp_path / "kept").iterdir():
        file.write_text("{")
    assert not any(line["cached"] for line in run(*call).json["settings"])


class Tags(HTMLParser):
    """Checks that every tag is closed, and keeps all attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += attrs
        if tag not in ("meta",):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_html_report_stands_by_itself(run: Run, asked: tuple[object, ...], tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    assert f"wrote {out}" in run(*asked, "--policy", "never", "--html", out).out
    page = out.read_text(encoding="utf-8")
    tags = Tags()
    tags.feed(page)
    assert tags.open == []
    assert {name for name, _ in tags.attributes}.isdisjoint({"src", "href", "onclick"})
    assert "http" not in page
    assert "<script" not in page
    assert "prefers-color-scheme:dark" in page
    for words in ("my flowers.csv", "How to read it", "Regret", "always", "oracle", "&quot;policy&quot;"):
        assert words in page
    figure = re.search(r"<svg.*?</svg>", page, re.DOTALL)
    assert figure is not None
    drawn = ElementTree.fromstring(figure[0])
    lines = [path for path in drawn.iter("path") if "line" in path.get("class", "").split()]
    assert len(lines) == page.count("<summary>")


def test_a_name_cannot_bring_markup_into_the_report(run: Run, file: Path, tmp_path: Path) -> None:
    odd = file.rename(tmp_path / "<b>&.csv")
    out = tmp_path / "report.html"
    run("what-if", odd, "--target", "kind", "--learner", "majority", "--html", out)
    page = out.read_text(encoding="utf-8")
    assert "<b>" not in page
    assert "&lt;b&gt;&amp;.csv" in page


@pytest.mark.slow
def test_a_picture(run: Run, asked: tuple[object, ...], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    out = tmp_path / "figure.svg"
    assert run(*asked, "--policy", "never", "--plot", out).code == 0
    assert out.read_text(encoding="utf-8").lstrip().startswith("<?xml")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--policy", "sometimes"), "policy"),
        (("--policy", "every:500"), "key=value"),
        (("--gate", "{"), "--gate"),
        (("--learner", "nosuch"), "nosuch"),
        (("--plot", "figure.gif"), ".svg"),
        (("--label-delay", "soon"), "label_delay"),
        (("--drop", "weather"), "weather"),
    ],
)
def test_a_bad_setting_is_named_in_one_line(
    run: Run, file: Path, arguments: tuple[str, ...], words: str
) -> None:
    ended = run("what-if", file, "--target", "kind", *arguments)
    assert ended.code == 1
    assert words in ended.err
    assert "Traceback" not in ended.err


def test_a_file_needs_its_target(run: Run, file: Path) -> None:
    assert "--target" in run("what-if", file).err
    assert "no file" in run("what-if", "nothing.csv", "--target", "kind").err


@pytest.mark.sqlite
def test_a_model_needs_its_installation(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # beside the sources there may be one: that of `make up`
    assert "no installation" in run("what-if", "toy").err


@pytest.fixture
def recorded(file: Path, tmp_path: Path) -> Path:
    """A data folder with the record of a model that answered by a rule until the world turned."""
    from everlearn.loop.defaults import with_defaults
    from everlearn.spec import parse_spec
    from everlearn.wiring import Installation

    spec = {
        "name": "toy",
        "target": "y",
        "features": {"a": "numeric"},
        "learner": "majority",
        "threshold": 0.7,
    }
    installation = Installation.load(data=tmp_path / "data")
    installation.prepare()
    installation.migrate()
    installation.models.create(with_defaults(parse_spec(spec)), 0.0)
    events = []
    for i in range(400):
        body = {"features": {"a": float(i)}, "value": "no", "probabilities": None, "version": 0}
        events.append(NewEvent(EventKind.PREDICTION, float(i), f"p{i}", body))
        if i >= 3:
            value = "no" if i < 203 else "yes"
            events.append(NewEvent(EventKind.LABEL, float(i), f"p{i - 3}", {"value": value}))
    installation.log.append("toy", events)
    installation.close()
    return tmp_path / "data"


def test_the_record_of_a_model_under_other_policies(run: Run, recorded: Path) -> None:
    call = (
        "what-if",
        "toy",
        "--policy",
        "never",
        "--policy",
        "every:every=100",
        "--data",
        recorded,
        "--json",
    )
    found = run(*call).json
    assert (found["rows"], found["labels"]) == (400, 397)
    lines = {line["role"]: line for line in found["settings"]}
    assert lines["recorded"]["accuracy"] == pytest.approx(200 / 397)
    assert lines["recorded"]["name"] == "as it was served"
    assert list((recorded / "cache" / "what-if").iterdir())
    assert [line["cached"] for line in run(*call).json["settings"] if line["role"] == "setting"] == [
        True,
        True,
    ]
    assert run("what-if", "nobody", "--data", recorded).code == 1
