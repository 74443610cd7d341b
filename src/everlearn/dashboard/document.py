"""The HTML that starts Streamlit in the browser: its own, with our name, our style and a first paint."""

from __future__ import annotations

import re
from pathlib import Path

from everlearn.dashboard.style import page_style

_HERE = (
    "<script>window.__streamlit={BACKEND_BASE_URL:location.origin+'/',"
    "MAIN_PAGE_BASE_URL:location.origin+'/'}</script>"
)
"""Where Streamlit answers, so that its scripts need not guess from the page's address."""

ROOM = "<!-- first paint -->"
"""Where what is shown first goes."""


def document() -> str:
    """Streamlit's page made ours: room for a first paint, our style, no pointers to what is shut."""
    import streamlit

    page = (Path(streamlit.__file__).parent / "static" / "index.html").read_text(encoding="utf-8")
    page = re.sub(r"<!--.*?-->", "", page, flags=re.DOTALL)
    page = re.sub(r"<title>.*?</title>", "<title>everlearn</title>", page, flags=re.DOTALL)
    page = re.sub(r'<link rel="service-desc"[^>]*>', "", page)
    page = re.sub(r'<link rel="shortcut icon"[^>]*>', '<link rel="icon" href="/icon.svg">', page)
    page = re.sub(
        r"<noscript>.*?</noscript>",
        "<noscript><p>The dashboard needs JavaScript. The command line shows the same: "
        "<code>everlearn status</code>, <code>everlearn decisions MODEL</code>.</p></noscript>",
        page,
        flags=re.DOTALL,
    )
    style = f"<style>{page_style()}</style>"
    page = page.replace('"./', '"/').replace("<head>", f"<head>{_HERE}").replace("</head>", f"{style}</head>")
    return page.replace('<div id="root"></div>', f'<div id="root">{ROOM}</div>')
