/** One city: its weather now, its history as a course and as a table, and that as a file. */
import { useEffect, useMemo, useState } from "preact/hooks";
import { call, pathOf, url } from "./api.js";
import { basics, Chart, colour, scheme } from "./chart.js";
import { html } from "./html.js";
import { clock, count, country, degrees, duration, percent, time } from "./text.js";

const HOUR_MS = 3_600_000;
const AGAIN_MS = 60_000;
const PAGE_ROWS = 10_000;
const MOST_ROWS = 60_000;
const SHOWN = 200;
const PERIODS = { day: "24 hours", week: "7 days", month: "30 days", year: "A year" };
const HOURS = { day: 24, week: 168, month: 720, year: 8_766 };
const plain = (unit) => (value) => (value === null ? "–" : `${value} ${unit}`);
const MEASURES = {
  temperature: { words: "Temperature", unit: "°C", show: degrees },
  feels_like: { words: "Feels like", unit: "°C", show: degrees },
  humidity: { words: "Humidity", unit: "%", show: percent },
  pressure: { words: "Pressure", unit: "hPa", show: plain("hPa") },
  wind_speed: { words: "Wind", unit: "m/s", show: plain("m/s") },
  clouds: { words: "Clouds", unit: "%", show: percent },
  rain_1h: { words: "Rain", unit: "mm/h", show: plain("mm/h") },
};

const query = (id, period, more) =>
  `/readings?${new URLSearchParams({ city_id: id, from: new Date(Math.floor(Date.now() / 60_000) * 60_000 - HOURS[period] * HOUR_MS).toISOString(), ...more })}`;

/** The observations of a period, oldest first, read page by page. */
async function history(id, period, name, options) {
  const rows = [];
  let next = query(id, period, { fields: `${name},description`, limit: PAGE_ROWS });
  while (next && rows.length < MOST_ROWS) {
    const page = await call(next, options);
    rows.push(...page.data);
    next = page.next && pathOf(page.next);
  }
  return { rows, isCut: Boolean(next), period, name };
}

/** What is read again each minute while the page is visible, and at once for another key: [value, problem]. */
function useRead(key, read) {
  const [found, setFound] = useState({ value: undefined, problem: null });
  useEffect(() => {
    const stop = new AbortController();
    const look = () =>
      read({ signal: stop.signal }).then(
        (value) => setFound({ value, problem: null }),
        (problem) => stop.signal.aborted || setFound(({ value }) => ({ value, problem })),
      );
    look();
    const again = setInterval(() => document.hidden || look(), AGAIN_MS);
    return () => {
      clearInterval(again);
      stop.abort();
    };
  }, [key]);
  return [found.value, found.problem];
}

function courseOption({ rows, name, period }) {
  const { unit, show } = MEASURES[name];
  const label = { color: colour("muted"), fontSize: 12 };
  const accent = colour("accent");
  return {
    ...basics(),
    grid: { left: 46, right: 12, top: 30, bottom: 26 },
    tooltip: {
      ...basics().tooltip,
      trigger: "axis",
      formatter: ([{ dataIndex: at }]) =>
        `${time(rows[at].fetched_at, false)}\n${show(rows[at][name])}${rows[at].description ? `\n${rows[at].description}` : ""}`,
    },
    xAxis: {
      type: "time",
      min: Date.now() - HOURS[period] * HOUR_MS,
      max: Date.now(),
      splitNumber: 5,
      axisLine: { lineStyle: { color: colour("rule") } },
      axisTick: { show: false },
      axisLabel: {
        ...label,
        hideOverlap: true,
        formatter: (at) =>
          period === "day"
            ? clock(at, false)
            : new Date(at).toLocaleDateString("en-GB", { day: "numeric", month: "short" }),
      },
    },
    yAxis: {
      scale: true,
      name: unit,
      nameTextStyle: label,
      splitNumber: 4,
      axisLabel: label,
      splitLine: { lineStyle: { color: colour("rule") } },
    },
    series: [
      {
        type: "line",
        showSymbol: rows.length < 60,
        sampling: "lttb",
        symbolSize: 5,
        connectNulls: false,
        data: rows.map((row) => [Date.parse(row.fetched_at), row[name]]),
        lineStyle: { width: 1.5, color: accent },
        itemStyle: { color: accent },
      },
    ],
  };
}

function Latest({ row }) {
  return html`
    <dl class="facts">
      <div><dt>Temperature</dt><dd>${degrees(row.temperature)}</dd></div>
      <div><dt>Humidity</dt><dd>${percent(row.humidity)}</dd></div>
      <div><dt>Sky</dt><dd>${row.description ?? "–"}</dd></div>
      <div><dt>Observed</dt><dd>${duration(row.age_s)} ago</dd></div>
    </dl>
  `;
}

function Table({ rows, name }) {
  const { words, show } = MEASURES[name];
  return html`
    <details>
      <summary>Show as a table</summary>
      ${rows.length > SHOWN && html`<p class="note">The last ${SHOWN} of ${count(rows.length, "observation")}; the file has all.</p>`}
      <div class="scroll" tabindex="0" role="region" aria-label=${`${words} over time`}>
        <table>
          <thead><tr><th scope="col">Time</th><th scope="col" class="figure">${words}</th><th scope="col">Sky</th></tr></thead>
          <tbody>${rows
            .slice(-SHOWN)
            .reverse()
            .map(
              (row) => html`<tr key=${row.fetched_at}><td>${time(row.fetched_at, false)}</td><td class="figure">${show(row[name])}</td><td>${row.description}</td></tr>`,
            )}</tbody>
        </table>
      </div>
    </details>
  `;
}

function Course({ found: { rows, isCut, name }, option }) {
  const { words } = MEASURES[name];
  const measured = rows.filter((row) => row[name] !== null);
  if (rows.length === 0) return html`<p class="empty">Nothing was collected in this time.</p>`;
  if (measured.length === 0) return html`<p class="empty">The provider sent no figures for this: ${words}.</p>`;
  return html`
    ${isCut && html`<p class="note">The first ${count(rows.length, "observation")} of this time; the file has all.</p>`}
    <${Chart} kind="course tall" option=${option} label=${`${words} over time. The table has the figures.`} />
    <${Table} rows=${measured} name=${name} />
  `;
}

function History({ id }) {
  const [period, setPeriod] = useState("day");
  const [name, setName] = useState("temperature");
  const [found, problem] = useRead(`${id} ${period} ${name}`, (options) => history(id, period, name, options));
  const option = useMemo(() => found && courseOption(found), [found, scheme.value]);
  return html`
    <section aria-labelledby="history-title">
      <div class="heading">
        <h2 id="history-title">History</h2>
        <p class="downloads"><a download href=${url(query(id, period, { fields: Object.keys(MEASURES).join(), format: "csv" }))}>CSV</a></p>
      </div>
      <div class="tools">
        <div class="choice" role="group" aria-label="Period">
          ${Object.entries(PERIODS).map(
            ([key, words]) => html`<button key=${key} type="button" aria-pressed=${period === key} onClick=${() => setPeriod(key)}>${words}</button>`,
          )}
        </div>
        <label>Measure <select value=${name} onChange=${(event) => setName(event.target.value)}>
          ${Object.entries(MEASURES).map(([key, { words }]) => html`<option key=${key} value=${key}>${words}</option>`)}
        </select></label>
      </div>
      ${problem && html`<p class="bad" role="alert">${problem.message}</p>`}
      ${found ? html`<${Course} found=${found} option=${option} />` : problem ? null : html`<div class="skeleton"></div>`}
    </section>
  `;
}

/** @param {{id: string}} props */
export function CityView({ id }) {
  const [body, problem] = useRead(id, (options) => call(`/readings/latest?city_id=${encodeURIComponent(id)}`, options));
  const row = body?.readings[0];
  if (!row) {
    const words = problem?.message ?? (body && `Nothing is known of city ${id} yet.`);
    return html`<p class="back"><a href="#/">All collections</a></p>${words ? html`<h1 class="statement">${words}</h1>` : html`<div class="skeleton"></div>`}`;
  }
  return html`
    <p class="back"><a href="#/">All collections</a></p>
    <div class="title">
      <h1>${row.name ?? `City ${id}`}</h1>
      <span class="note">${[country(row.country), `city id ${id}`].filter(Boolean).join(" · ")}</span>
    </div>
    ${problem && html`<p class="bad" role="alert">${problem.message}</p>`}
    <${Latest} row=${row} />
    <${History} key=${id} id=${id} />
  `;
}
