"""How it looks: one palette for light and dark, and the options that Streamlit takes.

Colours never say anything alone: each state also has a word and a shape. The colours of lines are
ColorBrewer's Dark2, which stay apart in the usual kinds of colour blindness and stand out on both grounds.
"""

from __future__ import annotations

from typing import Any, Final

SERVED: Final = "#1b9e77"
NEVER_UPDATED: Final = "#d95f02"
NO_CHANGE: Final = "#7570b3"
THRESHOLD: Final = "#8a8f98"
SERIES: Final = (SERVED, NEVER_UPDATED, NO_CHANGE, "#e7298a", "#5d9410", "#c98a00", "#a6761d", "#6f7782")
"""Lines of a chart, in order; the first three are always the served score and its two baselines."""

SEQUENTIAL: Final = ("#ecf6f2", "#b5dccd", "#6fbda0", "#2f9574", "#0f6a50", "#06402f")

LIGHT: Final[dict[str, Any]] = {
    "primaryColor": "#0b6b50",
    "backgroundColor": "#fbfbf9",
    "secondaryBackgroundColor": "#f1f2ee",
    "textColor": "#1b2320",
    "linkColor": "#0b6b50",
    "borderColor": "#dcdfd9",
    "codeBackgroundColor": "#f1f2ee",
    "codeTextColor": "#1b2320",
    "redTextColor": "#a4262c",
    "orangeTextColor": "#8f4a00",
    "greenTextColor": "#0b6b50",
    "blueTextColor": "#1f55a3",
    "grayTextColor": "#565f5a",
    "violetTextColor": "#5b4a9c",
}

DARK: Final[dict[str, Any]] = {
    "primaryColor": "#52c49c",
    "backgroundColor": "#121614",
    "secondaryBackgroundColor": "#1b211e",
    "textColor": "#e6ebe8",
    "linkColor": "#6fd3af",
    "borderColor": "#323a36",
    "codeBackgroundColor": "#1b211e",
    "codeTextColor": "#e6ebe8",
    "redTextColor": "#ff9c97",
    "orangeTextColor": "#ffb26b",
    "greenTextColor": "#6fd3af",
    "blueTextColor": "#8db8f5",
    "grayTextColor": "#a3ada8",
    "violetTextColor": "#bdb0f2",
}

SHARED: Final[dict[str, Any]] = {
    "font": "sans-serif",
    "baseFontSize": 15,
    "baseRadius": "8px",
    "buttonRadius": "8px",
    "headingFontWeights": [650, 600, 600, 600, 600, 600],
    "headingFontSizes": ["1.75rem", "1.25rem", "1.05rem", "1rem", "1rem", "1rem"],
    "showWidgetBorder": True,
    "chartCategoricalColors": list(SERIES),
}


def streamlit_options(port: int, host: str, upload_mb: int) -> dict[str, Any]:
    """What Streamlit is told: our theme, no telemetry, no developer's menu, nothing open to other sites."""
    options: dict[str, Any] = {
        "server.address": host,
        "server.port": port,
        "server.headless": True,
        "server.fileWatcherType": "none",
        "server.enableCORS": True,  # it means: other origins are refused
        "server.enableXsrfProtection": True,
        "server.maxUploadSize": upload_mb,
        "server.enableAgentApi": False,
        "browser.gatherUsageStats": False,
        "client.toolbarMode": "minimal",
        "client.showErrorDetails": "none",
        "client.showErrorLinks": False,
        "runner.magicEnabled": False,
        "theme.showSidebarBorder": True,
    }
    options |= {f"theme.{name}": value for name, value in SHARED.items()}
    options |= {f"theme.light.{name}": value for name, value in LIGHT.items()}
    options |= {f"theme.dark.{name}": value for name, value in DARK.items()}
    return options
