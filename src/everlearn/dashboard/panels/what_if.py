"""What would it have cost? The recorded log played again under other settings, by the workers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from everlearn.dashboard.desk import Desk
from everlearn.dashboard.screen import draw, pick_model, telling, why_not
from everlearn.dashboard.views import charts, parts, whatif
from everlearn.dashboard.words import count, number

EVERY = "2s"


def show(desk: Desk) -> None:
    """The page."""
    with telling():
        model = pick_model(desk)
        if model is None:
            return
        st.html(
            parts.lead(
                "Choose policies, learners and gates: every combination plays what really happened again, "
                "beside what teams do without a loop."
            )
        )
        _ask(desk, model)
        run = st.query_params.get("run")
        if run:
            _follow(desk, model, run)


def _ask(desk: Desk, model: str) -> None:
    may = desk.me.may("operate", model)
    spec = desk.client.model(model)["spec"]
    with st.form("what-if"):
        policies = st.multiselect(
            "Policies",
            whatif.POLICIES,
            default=["threshold"],
            format_func=whatif.policy_title,
            key="policies",
        )
        learner = spec["learner"]["name"]
        known = list(dict.fromkeys([learner, *whatif.LEARNERS]))
        learners = st.multiselect(
            "Learners", known, default=[learner], accept_new_options=True, key=f"learners-{model}"
        )
        gates = st.multiselect(
            "Gates", whatif.GATES, default=["proof"], format_func=whatif.gate_title, key="gates"
        )
        price = st.number_input(
            "What a training costs, in rows answered wrongly",
            min_value=0.0,
            value=float(spec.get("policy", {}).get("price") or 25),
            key=f"price-{model}",
        )
        asked = st.form_submit_button(
            "Play it again", icon=":material/play_arrow:", type="primary", disabled=not may
        )
    if not may:
        st.caption(why_not(desk, "operate"))
    if asked:
        begun = desk.client.what_if(
            model, policies=policies, learners=_learners(spec, learners), gates=gates, price=price
        )
        st.query_params["run"] = begun["id"]
        st.rerun()


def _learners(spec: Mapping[str, Any], names: Sequence[str]) -> list[Any]:
    """The learners by name; the model's own with its parameters."""
    return [spec["learner"] if name == spec["learner"]["name"] else name for name in names]


@st.fragment(run_every=EVERY)
def _follow(desk: Desk, model: str, run: str) -> None:
    with telling():
        with st.skeleton(height=300):
            found = desk.client.what_if_report(model, run)
        if found["report"] is None:
            _progress(desk, model, run, found)
            return
        _report(found["report"])


def _progress(desk: Desk, model: str, run: str, found: Mapping[str, Any]) -> None:
    jobs = found["jobs"]
    done = sum(job["state"] == "done" for job in jobs)
    if found["state"] == "failed":
        errors = [
            f"{job['arguments']['name']}: {job['error'] or job['state']}"
            for job in jobs
            if job["state"] in ("failed", "dead", "cancelled")
        ]
        st.html(parts.notice("It was not played to its end:", "; ".join(errors[:3]), "bad", "alert"))
        return
    st.progress(float(found["progress"]), text=f"{done} of {count(len(jobs), 'line')} played")
    if st.button("Cancel", icon=":material/cancel:", key="cancel-what-if"):
        desk.client.cancel_what_if(model, run)
        st.rerun()
    st.html(
        parts.table(
            ["Line", "State", "Progress"],
            [[j["arguments"]["name"], j["state"], f"{j['progress']:.0%}"] for j in jobs],
            right=(2,),
            label="Lines",
        )
    )


def _report(report: Mapping[str, Any]) -> None:
    st.subheader("What it would have cost", anchor=False)
    st.html(parts.lead(whatif.headline(report)))
    draw(charts.courses(report), "No line has a score.")
    heads, rows = whatif.table(report)
    st.html(parts.table(heads, rows, right=range(1, len(heads)), label="What each line cost"))
    st.caption(
        f"{number(report['rows'])} rows, {number(report['labels'])} labels; a training costs "
        f"{number(report['price'], 1)} rows answered wrongly. Solid lines were asked for; dashed ones stand "
        "beside them. Regret is the cost beyond the oracle, which knew all labels."
    )
    for note in report.get("notes") or ():
        st.html(parts.notice("Note:", str(note), "calm"))
