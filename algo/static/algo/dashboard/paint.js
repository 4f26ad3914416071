// What both charts have in common: the page's colours, words and calendar.
import { amount, momentOf, tick } from "./format.js";

const probe = document.createElement("span");
probe.hidden = true;
document.body.append(probe);

// A colour of the style sheet as it is now, in light or dark.
export function colour(name, opacity = 1) {
  probe.style.color = `var(--${name})`;
  const [red, green, blue] = getComputedStyle(probe).color.match(/[\d.]+/g);
  return `rgba(${red}, ${green}, ${blue}, ${opacity})`;
}

export function look() {
  return {
    layout: {
      background: { type: "solid", color: "rgba(0, 0, 0, 0)" },
      textColor: colour("faint"),
      fontFamily: getComputedStyle(document.body).fontFamily,
      attributionLogo: false, // it writes a style element, which the page's policy forbids; the footer names the library
      panes: { separatorColor: colour("line"), separatorHoverColor: colour("line"), enableResize: false },
    },
    grid: { vertLines: { color: colour("grid") }, horzLines: { color: colour("grid") } },
    rightPriceScale: { borderColor: colour("line") },
    timeScale: { borderColor: colour("line") },
  };
}

export function made(place, digits) {
  return LightweightCharts.createChart(place, {
    ...look(),
    autoSize: true,
    handleScroll: { vertTouchDrag: false }, // a finger scrolls the page
    handleScale: { mouseWheel: false },
    localization: { priceFormatter: (price) => amount(price, digits()), timeFormatter: momentOf },
    timeScale: { ...look().timeScale, timeVisible: true, secondsVisible: false, tickMarkFormatter: tick, rightOffset: 4 },
  });
}
