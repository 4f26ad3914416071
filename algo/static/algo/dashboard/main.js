// The page comes to life: reads what stands, then listens.
import { ask, calmly } from "./ask.js";
import { Deals } from "./deals.js";
import { Equity } from "./equity.js";
import { isolated } from "./format.js";
import { Price } from "./price.js";
import { write } from "./rows.js";
import { Signals } from "./signals.js";
import { Stream } from "./stream.js";
import { filled, urls, words } from "./told.js";

const PAINT_EVERY = 250; // milliseconds; eyes follow no more
const LOOK_EVERY = 30_000; // for what falls silent, which nobody tells

const MOST_WAITING = 1_000; // events while everything is read anew; more, and it is read once more

let waiting = null;
const prices = new Map(); // market's id to its newest quote; as many as are listened to
const changed = new Set();
const deals = new Deals(prices);
const signals = new Signals();
const price = new Price(prices);
const equity = new Equity();
const connection = document.getElementById("connection");
const said = document.getElementById("said");
const main = document.getElementById("main");
const state = calmly(() => htmx.trigger("#state", "refresh"), { wait: 300, spread: 1_200, rest: 5_000 });

const stream = new Stream(urls.live, {
  state(name) {
    if (connection.dataset.state === name) return;
    connection.dataset.state = name;
    write(connection, words.connection[name]);
  },
  reload,
  event(kind, row) {
    if (!waiting || kind === "quote" || kind === "candle") handlers[kind]?.(row);
    else if (waiting.length < MOST_WAITING && kind in handlers) waiting.push([kind, row]);
  },
});

const handlers = {
  deal(row) {
    const known = deals.get(row.id) ?? row;
    const became = deals.put(row);
    if (became === "nothing") return;
    if (words.said[became]) {
      const told = { market: isolated(known.market.symbol), strategy: isolated(known.config_name) };
      write(said, filled(words.said[became], told));
      equity.soon();
    }
    if (!prices.has(known.market.id)) watch();
    if (known.config === price.strategy) price.soon();
    state();
  },
  fill: () => state(),
  signal: (row) => signals.put(row),
  strategy: () => state(),
  ticket: () => state(),
  alarm: () => state(),
  system: () => state(),
  quote(row) {
    prices.set(row.market, row);
    changed.add(row.market);
    paint();
    price.quote(row);
  },
  candle: (row) => price.candle(row),
};

const paint = calmly(() => {
  deals.priced(changed);
  changed.clear();
}, { wait: 0, rest: PAINT_EVERY });

// Everything anew, by REST. What fails is read with the next one. What happens meanwhile is newer than the answers: it
// waits for them.
async function reload() {
  waiting ??= [];
  main.setAttribute("aria-busy", "true");
  const parts = [
    ask(urls.deals).then(({ results }) => deals.reset(results)),
    ask(urls.signals).then(({ results }) => signals.reset(results)),
    watch(),
    price.load(),
    equity.load(),
  ];
  state();
  const failed = (await Promise.allSettled(parts)).filter(({ status }) => status === "rejected");
  for (const { reason } of failed) console.warn(reason.message);
  const [events, tooMany] = [waiting ?? [], waiting?.length >= MOST_WAITING];
  waiting = null;
  if (tooMany) return reload();
  for (const [kind, row] of events) handlers[kind](row);
  main.setAttribute("aria-busy", "false");
}

// Which markets are to be listened to, and where they stand.
async function watch() {
  const { markets, quotes } = await ask(urls.quotes);
  const wanted = new Set(markets);
  for (const market of [...prices.keys()]) if (!wanted.has(market)) prices.delete(market);
  for (const quote of quotes) {
    const known = prices.get(quote.market);
    if (!known || Date.parse(known.at) < Date.parse(quote.at)) prices.set(quote.market, { ...quote, imbalance: known?.imbalance ?? null });
  }
  deals.priced(wanted);
  stream.watch(markets);
}

// --- the theme ---

const THEMES = ["auto", "light", "dark"];
const button = document.getElementById("theme");
const root = document.documentElement;

function themed() {
  if (button) write(button, words.theme[root.dataset.theme ?? "auto"]);
  price.painted();
  equity.painted();
}

button?.addEventListener("click", () => {
  const next = THEMES[(THEMES.indexOf(root.dataset.theme ?? "auto") + 1) % THEMES.length];
  if (next === "auto") delete root.dataset.theme;
  else root.dataset.theme = next;
  try {
    localStorage.setItem("adminTheme", JSON.stringify(next));
  } catch {
    // a closed store: chosen for this page alone
  }
  themed();
});
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", themed);
themed();

// --- the server's own parts ---

// All pages that heard the same event share one answer of the server.
document.body.addEventListener("htmx:configRequest", (event) => {
  event.detail.parameters.after = stream.place;
});
// What is the same is left alone: nothing is read aloud again, and no focus is lost.
document.body.addEventListener("htmx:oobBeforeSwap", (event) => {
  const { target, fragment } = event.detail;
  if (fragment.firstElementChild?.innerHTML === target.innerHTML) event.detail.shouldSwap = false;
});
document.body.addEventListener("htmx:afterOnLoad", (event) => {
  if (event.detail.xhr.responseURL.includes("/login/")) window.location.reload();
});
window.setInterval(() => document.hidden || state(), LOOK_EVERY);
document.addEventListener("visibilitychange", () => document.hidden || state());

watch().catch(() => stream.watch([]));
