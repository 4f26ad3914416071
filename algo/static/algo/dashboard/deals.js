// Open deals: rows as the API gives them, prices as they come.
import { amount, digitsOf, percent, signed, unit } from "./format.js";
import { Rows, write } from "./rows.js";
import { addressOf, filled, limits, platformNow, urls, words } from "./told.js";

const LIVE = new Set(["PLANNED", "ENTERING", "OPEN", "EXITING"]);

export class Deals {
  #rows = new Rows("deal", limits.deals);
  #deals = new Map();
  #prices;
  #count = document.getElementById("deals-count");

  // `prices`: market's id to its newest quote.
  constructor(prices) {
    this.#prices = prices;
    window.setInterval(() => this.#tick(), 1_000);
  }

  reset(list) {
    const ids = new Set(list.map((deal) => deal.id));
    this.#rows.keep(ids);
    for (const id of [...this.#deals.keys()]) if (!ids.has(id)) this.#deals.delete(id);
    for (const deal of list.toReversed()) this.put(deal);
    this.#counted();
  }

  // What became of it: "opened", "closed", "changed", or "nothing" where it is not of these.
  put(deal) {
    const knew = this.#deals.get(deal.id);
    if (deal.removed || !LIVE.has(deal.status)) {
      this.#deals.delete(deal.id);
      this.#rows.remove(deal.id);
      this.#counted();
      return knew ? "closed" : "nothing";
    }
    const places = this.#rows.put(deal.id);
    if (!this.#rows.has(deal.id)) return "nothing";
    this.#deals.set(deal.id, deal);
    for (const id of [...this.#deals.keys()]) if (!this.#rows.has(id)) this.#deals.delete(id);
    this.#describe(deal, places);
    this.#price(deal, places);
    this.#protection(deal, places);
    this.#counted();
    return knew && knew.status === deal.status ? "changed" : deal.status === "OPEN" ? "opened" : "changed";
  }

  get(id) {
    return this.#deals.get(id);
  }

  markets() {
    return [...this.#deals.values()].map((deal) => deal.market.id);
  }

  // Prices of these markets changed.
  priced(markets) {
    for (const deal of this.#deals.values()) if (markets.has(deal.market.id)) this.#price(deal, this.#rows.put(deal.id));
  }

  #describe(deal, places) {
    places.link.href = addressOf(urls.deal, deal.id);
    places.link.id ||= `deal-${deal.id}`;
    write(places.link, `#${deal.id}`);
    write(places.strategy, deal.config_name);
    write(places.market, `${deal.market.symbol} · ${words.providers[deal.market.provider]}`);
    write(places.side, `${words.sides[deal.side]} · ${words.statuses[deal.status]}`);
    write(places.entry, deal.entry_price === null ? "…" : amount(deal.entry_price));
    write(places.stop, amount(deal.stop_price));
    write(places.target, deal.target_price === null ? "" : amount(deal.target_price));
    places.row.dataset.status = deal.status;
  }

  #price(deal, places) {
    const quote = this.#prices.get(deal.market.id);
    const sign = deal.side === "BUY" ? 1 : -1;
    const text = quote && (sign > 0 ? quote.bid : quote.ask); // what it would be closed at
    if (!text) {
      for (const name of ["price", "profit", "to-stop", "to-target"]) write(places[name], "…");
      return;
    }
    const price = Number(text);
    write(places.price, amount(text));
    write(places["to-stop"], percent((sign * (price - Number(deal.stop_price)) * 100) / price));
    const target = deal.target_price === null ? null : (sign * (Number(deal.target_price) - price) * 100) / price;
    write(places["to-target"], target === null ? "…" : percent(target));
    if (deal.entry_price === null) {
      write(places.profit, "…", "");
      return;
    }
    const held = Number(deal.entry_quantity) - Number(deal.exit_quantity);
    const profit = sign * held * (price - Number(deal.entry_price));
    write(places.profit, `${signed(profit, digitsOf(deal.market.quote))} ${unit(deal.market.quote)}`, profit > 0 ? "up" : profit < 0 ? "down" : "");
  }

  #protection(deal, places) {
    const { protection } = words;
    if (deal.unprotected_since) {
      const seconds = Math.max(0, Math.floor((platformNow() - Date.parse(deal.unprotected_since)) / 1000));
      write(places.protection, filled(protection.bare, amount(seconds)), "badge bad");
    } else if (Number(deal.entry_quantity) > 0) {
      write(places.protection, protection.protected, "badge good");
    } else write(places.protection, protection.waits, "badge calm");
    write(places.mode, protection[deal.protection_mode]);
  }

  #tick() {
    for (const deal of this.#deals.values()) if (deal.unprotected_since) this.#protection(deal, this.#rows.put(deal.id));
  }

  #counted() {
    write(this.#count, this.#deals.size ? amount(this.#deals.size) : "");
  }
}
