"""A message with a picture, as Discord takes it (``multipart/form-data``, RFC 7578)."""

from __future__ import annotations

import secrets


def multipart(payload: bytes, name: str, picture: bytes) -> tuple[str, bytes]:
    """The content type and the body: the JSON of the message, then a PNG of that name."""
    boundary = f"everlearn-{secrets.token_hex(16)}"
    parts = (
        ('name="payload_json"', "application/json", payload),
        (f'name="files[0]"; filename="{name}"', "image/png", picture),
    )
    body = b"".join(
        f"--{boundary}\r\nContent-Disposition: form-data; {which}\r\nContent-Type: {kind}\r\n\r\n".encode()
        + content
        + b"\r\n"
        for which, kind, content in parts
    )
    return f"multipart/form-data; boundary={boundary}", body + f"--{boundary}--\r\n".encode()
