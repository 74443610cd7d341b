"""The dashboard of all models: which are in trouble, and what was done about them?"""

from __future__ import annotations

from typing import Any

from grafana_foundation_sdk.builders import common as builders
from grafana_foundation_sdk.builders import dashboard as boards
from grafana_foundation_sdk.builders import table
from grafana_foundation_sdk.models import dashboard

from boards.parts import AMBER, GREEN, GREY, RED, SOURCE, Look, Query, board, number, series, target

STATES = (
    ("degraded", RED),
    ("rolled back", RED),
    ("warning", AMBER),
    ("frozen", AMBER),
    ("updating", "blue"),
    ("in bake", "blue"),
    ("insufficient labels", GREY),
    ("healthy", GREEN),
)
"""The states of a model, worst first, and their colours."""

COLUMNS = (
    ("Margin", "everlearn_margin", {"unit": "percentunit", "decimals": 1}),
    ("Score", "everlearn_score", {"unit": "short", "decimals": 3}),
    ("Threshold", "everlearn_threshold", {"unit": "short", "decimals": 3}),
    ("Champion", "everlearn_champion_version", {"decimals": 0}),
    ("Age", "everlearn_champion_age_seconds", {"unit": "s", "decimals": 0}),
    ("Labels that wait", "everlearn_waiting_labels", {"decimals": 0}),
    ("Behind", "everlearn_loop_lag_events", {"decimals": 0}),
)
"""Columns of the table: title, expression, how its cells look."""

LINK = "/d/everlearn-model?var-model=${__data.fields.model}&${datasource:queryparam}"


def fleet() -> boards.Dashboard:
    """All panels."""
    made = board("everlearn-fleet", "everlearn: all models", "Which models are in trouble, worst first.")
    made = made.with_row(boards.Row("States"))
    for state, colour in STATES:
        words = f"Models of which the loop says: {state}."
        query = Query(f'sum(everlearn_state{{state="{state}"}})', instant=True)
        look = Look(steps=((1, colour),), base=GREY, decimals=0)
        made = made.with_panel(number(state.capitalize(), words, query, look, span=3))
    made = made.with_row(boards.Row("Models")).with_panel(_models())
    made = made.with_row(boards.Row("What was done"))
    made = made.with_panel(
        series(
            "Models by state",
            "How many are in which state; the first 200 by name have gauges.",
            Query("sum by (state) (everlearn_state)", "{{state}}"),
            Query("max(everlearn_models)", "all"),
            look=Look("short", low=0),
            span=24,
        )
    )
    made = made.with_panel(
        series(
            "The ten that keep their threshold the least",
            "Margins: below 0 the threshold is not kept.",
            Query("bottomk(10, everlearn_margin)", "{{model}}"),
            look=Look("percentunit", ((0, GREEN),), base=RED, line=True),
        )
    )
    made = made.with_panel(
        series(
            "Decisions of all models",
            "By kind.",
            Query("sum by (kind) (increase(everlearn_decisions_total[$__interval]))", "{{kind}}"),
            look=Look("short", bars=True, low=0),
        )
    )
    made = made.with_panel(
        series(
            "Promotions and rollbacks",
            "Of all models.",
            Query("sum(increase(everlearn_promotions_total[$__interval]))", "promotions"),
            Query("sum(increase(everlearn_rollbacks_total[$__interval]))", "rollbacks"),
            look=Look("short", bars=True, low=0),
        )
    )
    return made.with_panel(
        series(
            "Alerts of the loop",
            "Rollbacks, freezes, abstention, drift and strange feedback, by kind.",
            Query("sum by (kind) (everlearn_alerts_total)", "{{kind}}"),
            look=Look("short", low=0),
        )
    )


def _models() -> Any:
    """One line a model, the worst first; its name leads to its dashboard."""
    panel = table.Panel().title("Models, worst first").datasource(SOURCE).span(24).height(10)
    panel = panel.description("Each line leads to the model's own dashboard.")
    panel = panel.sort_by([builders.TableSortByFieldState().display_name("Margin").desc(False)])
    for place, (_, expr, _style) in enumerate(COLUMNS):
        panel = panel.with_target(target(Query(expr, instant=True, table=True), chr(ord("A") + place)))
    hidden = ("Time", "job", "instance", "__name__")
    names = {f"Value #{chr(ord('A') + place)}": title for place, (title, *_) in enumerate(COLUMNS)}
    spread = [f"{name} {place}" for name in hidden for place in range(1, len(COLUMNS) + 1)]
    panel = panel.with_transformation(
        dashboard.DataTransformerConfig("joinByField", options={"byField": "model", "mode": "outer"})
    ).with_transformation(
        dashboard.DataTransformerConfig(
            "organize",
            options={
                "excludeByName": dict.fromkeys([*hidden, *spread], True),
                "renameByName": {"model": "Model", **names},
            },
        )
    )
    for title, _, style in COLUMNS:
        shown = [dashboard.DynamicConfigValue(id_val, value) for id_val, value in style.items()]
        panel = panel.override_by_name(title, shown)
    coloured = {
        "thresholds": {
            "mode": "absolute",
            "steps": [{"value": None, "color": RED}, {"value": 0, "color": GREEN}],
        },
        "custom.cellOptions": {"type": "color-text"},
    }
    values = [dashboard.DynamicConfigValue(id_val, value) for id_val, value in coloured.items()]
    panel = panel.override_by_name("Margin", values)
    link = [{"title": "Look at ${__value.text}", "url": LINK.replace("fields.model", "fields.Model")}]
    return panel.override_by_name("Model", [dashboard.DynamicConfigValue("links", link)])
