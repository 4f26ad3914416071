// Numbers and times as this reader reads them: language, digits and calendar stand on the page's root.
import { words, zone } from "./told.js";

const { lang, dir, dataset } = document.documentElement;
const numbering = dataset.digits === "persian" ? "arabext" : "latn";
const calendar = dataset.calendar === "jalali" ? "persian" : "gregory";
const percentSign = numbering === "arabext" ? "٪" : dir === "rtl" ? "%" : " %";
const numbers = `${lang}-u-nu-${numbering}`;
const dates = `${lang}-u-ca-${calendar}-nu-${numbering}`;
const made = new Map(); // one formatter for each number of decimals: a few

function formatter(least, most, sign) {
  const name = `${least} ${most} ${sign}`;
  if (!made.has(name)) {
    const options = { minimumFractionDigits: least, maximumFractionDigits: most, signDisplay: sign };
    made.set(name, new Intl.NumberFormat(numbers, options));
  }
  return made.get(name);
}

// Text stays exact: it is never made a float on the way.
export const amount = (value, most = 8, least = 0) => formatter(least, most, "auto").format(value);
export const signed = (value, most = 2) => formatter(0, most, "exceptZero").format(value);
export const percent = (value, most = 2) => formatter(most, most, "auto").format(value) + percentSign;
export const unit = (asset) => words.units[asset] ?? asset;
// A symbol or name in a sentence that may run from right to left.
export const isolated = (text) => (dir === "rtl" ? `\u2068${text}\u2069` : text);
export const digitsOf = (quote) => (quote === "IRT" || quote === "TMN" ? 0 : 2);

const options = { timeZone: zone };
const clock = new Intl.DateTimeFormat(dates, { ...options, hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const minute = new Intl.DateTimeFormat(dates, { ...options, hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const day = new Intl.DateTimeFormat(dates, { ...options, day: "numeric", month: "short" });
const month = new Intl.DateTimeFormat(dates, { ...options, month: "short", year: "numeric" });
const whole = new Intl.DateTimeFormat(dates, { ...options, year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", hourCycle: "h23" });

export const timeOfDay = (iso) => clock.format(new Date(iso));
export const moment = (iso) => whole.format(new Date(iso));
export const momentOf = (seconds) => whole.format(seconds * 1000);
// Of a chart's axis: year 0, month 1, day 2, time 3, with seconds 4.
export function tick(seconds, kind) {
  const format = kind >= 4 ? clock : kind === 3 ? minute : kind === 2 ? day : month;
  return format.format(seconds * 1000);
}
