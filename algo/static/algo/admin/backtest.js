// A backtest that waits or runs: look again after a while.
const waits = document.querySelector("[data-reload-after]");
if (waits) window.setTimeout(() => window.location.reload(), Number(waits.dataset.reloadAfter));
