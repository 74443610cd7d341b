"""The page of a model's report: HTML that stands by itself, in light and dark, on paper too."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from everlearn import __version__
from everlearn.cli.model_report_figure import INKS, course, curve, duration
from everlearn.cli.what_if_style import STYLE

Facts = Mapping[str, Any]

_DARK = {
    "served": "#56b4e9",
    "no_change": "#f0c93d",
    "never_updated": "#e08cc4",
    "threshold": "#e8eaed",
    "promote": "#2fc79a",
    "rollback": "#ff9d5c",
    "warn": "#f0c93d",
    "update": "#9aa4af",
}
SIGNS = {"ok": "●", "attention": "▲", "trouble": "■"}
"""Shapes of the severities, so that they are told apart without colour."""


def _inks(colours: Mapping[str, str]) -> str:
    return "".join(f"--{name}:{colour};" for name, colour in colours.items())


_CLASSES = "".join(f".ink-{name}{{stroke:var(--{name})}}" for name in INKS)
OWN_STYLE = (
    f":root{{{_inks(INKS)}}}@media (prefers-color-scheme:dark){{:root{{{_inks(_DARK)}}}}}"
    f"{_CLASSES}.band{{fill:var(--served)}}"
    ".figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:.8rem}"
    ".figures{margin:1.2rem 0}"
    ".figures div{background:var(--band);border-radius:6px;padding:.7rem .9rem}"
    ".figures b{display:block;font-size:1.25rem;font-variant-numeric:tabular-nums}"
    ".figures span{color:var(--soft);font-size:.85rem}"
    ".state{font-size:1.1rem;margin:.8rem 0 0}.state .trouble{color:var(--rollback)}"
    ".state .attention{color:var(--warn)}.state .ok{color:var(--promote)}"
    "td.text{text-align:left;white-space:normal}td.kind{text-align:left}thead th.text{text-align:left}"
    ".key i{display:inline-block;width:1.6rem;border-top:2px solid;margin-right:.5rem;vertical-align:4px}"
    ".key .no_change i{border-top-style:dotted}"
    ".key .never_updated i,.key .threshold i{border-top-style:dashed}"
    + "".join(f".key .{name} i{{border-color:var(--{name})}}" for name in INKS)
    + "@page{size:A4;margin:16mm 14mm;@bottom-right{content:counter(page) ' / ' counter(pages);"
    "font:9pt sans-serif;color:#5c646d}}"
    "@media print{:root{color-scheme:light}body{font-size:10pt}main{padding:0;max-width:none}"
    "svg{min-width:0}section{break-inside:auto}h2{break-after:avoid}tr,figure,.figures,.wide svg"
    "{break-inside:avoid}th,td{padding:.2rem .4rem;font-size:8.5pt}th,td.kind{white-space:nowrap}"
    ".figures{display:block}.figures div{display:inline-block;width:23%;margin:0 1% .5rem 0;"
    "vertical-align:top}}"
)


def page(facts: Facts) -> str:
    """The whole page."""
    name = escape(facts["model"])
    sections = (
        _section("Score over time", _score(facts)),
        _section("What was decided, and why", _decisions(facts)),
        _section("Versions", _versions(facts["versions"])),
        _section("Segments", _segments(facts)),
        _section("How late labels come", _labels(facts["maturity"])),
        _section("Drift", _drift(facts["drift"])),
        _section("Regimes and memory", _regimes(facts["matrix"])),
        _section("How to read it", HOW),
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{name}: report</title><style>{STYLE}{OWN_STYLE}</style></head>\n"
        f"<body><main>{_header(facts)}{''.join(sections)}"
        f"<footer>everlearn {escape(__version__)}, written {_when(facts['written_at'])}</footer>"
        "</main></body></html>\n"
    )


def _section(title: str, body: str) -> str:
    return f"<section><h2>{title}</h2>{body}</section>" if body else ""


def _header(facts: Facts) -> str:
    card = facts["card"]
    since = _when(facts["since"]) if facts["since"] else "the beginning"
    about = f"<p>{escape(facts['description'])}</p>" if facts["description"] else ""
    sign, severity = SIGNS.get(card["severity"], ""), escape(card["severity"])
    return (
        f'<header><p class="kind">everlearn report</p><h1>{escape(facts["model"])}</h1>'
        f"<p>{since} to {_when(facts['until'])} (UTC)</p>{about}"
        f'<p class="state"><strong class="{severity}">{sign} {escape(card["state"])}</strong>: '
        f"{escape(card['reason'])}</p></header>"
        f'<div class="figures">{"".join(_figures(facts))}</div>'
    )


def _figures(facts: Facts) -> Iterator[str]:
    card, points = facts["card"], facts["timeline"]["points"]
    kinds = Counter(mark["kind"] for mark in facts["timeline"]["marks"])
    spent = sum(float(v["metrics"].get("seconds") or 0.0) for v in facts["versions"])
    bounds = f"{_number(card['lower'])} to {_number(card['upper'])}"
    yield _figure(_number(card["score"]), f"{card['metric']} now ({bounds})")
    yield _figure(_number(card["threshold"]), "threshold")
    yield _figure(_kept(facts["timeline"]), "of the windows kept it")
    if points:
        yield _figure(f"{points[-1]['row'] - points[0]['row']:,}", "predictions in the period")
    yield _figure(f"version {card['champion']}", f"answers since {_when(card['champion_since'])}")
    yield _figure(str(kinds["promote"]), f"promotions of {kinds['update']} updates")
    yield _figure(str(kinds["rollback"]), f"rollbacks, {kinds['warn']} warnings")
    yield _figure(duration(spent), "training these versions")


def _figure(value: str, what: str) -> str:
    return f"<div><b>{escape(value)}</b><span>{escape(what)}</span></div>"


def _kept(timeline: Facts) -> str:
    """The share of points at which the score kept the threshold of its time."""
    sign = -1.0 if timeline["lower_is_better"] else 1.0
    known = [p for p in timeline["points"] if p["score"] is not None]
    kept = sum(sign * p["score"] >= sign * p["threshold"] for p in known)
    return f"{kept / len(known):.0%}" if known else "none"


def _score(facts: Facts) -> str:
    timeline = facts["timeline"]
    points, metric = timeline["points"], escape(timeline["metric"])
    if not points:
        return (
            "<p>No window of matured rows closed in this period. "
            f"A window closes every {timeline['rows_per_window']} rows whose labels have matured.</p>"
        )
    label = f"{timeline['metric']} of {facts['model']} over time, against {timeline['threshold']:g}"
    drawn = course(points, timeline["marks"], timeline["threshold"], label)
    names = {
        "served": f"{metric} of what was served, with its {timeline['confidence']:.0%} bounds",
        "threshold": f"threshold {timeline['threshold']:g}",
        "never_updated": "the first version, never updated",
        "no_change": "answering with the newest label",
    }
    shown = [n for n in names if n in ("served", "threshold") or any(p[n] is not None for p in points)]
    key = "".join(f'<li class="{n}"><i></i>{names[n]}</li>' for n in shown)
    note = (
        f"A point is the mean of {timeline['windows_per_point']:.0f} windows of "
        f"{timeline['rows_per_window']} rows."
        if timeline["windows_per_point"] > 1
        else f"A point is a window of {timeline['rows_per_window']} matured rows."
    )
    return f'{drawn}<ul class="legend key">{key}</ul><p class="small">{note}</p>'


def _decisions(facts: Facts) -> str:
    told = [d for d in facts["decisions"] if d["kind"] != "hold"]
    rows = [
        (
            _when(d["at"]),
            d["kind"],
            "" if d["version"] is None else str(d["version"]),
            d["reason"],
            str(d["number"]),
        )
        for d in told
    ]
    more = "<p>Earlier ones are left out.</p>" if facts["more_decisions"] else ""
    counts = Counter(d["kind"] for d in told)
    words = ", ".join(f"{count} {kind}" for kind, count in counts.most_common())
    proof = f"<code>everlearn why {escape(facts['model'])} NUMBER --verify</code>"
    lead = f"<p>{escape(words)}. Each can be proven: {proof}.</p>"
    table = _table(("when", "decision", "version", "why", "number"), rows, text=(1, 3))
    return f"{lead}{table}{more}" if rows else "<p>Nothing was decided in this period.</p>"


def _versions(versions: Sequence[Facts]) -> str:
    rows = [
        (
            str(v["number"]),
            v["state"],
            v["learner"],
            "" if v["parent"] is None else str(v["parent"]),
            f"{v['rows']:,}",
            _when(v["created_at"]),
            duration(float(v["metrics"]["seconds"])) if v["metrics"].get("seconds") else "",
        )
        for v in versions
    ]
    return _table(
        ("version", "state", "learner", "parent", "learned from", "made", "took"), rows, text=(1, 2)
    )


def _segments(facts: Facts) -> str:
    found = facts["segments"]
    if len(found["segments"]) < 2:
        return ""
    rows = [
        (one["name"], f"{one['rows']:,}", _number(one["score"]), _range(one["lower"], one["upper"]))
        for one in found["segments"]
    ]
    column = f"<code>{escape(found['column'])}</code>"
    lead = f"<p>The newest {found['rows']:,} labelled predictions by {column}, worst first.</p>"
    return lead + _table((found["column"], "rows", found["metric"], "bounds"), rows, text=(0,))


def _labels(maturity: Facts) -> str:
    horizon = maturity["horizon"]
    wait = f"{horizon['rows']:,} rows" if horizon["rows"] is not None else "nothing yet"
    if horizon["seconds"] is not None:
        wait = duration(horizon["seconds"])
    never = (
        "" if maturity["never"] is None else f" {maturity['never']:.1%} of the older predictions have none."
    )
    words = (
        f"<p>{maturity['labels']:,} labels have come, {maturity['waiting']:,} wait for their cohorts. "
        f"Scores wait for {wait}.{never}</p>"
    )
    points = [point for point in maturity["by_seconds"] if point["age_seconds"] > 0]
    if len(points) < 2:
        return words
    return words + curve(points, horizon["seconds"], "Share of predictions with their label, by age")


def _drift(drift: Facts) -> str:
    features = drift["features"]
    words = f"<p>{drift['warnings']} warnings of the champion's loss in all.</p>"
    if features["reference"] != "ready" or not features["columns"]:
        state = {"off": "is off", "building": "is still learning what is usual"}.get(
            features["reference"], "has not completed a window yet"
        )
        return f"{words}<p>The watch over features {state}.</p>"
    rows = [
        (
            one["column"],
            one["test"].upper(),
            f"{one['p_value']:.2g}",
            f"{one['size']:.3g}",
            f"{one['missing_now']:.1%}",
            f"moved ({one['windows_in_a_row']} windows)" if one["moved"] else "as usual",
        )
        for one in features["columns"][:20]
    ]
    heads = ("column", "test", "p-value", "size (PSI)", "missing", "finding")
    return words + _table(heads, rows, text=(0, 5))


def _regimes(matrix: Facts) -> str:
    if not matrix["regime_list"]:
        return ""
    rows = [
        (
            one["name"],
            f"{one['rows']:,}",
            "" if one["best"] is None else str(one["best"]),
            "now" if one["current"] else "protected" if one["protected"] else "past",
            one["reason"],
        )
        for one in matrix["regime_list"]
    ]
    told = {name.replace("_", " "): value for name, value in matrix["measures"].items() if value is not None}
    words = ", ".join(f"{name} {value:.3f}" for name, value in told.items())
    measures = f'<p class="small">Over all versions and regimes: {escape(words)}.</p>' if words else ""
    return _table(("regime", "rows", "best version", "", "why"), rows, text=(0, 3, 4)) + measures


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], text: Sequence[int] = ()) -> str:
    """``text`` names the columns of words, which are set to the left and may wrap."""
    if not rows:
        return "<p>None.</p>"

    def kind(place: int) -> str:
        return ' class="text"' if place in text else ""

    head = "".join(f"<th{kind(i)}>{escape(name)}</th>" for i, name in enumerate(heads))
    body = "".join(
        f"<tr>{''.join(f'<td{kind(i)}>{escape(value)}</td>' for i, value in enumerate(row))}</tr>"
        for row in rows
    )
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _number(value: float | None) -> str:
    return "none yet" if value is None else f"{value:.4f}" if abs(value) < 10 else f"{value:.4g}"


def _range(lower: float | None, upper: float | None) -> str:
    return "" if lower is None or upper is None else f"{_number(lower)} to {_number(upper)}"


def _when(iso: str) -> str:
    return escape(iso[:16].replace("T", " "))


HOW = (
    "<dl><dt>Score</dt><dd>Of predictions whose labels have matured, in the model's metric, at the time at "
    "which they had. Scores of fresher predictions would favour the labels that come early.</dd>"
    "<dt>Baselines</dt><dd>On the same rows: the first version that was promoted, left as it was; and "
    "answering with the newest label that was known.</dd>"
    "<dt>Promotion</dt><dd>A candidate takes over only when the evidence on rows that neither side has "
    "learned from proves it better; the number of looks does not matter.</dd>"
    "<dt>Rollback</dt><dd>After a promotion the version before answers in shadow, and comes back when it is "
    "proven better.</dd></dl>"
)
