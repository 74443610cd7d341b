"""The two clients: the verbs, and a way to send them."""

from __future__ import annotations

from everlearn.client.runners import AsyncRunner, SyncRunner
from everlearn.client.verbs import Verbs


class Client(Verbs, SyncRunner):
    """A client that waits for its answers.

    ``url`` and ``key`` come from ``EVERLEARN_URL`` and ``EVERLEARN_API_KEY`` when they are not
    given, and the address from ``http://127.0.0.1:8000`` when it is in neither. ``timeout`` is in
    seconds, for connecting and for each read. ``retries`` says how patiently to try again, and
    ``on_retry`` is told each time. ``transport`` is httpx's, such as ``httpx.MockTransport``.

    >>> import httpx
    >>> fake = httpx.MockTransport(lambda request: httpx.Response(200, json={"status": "ok"}))
    >>> with Client(transport=fake) as client:
    ...     client.health()
    {'status': 'ok'}
    """


class AsyncClient(Verbs, AsyncRunner):
    """A client to await: the same verbs and arguments as :class:`Client`.

    Lists are read with ``async for``. ``transport`` may be ``httpx.ASGITransport(app)``, which
    talks to an app in the same process.
    """
