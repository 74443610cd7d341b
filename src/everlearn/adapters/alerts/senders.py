"""Sending one notice to one receiver; whoever calls tries again, later."""

from __future__ import annotations

import time
from dataclasses import replace
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import SplitResult

from everlearn.adapters.alerts.multipart import multipart
from everlearn.adapters.alerts.notices import PICTURE, Notice, body_of, email, signature
from everlearn.adapters.alerts.plan import Mail, Plan, Receiver, mail_password
from everlearn.adapters.guard import Guard, pinned
from everlearn.adapters.outbox import LaterError
from everlearn.errors import InvalidError, UnavailableError

TIMEOUT = 10.0
"""Seconds for connecting, and for each read and write."""

MOST = 64 * 1024
"""Bytes of an answer that are read."""

LONGEST = 3600.0
"""The longest that a receiver may have us wait, in seconds."""


def send(notice: Notice, receiver: Receiver, plan: Plan) -> None:
    """Tell a receiver.

    Raises LaterError where it says when to come again, UnavailableError where it does not answer or fails,
    and InvalidError where it will never take it.
    """
    if receiver.kind == "email":
        assert receiver.mail is not None
        _mail(notice, receiver.mail)
        return
    body = body_of(receiver.kind, notice)
    headers = {"content-type": "application/json", "user-agent": "everlearn"}
    if receiver.kind == "webhook":
        headers["content-type"] = "application/cloudevents+json"
        headers |= signature(receiver.signing, notice.id, int(time.time()), body)
    parts = plan.guard.check(receiver.target, f"receivers.{receiver.name}.url")
    if receiver.kind == "discord" and notice.picture:
        kind, whole = multipart(body, PICTURE, notice.picture)
        status, answered = _post(parts, plan.guard, {**headers, "content-type": kind}, whole)
        if not _is_final_refusal(status):
            _judge(receiver.name, status, answered)
            return
        body = body_of(receiver.kind, replace(notice, picture=None))  # perhaps it takes it without the chart
    _judge(receiver.name, *_post(parts, plan.guard, headers, body))


def _post(parts: SplitResult, guard: Guard, headers: dict[str, str], body: bytes) -> tuple[int, Any]:
    """Post to the address that was looked at; the status and the headers of the answer."""
    import httpx

    host = parts.hostname or ""
    url, named = pinned(parts, guard.address(parts))
    headers = {**headers, "host": named}
    try:
        with (
            httpx.Client(timeout=TIMEOUT, follow_redirects=False, trust_env=False) as client,
            client.stream(
                "POST", url, content=body, headers=headers, extensions={"sni_hostname": host}
            ) as answer,
        ):
            read = 0
            for piece in answer.iter_raw():
                read += len(piece)
                if read > MOST:
                    break
            return answer.status_code, answer.headers
    except httpx.HTTPError as error:
        raise UnavailableError(f"{host} does not answer: {type(error).__name__}") from error


def _is_final_refusal(status: int) -> bool:
    """Whether it makes no sense to send the same again."""
    return 400 <= status < 500 and status not in (408, 425, 429)


def _judge(name: str, status: int, headers: Any) -> None:
    if 200 <= status < 300:
        return
    if status == 429 or (status == 503 and "retry-after" in headers):
        raise LaterError(f"{name} takes no more for now ({status})", _wait(headers.get("retry-after", "")))
    if status in (408, 425) or status >= 500:
        raise UnavailableError(f"{name} answered {status}")
    if 300 <= status < 400:
        raise InvalidError(f"{name} answered {status}, and redirects are not followed: give its last URL")
    raise InvalidError(f"{name} answered {status}: see whether its URL is still good")


def _wait(text: str) -> float:
    """The seconds of a ``Retry-After`` (RFC 9110, 10.2.3); a minute where it cannot be read."""
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(text).timestamp() - time.time()
        except ValueError:
            seconds = 60.0
    return min(max(seconds, 0.0), LONGEST) if seconds == seconds else 60.0


def _mail(notice: Notice, mail: Mail) -> None:
    import smtplib
    import ssl

    message = email(notice, mail.sender, mail.to)
    context = ssl.create_default_context()
    try:
        server: smtplib.SMTP
        if mail.tls == "tls":
            server = smtplib.SMTP_SSL(mail.host, mail.port, timeout=TIMEOUT, context=context)
        else:
            server = smtplib.SMTP(mail.host, mail.port, timeout=TIMEOUT)
        with server:
            if mail.tls == "starttls":
                server.starttls(context=context)
            if mail.user:
                server.login(mail.user, mail_password(mail))
            server.send_message(message)
    except smtplib.SMTPResponseException as error:
        if error.smtp_code >= 500:
            raise InvalidError(f"{mail.host} refused the e-mail ({error.smtp_code})") from error
        raise UnavailableError(f"{mail.host} does not take the e-mail now ({error.smtp_code})") from error
    except smtplib.SMTPRecipientsRefused as error:
        raise InvalidError(f"{mail.host} refused every address it was to go to") from error
    except (OSError, smtplib.SMTPException) as error:
        raise UnavailableError(f"{mail.host} does not answer: {type(error).__name__}") from error
