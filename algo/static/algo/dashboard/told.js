// What the server told the page once: addresses, words, limits.
const told = JSON.parse(document.getElementById("told").textContent);
const begun = performance.now();
export const { urls, words, limits, zone } = told;

// The platform's own time, which in a replay is another and runs faster.
export const platformNow = () => told.clock.now + (performance.now() - begun) * told.clock.speed;

// "%s" and "%(name)s", as the translated sentences have them.
export function filled(sentence, values) {
  if (values === null || typeof values !== "object") return sentence.replace("%s", values);
  return sentence.replace(/%\((\w+)\)s/g, (_, name) => values[name]);
}

export const addressOf = (pattern, id) => pattern.replace("/0", `/${id}`);
