/** The quota: what is held of the limit, over time; the month; the consumers. */
import { useMemo } from "preact/hooks";
import { url } from "./api.js";
import { basics, Chart, colour, scheme } from "./chart.js";
import { html } from "./html.js";
import { course, quota } from "./live.js";
import { clock, count, perWindow, time, whole } from "./text.js";

function heldOption(points, limit) {
  const accent = colour("accent");
  const label = { color: colour("muted"), fontSize: 12 };
  return {
    ...basics(),
    grid: { left: 40, right: 12, top: 18, bottom: 26 },
    tooltip: {
      ...basics().tooltip,
      trigger: "axis",
      formatter: ([point]) => `${time(point.value[0])}\n${point.value[1]} of ${limit} held`,
    },
    xAxis: {
      type: "time",
      min: points[0]?.at,
      max: points.at(-1)?.at,
      splitNumber: 4,
      axisLine: { lineStyle: { color: colour("rule") } },
      axisTick: { show: false },
      axisLabel: {
        ...label,
        hideOverlap: true,
        formatter: (at) => clock(at, points.at(-1).at - points[0].at <= 240_000),
      },
    },
    yAxis: {
      min: 0,
      max: Math.ceil(limit * 1.1),
      interval: limit,
      axisLabel: { ...label, showMaxLabel: false },
      splitLine: { show: false },
    },
    series: [
      {
        type: "line",
        step: "end",
        showSymbol: false,
        data: points.map(({ at, held }) => [at, held]),
        lineStyle: { width: 1.5, color: accent },
        itemStyle: { color: accent },
        areaStyle: { color: accent, opacity: 0.12 },
        markLine: {
          silent: true,
          symbol: "none",
          label: { show: false },
          lineStyle: { color: colour("ink"), type: [3, 4], width: 1, opacity: 0.55 },
          data: [{ yAxis: limit }],
        },
      },
    ],
  };
}

function Held({ limit }) {
  const points = course.value;
  const option = useMemo(
    () => heldOption(points, limit.cities_per_window),
    [points, limit.cities_per_window, scheme.value],
  );
  const every = Math.max(1, Math.ceil(points.length / 12));
  const shown = points.filter((_, index) => (points.length - 1 - index) % every === 0);
  const now = points.at(-1)?.held ?? 0;
  return html`
    <div class="held">
      <h2>Quota held <small>of ${count(limit.cities_per_window, "city", "cities")} ${perWindow(limit.window_s)}</small></h2>
      <${Chart}
        kind="course"
        option=${option}
        label=${`Cities held over time; now ${now} of ${limit.cities_per_window}. The table has the figures.`}
      />
      <details>
        <summary>Show as a table</summary>
        <div class="scroll" tabindex="0" role="region" aria-label="Cities held over time">
          <table>
            <thead><tr><th scope="col">Time</th><th scope="col" class="figure">Cities held</th></tr></thead>
            <tbody>${shown.map(({ at, held }) => html`<tr key=${at}><td>${time(at)}</td><td class="figure">${held}</td></tr>`)}</tbody>
          </table>
        </div>
      </details>
    </div>
  `;
}

function Reading({ name, value, of, children }) {
  return html`
    <div class="reading">
      <dt>${name}</dt>
      <dd><strong>${value}</strong>${of && html` <span class="of">${of}</span>`}<div class="note">${children}</div></dd>
    </div>
  `;
}

export function System() {
  const now = quota.value;
  if (now === undefined)
    return html`<section class="system loading" aria-label="Quota"><div class="skeleton"></div></section>`;
  if (now === null) {
    return html`
      <section class="system none" aria-label="Quota">
        <p>The quota is shown here as soon as a consumer has started: <code>python -m consumer</code>.</p>
      </section>
    `;
  }
  const { limit, month } = now;
  const over = month.forecast > month.budget;
  return html`
    <section class="system" aria-label="Quota">
      <${Held} limit=${limit} />
      <dl class="readings">
        <${Reading} name="Held now" value=${whole(now.held)} of=${`of ${count(limit.cities_per_window, "city", "cities")}`}>
          ${now.next_release ? `${whole(now.next_release.cities)} free at ${time(now.next_release.at)}` : "All of it is free"}
        <//>
        <${Reading} name="Consumers" value=${whole(now.consumers)} of="running">
          ${now.gate.state === "open" ? "Calls are allowed" : "Calls are stopped"}
        <//>
        <${Reading} name="This month" value=${whole(month.spent)} of=${`of ${whole(month.budget)}`}>
          <progress class="thin" max=${month.budget} value=${month.spent} aria-label="Spent of the month’s budget"></progress>
        <//>
        <${Reading} name="Forecast" value=${whole(month.forecast)} of="at its end">
          <span class=${over ? "warn" : ""}>${over ? "Over the budget at this rate" : "Within the budget"}</span>
        <//>
      </dl>
      <p class="json"><a href=${url("/quota")}>JSON: quota</a> <a href=${url("/quota/held")}>held</a> <a href=${url("/quota/proof")}>proof</a></p>
    </section>
  `;
}
