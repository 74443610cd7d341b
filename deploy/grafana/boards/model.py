"""The dashboard of one model: how good is it, what does it wait for, what did the loop do about it?"""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard as boards

from boards.parts import AMBER, EVENTS, GREEN, RED, Look, Query, board, marks, number, one_model, series

ONE = '{model="$model"}'
DASHED = {"custom.lineStyle": {"fill": "dash", "dash": [8, 6]}, "custom.fillOpacity": 0}
BAND = {"custom.lineWidth": 0, "custom.fillBelowTo": "lower", "custom.fillOpacity": 15}


def of(metric: str, legend: str = "", instant: bool = False) -> Query:
    """A gauge of the model."""
    return Query(f"everlearn_{metric}{ONE}", legend, instant)


def model() -> boards.Dashboard:
    """All panels."""
    made = board("everlearn-model", "everlearn: one model", "How good it is, and what was done about it.")
    made = made.with_variable(one_model()).annotations(marks(*EVENTS))
    for rows in (_now, _score, _labels, _evidence, _decisions):
        made = rows(made)
    return made


def _now(made: boards.Dashboard) -> boards.Dashboard:
    made = made.with_row(boards.Row("Now"))
    state = Query(f"everlearn_state{ONE} == 1", "{{state}}", instant=True)
    made = made.with_panel(
        number("State", "What the loop says of the model.", state, Look(names=True, steps=((0, GREEN),)))
    )
    for title, words, query, look in (
        (
            "Margin",
            "By which share of the threshold the score keeps it; below 0 it does not.",
            of("margin"),
            Look("percentunit", ((0, GREEN),), base=RED, decimals=1),
        ),
        ("Champion", "The version that answers.", of("champion_version"), Look(decimals=0)),
        (
            "Age of the champion",
            "Since when it answers.",
            of("champion_age_seconds", instant=True),
            Look("s", decimals=0),
        ),
        (
            "Labels that wait",
            "Labels of which the cohort has not matured: they do not count yet.",
            of("waiting_labels"),
            Look(decimals=0),
        ),
        (
            "Candidate's evidence",
            "From 1 on the version on trial is proven better, and promoted. None: there is none.",
            of("candidate_evidence_ratio"),
            Look("short", ((0.5, AMBER), (1, GREEN)), base="text", decimals=2, none="none on trial"),
        ),
    ):
        made = made.with_panel(number(title, words, query, look))
    return made


def _score(made: boards.Dashboard) -> boards.Dashboard:
    made = made.with_row(boards.Row("Score"))
    return made.with_panel(
        series(
            "Score against its threshold",
            "The metric on the newest matured rows that the champion answered, with its confidence band.",
            of("score", "score"),
            of("score_upper", "upper"),
            of("score_lower", "lower"),
            of("threshold", "threshold"),
            look=Look("short", styles={"threshold": DASHED, "upper": BAND, "lower": {"custom.lineWidth": 0}}),
            span=24,
        )
    )


def _labels(made: boards.Dashboard) -> boards.Dashboard:
    made = made.with_row(boards.Row("Predictions and labels"))
    made = made.with_panel(
        series(
            "Rows",
            "Predictions, labels, and rows whose labels have matured, a second.",
            Query(f"rate(everlearn_log_predictions_total{ONE}[$__rate_interval])", "predictions"),
            Query(f"rate(everlearn_log_labels_total{ONE}[$__rate_interval])", "labels"),
            Query(f"rate(everlearn_matured_rows_total{ONE}[$__rate_interval])", "matured"),
            look=Look("rowsps", low=0),
            span=8,
        )
    )
    made = made.with_panel(
        series(
            "How late labels come",
            "By when so many of the labels that ever come have come, as the loop has learned it.",
            Query(f"everlearn_label_lag_seconds{ONE}", "{{quantile}}"),
            look=Look("s", low=0),
            span=8,
        )
    )
    return made.with_panel(
        series(
            "What waits",
            "Labels not matured, labels whose prediction is unknown, and events not learned yet.",
            of("waiting_labels", "not matured"),
            of("parked_labels", "parked"),
            of("loop_lag_events", "not learned"),
            look=Look("short", low=0),
            span=8,
        )
    )


def _evidence(made: boards.Dashboard) -> boards.Dashboard:
    made = made.with_row(boards.Row("Evidence"))
    made = made.with_panel(
        series(
            "Evidence for the candidate, and for the version before",
            "Logarithms of e-values over those that decide: at 1 it is promoted, or comes back.",
            of("candidate_evidence_ratio", "candidate"),
            of("rollback_evidence_ratio", "the version before"),
            look=Look("short", ((1, RED),), line=True),
        )
    )
    return made.with_panel(
        series(
            "Drift",
            "Warnings that the loss has risen, and columns that have moved.",
            Query(f"increase(everlearn_drift_warnings_total{ONE}[$__interval])", "warnings"),
            of("drifting_columns", "columns that moved"),
            look=Look("short", low=0),
        )
    )


def _decisions(made: boards.Dashboard) -> boards.Dashboard:
    made = made.with_row(boards.Row("Decisions"))
    made = made.with_panel(
        series(
            "What was decided",
            "Decisions by kind; everlearn why MODEL NUMBER explains each.",
            Query(f"increase(everlearn_decisions_total{ONE}[$__interval])", "{{kind}}"),
            look=Look("short", bars=True, low=0),
            span=8,
        )
    )
    made = made.with_panel(
        series(
            "Updates, promotions, rollbacks",
            "How many there have been.",
            of("updates_total", "updates"),
            of("promotions_total", "promotions"),
            of("rollbacks_total", "rollbacks"),
            look=Look("short", low=0),
            span=8,
        )
    )
    return made.with_panel(
        series(
            "The version that answers",
            "By its number; a candidate beside it while one is on trial.",
            of("champion_version", "champion"),
            of("candidate_version", "candidate"),
            look=Look("short", low=0, decimals=0),
            span=8,
        )
    )
