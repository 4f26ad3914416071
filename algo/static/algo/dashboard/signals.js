// What the strategies said, newest first, in words.
import { timeOfDay } from "./format.js";
import { Rows, write } from "./rows.js";
import { addressOf, filled, limits, urls, words } from "./told.js";

export class Signals {
  #rows = new Rows("signal", limits.signals);

  reset(list) {
    this.#rows.keep(new Set(list.map((signal) => signal.id)));
    for (const signal of list.toReversed()) this.put(signal);
  }

  put(signal) {
    if (signal.removed) {
      this.#rows.remove(signal.id);
      return;
    }
    const fresh = !this.#rows.has(signal.id);
    const places = this.#rows.put(signal.id);
    if (fresh) places.row.classList.add("fresh");
    places.time.href = addressOf(urls.signal, signal.id);
    places.time.id ||= `signal-${signal.id}`;
    write(places.time, timeOfDay(signal.created_at));
    write(places.strategy, signal.config_name);
    write(places.side, words.sides[signal.side]);
    write(places.reason, words.reasons[signal.reason.toUpperCase()] ?? signal.reason);
    write(places.outcome, ...outcome(signal));
    places.outcome.title = signal.denial_message;
  }
}

function outcome(signal) {
  const { signal: said, denials } = words;
  if (signal.denial_code) return [filled(said.denied, denials[signal.denial_code] ?? signal.denial_code), "faint"];
  return signal.deal ? [filled(said.entered, `#${signal.deal}`), "up"] : [said.nothing, "faint"];
}
