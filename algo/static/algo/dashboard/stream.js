// The one connection. It comes back by itself, goes on where it was, and says how it is; while it is away for long,
// the page looks by itself, slowly.
const LONGEST_WAIT = 30_000;
const POLLS_AFTER = 5_000;
const POLL_EVERY = 15_000;
const KINDS = ["deal", "order", "fill", "signal", "strategy", "ticket", "quote", "candle", "alarm", "system", "reset"];

export class Stream {
  #address; #told; #source = null; #markets = ""; #last = ""; #fails = 0; #timer = 0; #lostSince = 0; #poll = 0; #flows = true; #hasBegun = false;

  // `told`: event(kind, data), state(name), reload() reads everything anew.
  constructor(address, told) {
    this.#address = address;
    this.#told = told;
    window.addEventListener("online", () => this.#lostSince && this.#open());
    window.setInterval(() => this.#look(), 1_000);
  }

  // The newest event that was heard, "" before the first.
  get place() {
    return this.#last;
  }

  // The markets whose prices are wanted. The first call connects; a change connects anew.
  watch(markets) {
    const wanted = [...markets].sort((a, b) => a - b).join(",");
    if (this.#source && wanted === this.#markets) return;
    this.#markets = wanted;
    this.#open();
  }

  #open() {
    window.clearTimeout(this.#timer);
    this.#source?.close();
    const asked = new URLSearchParams({ markets: this.#markets });
    if (this.#last) asked.set("last_event_id", this.#last);
    const source = new EventSource(`${this.#address}?${asked}`, { withCredentials: true });
    this.#source = source;
    source.addEventListener("hello", (event) => this.#hello(event));
    source.addEventListener("error", () => source === this.#source && this.#lost(source));
    for (const kind of KINDS) source.addEventListener(kind, (event) => this.#heard(kind, event));
  }

  #hello(event) {
    const knew = this.#last;
    this.#note(event);
    this.#hasBegun = true;
    this.#fails = this.#lostSince = this.#poll = 0;
    this.#state();
    if (!knew) this.#told.reload(); // nothing was read before it, so nothing can have been missed
  }

  #heard(kind, event) {
    this.#note(event);
    const data = JSON.parse(event.data);
    if (kind === "reset") this.#told.reload();
    else if (kind === "system" && data.what === "updates") {
      this.#flows = data.flowing;
      this.#state();
    } else this.#told.event(kind, data);
  }

  #note(event) {
    if (event.lastEventId) this.#last = event.lastEventId;
  }

  #lost(source) {
    this.#lostSince ||= performance.now();
    this.#state();
    if (!this.#hasBegun) this.#told.reload(); // there is something to see also without it
    this.#hasBegun = true;
    if (source.readyState !== EventSource.CLOSED) return; // the browser tries again by itself
    this.#fails += 1;
    const wait = Math.min(1_000 * 2 ** (this.#fails - 1), LONGEST_WAIT) * (0.5 + Math.random());
    window.clearTimeout(this.#timer);
    this.#timer = window.setTimeout(() => this.#open(), wait);
  }

  #state() {
    const away = this.#lostSince ? performance.now() - this.#lostSince : 0;
    this.#told.state(away > POLLS_AFTER ? "polling" : away || this.#lostSince ? "lost" : this.#flows ? "live" : "waiting");
  }

  #look() {
    if (!this.#lostSince) return;
    this.#state();
    const now = performance.now();
    if (document.hidden || now - this.#lostSince < POLLS_AFTER || now - this.#poll < POLL_EVERY) return;
    this.#poll = now;
    this.#told.reload();
  }
}
