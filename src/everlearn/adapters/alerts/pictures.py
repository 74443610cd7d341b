"""How the score has gone until an alert: its newest value, the threshold, and a small chart of both.

The chart is drawn where matplotlib is installed (the extra ``plot``). Whatever goes wrong here, the alert is
told without it.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib.util import find_spec

from loguru import logger

from everlearn.adapters.alerts.notices import Notice
from everlearn.ports import Scores
from everlearn.types import ScorePoint

MOST_POINTS = 60
"""Windows of rows that a chart shows."""

INCHES, DPI = (4.8, 2.0), 100
_GREY, _BLUE, _RED, _MARK = "#6b7280", "#1f6feb", "#c0392b", {"recovered": "#2e7d32"}


class Illustrator:
    """Adds to a notice what the scores of its model say. ``draws``: a chart too, for those who can see it."""

    def __init__(self, scores: Scores) -> None:
        self._scores = scores
        self._can_draw = find_spec("matplotlib") is not None
        self._last: Notice | None = None

    def __call__(self, notice: Notice, draws: bool) -> Notice:
        """The notice with its score, its threshold and (``draws``) a chart, as far as there are any."""
        if self._last is not None and self._last.id == notice.id:  # it is tried again
            return self._last
        try:
            told = self._told(notice, draws)
        except Exception as error:
            logger.warning("an alert is told without its chart: {}: {}", type(error).__name__, error)
            return notice
        self._last = told
        return told

    def _told(self, notice: Notice, draws: bool) -> Notice:
        if notice.kind == "test":
            return notice
        first, last = self._scores.span(notice.model, until=notice.at)
        points = self._scores.points(notice.model, 0, max(first, last - MOST_POINTS + 1), last)
        known = [point for point in points if point.score is not None]
        if not known:
            return notice
        newest = known[-1]
        facts = {"score": newest.score, "threshold": newest.threshold, **notice.facts}
        picture = draw(known, notice) if draws and self._can_draw and len(known) > 1 else None
        return replace(notice, facts=facts, picture=picture)


def draw(points: Sequence[ScorePoint], notice: Notice) -> bytes:
    """A PNG of 480 by 200 pixels: the score with its bounds, the threshold, and when it was told.

    Needs matplotlib; uses no display and no state of its module ``pyplot``.
    """
    from matplotlib import dates
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    times = dates.date2num([datetime.fromtimestamp(point.at, UTC) for point in points])
    figure = Figure(figsize=INCHES, dpi=DPI, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.xaxis_date()
    known = [(point.score or 0.0, point.lower, point.upper) for point in points]
    scores = [score for score, _, _ in known]
    lower = [score if low is None else low for score, low, _ in known]
    upper = [score if high is None else high for score, _, high in known]
    axes.fill_between(times, lower, upper, color=_BLUE, alpha=0.15, linewidth=0)
    axes.plot(times, scores, color=_BLUE, linewidth=1.6, label="score")
    axes.plot(
        times,
        [point.threshold for point in points],
        color=_GREY,
        linewidth=1.2,
        linestyle="--",
        label="threshold",
    )
    mark = _MARK.get(notice.look, _RED)
    axes.axvline(dates.date2num(datetime.fromtimestamp(notice.at, UTC)), color=mark, linewidth=1.2)
    axes.set_title(f"{notice.model}: score and threshold"[:60], fontsize=9, color="#111827", loc="left")
    axes.tick_params(labelsize=7, colors=_GREY)
    axes.xaxis.set_major_locator(dates.AutoDateLocator(minticks=3, maxticks=7))
    axes.xaxis.set_major_formatter(dates.ConciseDateFormatter(axes.xaxis.get_major_locator()))
    axes.xaxis.get_offset_text().set(size=7, color=_GREY)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.legend(fontsize=7, frameon=False, loc="best")
    file = io.BytesIO()
    figure.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()
