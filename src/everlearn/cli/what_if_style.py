"""The style of the HTML report of a what-if: one column, readable in dark and light, on paper too."""

from __future__ import annotations

# Ten colours that stay apart in most kinds of colour blindness (after Okabe & Ito 2008), for each ground.
_LIGHT = (
    "#0072b2",
    "#d55e00",
    "#008060",
    "#b8559b",
    "#a07800",
    "#3a9ad9",
    "#6b4fbb",
    "#8c2d04",
    "#4d4d4d",
    "#5a8f00",
)
_DARK = (
    "#56b4e9",
    "#ff9d5c",
    "#2fc79a",
    "#e08cc4",
    "#f0c93d",
    "#9bd1f5",
    "#b39dff",
    "#e5875c",
    "#c8c8c8",
    "#a6d854",
)


def _palette(colours: tuple[str, ...]) -> str:
    return "".join(f"--c{i}:{colour};" for i, colour in enumerate(colours))


_CLASSES = "".join(f".c{i}{{--own:var(--c{i})}}" for i in range(len(_LIGHT)))

STYLE = (
    ":root{color-scheme:light dark;--ground:#fff;--ink:#1c1f23;--soft:#5c646d;--rule:#dfe3e8;--band:#f5f7f9;"
    f"{_palette(_LIGHT)}}}"
    "@media (prefers-color-scheme:dark){:root{--ground:#14171a;--ink:#e8eaed;--soft:#9aa4af;--rule:#30363d;"
    f"--band:#1c2127;{_palette(_DARK)}}}}}"
    f"{_CLASSES}"
    "*{box-sizing:border-box}"
    "body{margin:0;background:var(--ground);color:var(--ink);font:16px/1.5 system-ui,sans-serif}"
    "main{max-width:1080px;margin:0 auto;padding:2rem 1.25rem 3rem}"
    "h1{margin:0 0 .25rem;font-size:1.9rem;line-height:1.2}h2{margin:2.2rem 0 .6rem;font-size:1.15rem}"
    ".kind,.small,footer{color:var(--soft);font-size:.85rem}.kind{margin:0}header p{margin:.2rem 0}"
    ".lead{font-size:1.1rem;margin:1.2rem 0 0}"
    ".wide{overflow-x:auto}table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}"
    "th,td{padding:.35rem .6rem;text-align:right;border-bottom:1px solid var(--rule);white-space:nowrap}"
    "thead th{color:var(--soft);font-weight:500;font-size:.85rem}tbody th{text-align:left;font-weight:400}"
    "tr.asked{background:var(--band)}tr.asked th{font-weight:600}"
    ".swatch{display:inline-block;width:.8rem;height:.8rem;border-radius:2px;margin-right:.5rem;"
    "background:var(--own);vertical-align:-1px;print-color-adjust:exact;-webkit-print-color-adjust:exact}"
    "svg{display:block;width:100%;min-width:640px;height:auto}"
    ".grid{stroke:var(--rule);stroke-width:1;fill:none}.tick{fill:var(--soft);font-size:11px}"
    ".end{text-anchor:end}.mid{text-anchor:middle}"
    ".line{fill:none;stroke:var(--own);stroke-linejoin:round}.line.asked{stroke-width:2.4}"
    ".line.beside{stroke-width:1.3;stroke-dasharray:5 3}.mark{stroke:var(--own);stroke-width:1.6;fill:none}"
    ".legend{list-style:none;display:flex;flex-wrap:wrap;gap:.3rem 1.2rem;padding:0;margin:.6rem 0;"
    "font-size:.9rem}"
    ".legend .asked{font-weight:600}"
    "dt{font-weight:600;margin-top:.7rem}dd{margin:0}"
    "details{border-bottom:1px solid var(--rule);padding:.35rem 0}"
    "summary{cursor:pointer}pre{overflow-x:auto;"
    "font-size:.8rem;background:var(--band);padding:.8rem;border-radius:4px}"
    "footer{margin-top:2.5rem}"
)
