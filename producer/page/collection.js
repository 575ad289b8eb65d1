/** One collection: how far it is, its weather on a map and in a table, its failures, what can be done with it. */
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { call, url } from "./api.js";
import { Confirm } from "./confirm.js";
import { Distribution } from "./distribution.js";
import { html } from "./html.js";
import { collectionOf, collections, connection, forget, quota, STREAMED, take, wasDeleted } from "./live.js";
import { WeatherMap } from "./map.js";
import { Bar, isOpen, outlook, STATUS } from "./overview.js";
import { Rows } from "./rows.js";
import { may } from "./session.js";
import { count, time, whole, why } from "./text.js";

const MOST_ROWS = 10_000;
const FIELDS = "country,latitude,longitude";
const REST_MS = 1_000;
/** How often a collection is read that the stream does not follow. */
const ALONE_MS = 5_000;
const FORMATS = { csv: "CSV", json: "JSON", jsonl: "JSON Lines", geojson: "GeoJSON", parquet: "Parquet" };

const path = (id, query) => `/get?id=${encodeURIComponent(id)}&${query}`;

/**
 * The collection, from the stream. It is polled instead if it is too old for the stream, if too many are open, or if there is no stream.
 * @returns {[any, any, boolean]} the collection, or what was last known of it; why there is none; whether it was deleted
 */
function useHead(id) {
  const [problem, setProblem] = useState(null);
  const head = collectionOf(id);
  const last = useRef(head);
  last.current = head ?? last.current;
  const isGone = !head && wasDeleted(last.current ?? { id, requested_at: "" });
  const isCrowded = head && isOpen(head) && collections.value.filter(isOpen).length >= STREAMED;
  const isFollowed = Boolean(head) && !isCrowded && connection.value === "live";
  useEffect(() => {
    if (isGone) return undefined;
    const stop = new AbortController();
    const read = () =>
      call(path(id, "data=false"), { signal: stop.signal }).then(
        (body) => take([body]),
        (error) => {
          if (error.name === "AbortError") return;
          if (error.status === 404 && last.current) forget([last.current]);
          else setProblem(error);
        },
      );
    read(); // even if the stream has it: it may have been deleted before the stream began
    const again = isFollowed ? undefined : setInterval(() => document.hidden || read(), ALONE_MS);
    return () => {
      clearInterval(again);
      stop.abort();
    };
  }, [id, isGone, isFollowed]);
  return [head ?? (isGone ? undefined : last.current), problem, isGone];
}

/** Its readings and failures, read again while it makes progress. The slower a read, the longer the pause after it. */
function useRows(id, head) {
  const [rows, setRows] = useState({ data: [], errors: [], more: false });
  const reading = useRef({ busy: false, wanted: "", gone: false });
  // After a failover other readings may have the same numbers; then it ends once more.
  const version = head && `${head.requested_at} ${head.collected} ${head.failed} ${head.finished_at}`;
  useEffect(() => {
    const now = reading.current;
    now.wanted = version;
    if (!version || now.busy) return;
    const read = async () => {
      now.busy = true;
      const [wanted, began] = [now.wanted, performance.now()];
      const body = await call(path(id, `limit=${MOST_ROWS}&fields=${FIELDS}`)).catch(() => null);
      if (body) setRows({ data: body.data, errors: body.errors, more: body.next !== null });
      setTimeout(
        () => {
          now.busy = false;
          if (now.gone || !now.wanted) return;
          if (now.wanted !== wanted || !body) read();
        },
        Math.max(REST_MS, 5 * (performance.now() - began)),
      );
    };
    read();
    return undefined;
  }, [id, version]);
  useEffect(() => () => (reading.current.gone = true), []);
  return rows;
}

function Cancel({ id }) {
  const cancel = async () => take([await call(`/collections/${encodeURIComponent(id)}/cancel`, { method: "POST" })]);
  return html`
    <${Confirm} words="Cancel…" title=${`Cancel ${id}?`} keep="Go on collecting" act="Cancel it" onAct=${cancel}>
      <p>No more of its cities will be fetched. What is collected stays.</p>
    <//>
  `;
}

function Delete({ head }) {
  const remove = async () => {
    await call(`/collections/${encodeURIComponent(head.id)}`, { method: "DELETE" });
    location.hash = "#/";
    forget([head]);
  };
  return html`
    <${Confirm} words="Delete…" title=${`Delete ${head.id}?`} keep="Keep it" act="Delete it" onAct=${remove}>
      <p>The collection and its ${count(head.collected, "reading")} are removed for good, also from the history of their cities.</p>
      <p>The latest weather of each city stays, and so do files that were downloaded or exported. Quota that was spent stays spent.</p>
    <//>
  `;
}

function Failures({ errors }) {
  const reasons = useMemo(
    () => Object.entries(Object.groupBy(errors, (one) => one.reason)).sort(([, a], [, b]) => b.length - a.length),
    [errors],
  );
  if (!errors.length) return null;
  return html`
    <section aria-labelledby="failures-title">
      <h2 id="failures-title">Failures</h2>
      <table class="failures">
        <thead><tr><th scope="col">Reason</th><th scope="col" class="figure">Cities</th><th scope="col">City ids</th></tr></thead>
        <tbody>
          ${reasons.map(
            ([reason, cities]) => html`
            <tr key=${reason}><td>${reason}</td><td class="figure">${whole(cities.length)}</td><td class="ids">${cities
              .slice(0, 50)
              .map((one) => one.city_id)
              .join(", ")}${cities.length > 50 && " …"}</td></tr>
          `,
          )}
        </tbody>
      </table>
    </section>
  `;
}

function Downloads({ id }) {
  return html`
    <p class="downloads">
      <span>Download</span>
      ${Object.entries(FORMATS).map(
        ([format, words]) => html`<a
        key=${format}
        download
        href=${url(`/collections/${encodeURIComponent(id)}/export?format=${format}`)}
      >${words}</a>`,
      )}
    </p>
  `;
}

function Facts({ head }) {
  return html`
    <dl class="facts">
      <div><dt>Collected</dt><dd>${whole(head.collected)} <span class="of">of ${whole(head.total)}</span></dd></div>
      <div><dt>Failed</dt><dd class=${head.failed ? "bad" : ""}>${whole(head.failed)}</dd></div>
      <div><dt>Requested</dt><dd>${time(head.requested_at)}</dd></div>
      <div><dt>${isOpen(head) ? "Expected" : head.status === "cancelled" ? "Cancelled" : "Done"}</dt><dd>${head.status === "waiting" ? "–" : outlook(head)}</dd></div>
    </dl>
  `;
}

/** Why there is no map, in words. */
function nothing(head) {
  if (head.readings_pruned_at)
    return `Its readings were removed because of their age (${time(head.readings_pruned_at, false)}). The counts stay.`;
  return isOpen(head) ? "The map begins with the first city." : "No city was collected.";
}

export function CollectionView({ id }) {
  const [head, problem, isGone] = useHead(id);
  const rows = useRows(id, head);
  if (!head) {
    const none = problem && (problem.status === 404 ? `There is no collection ${id}.` : problem.message);
    const words = isGone ? `The collection ${id} was deleted.` : none;
    return html`
      <p class="back"><a href="#/">All collections</a></p>
      <div role="status">${words ? html`<h1 class="statement">${words}</h1>` : html`<div class="skeleton"></div>`}</div>
    `;
  }
  const hasReadings = head.collected > 0 && !head.readings_pruned_at;
  const read = rows.data.length + rows.errors.length;
  return html`
    <p class="back"><a href="#/">All collections</a></p>
    <div class="title">
      <h1>${id}</h1>
      <span class=${`status ${head.status}`} role="status">${STATUS[head.status]}</span>
      ${isOpen(head) ? may("write") && html`<${Cancel} id=${id} />` : may("admin") && html`<${Delete} head=${head} />`}
    </div>
    ${head.status === "waiting" && html`<p class="reason">${why(head.reason, quota.value)}</p>`}
    <div class="progress"><${Bar} one=${head} /><span class="figure">${Math.floor(head.progress * 100)} %</span></div>
    <${Facts} head=${head} />
    ${rows.more && html`<p class="note">This shows the first ${count(read, "city", "cities")} by id. Downloads have all readings.</p>`}
    ${
      hasReadings
        ? html`<div class="pictures"><${WeatherMap} rows=${rows.data} /><${Distribution} rows=${rows.data} /></div>`
        : html`<p class="empty">${nothing(head)}</p>`
    }
    <${Failures} errors=${rows.errors} />
    ${
      hasReadings &&
      html`
      <section aria-labelledby="rows-title">
        <div class="heading"><h2 id="rows-title">Readings</h2><${Downloads} id=${id} /></div>
        <${Rows} rows=${rows.data} />
      </section>
    `
    }
    <p class="json"><a href=${url(path(id, `limit=${MOST_ROWS}&fields=${FIELDS}`))}>JSON: this collection</a></p>
  `;
}
