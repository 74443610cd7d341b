"""Small pictures as SVG inside data URLs: the shapes of states, the line of a score, the logo.

What Streamlit shows as HTML may hold no SVG of its own, so shapes are masks of the style sheet, and lines
are images.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from typing import Final

from everlearn.dashboard.theme import DARK, LIGHT, SERVED

_SHAPES: Final = {
    "check": ('<circle cx="8" cy="8" r="7.4"/>', '<path d="M4.5 8.3l2.5 2.5 4.5-5.2"/>'),
    "triangle": ('<path d="M8 .8 15.8 14.8H.2Z"/>', '<path d="M8 6v3.8M8 12.2v.2"/>'),
    "cross": (
        '<path d="M5 .4h6L15.6 5v6L11 15.6H5L.4 11V5Z"/>',
        '<path d="M5.3 5.3l5.4 5.4M10.7 5.3l-5.4 5.4"/>',
    ),
    "arrows": (
        '<path d="M14.8 1.6v5.2H9.6zM1.2 14.4V9.2h5.2z"/><path fill="none" stroke="#fff" stroke-width="2.2" '
        'd="M13.3 6A6 6 0 0 0 2.8 5.4M2.7 10a6 6 0 0 0 10.5.6"/>',
        "",
    ),
    "ring": (
        '<circle cx="8" cy="8" r="6" fill="none" stroke="#fff" stroke-width="2.4" stroke-dasharray="3 1.7"/>',
        "",
    ),
    "square": ('<rect x="1" y="1" width="14" height="14" rx="3"/>', '<path d="M6 5v6M10 5v6"/>'),
    "half": (
        '<circle cx="8" cy="8" r="6.4" fill="none" stroke="#fff" stroke-width="2"/>'
        '<path d="M8 1.6a6.4 6.4 0 0 1 0 12.8z"/>',
        "",
    ),
    "back": (
        '<circle cx="8" cy="8" r="7.4"/>',
        '<path d="M6.8 4.4 4 7.2l2.8 2.8M4.4 7.2h5.2a2.3 2.3 0 0 1 0 4.6H7.6"/>',
    ),
}
"""Of each shape: what is filled, and what is cut out of it."""


def data_url(svg: str) -> str:
    """An SVG as the address of an image."""
    return f"data:image/svg+xml;base64,{b64encode(svg.encode()).decode()}"


def shape(name: str) -> str:
    """The shape of a state; it says nothing to a screen reader, the word beside it does."""
    return f'<i class="ev-shape ev-is-{name if name in _SHAPES else "ring"}" aria-hidden="true"></i>'


def shape_rules() -> str:
    """The style rules that draw the shapes, in the colour of what is around them."""
    return "".join(
        f'.ev-is-{name}{{--shape:url("{data_url(_masked(*each))}")}}' for name, each in _SHAPES.items()
    )


def _masked(filled: str, cut: str) -> str:
    strokes = f'<g fill="none" stroke="#000" stroke-width="2" stroke-linecap="round">{cut}</g>' if cut else ""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><mask id="m">'
        f'<g fill="#fff">{filled}</g>{strokes}</mask>'
        '<rect width="16" height="16" mask="url(#m)"/></svg>'
    )


MARK: Final = (
    '<rect width="32" height="32" rx="8" fill="#0b6b50"/><path d="M6.5 20.5c3.2 0 3.6-9 7-9s3.2 9 6.4 9'
    'c2.4 0 3-4.5 5.6-8.5" fill="none" stroke="#fff" stroke-width="2.6" stroke-linecap="round"/>'
    '<circle cx="25.3" cy="11.5" r="2.7" fill="#8fe3c4"/>'
)
"""The logo, in a square of 32."""

ICON: Final = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">{MARK}</svg>'

WORDMARK: Final = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="160" height="32" viewBox="0 0 160 32"><style>'
    "text{font:650 20px 'Source Sans','Source Sans 3',system-ui,sans-serif;letter-spacing:-.3px;"
    f"fill:{LIGHT['textColor']}}}"
    f"@media(prefers-color-scheme:dark){{text{{fill:{DARK['textColor']}}}}}</style>{MARK}"
    '<text x="42" y="22.5">everlearn</text></svg>'
)
"""The logo with the name beside it."""


def sparkline(
    values: Sequence[float | None], threshold: float | None, width: int = 260, height: int = 48
) -> str:
    """The line of a score with its threshold dashed, as SVG; gaps where nothing was known, empty for nothing.

    >>> sparkline([None], 0.5)
    ''
    """
    known = [value for value in values if value is not None]
    if not known:
        return ""
    low, high = _range([*known, *([] if threshold is None else [threshold])])

    def y(value: float) -> float:
        return round(4 + (height - 8) * (high - value) / (high - low), 1)

    step = (width - 8) / max(1, len(values) - 1)
    runs: list[list[str]] = [[]]
    for place, value in enumerate(values):
        if value is None:
            runs.append([])
        else:
            runs[-1].append(f"{3 + place * step:.1f},{y(value)}")
    lines = "".join(f'<polyline points="{" ".join(run)}"/>' for run in runs if len(run) > 1)
    x, _, end = next(run[-1] for run in reversed(runs) if run).partition(",")
    limit = "" if threshold is None else f'<path d="M0 {y(threshold)}H{width}"/>'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"><style>'
        f"polyline{{fill:none;stroke:{SERVED};stroke-width:1.8;stroke-linejoin:round}}circle{{fill:{SERVED}}}"
        "path{fill:none;stroke:#80868f;stroke-dasharray:4 3}</style>"
        f'{limit}{lines}<circle cx="{x}" cy="{end}" r="2.8"/></svg>'
    )


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    room = (high - low) * 0.08 or 0.05
    return low - room, high + room
