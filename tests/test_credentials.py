"""Secrets are given or made once, stay private, and are refused when they are weak."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from everlearn.config import Settings
from everlearn.credentials import make_key, make_token_secrets, read_admin_password, read_key
from everlearn.errors import InvalidError


def test_the_key_is_made_once_with_mode_600(tmp_path: Path) -> None:
    settings = Settings.load(data=tmp_path / "d")
    assert read_key(settings) is None
    key, is_new = make_key(settings)
    assert is_new
    assert len(key) >= 43  # 256 bits in base64
    assert stat.S_IMODE(settings.key_path.stat().st_mode) == 0o600
    assert make_key(settings) == (key, False)
    assert [path.name for path in settings.data.iterdir()] == ["key"]


def test_many_at_once_agree_on_one_key(tmp_path: Path) -> None:
    settings = Settings.load(data=tmp_path)
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: make_key(settings), range(32)))
    assert len({key for key, _ in made}) == 1
    assert sum(is_new for _, is_new in made) == 1


def test_a_key_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("from-a-mounted-secret\n")
    assert read_key(Settings.load(api_key_file=path)) == "from-a-mounted-secret"
    assert make_key(Settings.load(api_key="from-the-environment")) == ("from-the-environment", False)


@pytest.mark.parametrize("bad", ["", "short", "has spaces in the middle", "schlüssel-mit-umlaut"])
def test_an_unusable_key_is_refused(tmp_path: Path, bad: str) -> None:
    path = tmp_path / "secret"
    path.write_text(bad)
    with pytest.raises(InvalidError, match="16 or more"):
        read_key(Settings.load(api_key_file=path))


def test_a_missing_key_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidError, match="EVERLEARN_API_KEY_FILE"):
        make_key(Settings.load(api_key_file=tmp_path / "absent"))


@pytest.mark.parametrize("weak", ["changeme-changeme", "aaaaaaaaaaaaaaaaaaaa", "everlearn-secret-1"])
def test_a_weak_key_is_refused_but_in_development(weak: str) -> None:
    with pytest.raises(InvalidError, match="EVERLEARN_API_KEY is too weak") as caught:
        read_key(Settings.load(api_key=weak))
    assert weak not in str(caught.value)
    assert read_key(Settings.load(api_key=weak, development=True)) == weak


def test_the_secret_of_logins_is_made_once_and_can_be_turned_over(tmp_path: Path) -> None:
    settings = Settings.load(data=tmp_path)
    made = make_token_secrets(settings)
    assert make_token_secrets(settings) == made
    assert stat.S_IMODE(settings.token_secret_path.stat().st_mode) == 0o600
    newer = "a-newer-one-of-32-characters-or-more"
    settings.token_secret_path.write_text(f"{newer}\n{made[0]}\n")
    assert make_token_secrets(settings) == [newer, *made]


@pytest.mark.parametrize("bad", ["too-short-to-sign", "a" * 40, "changeme" * 5, f"{'x1y2z3w4' * 5},short"])
def test_a_secret_that_cannot_sign_is_refused(bad: str) -> None:
    with pytest.raises(InvalidError, match="EVERLEARN_TOKEN_SECRET") as caught:
        make_token_secrets(Settings.load(token_secret=bad))
    assert bad not in str(caught.value)


def test_the_first_password_comes_from_a_variable_or_a_file(tmp_path: Path) -> None:
    assert read_admin_password(Settings.load()) is None
    path = tmp_path / "password"
    path.write_text("four random words here\n")
    assert read_admin_password(Settings.load(admin_password_file=path)) == "four random words here"
    with pytest.raises(InvalidError, match="EVERLEARN_ADMIN_PASSWORD is too weak"):
        read_admin_password(Settings.load(admin_password="short"))
    with pytest.raises(InvalidError, match="EVERLEARN_ADMIN_PASSWORD_FILE names"):
        read_admin_password(Settings.load(admin_password_file=tmp_path / "absent"))
