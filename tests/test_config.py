"""Settings come from the environment: one place, one table."""

from __future__ import annotations

from pathlib import Path

import pytest

from everlearn.config import Settings, describe, variable_of
from everlearn.credentials import read_key
from everlearn.errors import InvalidError


@pytest.mark.sqlite
def test_defaults_keep_everything_in_one_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = Settings.load()
    data = tmp_path / "everlearn-data"
    assert settings.database == f"sqlite:///{data / 'everlearn.db'}"
    assert settings.artifacts_folder == data / "artifacts"
    assert settings.mlflow_uri == f"sqlite:///{data / 'mlflow.db'}"
    assert settings.key_path.absolute() == data / "key"
    assert (settings.host, settings.port, settings.threshold) == ("127.0.0.1", 8000, 0.8)
    assert not data.exists()


def test_every_setting_is_read_from_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {
        "EVERLEARN_DATA": "/somewhere",
        "EVERLEARN_DATABASE_URL": "postgresql://db/x",
        "EVERLEARN_PORT": "9000",
        "EVERLEARN_LOG_LEVEL": "debug",
        "EVERLEARN_LOG_JSON": "1",
        "PERFORMANCE_THRESHOLD": "0.9",
        "MLFLOW_TRACKING_URI": "http://mlflow:5000",
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    settings = Settings.load()
    assert settings.data == Path("/somewhere")
    assert settings.database == "postgresql://db/x"
    assert (settings.port, settings.log_level, settings.log_json) == (9000, "DEBUG", True)
    assert (settings.threshold, settings.mlflow_uri) == (0.9, "http://mlflow:5000")


def test_arguments_override_the_environment_and_none_overrides_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("EVERLEARN_PORT", "9000")
    monkeypatch.setenv("PERFORMANCE_THRESHOLD", "0.9")
    assert Settings.load(port=9001, threshold=0.5).port == 9001
    assert Settings.load(port=9001, threshold=0.5).threshold == 0.5
    assert Settings.load(port=None, threshold=None).port == 9000


@pytest.mark.parametrize("word", ["off", "OFF", "none"])
def test_mlflow_can_be_turned_off(word: str) -> None:
    assert Settings.load(mlflow_tracking_uri=word).mlflow_uri is None


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERFORMANCE_THRESHOLD", "")
    assert Settings.load().threshold == 0.8


def test_every_wrong_setting_is_named_by_its_variable_but_its_value_is_not_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PERFORMANCE_THRESHOLD", "secret-looking")
    monkeypatch.setenv("EVERLEARN_PORT", "99999")
    with pytest.raises(InvalidError) as caught:
        Settings.load()
    assert {fault.field for fault in caught.value.faults} == {"PERFORMANCE_THRESHOLD", "EVERLEARN_PORT"}
    assert "secret-looking" not in str(caught.value)


def test_a_child_process_sees_the_same_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    key = "kept-by-the-child"
    parent = Settings.load(data=Path("d"), port=0, threshold=0.7, mlflow_tracking_uri="off", api_key=key)
    environment = parent.environment()
    assert environment["EVERLEARN_DATA"] == str(tmp_path / "d")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    child = Settings.load()
    assert (child.threshold, child.mlflow_uri, child.port) == (0.7, None, 0)
    assert read_key(child) == key


def test_the_table_describes_every_setting() -> None:
    table = {info.field: info for info in describe()}
    assert set(table) == set(Settings.model_fields)
    assert all(info.description.endswith(".") for info in table.values())
    assert table["threshold"].variable == "PERFORMANCE_THRESHOLD"
    assert variable_of("port") == "EVERLEARN_PORT"


def test_secrets_are_not_shown() -> None:
    settings = Settings.load(api_key="not-to-be-seen-anywhere")
    assert "not-to-be-seen" not in repr(settings) + str(settings)


def test_artifacts_are_a_folder_or_a_url(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for given in ("versions", tmp_path / "versions", f"file://{tmp_path}/versions"):
        settings = Settings.load(artifacts=given)
        assert (settings.artifacts_url, settings.artifacts_folder) == (None, tmp_path / "versions")
        assert settings.environment()["EVERLEARN_ARTIFACTS"] == str(tmp_path / "versions")
    settings = Settings.load(artifacts="s3://bucket/prefix", data=tmp_path)
    assert settings.artifacts_url == "s3://bucket/prefix"
    assert settings.artifacts_folder == tmp_path / "artifacts-cache"
    assert settings.environment()["EVERLEARN_ARTIFACTS"] == "s3://bucket/prefix"


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("s3://", "names no store: use s3://BUCKET/PREFIX"),
        ("://bucket", "names no store"),
        ("s3://AKIA:geheim@bucket/x", "leave it out; credentials come from the environment"),
        ("ftp://me:geheim@host/x", "holds a secret"),
    ],
)
def test_a_bad_url_of_artifacts_is_named_and_its_secret_is_not(url: str, says: str) -> None:
    with pytest.raises(InvalidError, match=says) as caught:
        Settings.load(artifacts=url)
    assert "EVERLEARN_ARTIFACTS" in str(caught.value)
    assert "geheim" not in str(caught.value)


def test_hosts_and_networks_of_images_are_lists() -> None:
    settings = Settings.load(
        image_hosts=" images.example.org, cam:8080,[::1]:80 ", image_networks="10.1.0.0/16"
    )
    assert settings.image_host_names == ["images.example.org", "cam:8080", "[::1]:80"]
    assert settings.image_network_names == ["10.1.0.0/16"]
    assert Settings.load().image_host_names == []


@pytest.mark.parametrize(
    "value", ["https://images.example.org", "images.example.org/a", "me@host", "*.example.org"]
)
def test_a_url_or_pattern_is_no_host(value: str) -> None:
    with pytest.raises(InvalidError, match="EVERLEARN_IMAGE_HOSTS"):
        Settings.load(image_hosts=value)


def test_what_is_no_network_is_refused() -> None:
    with pytest.raises(InvalidError, match="EVERLEARN_IMAGE_NETWORKS"):
        Settings.load(image_networks="10.1.0.0/33")
