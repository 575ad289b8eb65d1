/** One collection: how far it is, its weather on a map and in a table, its failures, what can be done with it. */
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { call, url } from "./api.js";
import { Distribution } from "./distribution.js";
import { html } from "./html.js";
import { collectionOf, collections, quota, STREAMED, take } from "./live.js";
import { WeatherMap } from "./map.js";
import { Bar, isOpen, outlook, STATUS } from "./overview.js";
import { Rows } from "./rows.js";
import { count, time, whole, why } from "./text.js";

const MOST_ROWS = 10_000;
const FIELDS = "country,latitude,longitude";
const REST_MS = 1_000;
/** How often a collection is read that the stream does not follow. */
const ALONE_MS = 5_000;
const FORMATS = { csv: "CSV", json: "JSON", jsonl: "JSON Lines", geojson: "GeoJSON", parquet: "Parquet" };

const path = (id, query) => `/get?id=${encodeURIComponent(id)}&${query}`;

/** The collection by the stream; or by itself, where it is too old for that, or one of too many. */
function useHead(id) {
  const [problem, setProblem] = useState(null);
  const head = collectionOf(id);
  const isKnown = head !== undefined;
  const isCrowded = isKnown && isOpen(head) && collections.value.filter(isOpen).length >= STREAMED;
  useEffect(() => {
    if (isKnown && !isCrowded) return;
    const stop = new AbortController();
    const read = () =>
      call(path(id, "data=false"), { signal: stop.signal }).then(
        (body) => take([body]),
        (error) => error.name !== "AbortError" && setProblem(error),
      );
    read();
    const again = setInterval(read, ALONE_MS);
    return () => {
      clearInterval(again);
      stop.abort();
    };
  }, [id, isKnown, isCrowded]);
  return [head, problem];
}

/** Its readings and failures, read again while it makes progress, and less often the longer that takes. */
function useRows(id, head) {
  const [rows, setRows] = useState({ data: [], errors: [], more: false, loaded: false });
  const reading = useRef({ busy: false, wanted: "", gone: false });
  const version = head && `${head.requested_at} ${head.collected} ${head.failed}`;
  useEffect(() => {
    const now = reading.current;
    now.wanted = version;
    if (!version || now.busy) return;
    const read = async () => {
      now.busy = true;
      const [wanted, began] = [now.wanted, performance.now()];
      const body = await call(path(id, `limit=${MOST_ROWS}&fields=${FIELDS}`)).catch(() => null);
      if (body) setRows({ data: body.data, errors: body.errors, more: body.next !== null, loaded: true });
      setTimeout(
        () => {
          now.busy = false;
          if (now.gone) return;
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
  const dialog = useRef();
  const [problem, setProblem] = useState(null);
  const cancel = async (event) => {
    event.preventDefault();
    try {
      take([await call(`/collections/${encodeURIComponent(id)}/cancel`, { method: "POST" })]);
      dialog.current?.close();
      document.getElementById("main").focus({ preventScroll: true }); // the button and the dialog are gone
    } catch (error) {
      setProblem(error.message);
    }
  };
  return html`
    <button type="button" class="plain danger" onClick=${() => dialog.current.showModal()}>Cancel…</button>
    <dialog ref=${dialog} aria-labelledby="cancel-title">
      <form method="dialog" onSubmit=${cancel}>
        <h2 id="cancel-title">Cancel ${id}?</h2>
        <p>No more of its cities will be fetched. What is collected stays.</p>
        ${problem && html`<p class="bad" role="alert">${problem}</p>`}
        <div class="buttons">
          <button type="button" class="plain" onClick=${() => dialog.current.close()}>Go on collecting</button>
          <button class="primary danger">Cancel it</button>
        </div>
      </form>
    </dialog>
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

export function CollectionView({ id }) {
  const [head, problem] = useHead(id);
  const rows = useRows(id, head);
  if (!head) {
    return html`
      <p class="back"><a href="#/">All collections</a></p>
      ${problem ? html`<h1 class="statement">${problem.status === 404 ? `There is no collection ${id}.` : problem.message}</h1>` : html`<div class="skeleton"></div>`}
    `;
  }
  const failed = rows.loaded && head.failed > 0;
  const read = rows.data.length + rows.errors.length;
  return html`
    <p class="back"><a href="#/">All collections</a></p>
    <div class="title">
      <h1>${id}</h1>
      <span class=${`status ${head.status}`} role="status">${STATUS[head.status]}</span>
      ${isOpen(head) && html`<${Cancel} id=${id} />`}
    </div>
    ${head.status === "waiting" && html`<p class="reason">${why(head.reason, quota.value)}</p>`}
    <div class="progress"><${Bar} one=${head} /><span class="figure">${Math.floor(head.progress * 100)} %</span></div>
    <${Facts} head=${head} />
    ${rows.more && html`<p class="note">What follows is of the first ${count(read, "city", "cities")} by id. Downloads have all readings.</p>`}
    ${
      head.collected > 0
        ? html`<div class="pictures"><${WeatherMap} rows=${rows.data} /><${Distribution} rows=${rows.data} /></div>`
        : html`<p class="empty">${isOpen(head) ? "The map begins with the first city." : "No city was collected."}</p>`
    }
    ${failed && html`<${Failures} errors=${rows.errors} />`}
    ${
      head.collected > 0 &&
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
