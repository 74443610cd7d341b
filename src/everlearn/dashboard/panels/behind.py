"""What stands behind a model: its versions, the candidate, who gives the labels, the spec."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from everlearn.dashboard import actions
from everlearn.dashboard.desk import Desk
from everlearn.dashboard.screen import cursor, draw, pager
from everlearn.dashboard.views import charts, parts
from everlearn.dashboard.words import DASH, clock, count, number, plain, power, share

Record = Mapping[str, Any]
SOURCE_STATES = {
    "quarantined": parts.mark("put aside", "bad", "cross"),
    "warned": parts.mark("warned of", "warn", "triangle"),
}
VERSION_TONES = {
    "champion": ("good", "check"),
    "candidate": ("busy", "half"),
    "retired": ("calm", "ring"),
    "refused": ("still", "square"),
    "withdrawn": ("bad", "back"),
}


def versions(desk: Desk, model: str) -> None:
    """The versions, newest first, and the way to put one in place by hand."""
    key = f"versions-{model}"
    page = desk.client.versions_page(model, cursor=cursor(key), limit=15)
    if not page["items"]:
        st.caption("Only version 0 is there so far: the most frequent answer, or the mean.")
        return
    rows = [_version(version) for version in page["items"]]
    heads = ["Version", "State", "Made (UTC)", "From", "Learner", "Examples", "Held-out metrics"]
    st.html(parts.table(heads, rows, right=(5,), label="Versions"))
    if desk.me.may("operate", model):
        numbers = [v["number"] for v in page["items"] if v["state"] != "champion"]
        _by_hand(desk, model, numbers)
    if page.get("next") or cursor(key) is not None:
        pager(key, page)


def _version(version: Record) -> list[parts.Cell]:
    tone, shape = VERSION_TONES.get(version["state"], ("calm", "ring"))
    metrics = version.get("metrics") or {}
    own = metrics.get("candidate") or {}
    told = ", ".join(f"{name} {number(value)}" for name, value in list(own.items())[:3]) or DASH
    return [
        f"{version['number']}",
        parts.mark(version["state"], tone, shape),
        clock(version["created_at"]),
        DASH if version.get("parent") is None else f"version {version['parent']}",
        str(version["learner"]),
        number(version.get("rows")),
        told,
    ]


def _by_hand(desk: Desk, model: str, numbers: Sequence[int]) -> None:
    if not numbers:
        return
    with st.container(horizontal=True, vertical_alignment="bottom", key="by-hand"):
        chosen = st.selectbox("Version to promote by hand", numbers, width=240, key="by-hand-version")
        if st.button("Promote …", icon=":material/arrow_upward:", key="by-hand-go"):
            actions.promote(desk, model, int(chosen))


def trial(desk: Desk, model: str) -> None:
    """The candidate's running evidence, and the bake's."""
    found = desk.client.trial(model)
    candidate, bake = found.get("candidate"), found.get("bake")
    if candidate is None and bake is None:
        st.html(
            parts.empty(
                "No candidate on trial",
                "And no promotion is being watched. When the loop trains a version, its evidence runs here.",
            )
        )
        return
    if candidate is not None:
        st.subheader(f"Version {candidate['version']} on trial", anchor=False)
        st.html(parts.lead(_trial_words(candidate)))
        draw(charts.running_e(_with_now(candidate), candidate["needed"]), "No rows have been compared yet.")
        groups = candidate.get("groups") or ()
        if groups:
            rows = [
                [
                    g["name"],
                    number(g["rows"]),
                    number(g.get("champion_loss")),
                    number(g.get("candidate_loss")),
                    power(g.get("log_e")),
                ]
                for g in groups
            ]
            heads = [
                "Regime or segment",
                "Rows",
                "Champion's loss",
                "Candidate's loss",
                "E-value that it is worse",
            ]
            st.html(parts.table(heads, rows, right=(1, 2, 3, 4), label="Groups"))
    if bake is not None:
        st.subheader(f"Version {bake['new']} in bake", anchor=False)
        text = (
            f"{number(bake['rows'])} of {number(bake['of'])} rows watched. Version {bake['old']} comes back "
            f"if its e-value reaches {power(bake.get('needed'))}; it is {power(bake.get('log_e'))} now."
        )
        st.html(parts.lead(text))
        draw(charts.running_e(_with_now(bake), bake["needed"]), "No rows have been compared yet.")


def _with_now(trial: Record) -> list[Record]:
    history = list(trial.get("history") or ())
    now = {"rows": trial.get("rows"), "log_e": trial.get("log_e")}
    return history if history and history[-1]["rows"] == now["rows"] else [*history, now]


def _trial_words(candidate: Record) -> str:
    old, new = candidate.get("champion_loss"), candidate.get("candidate_loss")
    losses = (
        "" if old is None or new is None else f" It loses {number(new)} a row, the champion {number(old)}."
    )
    return (
        f"Compared on {count(candidate['rows'], 'row')} that neither has learned from: e-value "
        f"{power(candidate['log_e'])}, promoted at {power(candidate['needed'])} (attempt "
        f"{candidate.get('attempt')}).{losses}"
    )


def sources(desk: Desk, model: str) -> None:
    """Who gives the labels, and what speaks against them."""
    found = desk.client.sources(model)
    if not found["items"]:
        st.caption("Nobody has given a label yet.")
        return
    rows: list[list[parts.Cell]] = []
    for source in found["items"]:
        state = SOURCE_STATES.get(source["state"]) or parts.mark("let in", "good", "check")
        rows.append(
            [
                source["source"],
                state,
                number(source["labels"]),
                number(source["examples"]),
                share(source.get("share")),
                number(source.get("disagreement")),
                number(source.get("others")),
            ]
        )
    heads = ["Source", "State", "Labels", "Examples", "Share", "Contradicts", "Others do"]
    st.html(parts.table(heads, rows, right=(2, 3, 4, 5, 6), label="Sources of labels"))
    st.caption(
        f"The guard is set to {plain(found['guard'])}. `everlearn sources` puts one aside, lets it in "
        "again, or unlearns it."
    )


def spec(desk: Desk, model: str) -> None:
    """What the model should be."""
    found = desk.client.model(model)
    st.json(found["spec"], expanded=1)
