/** Schedules: collections that start again and again. All of them with a form for a new one, and one with its runs. */
import { useEffect, useRef, useState } from "preact/hooks";
import { call, pathOf, url } from "./api.js";
import { Cities } from "./cities.js";
import { Confirm } from "./confirm.js";
import { html } from "./html.js";
import { ahead } from "./live.js";
import { may, Needs } from "./session.js";
import { count, duration, percent, time, whole } from "./text.js";

const AGAIN_MS = 10_000;
const INTERVALS = {
  300: "5 minutes",
  900: "15 minutes",
  1800: "30 minutes",
  3600: "hour",
  10800: "3 hours",
  21600: "6 hours",
  43200: "12 hours",
  86400: "day",
};
const OVERLAP = {
  skip: "Skip the new one",
  queue: "Start it beside the other",
  cancel_previous: "Cancel the previous one",
};
const MISSED = { latest: "Make up for the last one", skip: "Make up for none" };
const HERE = Intl.DateTimeFormat().resolvedOptions().timeZone;

const path = (name, more = "") => `/schedules/${encodeURIComponent(name)}${more}`;

/** What an address of the API answers, read again and again while the page is visible: [body, problem, read now]. */
function useBody(address) {
  const [found, setFound] = useState({ body: null, problem: null });
  const stop = useRef(null);
  const read = () => {
    const { signal } = stop.current;
    return call(address, { signal }).then(
      (body) => setFound({ body, problem: null }),
      (problem) => signal.aborted || setFound(({ body }) => ({ body, problem })),
    );
  };
  useEffect(() => {
    stop.current = new AbortController();
    read();
    const again = setInterval(() => document.hidden || read(), AGAIN_MS);
    return () => {
      clearInterval(again);
      stop.current.abort();
    };
  }, [address]);
  return [found.body, found.problem, read];
}

/** Times are shown in the browser's zone, also those of a schedule that has another one. */
const whose = (one) => (one.cron && one.zone !== HERE ? " your time" : "");

/** When it runs next, in words. */
function next(one) {
  if (one.paused_at) return `Paused since ${time(one.paused_at, false)}`;
  if (!one.next_at) return "No further run";
  const left = (Date.parse(one.next_at) - Date.now() - ahead.value) / 1000;
  return left < 1 ? "Any moment" : `${time(one.next_at, false)}${whose(one)}, in ${duration(left)}`;
}

function Line({ one }) {
  return html`
    <li class="line schedule">
      <a class="name" href=${`#/schedules/${encodeURIComponent(one.name)}`}>${one.name}</a>
      <span class=${`status ${one.paused_at ? "waiting" : "collecting"}`}>${one.paused_at ? "Paused" : "Active"}</span>
      <span class="counts">${one.description}, ${count(one.cities, "city", "cities")}</span>
      <span class="outlook">${next(one)}</span>
    </li>
  `;
}

/** What a schedule would do: read a moment after the last change. */
function useForeseen(request) {
  const [found, setFound] = useState(null);
  const key = JSON.stringify(request);
  useEffect(() => {
    setFound(null);
    if (!request) return undefined;
    const stop = new AbortController();
    const timer = setTimeout(
      () =>
        call("/schedules?dry_run=true", { json: request, signal: stop.signal }).then(
          (body) => setFound(body),
          (problem) => stop.signal.aborted || setFound({ problem: problem.message }),
        ),
      300,
    );
    return () => {
      clearTimeout(timer);
      stop.abort();
    };
  }, [key]);
  return found;
}

function Foreseen({ found, one }) {
  if (!found) return html`<p class="estimate"> </p>`;
  if (found.problem) return html`<p class="estimate bad">${found.problem}</p>`;
  return html`
    <div class="estimate">
      <p>${found.description}: ${found.next.length ? found.next.slice(0, 3).map((run) => time(run.at, false)).join("; ") : "never"}${found.next.length > 3 && " …"}${whose(one)}</p>
      <p>${count(found.cities_per_month, "city", "cities")} a month at most, ${found.share > 0 && found.share < 0.005 ? "less than 1 %" : percent(100 * found.share)} of the budget.</p>
      ${found.next.some((run) => run.skipped) && html`<p class="warn">A run takes longer than the time to the next one, so some would be skipped.</p>`}
    </div>
  `;
}

function When({ value, onChange }) {
  const { way, every_s, cron, zone } = value;
  const change = (more) => onChange({ ...value, ...more });
  return html`
    <fieldset class="choice">
      <legend>When</legend>
      ${[
        ["every", "Interval"],
        ["cron", "Cron"],
      ].map(
        ([key, words]) => html`
        <label key=${key}><input type="radio" name="when" value=${key} checked=${way === key} onChange=${() => change({ way: key })} /><span>${words}</span></label>
      `,
      )}
    </fieldset>
    ${
      way === "every"
        ? html`<label>Every <select value=${every_s} onChange=${(event) => change({ every_s: Number(event.target.value) })}>
          ${Object.entries(INTERVALS).map(([key, words]) => html`<option key=${key} value=${key}>${words}</option>`)}
        </select></label>`
        : html`
        <label>Minute, hour, day, month, day of the week <input required spellcheck=${false} autocomplete="off" value=${cron} onInput=${(event) => change({ cron: event.target.value })} /></label>
        <label>Time zone <input required spellcheck=${false} list="zones" value=${zone} onInput=${(event) => change({ zone: event.target.value })} /></label>
        <datalist id="zones">${["UTC", ...Intl.supportedValuesOf("timeZone")].map((name) => html`<option key=${name} value=${name} />`)}</datalist>
      `
    }
  `;
}

function Choice({ words, choices, value, onChange }) {
  return html`
    <label>${words} <select value=${value} onChange=${(event) => onChange(event.target.value)}>
      ${Object.entries(choices).map(([key, text]) => html`<option key=${key} value=${key}>${text}</option>`)}
    </select></label>
  `;
}

function Create() {
  const [name, setName] = useState("");
  const [ids, setIds] = useState(/** @type {number[]|null} */ (null));
  const [when, setWhen] = useState({ way: "every", every_s: 3600, cron: "0 * * * *", zone: HERE });
  const [overlap, setOverlap] = useState("skip");
  const [missed, setMissed] = useState("latest");
  const [problem, setProblem] = useState(null);
  const [busy, setBusy] = useState(false);
  const complete = ids === null || ids.length > 0;
  const request = complete && {
    ...(when.way === "every" ? { every_s: when.every_s } : { cron: when.cron, zone: when.zone }),
    ...(ids && { cities: ids }),
    overlap,
    missed,
  };
  const foreseen = useForeseen(request && { name: name || "new", ...request });
  useEffect(() => setProblem(null), [JSON.stringify(request), name]);
  const create = async (event) => {
    event.preventDefault();
    setBusy(true);
    try {
      await call("/schedules", { json: { name, ...request } });
      location.hash = `#/schedules/${encodeURIComponent(name)}`;
    } catch (error) {
      setProblem(error.message);
      setBusy(false);
    }
  };
  return html`
    <form class="start" onSubmit=${create}>
      <label>Name <input
        name="name"
        required
        maxlength="40"
        pattern="(?!\\.\\.?$)[A-Za-z0-9._\\-]+"
        title="Letters, digits, dots, hyphens, underscores, and not only one or two dots"
        autocomplete="off"
        spellcheck=${false}
        placeholder="hourly"
        value=${name}
        onInput=${(event) => setName(event.target.value)}
      /></label>
      <${When} value=${when} onChange=${setWhen} />
      <${Cities} onChange=${setIds} />
      <details>
        <summary>When runs overlap or are missed</summary>
        <div class="more">
          <${Choice} words="The previous run is still open" choices=${OVERLAP} value=${overlap} onChange=${setOverlap} />
          <${Choice} words="Runs were missed while Raingauge was off" choices=${MISSED} value=${missed} onChange=${setMissed} />
        </div>
      </details>
      <div aria-live="polite">${problem ? html`<p class="bad" role="alert">${problem}</p>` : html`<${Foreseen} found=${foreseen} one=${request} />`}</div>
      <button class="primary" disabled=${!complete || busy || foreseen?.problem}>${busy ? "Creating…" : "Create"}</button>
    </form>
  `;
}

/**
 * All that was read so far, and a button for more. The first page is read again and again; rows that leave it are kept.
 * @param {any} body the first page @param {(one: any) => string} key what a row is known by
 */
function useAll(body, key) {
  const [older, setOlder] = useState({ data: [], next: undefined, problem: null });
  const at = older.next === undefined ? body?.next : older.next;
  const more = () =>
    call(pathOf(at)).then(
      (page) => setOlder({ data: [...(older.next === undefined ? body.data : []), ...older.data, ...page.data], next: page.next, problem: null }),
      (problem) => setOlder({ ...older, problem }),
    );
  const button = html`
    ${older.problem && html`<p class="bad" role="alert">${older.problem.message}</p>`}
    ${at && html`<button type="button" class="plain" onClick=${more}>Show more</button>`}
  `;
  const isNew = new Set(body?.data.map(key));
  return [body && [...body.data, ...older.data.filter((one) => !isNew.has(key(one)))], button];
}

export function SchedulesView() {
  const [body, problem] = useBody("/schedules");
  const [all, more] = useAll(body, (one) => one.name);
  return html`
    <p class="back"><a href="#/">All collections</a></p>
    <div class="title"><h1>Schedules</h1></div>
    <div class="columns">
      <section aria-labelledby="create-title"><h2 id="create-title">Create a schedule</h2><${Needs} scope="admin"><${Create} /><//></section>
      <section class="all" aria-labelledby="all-title">
        <h2 id="all-title">All schedules</h2>
        ${problem && html`<p class="bad" role="alert">${problem.message}</p>`}
        ${!all && !problem && html`<div class="skeleton rows"></div>`}
        ${all?.length === 0 && html`<p class="empty">No schedule yet. One collects the same cities again and again, for example each hour.</p>`}
        ${all?.length > 0 && html`<ol class="lines">${all.map((one) => html`<${Line} key=${one.name} one=${one} />`)}</ol>`}
        ${more}
        <p class="json"><a href=${url("/schedules")}>JSON: schedules</a></p>
      </section>
    </div>
  `;
}

function Delete({ name }) {
  const remove = async () => {
    await call(path(name), { method: "DELETE" });
    location.hash = "#/schedules";
  };
  return html`
    <${Confirm} words="Delete…" title=${`Delete ${name}?`} keep="Keep it" act="Delete it" onAct=${remove}>
      <p>It will start no more runs. Its collections stay.</p>
    <//>
  `;
}

function Runs({ name }) {
  const [body, problem] = useBody(path(name, "/runs"));
  const [runs, more] = useAll(body, (run) => run.nominal_at);
  return html`
    <section aria-labelledby="runs-title">
      <h2 id="runs-title">Runs</h2>
      ${problem && html`<p class="bad" role="alert">${problem.message}</p>`}
      ${runs?.length === 0 && html`<p class="empty">None yet.</p>`}
      ${
        runs?.length > 0 &&
        html`
        <table>
          <thead><tr><th scope="col">Due</th><th scope="col">Collection</th></tr></thead>
          <tbody>${runs.map(
            (run) => html`
            <tr key=${run.nominal_at}><td>${time(run.nominal_at, false)}</td><td>${
              run.collection_id
                ? html`<a href=${`#/collections/${encodeURIComponent(run.collection_id)}`}>${run.collection_id}</a>`
                : html`<span class="note">Skipped: ${run.reason}</span>`
            }</td></tr>`,
          )}</tbody>
        </table>
      `
      }
      ${more}
    </section>
  `;
}

/** @param {{name: string}} props */
export function ScheduleView({ name }) {
  const [one, problem, read] = useBody(path(name));
  const [refused, setRefused] = useState(null);
  const togglePause = () =>
    call(path(name, one.paused_at ? "/resume" : "/pause"), { method: "POST" }).then(
      () => (setRefused(null), read()),
      (error) => setRefused(error.message),
    );
  if (!one) {
    const words = problem && (problem.status === 404 ? `There is no schedule ${name}.` : problem.message);
    return html`<p class="back"><a href="#/schedules">All schedules</a></p>${words ? html`<h1 class="statement">${words}</h1>` : html`<div class="skeleton"></div>`}`;
  }
  return html`
    <p class="back"><a href="#/schedules">All schedules</a></p>
    <div class="title">
      <h1>${name}</h1>
      <span class=${`status ${one.paused_at ? "waiting" : "collecting"}`} role="status">${one.paused_at ? "Paused" : "Active"}</span>
      ${
        may("admin") &&
        html`
        <span class="actions">
          <button type="button" class="plain" onClick=${togglePause}>${one.paused_at ? "Resume" : "Pause"}</button>
          ${one.origin === "api" && html`<${Delete} name=${name} />`}
        </span>
      `
      }
    </div>
    ${refused && html`<p class="bad" role="alert">${refused}</p>`}
    ${problem && html`<p class="bad" role="alert">${problem.message}</p>`}
    <dl class="facts">
      <div><dt>When</dt><dd>${one.description}${one.cron && html` <span class="of"><code>${one.cron}</code></span>`}</dd></div>
      <div><dt>Next run</dt><dd>${next(one)}</dd></div>
      <div><dt>Cities</dt><dd>${whole(one.cities)}</dd></div>
      <div><dt>If the previous run is open</dt><dd>${OVERLAP[one.overlap]}</dd></div>
    </dl>
    ${one.origin === "settings" && html`<p class="note">It comes from the settings, and is changed there.</p>`}
    <${Runs} name=${name} />
  `;
}
