"""The background work of a model: how far it is, what went wrong, and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import streamlit as st

from everlearn.dashboard.desk import Desk
from everlearn.dashboard.screen import confirm, cursor, flash, pager, pick_model, telling, why_not
from everlearn.dashboard.views import parts
from everlearn.dashboard.words import JOB_TONES, ago, clock, moment, plain, span

PER_PAGE = 20
Record = Mapping[str, Any]
OPEN = ("queued", "running")
AGAIN = ("dead", "failed", "cancelled")
KINDS = {
    "train": "Train a version",
    "vision": "Train a detector",
    "shadow": "Score the candidate in shadow",
    "regime": "Try versions on a known regime",
    "verify": "Replay a decision",
    "what_if": "Play a what-if",
    "backfill": "Answer the log again",
    "hindsight": "Score the first version on what came since",
}


def show(desk: Desk) -> None:
    """The page."""
    with telling():
        model = pick_model(desk)
        if model is not None:
            flash()
            _list(desk, model)


@st.fragment(run_every="3s")
def _list(desk: Desk, model: str) -> None:
    key = f"jobs-{model}"
    with telling():
        with st.skeleton(height=400):
            page = desk.client.jobs_page(model, cursor=cursor(key), limit=PER_PAGE)
        if not page["items"]:
            st.html(
                parts.empty(
                    "No jobs yet", "When the loop asks for a training, it runs here. A what-if runs here too."
                )
            )
            return
        may = desk.me.may("operate", model)
        if not may:
            st.caption(why_not(desk, "operate"))
        for job in page["items"]:
            _row(desk, model, job, may)
        pager(key, page)


def _row(desk: Desk, model: str, job: Record, may: bool) -> None:
    with st.container(border=True, key=f"job-{job['id']}"):
        left, right = st.columns([4, 1], vertical_alignment="center")
        left.html(job_html(job, datetime.now(UTC)))
        if job["state"] == "running":
            left.progress(float(job["progress"]), text=f"{job['progress']:.0%}")
        if job["state"] in OPEN and right.button(
            "Cancel", key=f"cancel-{job['id']}", disabled=not may, width="stretch"
        ):
            _cancel(desk, model, job)
        if job["state"] in AGAIN and right.button(
            "Retry", key=f"again-{job['id']}", disabled=not may, width="stretch"
        ):
            _again(desk, model, job)
        if job["error"]:
            with st.expander("What went wrong"):
                st.text(job["error"])
                if st.toggle("Show the traceback", key=f"trace-{job['id']}"):
                    st.code(
                        desk.client.job(model, job["id"]).get("traceback") or "There is none.",
                        language="python",
                    )


def job_html(job: Record, now: datetime) -> str:
    """A job in two lines."""
    word, tone, shape = JOB_TONES.get(job["state"], (job["state"], "calm", "ring"))
    kind = str(KINDS.get(job["kind"], job["kind"]))
    number = job["version"]
    tries = f", attempt {job['attempts']}" if job["attempts"] > 1 else ""
    return (
        f'<div class="ev-card"><div class="ev-marks">{parts.mark(word, tone, shape).text}'
        f'<b>{parts.html(kind)}</b><span class="ev-soft ev-small">version {number}{tries}</span></div>'
        f'<span class="ev-soft ev-small">{parts.html(job["id"])} · queue {parts.html(job["queue"])} · '
        f"asked {ago(job['created_at'], now)} ({clock(job['created_at'])} UTC){_took(job)}</span></div>"
    )


def _took(job: Record) -> str:
    began, ended = moment(job.get("started_at")), moment(job.get("finished_at"))
    if began is None or ended is None:
        return ""
    seconds = (ended - began).total_seconds()
    return f" · took {seconds:.1f} s" if seconds < 60 else f" · took {span(seconds)}"


def _cancel(desk: Desk, model: str, job: Record) -> None:
    def act(why: str | None) -> str:
        return f"job {desk.client.cancel_job(model, job['id'], why)['id']} is cancelled."

    confirm("Cancel the job", f"{job['id']} ends, and what it has done so far is lost.", act)


def _again(desk: Desk, model: str, job: Record) -> None:
    def act(_: str | None) -> str:
        return f"job {plain(desk.client.retry_job(model, job['id'])['id'])} waits for a worker again."

    confirm("Retry the job", f"{job['id']} is queued again, with the same inputs.", act, ask_why=False)
