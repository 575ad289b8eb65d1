/** A map of cities, coloured by their temperatures. */
import { useMemo } from "preact/hooks";
import { basics, Chart, colour, scheme, warmth } from "./chart.js";
import { html } from "./html.js";
import { count, degrees } from "./text.js";

/** Degrees Celsius: above, the legend ends at multiples of 5, else of 2. */
const WIDE = 15;
const LEAST_SPAN = 3;

/** @param {any[]} rows @returns {[number, number]} degrees Celsius, whole steps around all temperatures */
export function span(rows) {
  const temperatures = rows.map((row) => row.temperature);
  const low = temperatures.reduce((a, b) => Math.min(a, b), Infinity);
  const high = temperatures.reduce((a, b) => Math.max(a, b), -Infinity);
  const step = high - low > WIDE ? 5 : 2;
  const from = Math.floor(low / step) * step;
  return [from, Math.max(Math.ceil(high / step) * step, from + step)];
}

let borders;

/** Have the countries' borders drawn below. */
async function prepare(echarts) {
  borders ??= Promise.all([
    import("topojson"),
    fetch(new URL("./vendor/countries-50m.json", import.meta.url)).then((answer) => answer.json()),
  ]).then(([{ default: feature }, atlas]) => echarts.registerMap("world", feature(atlas, "countries")));
  borders.catch(() => (borders = undefined)); // the next map tries again
  await borders;
}

/** A box around the cities: [[west, north], [east, south]]. */
function box(rows) {
  const bounds = (name) =>
    rows.reduce(([low, high], row) => [Math.min(low, row[name]), Math.max(high, row[name])], [Infinity, -Infinity]);
  const wide = ([low, high], least, most) => {
    const margin = Math.max((high - low) * 0.12, (LEAST_SPAN - (high - low)) / 2);
    return [Math.max(low - margin, least), Math.min(high + margin, most)];
  };
  const [west, east] = wide(bounds("longitude"), -180, 180);
  const [south, north] = wide(bounds("latitude"), -85, 85);
  return [
    [west, north],
    [east, south],
  ];
}

function mapOption(rows, [from, to]) {
  const bounds = box(rows);
  const middle = ((bounds[0][1] + bounds[1][1]) / 2) * (Math.PI / 180);
  return {
    ...basics(),
    tooltip: {
      ...basics().tooltip,
      trigger: "item",
      formatter: ({ data }) => `${data.name}  ${degrees(data.value[2])}`,
    },
    geo: {
      map: "world",
      boundingCoords: bounds,
      aspectScale: Math.cos(middle),
      top: 0,
      bottom: 0,
      left: 0,
      right: 0,
      silent: true,
      itemStyle: { areaColor: colour("land"), borderColor: colour("border"), borderWidth: 0.8 },
    },
    series: [
      {
        type: "scatter",
        coordinateSystem: "geo",
        symbolSize: rows.length > 1_500 ? 5 : rows.length > 400 ? 7 : 10,
        data: rows.map((row) => ({
          name: row.name ?? String(row.city_id),
          value: [row.longitude, row.latitude, row.temperature],
          itemStyle: { color: warmth((row.temperature - from) / (to - from)) },
        })),
        itemStyle: { borderColor: colour("surface"), borderWidth: 0.8, opacity: 0.95 },
        emphasis: { scale: 1.4 },
      },
    ],
  };
}

/** @param {{rows: any[]}} props */
export function WeatherMap({ rows }) {
  const places = useMemo(
    () => rows.filter((row) => row.temperature !== null && row.latitude != null && row.longitude != null),
    [rows],
  );
  const scale = useMemo(() => (places.length ? span(places) : [0, 1]), [places]);
  const option = useMemo(() => places.length && mapOption(places, scale), [places, scheme.value]);
  if (!places.length) return html`<figure class="map"><div class="skeleton"></div></figure>`;
  const [from, to] = scale;
  return html`
    <figure class="map">
      <${Chart}
        kind="world"
        option=${option}
        prepare=${prepare}
        label=${`A map of ${count(places.length, "city", "cities")}, coloured by temperature. The table below has the figures.`}
      />
      <figcaption class="legend">
        <span class="figure">${from} °C</span><span class="warmth" aria-hidden="true"></span><span class="figure">${to} °C</span>
      </figcaption>
    </figure>
  `;
}
