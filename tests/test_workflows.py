"""The workflows of CI: what can be known of them without running them, each check shown red by a mistake."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
GITHUB = ROOT / ".github"
FILES = sorted((GITHUB / "workflows").glob("*.yml"))
WRITES = {
    ("bench.yml", "comment"): {"pull-requests"},
    ("release.yml", "publish"): {"attestations", "id-token"},
    ("release.yml", "images"): {"attestations", "id-token", "packages"},
}
"""The jobs that may write, and what: all others read."""

LONGEST = 90
PINNED = re.compile(r"uses: [\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$")


def jobs(text: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = yaml.safe_load(text)["jobs"]
    return found


def steps(text: str) -> Iterator[Mapping[str, Any]]:
    for job in jobs(text).values():
        yield from job.get("steps", [])


# -- the checks: each gives what is wrong ----------------------------------------------------------------


def wrong_yaml(name: str, text: str) -> list[str]:
    """A file that is no mapping, has a key twice, or lacks what a workflow has."""
    try:
        parsed = yaml.load(text, Loader=Unique)
    except yaml.YAMLError as error:
        return [f"{name}: {error}"]
    missing = {"name", "on", "permissions", "jobs", "concurrency"} - {
        "on" if key is True else key for key in parsed
    }
    return [f"{name}: {key} is missing" for key in missing]


class Unique(yaml.SafeLoader):
    """Refuses a key that stands twice, of which YAML silently keeps the last."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=deep) for key, _ in node.value]
        if len(keys) != len(set(keys)):
            raise yaml.YAMLError(f"a key stands twice: {keys}")
        return super().construct_mapping(node, deep=deep)


def wrong_pins(name: str, text: str) -> list[str]:
    """An action that is not pinned by its commit, with its version beside it."""
    lines = [line.strip().removeprefix("- ") for line in text.splitlines()]
    return [f"{name}: {line}" for line in lines if line.startswith("uses:") and not PINNED.match(line)]


def wrong_times(name: str, text: str) -> list[str]:
    """A job without an end."""
    return [
        f"{name}: {job}"
        for job, given in jobs(text).items()
        if not isinstance(given.get("timeout-minutes"), int) or given["timeout-minutes"] > LONGEST
    ]


def wrong_permissions(name: str, text: str) -> list[str]:
    """A right that is not needed: none by default, each job's own stated, and only the known ones write."""
    wrong = [] if yaml.safe_load(text).get("permissions") == {} else [f"{name}: permissions are not empty"]
    for job, given in jobs(text).items():
        held = given.get("permissions")
        if not isinstance(held, dict):
            wrong.append(f"{name}: {job} states no permissions")
            continue
        writes = {what for what, right in held.items() if right == "write"}
        if writes != WRITES.get((name, job), set()):
            wrong.append(f"{name}: {job} may write {sorted(writes)}")
    return wrong


def wrong_checkouts(name: str, text: str) -> list[str]:
    """A checkout that leaves the token where later steps can read it."""
    return [
        f"{name}: {step}"
        for step in steps(text)
        if "actions/checkout@" in step.get("uses", "")
        and step.get("with", {}).get("persist-credentials") is not False
    ]


def wrong_events(name: str, text: str) -> list[str]:
    """An event that runs a stranger's code with rights."""
    events = yaml.safe_load(text).get(True) or {}
    return [f"{name}: {event}" for event in events if event in ("pull_request_target", "workflow_run")]


def wrong_scripts(name: str, text: str) -> list[str]:
    """What somebody else may have written, put into a shell's text."""
    return [
        f"{name}: {step['run']}"
        for step in steps(text)
        if re.search(r"\$\{\{", step.get("run", "")) is not None
    ]


CHECKS: dict[str, tuple[Callable[[str, str], list[str]], str, str, str]] = {
    "a key twice": (wrong_yaml, "ci.yml", "    timeout-minutes: 20\n", "    timeout-minutes: 20\n" * 2),
    "no concurrency": (wrong_yaml, "bench.yml", "concurrency:", "competition:"),
    "an action by its tag": (
        wrong_pins,
        "ci.yml",
        "@8e8c483db84b4bee98b60c0593521ed34d9990e8 # v6.0.1",
        "@v6",
    ),
    "a pin that names no version": (wrong_pins, "release.yml", " # v1.13.0", ""),
    "a short pin": (wrong_pins, "security.yml", "8e8c483db84b4bee98b60c0593521ed34d9990e8", "8e8c483"),
    "a job without an end": (wrong_times, "security.yml", "    timeout-minutes: 60\n", ""),
    "a job that may take for ever": (wrong_times, "ci.yml", "timeout-minutes: 90", "timeout-minutes: 900"),
    "rights for all jobs": (wrong_permissions, "ci.yml", "permissions: {}", "permissions: write-all"),
    "a right too many": (wrong_permissions, "ci.yml", "      contents: read", "      contents: write"),
    "a token that stays": (wrong_checkouts, "ci.yml", "persist-credentials: false", "fetch-depth: 1"),
    "strangers with rights": (wrong_events, "bench.yml", "pull_request:", "pull_request_target:"),
    "an injection": (wrong_scripts, "release.yml", '"$GITHUB_REF_NAME"', '"${{ github.ref_name }}"'),
}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
@pytest.mark.parametrize("check", sorted({check[0] for check in CHECKS.values()}, key=lambda f: f.__name__))
def test_workflows_are_right(path: Path, check: Callable[[str, str], list[str]]) -> None:
    assert check(path.name, path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("mistake", CHECKS)
def test_a_planted_mistake_is_found(mistake: str) -> None:
    check, name, right, wrong = CHECKS[mistake]
    text = (GITHUB / "workflows" / name).read_text(encoding="utf-8")
    assert right in text
    assert check(name, text.replace(right, wrong, 1))


# -- what is run -----------------------------------------------------------------------------------------


def test_every_python_both_databases_and_the_brokers() -> None:
    test = jobs((GITHUB / "workflows" / "ci.yml").read_text(encoding="utf-8"))["test"]
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    versions = [c.rpartition(" ")[2] for c in project["classifiers"] if ":: Python :: 3." in c]
    assert test["strategy"]["matrix"]["python"] == versions
    assert test["strategy"]["matrix"]["database"] == ["sqlite", "postgres"]
    assert (
        jobs((GITHUB / "workflows" / "ci.yml").read_text(encoding="utf-8"))["contained"]["services"]
        == test["services"]
    )
    ports = {port.partition(":")[2] for service in test["services"].values() for port in service["ports"]}
    assert ports == {"5432", "6379", "5672"}
    asked = next(step["run"] for step in test["steps"] if step.get("name") == "Services")
    assert all(port in asked for port in ports)


def test_what_make_is_asked_for_exists() -> None:
    targets = re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    for path in FILES:
        for step in steps(path.read_text(encoding="utf-8")):
            for named in re.findall(r"\bmake (?:--directory \S+ )?([a-z-]+)", step.get("run", "")):
                assert named in targets, f"{path.name}: make {named}"
    parts = jobs((GITHUB / "workflows" / "ci.yml").read_text(encoding="utf-8"))["test"]["strategy"]["matrix"]
    assert set(parts["part"]) <= set(targets)


def test_images_that_are_built_exist() -> None:
    stages = set(re.findall(r"^FROM \S+ AS (\S+)$", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.M))
    for name in ("security.yml", "release.yml"):
        text = (GITHUB / "workflows" / name).read_text(encoding="utf-8")
        assert set(jobs(text)["images"]["strategy"]["matrix"]["target"]) <= stages


def test_hooks_run_what_ci_runs() -> None:
    """The tools of `make lint` and their versions are the hooks' too."""
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"][0][
        "hooks"
    ]
    names = {hook["id"] for hook in hooks}
    lint = (ROOT / "Makefile").read_text(encoding="utf-8").partition("\nlint:")[2].partition("\n\n")[0]
    tools = {"ruff": "ruff-check", "mypy": "mypy", "lint-imports": "import-linter", "zizmor": "zizmor"}
    assert set(re.findall(r"\$\(BIN\)/([a-z-]+)", lint)) == set(tools)
    assert {*tools.values(), "actionlint", "gitleaks"} <= names
    built = {dependency for hook in hooks for dependency in hook.get("additional_dependencies", [])}
    run = "\n".join(path.read_text(encoding="utf-8") for path in FILES)
    assert built
    assert all(f"go run {dependency}" in run for dependency in built)


def test_what_gitleaks_does_not_look_at_is_there() -> None:
    import tomllib

    told = tomllib.loads((ROOT / ".gitleaks.toml").read_text(encoding="utf-8"))
    assert told["extend"] == {"useDefault": True}
    files = [str(path.relative_to(ROOT)) for path in (ROOT / "deploy").rglob("*")] + [
        "tests/test_workflows.py"
    ]
    for pattern in told["allowlists"][0]["paths"]:
        assert any(re.search(pattern, file) for file in files), pattern


# -- zizmor ----------------------------------------------------------------------------------------------


def zizmor(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).parent / "zizmor"), "--offline", "--no-progress", str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_zizmor_finds_nothing() -> None:
    done = zizmor(GITHUB)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("name", "right", "wrong", "says"),
    [
        ("release.yml", '"$GITHUB_REF_NAME"', '"${{ github.head_ref }}"', "template-injection"),
        ("ci.yml", "@8e8c483db84b4bee98b60c0593521ed34d9990e8 # v6.0.1", "@main", "unpinned-uses"),
        ("ci.yml", "permissions:\n      contents: read", "permissions: write-all", "excessive-permissions"),
        ("bench.yml", "pull_request:", "pull_request_target:", "dangerous-triggers"),
    ],
)
def test_zizmor_finds_a_planted_mistake(tmp_path: Path, name: str, right: str, wrong: str, says: str) -> None:
    shutil.copytree(GITHUB, tmp_path / ".github")
    path = tmp_path / ".github" / "workflows" / name
    text = path.read_text(encoding="utf-8")
    assert right in text
    path.write_text(text.replace(right, wrong, 1), encoding="utf-8")
    done = zizmor(tmp_path / ".github")
    assert done.returncode != 0
    assert says in done.stdout
