"""How a store at a URL is opened through fsspec, and what its errors mean."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from everlearn.errors import Fault, InvalidError, MissingExtraError

VARIABLE = "EVERLEARN_ARTIFACTS"
CONNECT_SECONDS = 5
READ_SECONDS = 20
_S3 = ("s3", "s3a")


def open_store(url: str) -> tuple[Any, str]:
    """The file system of a URL and the path in it. Connects to nothing yet, and reads no credentials from
    the URL: those come from where each store's own tools look (for S3 the standard AWS chain).

    Raises InvalidError for a URL of an unknown kind, MissingExtraError where its library is not installed.
    """
    scheme = urlsplit(url).scheme
    try:
        import fsspec
    except ImportError:
        raise MissingExtraError(f"{VARIABLE}={scheme}://…", "s3") from None
    try:
        files, root = fsspec.core.url_to_fs(
            url, skip_instance_cache=True, use_listings_cache=False, **_options(scheme)
        )
    except ImportError as error:
        if scheme in _S3:
            raise MissingExtraError(f"{VARIABLE}={scheme}://…", "s3") from None
        raise _invalid(f"needs another library: {error}") from None
    except ValueError as error:
        raise _invalid(
            f"is of no kind that fsspec knows ({error}): use s3://BUCKET/PREFIX, or a folder"
        ) from None
    if scheme in _S3:
        files.retries = 1  # asked again by us, with an end to it
    return files, str(root).rstrip("/")


def refused(error: Exception) -> bool:
    """Whether to ask again is of no use: no credentials, or wrong ones, or there is no such bucket."""
    words = f"{type(error).__name__} {error}"
    if isinstance(error, FileNotFoundError):
        return "NoSuchBucket" in words or "bucket does not exist" in words
    return isinstance(error, PermissionError) or any(
        word in words
        for word in (
            "NoCredentials",
            "PartialCredentials",
            "InvalidAccessKeyId",
            "SignatureDoesNotMatch",
            "NoSuchBucket",
        )
    )


def words_of(error: Exception) -> str:
    """An error in a line, with what helps."""
    text = " ".join(str(error).split())[:300] or type(error).__name__
    if "Credentials" in f"{type(error).__name__} {text}":
        return f"{text}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or give it a role"
    if isinstance(error, PermissionError):
        return f"{text}: let its user list, get, put and delete objects under the prefix"
    if refused(error):
        return f"{text}: make the bucket, or mend {VARIABLE}"
    return text


def _options(scheme: str) -> dict[str, Any]:
    if scheme not in _S3:
        return {}
    return {
        "config_kwargs": {
            "connect_timeout": CONNECT_SECONDS,
            "read_timeout": READ_SECONDS,
            "retries": {"total_max_attempts": 1},
        }
    }


def _invalid(message: str) -> InvalidError:
    return InvalidError(f"{VARIABLE}: {message}", [Fault(VARIABLE, message)])
