"""A backtest as one HTML file: figures of both fill models, curves, price with deals, returns, months, trades."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from algo.backtest.html_page import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    RED,
    Html,
    Section,
    cards,
    chart,
    page,
    shaded,
    side_by_side,
    table,
    text,
    warnings,
)
from algo.backtest.words import (
    amount_in,
    duration,
    figure_rows,
    models_of,
    number,
    percent,
    percent_of,
    period,
    tally_of,
    toman_line,
)
from algo.sentences import sentence

MODEL_COLOURS = (BLUE, ORANGE)
CROWD = 100  # deals; more are drawn smaller
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_ON_TOP = {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"}
_MARGIN = {"l": 56, "r": 12, "t": 34, "b": 34}


def html_report(report: Mapping[str, Any], charts: Mapping[str, Any]) -> str:
    """The document. `report` is what `side_by_side` makes, `charts` what `charts_of` makes; both may come from JSON."""
    return page(
        f"{report['strategy'] or 'Signals'} on {report['symbol']}",
        [
            _equity(report, charts),
            _price(report, charts),
            Section("Figures by fill model", [_figures(report)], note=_MODELS_NOTE),
            _returns(report, charts),
            Section("Growth by month", [_months(report)], note=f"Of equity, {report['fill_model']}."),
            _when(report),
            _trades(report, charts),
            _asked(report),
        ],
        subtitle=_subtitle(report),
        head=[_headline(report), warnings(sentence(each) for each in report["warnings"])],
    )


_MODELS_NOTE = (
    "Conservative: a gap fills at the open, the stop comes before the target, slippage counts. Freqtrade: how that "
    "program reads candles, as an outside measure."
)


def _subtitle(report: Mapping[str, Any]) -> str:
    source = report.get("data", {}).get("source", "")
    lines = [
        f"{period(report['from'], report['to'])} UTC, {report['candles']:,} candles of resolution "
        f"{report['resolution']} from {report['provider']}{f' ({source})' if source else ''}, "
        f"after {report['warmup_candles']:,} of warm-up",
        costs_line(report),
        toman_line(report),
    ]
    return "\n".join(line for line in lines if line)


def costs_line(report: Mapping[str, Any]) -> str:
    costs = report["costs"]
    return (
        f"Fee {percent_of(costs['taker_fee_rate'])} taker, {percent_of(costs['maker_fee_rate'])} maker; the target "
        f"pays {costs['target_pays']}; slippage {percent(float(costs['slippage_percent']))}"
    )


def _headline(report: Mapping[str, Any]) -> Html:
    m, quote = report["metrics"], report["quote"]
    facts = [
        ("Net profit", percent(m["net_profit_percent"]), _tone(m["net_profit"])),
        (f"Net profit ({quote})", amount_in(quote)(m["net_profit"]), _tone(m["net_profit"])),
    ]
    toman = report.get("toman")
    if toman and toman["as_of"]:
        worth = toman["net_profit"][report["fill_model"]]
        facts.append(("Net profit (toman)", amount_in("IRT")(worth), _tone(worth)))
    facts += [
        ("Buy and hold", percent(m["buy_and_hold_percent"]), _tone(m["buy_and_hold_percent"])),
        ("Max drawdown", percent(m["max_drawdown_percent"]), ""),
        ("Sharpe", number(m["sharpe"]), ""),
        ("Deals", str(m["deals"]), ""),
        ("Win rate", percent(m["win_rate_percent"]), ""),
    ]
    return cards(facts)


def _tone(value: float | None) -> str:
    return "good" if value and value > 0 else "bad" if value and value < 0 else ""


# --- curves and price ------------------------------------------------------------------------------------------------


def _equity(report: Mapping[str, Any], charts: Mapping[str, Any]) -> Section:
    traces: list[dict[str, Any]] = []
    for model, colour in zip(models_of(report), MODEL_COLOURS, strict=True):
        curve = charts["curves"][model]
        times = _moments(curve["time"])
        line = {"type": "scatter", "mode": "lines", "name": model, "legendgroup": model, "x": times}
        traces.append({**line, "y": curve["equity"], "line": {"color": colour, "width": 1.6}})
        fall = {"y": curve["drawdown"], "yaxis": "y2", "showlegend": False, "fill": "tozeroy"}
        traces.append({**line, **fall, "line": {"color": colour, "width": 1}, "hovertemplate": "%{y:.2f} %"})
    hold = charts["hold"]
    if hold["time"]:
        style = {"color": GREY, "width": 1.2, "dash": "dot"}
        lines = {"type": "scatter", "mode": "lines", "name": "buy and hold", "line": style}
        traces.append({**lines, "x": _moments(hold["time"]), "y": hold["equity"]})
    layout = {
        "margin": _MARGIN,
        "legend": _ON_TOP,
        "hovermode": "x unified",
        "xaxis": {"type": "date", "anchor": "y2"},
        "yaxis": {"domain": [0.34, 1], "title": {"text": report["quote"]}},
        "yaxis2": {"domain": [0, 0.27], "title": {"text": "fall %"}, "rangemode": "tozero"},
    }
    words = "Equity of each fill model after each candle, and below it how far it stood under its highest point"
    note = f"Above: equity in {report['quote']} after each candle. Below: how far it stands under its highest point."
    return Section("Equity and drawdown", [chart(traces, layout, height=460, label=words)], note=note)


def _price(report: Mapping[str, Any], charts: Mapping[str, Any]) -> Section:
    bars, deals = charts["bars"], charts["deals"]
    traces: list[dict[str, Any]] = [
        {
            "type": "candlestick",
            "name": report["symbol"],
            "x": _moments(bars["time"]),
            **{name: bars[name] for name in ("open", "high", "low", "close")},
            "increasing": {"line": {"color": GREEN, "width": 1}},
            "decreasing": {"line": {"color": RED, "width": 1}},
            "opacity": 0.55,
        }
    ]
    for name, chosen, at, price, symbol, colour in _marks(deals):
        if chosen:
            traces.append(_mark(name, chosen, deals, at, price, symbol, colour))
    layout = {
        "margin": _MARGIN,
        "legend": _ON_TOP,
        "hovermode": "closest",
        "xaxis": {"type": "date", "rangeslider": {"visible": False}},
        "yaxis": {"title": {"text": report["quote"]}},
    }
    left_out = charts["deals_left_out"]
    note = f"Candles are joined to {len(bars['time'])} bars. Deals of {report['fill_model']}."
    note += f" Only the newest {len(deals['side'])} deals are drawn; {left_out} older ones are not." if left_out else ""
    words = "Price of the market, with a mark where each deal was entered and left"
    return Section("Price, entries and exits", [chart(traces, layout, height=460, label=words)], note=note)


def _marks(deals: Mapping[str, list[Any]]) -> list[tuple[str, list[int], str, str, str, str]]:
    every = range(len(deals["side"]))
    buys, sells = ([i for i in every if deals["side"][i] == side] for side in ("BUY", "SELL"))
    won, lost = [i for i in every if deals["profit"][i] > 0], [i for i in every if deals["profit"][i] <= 0]
    return [
        ("BUY entry", buys, "opened_at", "open_price", "triangle-up", BLUE),
        ("SELL entry", sells, "opened_at", "open_price", "triangle-down", ORANGE),
        ("exit, won", won, "closed_at", "close_price", "circle", GREEN),
        ("exit, lost", lost, "closed_at", "close_price", "x", RED),
    ]


def _mark(
    name: str, chosen: list[int], deals: Mapping[str, list[Any]], at: str, price: str, symbol: str, colour: str
) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": _moments([deals[at][i] for i in chosen]),
        "y": [deals[price][i] for i in chosen],
        "text": [f"{deals['reason'][i]}, {_cause(deals['close_reason'][i])}" for i in chosen],
        "customdata": [deals["return_percent"][i] for i in chosen],
        "hovertemplate": "%{y}<br>%{text}<br>%{customdata:.2f} %",
        "marker": {
            "symbol": symbol,
            "size": 8 if len(deals["side"]) < CROWD else 6,
            "color": colour,
            "line": {"width": 0.5, "color": "#fff"},
        },
    }


# --- tables ----------------------------------------------------------------------------------------------------------


def _figures(report: Mapping[str, Any]) -> Html:
    models = models_of(report)
    rows = [
        [label, *(words(name, model["metrics"]) for name, model in models.items())]
        for label, words in figure_rows(report)
    ]
    return table(["", *models], rows, kind="fits")


def _returns(report: Mapping[str, Any], charts: Mapping[str, Any]) -> Section:
    edges, counts = charts["returns"]["edges"], charts["returns"]["counts"]
    if not edges:
        return Section("Distribution of returns", [text("There was no deal.")])
    middles = [(a + b) / 2 for a, b in pairwise(edges)]
    traces = [
        {"type": "bar", "name": model, "x": middles, "y": counts[model], "marker": {"color": colour}, "opacity": 0.75}
        for model, colour in zip(models_of(report), MODEL_COLOURS, strict=True)
    ]
    layout = {
        "margin": _MARGIN,
        "legend": _ON_TOP,
        "barmode": "group",
        "bargap": 0.05,
        "xaxis": {"title": {"text": "return of a deal after fees, %"}},
        "yaxis": {"title": {"text": "deals"}},
    }
    words = "How many deals returned how much, in percent of what they cost"
    return Section("Distribution of returns", [chart(traces, layout, height=320, label=words)])


def _months(report: Mapping[str, Any]) -> Html:
    grown: dict[str, dict[int, float]] = {}
    for month, value in sorted(report["metrics"]["monthly_percent"].items()):
        grown.setdefault(month[:4], {})[int(month[5:7])] = value
    limit = max((abs(value) for months in grown.values() for value in months.values()), default=0.0)
    rows = [
        [
            year,
            *(shaded(months[n], limit, number(months[n])) if n in months else "" for n in range(1, 13)),
            number(_compounded(list(months.values()))),
        ]
        for year, months in grown.items()
    ]
    return table(["%", *MONTHS, "Year"], rows)


def _compounded(percents: Sequence[float]) -> float:
    grown = 1.0
    for each in percents:
        grown *= 1 + each / 100
    return 100 * (grown - 1)


def _when(report: Mapping[str, Any]) -> Section:
    m, amount = report["metrics"], amount_in(report["quote"])
    return Section(
        "When, and why deals closed",
        [
            _hours(m["by_hour"], report["quote"]),
            side_by_side(
                _tally_table("Exit", tally_of(m, "by_exit_reason"), amount),
                _tally_table("Weekday", tally_of(m, "by_weekday"), amount),
            ),
        ],
        note=f"Deals of {report['fill_model']} by their entry, by the trading day's clock ({report['time_zone']})",
    )


def _hours(hours: Mapping[str, Mapping[str, float]], quote: str) -> Html:
    every = [f"{hour:02}" for hour in range(24)]
    profits = [hours[hour]["profit"] if hour in hours else 0.0 for hour in every]
    told = [
        f"{hours[hour]['deals']} deals, {percent(hours[hour]['win_rate_percent'])} won" if hour in hours else "no deal"
        for hour in every
    ]
    bars = {
        "type": "bar",
        "x": [f"{hour}:00" for hour in every],
        "y": profits,
        "text": told,
        "textposition": "none",
        "hovertemplate": "%{x}<br>%{y:,.8~g}<br>%{text}<extra></extra>",
        "marker": {"color": [GREEN if profit > 0 else RED for profit in profits], "opacity": 0.8},
    }
    layout = {
        "margin": _MARGIN | {"t": 12},
        "xaxis": {"type": "category", "title": {"text": "hour of the entry"}},
        "yaxis": {"title": {"text": f"profit, {quote}"}},
    }
    return chart([bars], layout, height=260, label="Profit of the deals entered in each hour of the day")


def _tally_table(what: str, rows: Mapping[str, Mapping[str, float]], amount: Callable[[Any], str]) -> Html:
    limit = max((abs(row["profit"]) for row in rows.values()), default=0.0)
    return table(
        [what, "Deals", "Won", "Profit"],
        [
            [
                _cause(name),
                str(row["deals"]),
                percent(row["win_rate_percent"]),
                shaded(row["profit"], limit, amount(row["profit"])),
            ]
            for name, row in rows.items()
        ],
    )


def _trades(report: Mapping[str, Any], charts: Mapping[str, Any]) -> Section:
    deals, amount = charts["deals"], amount_in(report["quote"])
    names = ("side", "reason", "opened_at", "closed_at", "close_reason", "open_price", "close_price", "quantity")
    rows = [
        [
            side,
            reason,
            _minute(opened),
            duration(closed - opened),
            _cause(cause),
            f"{entry:,.10g}",
            f"{left:,.10g}",
            f"{quantity:,.8g}",
            amount(fees),
            shaded(profit, 0, amount(profit)),
            number(returned),
        ]
        for side, reason, opened, closed, cause, entry, left, quantity, fees, profit, returned in zip(
            *(deals[name] for name in (*names, "fees", "profit", "return_percent")), strict=True
        )
    ]
    headers = [
        "Side",
        "Reason",
        "Entered (UTC)",
        "Held",
        "Closed by",
        "Entry",
        "Exit",
        "Quantity",
        "Fees",
        "Profit",
        "%",
    ]
    left_out = charts["deals_left_out"]
    note = f"The newest {len(rows)} deals; {left_out} older ones are left out here." if left_out else ""
    if not rows:
        return Section("Trades", [text("There was no deal.")])
    return Section(f"Trades ({report['fill_model']})", [table(headers, rows, words=5, kind="tall")], note=note)


def _asked(report: Mapping[str, Any]) -> Section:
    signals = report["signals"]
    refused = ", ".join(f"{code} {count}" for code, count in report["refused"].items()) or "none"
    rows = [[name, str(value)] for name, value in sorted(report["parameters"].items())]
    facts = [
        ["Signals", f"{signals['buy']} buy, {signals['sell']} sell"],
        ["Refused", refused],
        ["Candles missing", str(report.get("data", {}).get("missing_candles", 0))],
        ["Fingerprint of the candles", report.get("data", {}).get("fingerprint", "")],
    ]
    return Section(
        "What was tested",
        [side_by_side(table(["Parameter", "Value"], rows, words=2), _wrapped(table(["Fact", ""], facts, words=2)))],
    )


def _wrapped(markup: Html) -> Html:
    """Long words may break here."""
    return Html(f'<div class="wrapped">{markup}</div>')


def _moments(times: Sequence[int]) -> list[str]:
    """Unix seconds as plotly reads them; UTC."""
    return [f"{datetime.fromtimestamp(each, UTC):%Y-%m-%d %H:%M}" for each in times]


def _minute(unix: int) -> str:
    return f"{datetime.fromtimestamp(unix, UTC):%Y-%m-%d %H:%M}"


def _cause(name: str) -> str:
    return name.replace("_", " ")
