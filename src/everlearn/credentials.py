"""The secrets of an installation: given by a variable or a file, or made once when there are none.

Each is checked when it is read: a weak one is refused outside development.
"""

from __future__ import annotations

import os
import secrets
import tempfile
from pathlib import Path

from pydantic import SecretStr

from everlearn.access.secrets import MIN_PASSWORD, MIN_SIGNING, weakness
from everlearn.config import Settings, variable_of
from everlearn.errors import InvalidError

KEY_BYTES = 32
MIN_KEY = 16
BROKERS = ("redis", "rediss", "amqp", "amqps")


def read_key(settings: Settings) -> str | None:
    """The API key in force, or ``None`` if there is none yet. Raises InvalidError for an unusable one."""
    key, where = _given(settings, "api_key", settings.key_path)
    return None if key is None else _usable(key, where, settings)


def make_key(settings: Settings) -> tuple[str, bool]:
    """The API key, made from 256 random bits when there is none; and whether it was made now.

    Two processes that make one at once end with the same key.
    """
    known = read_key(settings)
    if known is not None:
        return known, False
    key = secrets.token_urlsafe(KEY_BYTES)
    if not _write_once(settings.key_path, key, settings.data):
        return str(read_key(settings)), False
    return key, True


def make_token_secrets(settings: Settings) -> list[str]:
    """The secrets that sign logins, the newest first; made from 256 random bits when there is none.

    Raises InvalidError for a weak one.
    """
    text, where = _given(settings, "token_secret", settings.token_secret_path)
    if text is None:
        _write_once(settings.token_secret_path, secrets.token_urlsafe(KEY_BYTES), settings.data)
        text = settings.token_secret_path.read_text(encoding="utf-8")
    found = text.replace(",", " ").split()
    if not found or any(len(secret) < MIN_SIGNING or not secret.isascii() for secret in found):
        raise InvalidError(
            f"A secret in {where} cannot sign logins: each needs {MIN_SIGNING} or more ASCII characters "
            "(for example from: openssl rand -base64 32)"
        )
    for secret in found:
        _refuse_weak(secret, MIN_SIGNING, where, settings)
    return found


def read_broker_url(settings: Settings) -> str | None:
    """The broker's URL, or ``None`` where there is none. Raises InvalidError for one that cannot be used."""
    if settings.broker_url is None and settings.broker_url_file is None:
        return None
    text, where = _given(settings, "broker_url", settings.broker_url_file or Path())
    url = (text or "").strip()
    if url.split("://")[0] not in BROKERS or "://" not in url:
        raise InvalidError(f"The broker in {where} must be one of {', '.join(f'{b}://…' for b in BROKERS)}")
    return url


def read_secret(settings: Settings, field: str) -> str | None:
    """A secret that is set outright or by a file; ``None`` where it is not. Raises InvalidError."""
    if getattr(settings, field) is None and getattr(settings, f"{field}_file") is None:
        return None
    text, where = _given(settings, field, getattr(settings, f"{field}_file") or Path())
    if not (text or "").strip():
        raise InvalidError(f"The secret in {where} is empty: write it there, or unset the variable")
    return (text or "").strip()


def read_admin_password(settings: Settings) -> str | None:
    """The password that the first user shall have, or ``None``. Raises InvalidError for a weak one."""
    if settings.admin_password is None and settings.admin_password_file is None:
        return None
    password, where = _given(settings, "admin_password", settings.admin_password_file or Path())
    password = (password or "").rstrip("\r\n")
    _refuse_weak(password, MIN_PASSWORD, where, settings)
    return password


def _given(settings: Settings, field: str, path: Path) -> tuple[str | None, str]:
    """A secret from its variable or its file, and where it stood. Raises InvalidError for a missing file."""
    value: SecretStr | None = getattr(settings, field)
    if value is not None:
        return value.get_secret_value(), variable_of(field)
    if not path.is_file():
        if getattr(settings, f"{field}_file") is not None:
            raise InvalidError(
                f"{variable_of(f'{field}_file')} names {path}, which is not there: "
                "write the secret into it, or unset the variable"
            )
        return None, variable_of(field)
    return path.read_text(encoding="utf-8"), str(path)


def _write_once(path: Path, secret: str, folder: Path) -> bool:
    """Write a secret for its owner alone, whole or not at all; ``False`` if another process was first."""
    folder.mkdir(parents=True, exist_ok=True)
    handle, draft = tempfile.mkstemp(dir=folder, prefix=".key-")  # mkstemp: mode 600 from birth
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(secret + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)  # whole or not at all, and never over another's
    except FileExistsError:
        return False
    finally:
        os.unlink(draft)
    return True


def _usable(key: str, where: str, settings: Settings) -> str:
    key = key.strip()
    if len(key) < MIN_KEY or not key.isascii() or any(c.isspace() for c in key):
        raise InvalidError(
            f"The API key in {where} is not usable: it needs {MIN_KEY} or more ASCII characters without "
            "spaces (for example from: openssl rand -base64 32)"
        )
    _refuse_weak(key, MIN_KEY, where, settings)
    return key


def _refuse_weak(secret: str, least: int, where: str, settings: Settings) -> None:
    why = None if settings.development else weakness(secret, least)
    if why is not None:
        raise InvalidError(
            f"The secret in {where} is too weak: {why}. Make one with: openssl rand -base64 32 "
            f"({variable_of('development')}=1 lets it pass on a developer's own machine)"
        )
