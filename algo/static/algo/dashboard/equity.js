// The curve of what was earned.
import { ask, calmly } from "./ask.js";
import { amount, digitsOf, isolated, moment, signed, unit } from "./format.js";
import { colour, look, made } from "./paint.js";
import { write } from "./rows.js";
import { filled, urls, words } from "./told.js";

export class Equity {
  #place = document.getElementById("equity");
  #words = document.getElementById("equity-words");
  #notes = document.getElementById("equity-notes");
  #asked = { span: "day", currency: "USDT" };
  #chart; #series; #number = 0;

  constructor() {
    this.#chart = made(this.#place, () => digitsOf(this.#asked.currency));
    this.#series = this.#chart.addSeries(LightweightCharts.BaselineSeries, { baseValue: { type: "price", price: 0 }, lineWidth: 2, priceLineVisible: false });
    this.painted();
    for (const name of ["span", "currency"]) {
      document.getElementById(name).addEventListener("change", (event) => {
        this.#asked[name] = event.target.value;
        this.load();
      });
      this.#asked[name] = document.querySelector(`input[name=${name}]:checked`).value; // kept by the browser
    }
    this.soon = calmly(() => this.load(), { wait: 500, spread: 2_000, rest: 5_000 });
  }

  painted() {
    this.#chart.applyOptions(look());
    this.#series.applyOptions({
      topLineColor: colour("up"), topFillColor1: colour("up", 0.25), topFillColor2: colour("up", 0.02),
      bottomLineColor: colour("down"), bottomFillColor1: colour("down", 0.02), bottomFillColor2: colour("down", 0.25),
    });
  }

  async load() {
    const number = (this.#number += 1);
    const curve = await ask(`${urls.equity}?${new URLSearchParams(this.#asked)}`);
    if (number !== this.#number) return; // something else was asked for meanwhile
    const points = curve.points.map(([time, value]) => ({ time, value }));
    if (points.length && curve.start) {
      const time = Math.floor(Date.parse(curve.start) / 1000);
      if (time < points[0].time) points.unshift({ time, value: 0 });
    }
    this.#series.setData(points);
    this.#chart.timeScale().fitContent();
    this.#say(curve);
  }

  #say(curve) {
    const { equity } = words;
    const currency = document.querySelector(`input[name=currency][value=${curve.currency}] + span`).textContent;
    const told = { total: signed(curve.total, digitsOf(curve.currency)), currency };
    write(this.#words, curve.points.length ? filled(equity.summary, told) : equity.empty);
    const notes = curve.left_out.map((each) =>
      filled(equity.left_out, { quote: unit(each.quote), deals: amount(each.deals), profit: signed(each.profit, digitsOf(each.quote)), first: moment(each.first), last: moment(each.last) }),
    );
    if (curve.sources.length) notes.unshift(filled(equity.sources, isolated(curve.sources.join(", "))));
    write(this.#notes, notes.join(" "));
  }
}
