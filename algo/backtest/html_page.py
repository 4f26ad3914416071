"""The frame of our HTML reports: one file with everything in it, which fetches nothing and opens without a network.

Text is escaped by the functions here; what they give is `Html` and goes through as it is. A page forbids itself to load
anything (its own Content-Security-Policy), so a mistake cannot make it call out; plotly's button that uploads a chart
to its maker's server is switched off.
"""

from __future__ import annotations

import json
import pkgutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

NOTHING_FETCHED = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
CHART = '<div class="chart"'

# Lines and bars, in the order they are used: readable on white and on black, and by the colour-blind.
BLUE, ORANGE, GREY, GREEN, RED = "#3b7ddd", "#e08a1e", "#8a94a6", "#1a9c6b", "#d6455d"


class Html(str):
    """Markup that was made here, with every text in it escaped."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and what stands under it."""

    title: str
    parts: Sequence[Html]
    note: str = ""  # one sentence under the heading


def page(title: str, sections: Iterable[Section], *, subtitle: str = "", head: Sequence[Html] = ()) -> str:
    """A whole HTML document. `head` stands before the first section: cards, warnings."""
    body = "".join([*head, *(_section(each) for each in sections)])
    lines = "".join(f"<p>{escape(line)}</p>" for line in subtitle.splitlines())
    scripts = f"<script>{_plotly()}</script><script>{_SCRIPT}</script>" if CHART in body else ""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{NOTHING_FETCHED}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><meta name="referrer" content="no-referrer">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body><main>"
        f"<header><h1>{escape(title)}</h1>{lines}</header>{body}</main>{scripts}</body></html>\n"
    )


def text(words: str) -> Html:
    """A paragraph."""
    return Html(f"<p>{escape(words)}</p>")


def warnings(sentences: Iterable[str]) -> Html:
    """What a reader must know before he believes the figures; nothing where there is nothing."""
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
    """Texts are escaped, `Html` cells are not. The first `words` columns are words, the others numbers. `kind`: "tall"
    scrolls in itself, "fits" breaks its lines on a phone instead of scrolling."""
    classes = ["words" if number < words else "number" for number in range(len(headers))]
    top = "".join(f'<th class="{css}">{_cell(each)}</th>' for css, each in zip(classes, headers, strict=True))
    lines = "".join(
        "<tr>"
        + "".join(f'<td class="{css}">{_cell(each)}</td>' for css, each in zip(classes, row, strict=True))
        + "</tr>"
        for row in rows
    )
    return Html(
        f'<div class="scroll {escape(kind)}"><table><thead><tr>{top}</tr></thead><tbody>{lines}</tbody></table></div>'
    )


def shaded(value: float, limit: float, words: str) -> Html:
    """A cell's text on green or red, the stronger the closer `value` is to `limit` (or minus it)."""
    strength = min(abs(value) / limit, 1.0) if limit else 0.0
    tone = "gain" if value > 0 else "loss"
    return Html(f'<span class="shade {tone}" style="--strength:{strength:.2f}">{escape(words)}</span>')


def side_by_side(*parts: Html) -> Html:
    return Html(f'<div class="beside">{"".join(f"<div>{each}</div>" for each in parts)}</div>')


def chart(data: Sequence[Mapping[str, Any]], layout: Mapping[str, Any], *, height: int = 360, label: str) -> Html:
    """A plotly chart: its traces and layout. `label` says what is seen, for those who cannot see it. Colours of text
    and grid follow the page's light or dark."""
    figure = json.dumps({"data": list(data), "layout": dict(layout)}, allow_nan=False, separators=(",", ":"))
    safe = figure.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    return Html(
        f'{CHART} role="img" aria-label="{escape(label)}" style="--height:{int(height)}px">'
        f'<script type="application/json">{safe}</script></div>'
    )


def _section(section: Section) -> str:
    note = f'<p class="note">{escape(section.note)}</p>' if section.note else ""
    return f"<section><h2>{escape(section.title)}</h2>{note}{''.join(section.parts)}</section>"


def _cell(content: str) -> str:
    return content if isinstance(content, Html) else escape(content)


def _plotly() -> str:
    """Plotly's own bundle out of the package, as it is."""
    bundle = pkgutil.get_data("plotly", "package_data/plotly.min.js")
    if bundle is None:
        raise FileNotFoundError("plotly is installed without its bundle: install the packages of requirements.lock")
    return bundle.decode()


_STYLE = """
:root{--page:#f4f6f9;--paper:#fff;--ink:#1b2430;--soft:#5d6b7e;--line:#e1e6ed;--good:#12805a;--bad:#c2334d;
--warn:#fff6e0;--warn-line:#e6b34a;--gain:26,156,107;--loss:214,69,93}
@media(prefers-color-scheme:dark){:root{--page:#0f141b;--paper:#171e28;--ink:#e6ebf2;--soft:#94a1b5;--line:#2a3442;
--good:#3ecf9a;--bad:#ff7389;--warn:#2c2514;--warn-line:#a97f2a}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:1160px;margin:0 auto;padding:20px 16px 48px}
header h1{font-size:1.5rem;line-height:1.25;margin:8px 0}
header p{margin:2px 0;color:var(--soft)}
section{background:var(--paper);border:1px solid var(--line);border-radius:10px;padding:14px 16px 16px;margin-top:16px}
h2{font-size:1.05rem;margin:0 0 8px}
.note{color:var(--soft);font-size:.87rem;margin:0 0 8px}
.warnings{margin:16px 0 0;padding:10px 14px 10px 32px;background:var(--warn);border:1px solid var(--warn-line);
border-radius:10px}
.warnings li{margin:3px 0}
.cards{display:grid;grid-template-columns:repeat(4,1fr);gap:10px;margin-top:16px}
.card{background:var(--paper);border:1px solid var(--line);border-radius:10px;padding:9px 10px;min-width:0}
.card:only-child{grid-column:1/-1}
.card span{display:block;color:var(--soft);font-size:.8rem}
.card strong{display:block;font-size:1.04rem;overflow-wrap:anywhere;font-variant-numeric:tabular-nums}
.card.good strong{color:var(--good)}.card.bad strong{color:var(--bad)}
.scroll{overflow-x:auto}.tall{max-height:520px;overflow-y:auto}
.tall thead th{position:sticky;top:0;background:var(--paper)}
table{border-collapse:collapse;width:100%;font-size:.88rem;font-variant-numeric:tabular-nums}
th,td{padding:5px 10px;border-bottom:1px solid var(--line);white-space:nowrap;text-align:right}
th.words,td.words{text-align:left}
th{color:var(--soft);font-weight:600;font-size:.8rem}
tbody tr:last-child td{border-bottom:0}
.shade{display:inline-block;min-width:62px;padding:1px 6px;border-radius:5px}
.shade.gain{background:rgba(var(--gain),calc(var(--strength)*.45))}
.shade.loss{background:rgba(var(--loss),calc(var(--strength)*.45))}
.wrapped td{white-space:normal;overflow-wrap:anywhere}
.beside{display:grid;grid-template-columns:repeat(auto-fit,minmax(300px,1fr));gap:20px;align-items:start}
.beside>div{min-width:0}
.chart{height:var(--height);width:100%}
@media(max-width:640px){main{padding:12px 10px 40px}section{padding:12px 10px}.chart{height:min(var(--height),330px)}
.beside{grid-template-columns:1fr}.cards{grid-template-columns:1fr 1fr}
.fits th,.fits td{white-space:normal}th,td{padding:5px 7px}}
@media print{.tall{max-height:none}section{break-inside:avoid}}
"""

_SCRIPT = """
(function(){
const narrow=matchMedia('(max-width:640px)').matches,dark=matchMedia('(prefers-color-scheme:dark)');
const colour=name=>getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const read=box=>JSON.parse(box.firstElementChild.textContent);
const charts=[...document.querySelectorAll('.chart')].map(box=>({box,...read(box)}));
function themed(layout){
  const ink=colour('--ink'),line=colour('--line'),out={...layout};
  Object.assign(out,{paper_bgcolor:'rgba(0,0,0,0)',plot_bgcolor:'rgba(0,0,0,0)',
    font:{color:ink,size:narrow?11:12,family:'system-ui, sans-serif'},dragmode:narrow?false:'zoom',
    modebar:{bgcolor:'rgba(0,0,0,0)',color:colour('--soft'),activecolor:ink},
    hoverlabel:{bgcolor:colour('--paper'),bordercolor:line,font:{color:ink}}});
  for(const key of new Set(['xaxis','yaxis',...Object.keys(out)]))if(/^[xy]axis/.test(key))
    out[key]={...out[key],gridcolor:line,zerolinecolor:line,linecolor:line,automargin:true};
  return out;
}
function draw(){
  for(const each of charts)Plotly.react(each.box,each.data,themed(each.layout),
    {responsive:true,displaylogo:false,displayModeBar:narrow?false:'hover',showTips:false,
     showSendToCloud:false,plotlyServerURL:'',modeBarButtonsToRemove:['sendChartToCloud','select2d','lasso2d']});
}
for(const each of charts)each.box.textContent='';
draw();dark.addEventListener('change',draw);
})();
"""
