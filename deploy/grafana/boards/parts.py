"""What the dashboards are made of: panels, variables, links, and marks on the time axis."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from grafana_foundation_sdk.builders import common as builders
from grafana_foundation_sdk.builders import dashboard as boards
from grafana_foundation_sdk.builders import prometheus, stat, timeseries
from grafana_foundation_sdk.models import common, dashboard

SOURCE = dashboard.DataSourceRef(type_val="prometheus", uid="${datasource}")
DASHBOARD, API = "http://127.0.0.1:8501", "http://127.0.0.1:8000"
"""Where everlearn's own dashboard and its API are, unless somebody types another address."""

GREEN, AMBER, RED, BLUE, GREY = "green", "orange", "red", "blue", "text"
WIDTH = 24


@dataclass(frozen=True)
class Query:
    """An expression, and what its series are called. ``instant``: its newest value alone."""

    expr: str
    legend: str = ""
    instant: bool = False
    table: bool = False


@dataclass(frozen=True)
class Look:
    """How a panel looks. ``steps`` are pairs of a value and the colour from there on, below all of them
    ``base``; ``line``: draw them. ``styles`` are overrides by the name of a series."""

    unit: str = "short"
    steps: tuple[tuple[float, str], ...] = ()
    base: str = GREEN
    line: bool = False
    bars: bool = False
    low: float | None = None
    high: float | None = None
    decimals: int | None = None
    names: bool = False
    styles: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    none: str = "none"


def series(title: str, words: str, *queries: Query, look: Look = Look(), span: int = 12) -> Any:
    """Lines (or stacked bars) over time."""
    panel = timeseries.Panel().tooltip(builders.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI))
    panel = _dressed(panel, title, words, queries, look).span(span).height(8)
    panel = panel.fill_opacity(60 if look.bars else 8).line_width(1 if look.bars else 2)
    panel = panel.show_points(common.VisibilityMode.NEVER).legend(
        builders.VizLegendOptions()
        .display_mode(common.LegendDisplayMode.LIST)
        .placement(common.LegendPlacement.BOTTOM)
        .show_legend(True)
    )
    if look.bars:
        stacked = builders.StackingConfig().mode(common.StackingMode.NORMAL).group("A")
        panel = panel.draw_style(common.GraphDrawStyle.BARS).stacking(stacked)
    if look.line:
        drawn = builders.GraphThresholdsStyleConfig().mode(common.GraphThresholdsStyleMode.DASHED)
        panel = panel.thresholds_style(drawn)
    for name, style in look.styles.items():
        values = [dashboard.DynamicConfigValue(id_val, value) for id_val, value in style.items()]
        panel = panel.override_by_name(name, values)
    return panel


def number(title: str, words: str, query: Query, look: Look = Look(), span: int = 4) -> Any:
    """One number (or one word: the name of the series), coloured by its thresholds."""
    panel = _dressed(stat.Panel(), title, words, (query,), look).span(span).height(4)
    panel = panel.color_mode(common.BigValueColorMode.VALUE if look.steps else common.BigValueColorMode.NONE)
    mode = common.BigValueTextMode.NAME if look.names else common.BigValueTextMode.VALUE
    graph = common.BigValueGraphMode.NONE if query.instant else common.BigValueGraphMode.AREA
    last = builders.ReduceDataOptions().calcs(["lastNotNull"]).values(False)
    return panel.text_mode(mode).graph_mode(graph).reduce_options(last)


def _dressed(panel: Any, title: str, words: str, queries: tuple[Query, ...], look: Look) -> Any:
    panel = panel.title(title).description(words).datasource(SOURCE).unit(look.unit).no_value(look.none)
    for place, query in enumerate(queries):
        panel = panel.with_target(target(query, chr(ord("A") + place)))
    steps = [dashboard.Threshold(None, look.base)]
    steps += [dashboard.Threshold(value, colour) for value, colour in look.steps]
    panel = panel.thresholds(boards.ThresholdsConfig().mode(dashboard.ThresholdsMode.ABSOLUTE).steps(steps))
    for value, put in ((look.low, panel.min), (look.high, panel.max), (look.decimals, panel.decimals)):
        if value is not None:
            panel = put(value)
    return panel


def target(query: Query, ref: str) -> Any:
    """A query of Prometheus."""
    from grafana_foundation_sdk.models.prometheus import PromQueryFormat

    made = prometheus.Dataquery().expr(query.expr).ref_id(ref).datasource(SOURCE)
    made = made.instant() if query.instant else made.range()
    if query.table:
        made = made.format(PromQueryFormat.TABLE)
    return made.legend_format(query.legend) if query.legend else made


def board(uid: str, title: str, words: str) -> boards.Dashboard:
    """An empty dashboard, with its way to the others and to everlearn itself."""
    source = boards.DatasourceVariable("datasource").label("Prometheus").type("prometheus")
    siblings = (
        boards.DashboardLink("everlearn")
        .type(dashboard.DashboardLinkType.DASHBOARDS)
        .tags(["everlearn"])
        .as_dropdown(False)
        .keep_time(True)
        .include_vars(False)
    )
    made = boards.Dashboard(title).uid(uid).description(words).tags(["everlearn"]).editable()
    made = made.time("now-6h", "now").refresh("30s").timezone("browser")
    made = made.tooltip(dashboard.DashboardCursorSync.CROSSHAIR)
    for variable in (source, _address("everlearn", DASHBOARD), _address("api", API)):
        made = made.with_variable(variable)
    made = made.link(siblings)
    made = made.link(_way("Dashboard of everlearn", "${everlearn}", "Explains each decision"))
    return made.link(_way("API of everlearn", "${api}/docs", "Every route, to try"))


def _address(name: str, usual: str) -> Any:
    made = boards.TextBoxVariable(name).label(f"Address of {name}").default_value(usual)
    return made.current(dashboard.VariableOption(text=usual, value=usual))


def _way(title: str, url: str, tooltip: str) -> Any:
    made = boards.DashboardLink(title).type(dashboard.DashboardLinkType.LINK).url(url).tooltip(tooltip)
    return made.icon("external link").target_blank(True)


def one_model() -> Any:
    """The variable ``model``: one of those there are."""
    query = {"query": "label_values(everlearn_champion_version, model)", "refId": "models"}
    made = boards.QueryVariable("model").label("Model").datasource(SOURCE).query(query)
    made = made.refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED)
    return made.sort(dashboard.VariableSort.ALPHABETICAL_ASC).multi(False).include_all(False)


@dataclass(frozen=True)
class Mark:
    """A mark on the time axis of every panel, wherever an expression has a value."""

    name: str
    colour: str
    expr: str
    title: str


def marks(*wanted: Mark) -> list[Any]:
    """They, as annotations; :func:`told` adds what Prometheus' plugin reads of them."""
    return [
        boards.AnnotationQuery()
        .name(mark.name)
        .datasource(SOURCE)
        .enable(True)
        .icon_color(mark.colour)
        .expr(mark.expr)
        for mark in wanted
    ]


PROMOTIONS = "everlearn_promotions_total"
EVENTS = (
    Mark(
        "Promotions",
        "blue",
        f'changes({PROMOTIONS}{{model=~"$model"}}[$__interval]) > 0',
        "{{model}}: a new champion",
    ),
    Mark(
        "Rollbacks",
        "red",
        'changes(everlearn_rollbacks_total{model=~"$model"}[$__interval]) > 0',
        "{{model}}: rolled back",
    ),
)
"""What the loop did to a model, in every panel of its dashboard."""


def told(made: dict[str, Any], events: tuple[Mark, ...] = EVENTS) -> dict[str, Any]:
    """A dashboard's JSON in which each annotation has its title and step, which the SDK knows nothing of."""
    titles = {mark.name: mark.title for mark in events}
    for annotation in made.get("annotations", {}).get("list", []):
        if annotation["name"] in titles:
            annotation |= {"titleFormat": titles[annotation["name"]], "step": "30s", "tagKeys": "model"}
    return made
