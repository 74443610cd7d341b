"""Users, keys, and who did what. For administrators alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, Final

import streamlit as st

from everlearn.dashboard.desk import Desk
from everlearn.dashboard.screen import confirm, cursor, first_page, flash, pager, say_trouble, telling
from everlearn.dashboard.views import parts
from everlearn.dashboard.views.trouble import Trouble
from everlearn.dashboard.words import cell, clock, plain

MOST = 500
ROLES: Final = ("viewer", "operator", "admin")
SCOPES: Final = ("predict", "label", "read", "operate", "admin")
ONCE = "shown-once"
Record = Mapping[str, Any]


def show(desk: Desk) -> None:
    """The page."""
    if not desk.me.may("admin"):
        say_trouble(Trouble("You may not see this", "Users, keys and the audit log are for administrators."))
        return
    flash()
    _once()
    part = st.segmented_control(
        "Part",
        list(_PARTS),
        default="Users",
        required=True,
        key="admin-part",
        label_visibility="collapsed",
        bind="query-params",
    )
    with telling():
        _PARTS[part](desk)


def _once() -> None:
    """A secret that is shown this once."""
    told = st.session_state.pop(ONCE, None)
    if told is not None:
        title, text, secret = told
        st.html(parts.notice(title, text, "good"))
        st.code(secret, language=None, wrap_lines=True)


# -- users -----------------------------------------------------------------------------------------------


def _users(desk: Desk) -> None:
    with st.skeleton(height=200):
        users = list(islice(desk.client.users(), MOST))
    with st.expander("Add a user", icon=":material/person_add:"), st.form("new-user"):
        name = st.text_input("Name", max_chars=100, key="new-user-name")
        role = st.selectbox("Role", ROLES, key="new-user-role")
        if st.form_submit_button("Add", type="primary"):
            with telling():
                _invited(desk.client.add_user(name.strip(), role=role))
    if not users:
        st.html(
            parts.empty(
                "No users yet",
                "API keys alone work as well. Add a user above: they choose a password by an invitation.",
            )
        )
        return
    for user in users:
        _user(desk, user)


def _invited(made: Record) -> None:
    name = made["user"]["name"]
    until = clock(made["invite_until"])
    text = f"{name} logs in here with it until {until} UTC, and chooses a password. It is shown this once."
    st.session_state[ONCE] = ("Invited.", text, made["invite"])
    st.rerun()


def _user(desk: Desk, user: Record) -> None:
    name = user["name"]
    with st.container(border=True, key=f"user-{name}"):
        st.html(user_html(user))
        with st.container(horizontal=True, vertical_alignment="bottom"):
            role = st.selectbox(
                f"Role of {plain(name)}",
                ("none", *ROLES),
                index=("none", *ROLES).index(user.get("role") or "none"),
                key=f"role-{name}",
                width=170,
            )
            if role != (user.get("role") or "none") and st.button(
                "Set role", key=f"set-{name}", type="primary"
            ):
                _change(desk, name, {"role": None if role == "none" else role}, f"{name} becomes {role}.")
            off = bool(user.get("disabled"))
            if st.button("Enable" if off else "Disable", key=f"off-{name}"):
                text = (
                    f"{name} may log in again."
                    if off
                    else f"{name} is logged out everywhere, and cannot log in."
                )
                _change(desk, name, {"disabled": not off}, text)
            if st.button("Invite again", key=f"invite-{name}"):
                _confirm_invite(desk, name)
            if st.button("Remove", key=f"remove-{name}"):
                _remove(desk, name)


def user_html(user: Record) -> str:
    """A user in a line: name, role, grants, state."""
    state = (
        parts.mark("disabled", "bad", "cross")
        if user.get("disabled")
        else parts.mark("active", "good", "check")
    )
    grants = ", ".join(f"{model}: {role}" for model, role in (user.get("grants") or {}).items())
    told = f" · {grants}" if grants else ""
    return (
        f'<div class="ev-marks">{state.text}<b>{parts.html(user["name"])}</b>'
        f'<span class="ev-soft">{parts.html(user.get("role") or "no role")}{parts.html(told)}</span></div>'
    )


def _change(desk: Desk, name: str, changes: dict[str, Any], text: str) -> None:
    def act(_: str | None) -> str:
        desk.client.update_user(name, changes)
        return text

    confirm("Change the user", text, act, ask_why=False)


def _confirm_invite(desk: Desk, name: str) -> None:
    def act(_: str | None) -> str:
        made = desk.client.invite_user(name)
        st.session_state[ONCE] = (
            "Invited.",
            f"{name} chooses a new password with this invitation. It is shown this once.",
            made["invite"],
        )
        return f"{name} has a new invitation."

    confirm(
        "Invite again",
        f"The password, sessions and older invitation of {name} end at once.",
        act,
        ask_why=False,
    )


def _remove(desk: Desk, name: str) -> None:
    def act(_: str | None) -> str:
        desk.client.delete_user(name)
        return f"{name} is removed."

    confirm(
        "Remove the user",
        f"{name} and their sessions are removed. What they did stays in the audit log.",
        act,
        ask_why=False,
    )


# -- keys ------------------------------------------------------------------------------------------------


def _keys(desk: Desk) -> None:
    with st.skeleton(height=200):
        keys = list(islice(desk.client.keys(), MOST))
        models = sorted(desk.tasks())
    with st.expander("Make a key", icon=":material/key:"), st.form("new-key"):
        name = st.text_input("What it is for", max_chars=100, key="new-key-name")
        scopes = st.multiselect("What it may do", SCOPES, default=["predict", "label"], key="new-key-scopes")
        chosen = st.multiselect("With which models (none named: all)", models, key="new-key-models")
        days = st.number_input(
            "Days until it expires (0: never)", min_value=0, max_value=3650, value=365, key="new-key-days"
        )
        if st.form_submit_button("Make the key", type="primary"):
            with telling():
                _make_key(desk, name.strip(), scopes, chosen, int(days))
    rows = [_key(key) for key in keys]
    if not rows:
        st.html(
            parts.empty("No keys yet", "Give each application a key of its own, with no more than it needs.")
        )
        return
    st.html(
        parts.table(
            ["For", "State", "May", "Models", "Made (UTC)", "By", "Expires", "Last used"], rows, label="Keys"
        )
    )
    active = {f"{k['name']} ({k['id']})": k for k in keys if k["state"] == "active"}
    if active:
        with st.container(horizontal=True, vertical_alignment="bottom"):
            chosen_key = st.selectbox("Key", list(active), key="revoke-key", width=340)
            if st.button("Revoke …", key="revoke-go"):
                _revoke(desk, active[chosen_key])


def _make_key(desk: Desk, name: str, scopes: list[str], models: list[str], days: int) -> None:
    until = (datetime.now(UTC) + timedelta(days=days)).isoformat() if days else None
    made = desk.client.create_key(name, scopes, models=models or None, expires_at=until)
    st.session_state[ONCE] = (
        "The key was made.",
        f"Copy it now: it is for “{made['name']}”, is shown this once, and is stored nowhere.",
        made["key"],
    )
    st.rerun()


def _key(key: Record) -> list[parts.Cell]:
    tones = {"active": ("good", "check"), "revoked": ("still", "square"), "expired": ("warn", "triangle")}
    tone, shape = tones.get(key["state"], ("calm", "ring"))
    models = "all" if key["models"] is None else cell(key["models"])
    return [
        key["name"],
        parts.mark(key["state"], tone, shape),
        cell(key["scopes"]),
        models,
        clock(key["created_at"]),
        key["created_by"],
        clock(key.get("expires_at")),
        clock(key.get("used_at")),
    ]


def _revoke(desk: Desk, key: Record) -> None:
    def act(_: str | None) -> str:
        desk.client.revoke_key(key["id"])
        return f"The key “{key['name']}” is revoked."

    confirm(
        "Revoke the key",
        f"Whoever uses “{key['name']}” is refused from now on. Its record stays.",
        act,
        ask_why=False,
    )


# -- audit -----------------------------------------------------------------------------------------------


def _audit(desk: Desk) -> None:
    _audit_list(desk)


@st.fragment
def _audit_list(desk: Desk) -> None:
    who = st.text_input("Only what this caller did", placeholder="user:ann", key="audit-who", max_chars=300)
    first_page("audit", who)
    with telling():
        with st.skeleton(height=300):
            page = desk.client.audit_page(who=who.strip() or None, cursor=cursor("audit"), limit=25)
        rows = [
            [clock(a["at"]), a["who"], a["action"], a["target"], _result(a["result"]), a["address"]]
            for a in page["items"]
        ]
        if not rows:
            st.html(parts.empty("Nothing here", "Nobody has done anything yet, or nobody of this name."))
            return
        st.html(parts.table(["Time (UTC)", "Who", "Did", "On", "Result", "From"], rows, label="Audit log"))
        pager("audit", page)


def _result(status: int) -> parts.Cell:
    return parts.mark(str(status), *(("good", "check") if status < 400 else ("bad", "cross")))


_PARTS: Final[dict[str, Callable[[Desk], None]]] = {"Users": _users, "Keys": _keys, "Audit": _audit}
