// Another strategy has other parameters: ask for the page again, with what was entered so far.
document.addEventListener("change", (event) => {
  if (!(event.target instanceof HTMLSelectElement) || event.target.dataset.reloads !== "strategy") return;
  const query = new URLSearchParams();
  for (const [name, value] of new FormData(event.target.form)) {
    const ours = name === "csrfmiddlewaretoken" || name === "shown_parameters" || name.startsWith("parameter_");
    if (!ours && !name.startsWith("_") && typeof value === "string" && value) query.set(name, value);
  }
  window.location.search = query.toString();
});

// On a new strategy's page the first field takes the focus, and with it the window: away from what was asked for.
window.addEventListener("load", () => document.getElementById("preview")?.scrollIntoView());
