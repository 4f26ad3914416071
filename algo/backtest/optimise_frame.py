"""The frame of the report on a search: one file with everything in it, which fetches nothing.

Text is escaped by the functions here; what they give is `Html` and goes through as it is.
"""

from __future__ import annotations

import json
import pkgutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

NOTHING_FETCHED = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
BLUE, ORANGE, GREY, GREEN, RED = "#3b7ddd", "#e08a1e", "#8a94a6", "#1a9c6b", "#d6455d"


class Html(str):
    """Markup that was made here, with every text in it escaped."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and what stands under it."""

    title: str
    parts: Sequence[Html]
    note: str = ""


def page(title: str, sections: Iterable[Section], *, subtitle: str = "", head: Sequence[Html] = ()) -> str:
    """A whole HTML document. `head` stands before the first section."""
    body = "".join([*head, *(_section(each) for each in sections)])
    lines = "".join(f"<p>{escape(line)}</p>" for line in subtitle.splitlines())
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{NOTHING_FETCHED}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body><main>"
        f"<h1>{escape(title)}</h1>{lines}{body}</main>"
        f"<script>{_plotly()}</script><script>{_SCRIPT}</script></body></html>\n"
    )


def text(words: str) -> Html:
    return Html(f"<p>{escape(words)}</p>")


def warnings(sentences: Iterable[str]) -> Html:
    """Nothing where there is nothing."""
    items = "".join(f"<li>{escape(each)}</li>" for each in sentences)
    return Html(f'<ul class="warnings">{items}</ul>' if items else "")


def cards(facts: Iterable[tuple[str, str, str]]) -> Html:
    """Figures that are read first: (label, value, tone), tone is "good", "bad" or ""."""
    items = (
        f'<div class="card {escape(tone)}"><span>{escape(label)}</span><strong>{escape(value)}</strong></div>'
        for label, value, tone in facts
    )
    return Html(f'<div class="cards">{"".join(items)}</div>')


def table(headers: Sequence[str], rows: Iterable[Sequence[str]], *, words: int = 1, kind: str = "") -> Html:
    """The first `words` columns are words, the others numbers."""
    classes = ["words" if number < words else "number" for number in range(len(headers))]
    top = "".join(f'<th class="{css}">{escape(each)}</th>' for css, each in zip(classes, headers, strict=True))
    lines = "".join(
        "<tr>"
        + "".join(f'<td class="{css}">{escape(each)}</td>' for css, each in zip(classes, row, strict=True))
        + "</tr>"
        for row in rows
    )
    return Html(f'<div class="{escape(kind)}"><table><thead><tr>{top}</tr></thead><tbody>{lines}</tbody></table></div>')


def side_by_side(*parts: Html) -> Html:
    return Html(f'<div class="beside">{"".join(f"<div>{each}</div>" for each in parts)}</div>')


def chart(data: Sequence[Mapping[str, Any]], layout: Mapping[str, Any], *, height: int = 360, label: str) -> Html:
    """A plotly chart. `label` says what is seen, for those who cannot see it."""
    figure = json.dumps({"data": list(data), "layout": dict(layout)}, allow_nan=False, separators=(",", ":"))
    safe = figure.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    return Html(
        f'<div class="chart" role="img" aria-label="{escape(label)}" style="height:{int(height)}px">'
        f'<script type="application/json">{safe}</script></div>'
    )


def _section(section: Section) -> str:
    note = f"<p>{escape(section.note)}</p>" if section.note else ""
    return f"<section><h2>{escape(section.title)}</h2>{note}{''.join(section.parts)}</section>"


def _plotly() -> str:
    bundle = pkgutil.get_data("plotly", "package_data/plotly.min.js")
    if bundle is None:
        raise FileNotFoundError("plotly is installed without its bundle: install the packages of requirements.lock")
    return bundle.decode()


_STYLE = """body{font:15px/1.5 system-ui,sans-serif;margin:0;background:#f4f6f9;color:#1b2430}
main{max-width:1160px;margin:0 auto;padding:20px 16px 48px}
section{background:#fff;border:1px solid #e1e6ed;border-radius:10px;padding:14px 16px;margin-top:16px}
table{border-collapse:collapse;width:100%}th,td{padding:4px 10px;text-align:right}.words{text-align:left}
.cards{display:grid;grid-template-columns:repeat(4,1fr);gap:10px}.card{background:#fff;padding:9px 10px}
.card span,.card strong{display:block}.good strong{color:#12805a}.bad strong{color:#c2334d}
.beside{display:grid;grid-template-columns:repeat(auto-fit,minmax(300px,1fr));gap:20px}.warnings{background:#fff6e0}"""

_SCRIPT = """document.querySelectorAll('.chart').forEach(function(box){
const figure=JSON.parse(box.firstElementChild.textContent);box.textContent='';
Plotly.newPlot(box,figure.data,figure.layout,{responsive:true,displaylogo:false,showSendToCloud:false,plotlyServerURL:'',
modeBarButtonsToRemove:['sendChartToCloud']});});"""
