"""The dashboard of whoever keeps everlearn running: does it answer, record, learn and tell?"""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard as boards

from boards.parts import AMBER, BLUE, GREEN, RED, Look, Query, board, number, series

RATE = "$__rate_interval"
PREDICT = "/v1/models/{model}/predict"


def quantile(share: float, metric: str, by: str = "le", which: str = "") -> str:
    """A quantile of a histogram over all processes."""
    return f"histogram_quantile({share:g}, sum by ({by}) (rate({metric}_bucket{which}[{RATE}])))"


def quantiles(metric: str, which: str = "") -> tuple[Query, ...]:
    """The median, p95 and p99 of a histogram."""
    shares = ((0.5, "median"), (0.95, "p95"), (0.99, "p99"))
    return tuple(Query(quantile(share, metric, which=which), name) for share, name in shares)


def operations() -> boards.Dashboard:
    """All panels."""
    made = board("everlearn-operations", "everlearn: operations", "Does it answer, record, learn and tell?")
    for rows in (_well, _requests, _recording, _learning, _telling, _memory):
        made = rows(made)
    return made


def _well(made: boards.Dashboard) -> boards.Dashboard:
    made = made.with_row(boards.Row("Is all well?"))
    for title, words, expr, look in (
        (
            "Targets that answer",
            "API addresses that Prometheus can read. None: nothing is served.",
            'sum(up{job="everlearn"})',
            Look(steps=((1, GREEN),), base=RED),
        ),
        (
            "Requests that fail",
            "Share of requests answered with 5xx in the last five minutes. 1% rings EverlearnRequestsFail.",
            "everlearn:failed:ratio5m",
            Look("percentunit", ((0.001, AMBER), (0.01, RED)), decimals=2),
        ),
        (
            "p99 of predictions",
            "99% of predictions are answered within this. 250 ms ring EverlearnSlow.",
            "everlearn:predict_seconds:p99",
            Look("s", ((0.1, AMBER), (0.25, RED))),
        ),
        (
            "Events not learned yet",
            "How far the slowest loop is behind its log. It should come back to 0.",
            "max(everlearn_loop_lag_events)",
            Look("short", ((1000, AMBER), (20000, RED))),
        ),
        (
            "Jobs given up",
            "Jobs that went wrong five times: everlearn jobs list MODEL shows why.",
            'sum(everlearn_jobs{state="dead"})',
            Look("short", ((1, RED),)),
        ),
        (
            "Alerts that ring",
            "Rules of deploy/prometheus/rules.yml that fire now.",
            'count(ALERTS{alertname=~"Everlearn.*",alertstate="firing"}) or vector(0)',
            Look("short", ((1, RED),)),
        ),
    ):
        made = made.with_panel(number(title, words, Query(expr), look))
    return made


def _requests(made: boards.Dashboard) -> boards.Dashboard:
    made = made.with_row(boards.Row("Requests"))
    made = made.with_panel(
        series(
            "Requests by route",
            "Requests a second over all API processes.",
            Query(f"sum by (route) (rate(everlearn_requests_total[{RATE}]))", "{{route}}"),
            look=Look("reqps"),
        )
    )
    made = made.with_panel(
        series(
            "Requests by status",
            "Requests a second by HTTP status; 0 is a caller that was gone.",
            Query(f"sum by (status) (rate(everlearn_requests_total[{RATE}]))", "{{status}}"),
            look=Look("reqps", bars=True),
        )
    )
    made = made.with_panel(
        series(
            "Time to answer predictions",
            "From the request's last byte to the answer, the write to the log included.",
            *quantiles("everlearn_request_seconds", f'{{route="{PREDICT}"}}'),
            look=Look("s", ((0.25, RED),), line=True, low=0),
        )
    )
    return made.with_panel(
        series(
            "Time in the model alone",
            "What of it the model itself took.",
            *quantiles("everlearn_predict_seconds"),
            look=Look("s", low=0),
        )
    )


def _recording(made: boards.Dashboard) -> boards.Dashboard:
    made = made.with_row(boards.Row("Recording"))
    made = made.with_panel(
        series(
            "Predictions",
            "Rows answered a second, by which version answered.",
            Query(f"sum by (role) (rate(everlearn_predictions_total[{RATE}]))", "{{role}}"),
            look=Look("rowsps"),
            span=8,
        )
    )
    made = made.with_panel(
        series(
            "Labels and examples",
            "Labels a second by what became of them, and rows of history loaded.",
            Query(f"sum by (status) (rate(everlearn_labels_total[{RATE}]))", "{{status}}"),
            Query(f"sum(rate(everlearn_examples_total[{RATE}]))", "examples"),
            look=Look("rowsps"),
            span=8,
        )
    )
    made = made.with_panel(
        series(
            "Events stored by one commit",
            "Requests that come together are stored together: under load, commits grow instead of queues.",
            *quantiles("everlearn_commit_events"),
            look=Look("short", low=0),
            span=8,
        )
    )
    return made.with_panel(
        series(
            "Predictions that could not be stored",
            "Only of models with durability: async. Any rings EverlearnPredictionsNotStored.",
            Query("sum(increase(everlearn_unwritten_total[$__interval]))", "rows"),
            look=Look("short", ((1, RED),), bars=True, low=0),
        )
    ).with_panel(
        series(
            "Commits",
            "Transactions of the API processes a second.",
            Query(f"sum(rate(everlearn_commit_events_count[{RATE}]))", "commits"),
            Query(f"sum(rate(everlearn_commit_events_sum[{RATE}]))", "events"),
            look=Look("short", low=0),
        )
    )


def _learning(made: boards.Dashboard) -> boards.Dashboard:
    made = made.with_row(boards.Row("Learning"))
    made = made.with_panel(
        series(
            "Events not learned yet, by model",
            "The ten loops that are the furthest behind. A line that does not come down: no worker moves it.",
            Query("topk(10, everlearn_loop_lag_events)", "{{model}}"),
            look=Look("short", low=0),
        )
    )
    made = made.with_panel(
        series(
            "Time of a step",
            "Up to 1,000 events of one model, in one transaction.",
            *quantiles("everlearn_step_seconds"),
            look=Look("s", low=0),
        )
    )
    made = made.with_panel(
        series(
            "Jobs that wait or run",
            "By queue. Jobs that wait while none runs ring EverlearnJobsWait.",
            Query('everlearn_jobs{state=~"queued|running"}', "{{queue}}: {{state}}"),
            look=Look("short", bars=True, low=0),
            span=8,
        )
    )
    made = made.with_panel(
        series(
            "Time of jobs",
            "How long jobs took that ended in the last hour, on average.",
            Query(
                "rate(everlearn_job_seconds_sum[1h]) / (rate(everlearn_job_seconds_count[1h]) > 0)",
                "{{queue}}",
            ),
            look=Look("s", low=0),
            span=8,
        )
    )
    return made.with_panel(
        series(
            "Leases lost",
            "Jobs taken from a worker that died or stood still. Orphaned ones are adopted within seconds.",
            Query(
                "sum by (queue, how) (increase(everlearn_lease_losses_total[$__interval]))",
                "{{queue}}: {{how}}",
            ),
            look=Look("short", bars=True, low=0),
            span=8,
        )
    )


def _telling(made: boards.Dashboard) -> boards.Dashboard:
    made = made.with_row(boards.Row("Telling"))
    made = made.with_panel(
        series(
            "Messages that wait",
            "The outbox: for MLflow (registry), for the routing of alerts, and for each of their receivers.",
            Query("max by (destination) (everlearn_outbox_waiting)", "{{destination}}"),
            look=Look("short", ((100, RED),), line=True, low=0),
        )
    )
    return made.with_panel(
        series(
            "How long they wait",
            "The oldest message, as far as it was seen. A quarter of an hour rings EverlearnMessagesLate.",
            Query("max by (destination) (everlearn_outbox_lag_seconds)", "{{destination}}"),
            look=Look("s", ((900, RED),), line=True, low=0),
        )
    )


def _memory(made: boards.Dashboard) -> boards.Dashboard:
    made = made.with_row(boards.Row("Versions in memory"))
    made = made.with_panel(
        series(
            "Champions taken into service",
            "Swaps of all API processes, and models loaded that were not in memory.",
            Query("sum(increase(everlearn_swaps_total[$__interval]))", "swaps"),
            Query("sum(increase(everlearn_cold_loads_total[$__interval]))", "cold loads"),
            Query("sum(increase(everlearn_evictions_total[$__interval]))", "evictions"),
            look=Look("short", bars=True, low=0, base=BLUE),
        )
    )
    return made.with_panel(
        series(
            "Champions that do not load",
            "The version before goes on answering. Any rings EverlearnVersionDoesNotLoad.",
            Query("sum(increase(everlearn_failed_loads_total[$__interval]))", "failures"),
            look=Look("short", ((1, RED),), bars=True, low=0),
        )
    )
