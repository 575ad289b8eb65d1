/** How the temperatures are distributed: a histogram, its table, and the least, the mean and the greatest. */
import { useMemo } from "preact/hooks";
import { basics, Chart, colour, scheme, warmth } from "./chart.js";
import { html } from "./html.js";
import { span } from "./map.js";
import { count, degrees, whole } from "./text.js";

const MOST_BINS = 16;
const WIDTHS = [0.5, 1, 2, 5, 10];

/** @param {number[]} values @returns {{from: number, to: number, cities: number}[]} */
function histogram(values) {
  const low = values.reduce((a, b) => Math.min(a, b));
  const high = values.reduce((a, b) => Math.max(a, b));
  const width = WIDTHS.find((one) => (high - low) / one < MOST_BINS - 1) ?? 20;
  const first = Math.floor(low / width) * width;
  const bins = Array.from({ length: Math.floor((high - first) / width) + 1 }, (_, at) => ({
    from: first + at * width,
    to: first + (at + 1) * width,
    cities: 0,
  }));
  for (const value of values) bins[Math.min(Math.floor((value - first) / width), bins.length - 1)].cities += 1;
  return bins;
}

function histogramOption(bins, [from, to]) {
  const label = { color: colour("muted"), fontSize: 12 };
  return {
    ...basics(),
    grid: { left: 34, right: 8, top: 12, bottom: 26 },
    tooltip: {
      ...basics().tooltip,
      trigger: "item",
      formatter: ({ dataIndex: at }) => `${bins[at].from} to ${bins[at].to} °C\n${count(bins[at].cities, "city", "cities")}`,
    },
    xAxis: {
      type: "category",
      data: bins.map((bin) => bin.from),
      axisLine: { lineStyle: { color: colour("rule") } },
      axisTick: { show: false },
      axisLabel: { ...label, hideOverlap: true, formatter: (value) => `${value}°` },
    },
    yAxis: { minInterval: 1, splitNumber: 3, axisLabel: label, splitLine: { lineStyle: { color: colour("rule") } } },
    series: [
      {
        type: "bar",
        barCategoryGap: "8%",
        data: bins.map((bin) => ({
          value: bin.cities,
          itemStyle: { color: warmth(((bin.from + bin.to) / 2 - from) / (to - from)) },
        })),
      },
    ],
  };
}

/** @param {{rows: any[]}} props */
export function Distribution({ rows }) {
  const measured = useMemo(() => rows.filter((row) => row.temperature !== null), [rows]);
  const values = measured.map((row) => row.temperature);
  const bins = useMemo(() => (values.length ? histogram(values) : []), [measured]);
  const option = useMemo(() => histogramOption(bins, values.length ? span(measured) : [0, 1]), [bins, scheme.value]);
  if (!values.length) return html`<div class="distribution"><div class="skeleton"></div></div>`;
  const coldest = measured.reduce((a, b) => (b.temperature < a.temperature ? b : a));
  const warmest = measured.reduce((a, b) => (b.temperature > a.temperature ? b : a));
  const mean = values.reduce((a, b) => a + b) / values.length;
  return html`
    <section class="distribution" aria-labelledby="distribution-title">
      <h2 id="distribution-title">Temperatures</h2>
      <dl class="extremes">
        <div><dt>Lowest</dt><dd>${degrees(coldest.temperature)} <span class="of">${coldest.name ?? `City ${coldest.city_id}`}</span></dd></div>
        <div><dt>Mean</dt><dd>${degrees(mean)}</dd></div>
        <div><dt>Highest</dt><dd>${degrees(warmest.temperature)} <span class="of">${warmest.name ?? `City ${warmest.city_id}`}</span></dd></div>
      </dl>
      <${Chart} kind="histogram" option=${option} label="How many cities have which temperature. The table has the figures." />
      <details>
        <summary>Show as a table</summary>
        <div class="scroll" tabindex="0" role="region" aria-label="Cities by temperature">
          <table>
            <thead><tr><th scope="col">Temperature</th><th scope="col" class="figure">Cities</th></tr></thead>
            <tbody>${bins.map((bin) => html`<tr key=${bin.from}><td class="figure">${bin.from} to ${bin.to} °C</td><td class="figure">${whole(bin.cities)}</td></tr>`)}</tbody>
          </table>
        </div>
      </details>
    </section>
  `;
}
