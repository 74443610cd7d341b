"""From the outbox to the receivers: each alert once, in order, and not more often than people can bear."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any
from urllib.parse import quote

from loguru import logger

from everlearn.adapters.alerts.notices import Notice
from everlearn.adapters.alerts.pictures import Illustrator
from everlearn.adapters.alerts.plan import Plan, Receiver
from everlearn.adapters.alerts.senders import send
from everlearn.adapters.outbox import Dispatcher
from everlearn.adapters.rules import ALERTS, alert_messages
from everlearn.adapters.tracing import Untraced
from everlearn.errors import NotFoundError
from everlearn.ports import Clock, Ledger, Outbox, Scores
from everlearn.types import Message

REMEMBERED = 500
"""Decisions of a model that are read back to know what was told before a restart."""


def place_of(receiver: str) -> str:
    """The destination in the outbox of a receiver's own messages."""
    return f"{ALERTS}:{receiver}"


class Quiet:
    """Says what is worth telling: not the same again within ``cooldown`` seconds, and an end only of what was
    told.

    >>> quiet = Quiet(600.0)
    >>> [quiet.tells("m", "drift", False, at) for at in (0.0, 60.0, 700.0)]
    [True, False, True]
    >>> [quiet.tells("m", "drift", True, at) for at in (710.0, 720.0)]
    [True, False]
    """

    def __init__(self, cooldown: float) -> None:
        self._cooldown = cooldown
        self._told: dict[tuple[str, str], float] = {}

    def tells(self, model: str, kind: str, recovered: bool, at: float) -> bool:
        """Whether this is told, having noted that it is."""
        last = self._told.get((model, kind))
        if recovered:
            return self._told.pop((model, kind), None) is not None
        if last is not None and at - last < self._cooldown:
            return False
        self._told[model, kind] = at
        return True


class Router(Dispatcher):
    """Hands each alert on to the receivers that want it, in one transaction."""

    def __init__(self, outbox: Outbox, ledger: Ledger, plan: Plan, clock: Clock, **options: Any) -> None:
        super().__init__(outbox, ALERTS, lambda _: None, clock, **options)
        self._ledger, self._plan = ledger, plan
        self._quiet = Quiet(plan.cooldown_seconds)
        self._known: set[str] = set()

    def _handle(self, message: Message) -> bool:
        body = message.body
        self._recall(message.model, body.get("decision"))
        told = self._quiet.tells(message.model, body["kind"], body["recovered"], body["at"])
        wanting = self._plan.wanting(message.model, body["severity"]) if told else []
        self._outbox.forward(message, [place_of(receiver.name) for receiver in wanting])
        return True

    def _recall(self, model: str, before: int | None) -> None:
        """What was told of a model by whoever ran before: the same rule over what its ledger holds."""
        if model in self._known:
            return
        self._known.add(model)
        try:
            cursor = None if before is None else str(before)
            past = self._ledger.decisions(model, cursor, REMEMBERED).items
        except NotFoundError:
            return
        for decision in reversed(past):
            for body in alert_messages(model, decision):
                self._quiet.tells(model, body["kind"], body["recovered"], body["at"])


class Alerting:
    """Routes and delivers, while ``may`` says that it is this process that does."""

    def __init__(
        self,
        outbox: Outbox,
        ledger: Ledger,
        plan: Plan,
        clock: Clock,
        *,
        may: Callable[[], bool] = lambda: True,
        poll: float = 0.5,
        deliver: Callable[[Notice, Receiver, Plan], None] = send,
        scores: Scores | None = None,
        tracer: Untraced | None = None,
    ) -> None:
        options: dict[str, Any] = {"poll": poll, "may": may, "tracer": tracer}
        self._dispatchers: list[Dispatcher] = [Router(outbox, ledger, plan, clock, **options)]
        for receiver in plan.receivers:
            adorn = None if scores is None else Illustrator(scores)
            to = partial(_tell, receiver, plan, deliver, adorn)
            self._dispatchers.append(Dispatcher(outbox, place_of(receiver.name), to, clock, **options))

    def start(self, stop: threading.Event) -> list[threading.Thread]:
        """Run until ``stop`` is set, a thread for the routing and one for each receiver."""
        threads = [
            threading.Thread(target=dispatcher.run, args=(stop,), name="alerts", daemon=True)
            for dispatcher in self._dispatchers
        ]
        for thread in threads:
            thread.start()
        return threads

    def run_once(self) -> int:
        """One round of all of them, in this thread; how many messages left the outbox."""
        return sum(dispatcher.run_once() for dispatcher in self._dispatchers)


def _tell(
    receiver: Receiver,
    plan: Plan,
    deliver: Callable[[Notice, Receiver, Plan], None],
    adorn: Illustrator | None,
    body: Mapping[str, Any],
) -> None:
    notice = notice_of(body, plan.link)
    if adorn is not None:
        notice = adorn(notice, receiver.kind == "discord")
    deliver(notice, receiver, plan)
    logger.debug("{} was told: {}", receiver.name, body["text"])


def notice_of(body: Mapping[str, Any], link: str | None) -> Notice:
    """The notice that a message of the outbox holds."""
    return Notice(
        id=body["id"],
        kind=body["kind"],
        model=body["model"],
        at=body["at"],
        text=body["text"],
        recovered=body["recovered"],
        decision=body.get("decision"),
        version=body.get("version"),
        facts=body.get("facts") or {},
        link=link and _place(link, body),
    )


def _place(link: str, body: Mapping[str, Any]) -> str:
    """A link with the model and the decision in the places that it has for them."""
    found = link.replace("{model}", quote(body["model"], safe=""))
    return found.replace("{decision}", str(body.get("decision") or ""))
