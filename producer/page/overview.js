/** The first view: the system in a sentence, the quota, a new collection, all collections. */
import { useState } from "preact/hooks";
import { call, pathOf, url } from "./api.js";
import { html } from "./html.js";
import { ahead, collections, NEWEST, quota, take } from "./live.js";
import { may, Needs } from "./session.js";
import { Start } from "./start.js";
import { System } from "./system.js";
import { duration, state, time, whole, why } from "./text.js";

export const STATUS = {
  queued: "Queued",
  collecting: "Collecting",
  waiting: "Waiting",
  done: "Done",
  cancelled: "Cancelled",
};
export const isOpen = (one) => one.finished_at === null;
const SHOWN = 12;
const OLDER = "those older than the newest";

/** When it will be done, or was; or why it waits. */
export function outlook(one) {
  if (one.status === "waiting") return why(one.reason, quota.value);
  if (!isOpen(one)) {
    const took_s = (Date.parse(one.finished_at) - Date.parse(one.requested_at)) / 1000;
    return `${time(one.finished_at)}, ${took_s < 1 ? "at once" : `after ${duration(took_s)}`}`;
  }
  if (!one.expected_at) return "No forecast yet";
  const left = (Date.parse(one.expected_at) - Date.now() - ahead.value) / 1000;
  return left < 1 ? "Any moment" : `${time(one.expected_at)}, in ${duration(left)}`;
}

export function Bar({ one }) {
  return html`<progress
    class=${`bar ${one.status}`}
    max="1"
    value=${one.progress}
    aria-label=${`Progress of ${one.id}`}
  ></progress>`;
}

function Line({ one }) {
  return html`
    <li class=${`line ${one.status}`}>
      <a class="name" href=${`#/collections/${encodeURIComponent(one.id)}`}>${one.id}</a>
      <span class=${`status ${one.status}`}>${STATUS[one.status]}</span>
      <span class="counts figure">
        ${whole(one.collected + one.failed)} of ${whole(one.total)}${one.failed > 0 && html`, <span class="bad">${whole(one.failed)} failed</span>`}
      </span>
      <${Bar} one=${one} />
      <span class="outlook">${outlook(one)}</span>
    </li>
  `;
}

function List() {
  const [only, setOnly] = useState("all");
  const [most, setMost] = useState(SHOWN);
  const [next, setNext] = useState(/** @type {string|null} */ (OLDER));
  const [problem, setProblem] = useState(null);
  const all = collections.value;
  if (all === null) return html`<div class="skeleton rows"></div>`;
  const found = all.filter((one) => only === "all" || isOpen(one) === (only === "open"));
  const shown = found.slice(0, most);
  const more = async () => {
    if (found.length > most) return setMost(most + 100);
    try {
      const after = all[NEWEST - 1].id;
      const page = await call(next === OLDER ? `/collections?after=${encodeURIComponent(after)}` : pathOf(next));
      take(page.collections);
      setNext(page.next);
      setMost(most + page.collections.length);
      setProblem(null);
    } catch (error) {
      setProblem(error.message);
      setNext(OLDER); // the last one of the page before may have been deleted
    }
  };
  const canHaveMore = found.length > most || (all.length >= NEWEST && next !== null);
  return html`
    ${
      all.length > 0 &&
      html`
      <div class="choice small" role="group" aria-label="Which collections">
        ${["all", "open", "ended"].map(
          (name) => html`
          <button
            type="button"
            aria-pressed=${only === name}
            onClick=${() => setOnly(name)}
          >${name[0].toUpperCase() + name.slice(1)}</button>
        `,
        )}
      </div>
    `
    }
    ${
      shown.length > 0
        ? html`<ol class="lines">${shown.map((one) => html`<${Line} key=${one.id} one=${one} />`)}</ol>`
        : html`<p class="empty">${all.length ? "None match." : `No collection yet.${may("write") ? " Press Start to collect the default cities." : ""}`}</p>`
    }
    ${problem && html`<p class="bad" role="alert">${problem}</p>`}
    ${canHaveMore && html`<button type="button" class="plain" onClick=${more}>Show older ones</button>`}
  `;
}

export function Overview() {
  const open = (collections.value ?? []).filter(isOpen);
  return html`
    <h1 class="statement">${quota.value === undefined || collections.value === null ? "Connecting…" : state(quota.value, open)}</h1>
    <${System} />
    <div class="columns">
      <section aria-labelledby="start-title"><h2 id="start-title">Start a collection</h2><${Needs} scope="write"><${Start} /><//></section>
      <section class="all" aria-labelledby="all-title">
        <h2 id="all-title">Collections</h2>
        <${List} />
        <p class="json"><a href=${url("/collections")}>JSON: collections</a></p>
      </section>
    </div>
  `;
}
