"""What an operator may do with a model, each after a confirmation; the API has the last word on who may."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import streamlit as st

from everlearn.dashboard.desk import Desk
from everlearn.dashboard.screen import confirm, why_not

if TYPE_CHECKING:
    from everlearn.client import Client, CommandAnswer

WAIT = 20.0
"""Seconds to wait for the loop's decision."""


@dataclass(frozen=True, slots=True)
class Action:
    """Something to do with a model: its word, what it will mean, its icon, and how it is asked for."""

    title: str
    meaning: str
    icon: str
    ask: Callable[[Client, str, str | None], CommandAnswer]


RETRAIN = Action(
    "Retrain",
    "A new version of {model} is trained from the newest examples, even if the score is good. It answers "
    "only if it is proven better.",
    ":material/model_training:",
    lambda client, model, why: client.retrain(model, True, why, wait=WAIT),
)
ROLL_BACK = Action(
    "Roll back",
    "The champion before this one answers for {model} again, at once.",
    ":material/undo:",
    lambda client, model, why: client.rollback(model, why, wait=WAIT),
)
FREEZE = Action(
    "Freeze",
    "The champion of {model} stays, whatever happens, until someone unfreezes it. Serving and recording "
    "go on.",
    ":material/pause_circle:",
    lambda client, model, why: client.freeze(model, why, wait=WAIT),
)
UNFREEZE = Action(
    "Unfreeze",
    "{model} may be updated again.",
    ":material/play_circle:",
    lambda client, model, why: client.unfreeze(model, why, wait=WAIT),
)


def offered(state: str) -> list[Action]:
    """The actions that make sense in a state."""
    return [RETRAIN, ROLL_BACK, UNFREEZE if state == "frozen" else FREEZE]


def buttons(desk: Desk, model: str, state: str) -> None:
    """The actions as buttons; without the permission they are shown, but say why they cannot be used."""
    may = desk.me.may("operate", model)
    with st.container(horizontal=True, key="actions"):
        for action in offered(state):
            if st.button(
                action.title,
                icon=action.icon,
                disabled=not may,
                help=None if may else why_not(desk, "operate"),
                key=f"act-{action.title}",
            ):
                ask(desk, model, action)
    if not may:
        st.caption(why_not(desk, "operate"))


def ask(desk: Desk, model: str, action: Action) -> None:
    """Confirm, and do it."""

    def act(why: str | None) -> str:
        return outcome(action.ask(desk.client, model, why))

    confirm(action.title, action.meaning.format(model=model), act)


def promote(desk: Desk, model: str, version: int) -> None:
    """Confirm, and put a version in place by hand."""

    def act(why: str | None) -> str:
        return outcome(desk.client.promote(model, version, why, wait=WAIT))

    text = (
        f"Version {version} answers for {model} at once, without the gate's proof. The bake still watches it."
    )
    confirm(f"Promote version {version}", text, act)


def outcome(answer: CommandAnswer | Any) -> str:
    """What the loop made of a command, in a sentence."""
    if answer.decision is None:
        return f"The loop has not come to it yet; it stands at position {answer.seq} of the log."
    number, reason = answer.decision["number"], answer.decision["reason"]
    return f"Decision {number}: {'not needed: ' if answer.skipped else ''}{reason}"
