/** Charts on a canvas. Whoever draws one also shows its figures as text or as a table. */
import { signal } from "@preact/signals";
import { useEffect, useRef, useState } from "preact/hooks";
import { html } from "./html.js";

/** Changes when the system turns light or dark. */
export const scheme = signal(matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", (event) => {
  scheme.value = event.matches ? "dark" : "light";
});

/** @param {string} name of a custom property in page.css @returns {string} its colour now */
export const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

const SCALE = ["#2f5f93", "#5a97b5", "#9fc3b4", "#e0c46f", "#d98742", "#ab3b2c"].map((hex) =>
  [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16)),
);

/** @param {number} share 0: coldest, 1: warmest; page.css has the same scale */
export function warmth(share) {
  const place = Math.min(Math.max(share, 0), 1) * (SCALE.length - 1);
  const from = SCALE[Math.floor(place)];
  const to = SCALE[Math.ceil(place)];
  return `rgb(${from
    .map((value, at) => Math.round(value + (to[at] - value) * (place % 1)))
    .join(" ")
    .replaceAll(" ", ", ")})`;
}

/** What all charts have alike. */
export const basics = () => ({
  animation: false,
  textStyle: { fontFamily: getComputedStyle(document.body).fontFamily, color: colour("muted") },
  tooltip: {
    renderMode: "richText", // as HTML it would have inline styles
    confine: true,
    backgroundColor: colour("surface"),
    borderColor: colour("rule"),
    borderWidth: 1,
    textStyle: { color: colour("ink"), fontSize: 13 },
  },
});

let library;
const load = () => (library ??= import("echarts"));

/**
 * @param {{option: object, label: string, kind: string, prepare?: (echarts: any) => Promise<void>}} props
 *   `label`: what it shows, for those who do not see it; `kind`: its class
 */
export function Chart({ option, label, kind, prepare }) {
  const place = useRef();
  const chart = useRef();
  const [isLost, setIsLost] = useState(false);
  const latest = useRef(option);
  latest.current = option;
  useEffect(() => {
    let gone = false;
    // A chart without a size, as of an element that was just removed, cannot be drawn.
    const resized = new ResizeObserver(() => place.current?.clientWidth && chart.current?.resize());
    const draw = async () => {
      const echarts = await load();
      await prepare?.(echarts);
      if (gone) return;
      chart.current = echarts.init(place.current);
      chart.current.setOption(latest.current);
      resized.observe(place.current);
    };
    draw().catch(() => !gone && setIsLost(true)); // the producer is away, or has files of another version now
    return () => {
      gone = true;
      resized.disconnect();
      chart.current?.dispose();
      chart.current = null;
    };
  }, []);
  useEffect(() => chart.current?.setOption(option, { notMerge: true }), [option]);
  if (isLost) return html`<p class="chart ${kind} empty">The chart cannot be loaded. Reload the page to try again.</p>`;
  return html`<div class="chart ${kind}" role="img" aria-label=${label} ref=${place}></div>`;
}
