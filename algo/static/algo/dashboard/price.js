// One market: candles, the strategy's averages, what its deals did, and the balance of the order book below.
import { ask, calmly } from "./ask.js";
import { amount, isolated, percent } from "./format.js";
import { colour, look, made } from "./paint.js";
import { write } from "./rows.js";
import { addressOf, filled, urls, words } from "./told.js";

const MOST_BARS = 600; // then it is read anew, with half as many
const KINDS = ["fast", "slow"];
const CHOSEN = "algo.dashboard.strategy";

export class Price {
  #place = document.getElementById("price");
  #words = document.getElementById("price-words");
  #legend = document.getElementById("price-legend");
  #choice = document.getElementById("drawn");
  #book = document.getElementById("book");
  #chart; #candles; #volume; #averages; #stops; #balance; #marks; #lines = []; #prices;
  #told = null; #times = []; #means = []; #number = 0; #digits = 2;

  // `prices`: market's id to its newest quote.
  constructor(prices) {
    this.#prices = prices;
    this.#chart = made(this.#place, () => this.#digits);
    const { CandlestickSeries, HistogramSeries, LineSeries, createSeriesMarkers } = LightweightCharts;
    const quiet = { priceLineVisible: false, lastValueVisible: false, crosshairMarkerVisible: false };
    this.#volume = this.#chart.addSeries(HistogramSeries, { ...quiet, priceScaleId: "volume", priceFormat: { type: "volume" } });
    this.#candles = this.#chart.addSeries(CandlestickSeries, { borderVisible: false });
    this.#chart.priceScale("volume").applyOptions({ scaleMargins: { top: 0.85, bottom: 0 } });
    this.#averages = KINDS.map(() => this.#chart.addSeries(LineSeries, { ...quiet, lineWidth: 1 }));
    this.#stops = this.#chart.addSeries(LineSeries, { ...quiet, lineWidth: 2, lineType: LightweightCharts.LineType.WithSteps });
    this.#balance = this.#chart.addSeries(LineSeries, { ...quiet, lineWidth: 1, autoscaleInfoProvider: () => ({ priceRange: { minValue: 0, maxValue: 100 } }), priceFormat: { type: "custom", minMove: 1, formatter: (value) => percent(value, 0) } }, 1);
    this.#chart.panes()[0].setStretchFactor(5);
    this.#chart.panes()[1].setStretchFactor(1);
    this.#marks = createSeriesMarkers(this.#candles, []);
    this.painted();
    this.soon = calmly(() => this.load(), { wait: 300, spread: 1_200, rest: 2_000 });
    this.#choice?.addEventListener("change", () => {
      remember(this.#choice.value);
      this.load();
    });
    const kept = remembered();
    if (this.#choice && [...this.#choice.options].some((option) => option.value === kept)) this.#choice.value = kept;
  }

  get strategy() {
    return this.#choice ? Number(this.#choice.value) : null;
  }

  painted() {
    this.#chart.applyOptions(look());
    const [up, down] = [colour("up"), colour("down")];
    this.#candles.applyOptions({ upColor: up, downColor: down, wickUpColor: up, wickDownColor: down });
    this.#volume.applyOptions({ color: colour("faint", 0.3) });
    this.#averages.forEach((series, number) => series.applyOptions({ color: colour(KINDS[number]) }));
    this.#stops.applyOptions({ color: down });
    this.#balance.applyOptions({ color: colour("faint") });
    if (this.#told) this.#deals();
  }

  async load() {
    if (!this.#choice) return;
    const number = (this.#number += 1);
    const told = await ask(addressOf(urls.chart, this.#choice.value));
    if (number !== this.#number) return; // another was chosen meanwhile
    const anew = this.#told?.market_id !== told.market_id || this.#told?.strategy !== told.strategy;
    this.#told = told;
    this.#digits = decimals(told.tick);
    this.#times = told.candles.map((row) => row[0]);
    this.#candles.applyOptions({ priceFormat: { type: "price", precision: this.#digits, minMove: Number(told.tick) } });
    this.#candles.setData(told.candles.map(([time, open, high, low, close]) => ({ time, open, high, low, close })));
    this.#volume.setData(told.candles.map((row) => ({ time: row[0], value: row[5] })));
    this.#means = told.averages.map(({ period, values }) => ({ period, last: values.at(-1) ?? null, time: this.#times.at(-1) }));
    this.#averages.forEach((series, at) => {
      const values = told.averages[at]?.values ?? [];
      series.setData(values.flatMap((value, index) => (value === null ? [] : [{ time: this.#times[index], value }])));
    });
    this.#balance.setData(told.imbalance.map(([time, share]) => ({ time, value: share * 100 })).filter(({ time }) => time >= this.#times[0]));
    this.#deals();
    this.#say();
    this.#book.hidden = true;
    if (this.#prices.has(told.market_id)) this.quote(this.#prices.get(told.market_id));
    if (anew) this.#chart.timeScale().scrollToRealTime();
  }

  // A candle of the market that the strategy reads, running or closed.
  candle(row) {
    if (!this.#told || row.market !== this.#told.data_market_id || row.resolution !== this.#told.resolution) return;
    const time = Math.floor(Date.parse(row.time) / 1000);
    const last = this.#times.at(-1);
    if (last !== undefined && time < last) return;
    const [open, high, low, close] = [row.open, row.high, row.low, row.close].map(Number);
    if (time !== last) this.#times.push(time);
    this.#candles.update({ time, open, high, low, close });
    this.#volume.update({ time, value: Number(row.volume) });
    this.#means.forEach((mean, at) => {
      if (mean.last === null || time <= mean.time) return;
      const value = mean.last + (2 / (mean.period + 1)) * (close - mean.last);
      this.#averages[at].update({ time, value });
      if (row.closed) Object.assign(mean, { last: value, time });
    });
    if (row.closed) this.#say();
    if (this.#times.length > MOST_BARS) this.soon();
  }

  // A quote of the market it trades at, with the weight of its book: bids over asks.
  quote({ market, imbalance }) {
    if (!this.#told || market !== this.#told.market_id || imbalance === null) return;
    const share = Number(imbalance) / (1 + Number(imbalance));
    this.#book.hidden = false;
    write(this.#book.firstElementChild, filled(words.chart.bids, percent(share * 100, 0)));
    this.#book.lastElementChild.value = share;
    const time = this.#times.at(-1);
    if (time !== undefined) this.#balance.update({ time, value: share * 100 });
  }

  // What the deals did, at the candles in which they did it.
  #deals() {
    const { marks, stops } = this.#told;
    const [entry, exit, none, red] = [colour("entry"), colour("exit"), "rgba(0, 0, 0, 0)", colour("down")];
    this.#marks.setMarkers(
      marks.filter((mark) => mark.time >= this.#times[0]).map((mark) => ({
        time: this.#barOf(mark.time),
        position: mark.side === "BUY" ? "belowBar" : "aboveBar",
        shape: mark.side === "BUY" ? "arrowUp" : "arrowDown",
        color: mark.entry ? entry : exit,
      })),
    );
    const points = new Map();
    for (const { steps, until } of stops) {
      const before = this.#times[this.#times.indexOf(this.#barOf(steps[0][0])) - 1];
      if (before !== undefined && !points.has(before)) points.set(before, { value: steps[0][1], color: none }); // no edge
      for (const [at, value] of steps) points.set(this.#barOf(at), { value, color: red });
      const end = until === null ? this.#times.at(-1) : this.#barOf(until);
      points.set(end, { value: steps.at(-1)[1], color: none }); // what follows it, up to the next deal
    }
    points.delete(undefined);
    this.#stops.setData([...points].sort(([a], [b]) => a - b).map(([time, point]) => ({ time, ...point })));
    for (const line of this.#lines) this.#candles.removePriceLine(line);
    const open = stops.filter((line) => line.until === null);
    this.#lines = open.flatMap(({ steps, target }) => [
      this.#line(steps.at(-1)[1], words.chart.stop, "down"),
      ...(target === null ? [] : [this.#line(target, words.chart.target, "up")]),
    ]);
  }

  #line(price, title, name) {
    return this.#candles.createPriceLine({ price, title, color: colour(name), lineWidth: 1, lineStyle: LightweightCharts.LineStyle.Dashed });
  }

  // The last candle that had begun by then.
  #barOf(time) {
    let [low, high] = [0, this.#times.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#times[middle] <= time) low = middle + 1;
      else high = middle;
    }
    return this.#times[Math.max(low - 1, 0)];
  }

  #say() {
    const { chart } = words;
    const bar = this.#candles.data().at(-1);
    if (!bar) {
      write(this.#words, chart.empty);
      return;
    }
    const { marks, averages, data_market: market } = this.#told;
    const entries = marks.filter((mark) => mark.entry).length;
    const told = { market: isolated(market), close: amount(bar.close, this.#digits), entries: amount(entries), exits: amount(marks.length - entries) };
    write(this.#words, filled(chart.summary, told));
    const names = averages.map(({ period }, at) => [KINDS[at], filled(chart.average, amount(period))]);
    const legend = [...names, ...["entry", "exit", "stop", "target"].map((kind) => [kind, chart[kind]])];
    this.#legend.replaceChildren(...legend.map(([kind, text]) => entryOf(kind, text)));
  }
}

function entryOf(kind, text) {
  const item = document.createElement("li");
  item.dataset.kind = kind;
  const line = document.createElement("i");
  line.setAttribute("aria-hidden", "true");
  item.append(line, text);
  return item;
}

const decimals = (tickSize) => (tickSize.split(".")[1] ?? "").length;

function remember(value) {
  try {
    localStorage.setItem(CHOSEN, value);
  } catch {
    // a closed store: the first one is drawn next time
  }
}

function remembered() {
  try {
    return localStorage.getItem(CHOSEN);
  } catch {
    return null;
  }
}
