/** What the system looks like now: by one stream of events, or by polling where streams do not get through. */
import { batch, computed, signal } from "@preact/signals";
import { call, url } from "./api.js";

/** @typedef {{id: string, status: string, reason: string|null, progress: number, total: number, collected: number,
 *   failed: number, requested_at: string, finished_at: string|null, expected_at: string|null}} Collection */

const POLL_MS = 2_000;
const SILENT_MS = 6_000;
const LONGEST_RETRY_MS = 10_000;
const WINDOWS_SHOWN = 10;

/** "connecting", "live", "polling" or "offline" */
export const connection = signal("connecting");
/** Why the figures are old, or null. */
export const trouble = signal(null);
/** undefined: not known yet; null: no consumer has ever started */
export const quota = signal(undefined);
/** What was held: [{at: milliseconds, held}] */
export const course = signal([]);
/** When the figures were taken, by the browser's clock. */
export const heardAt = signal(0);
/** By how much the database's clock is ahead of the browser's, in milliseconds. */
export const ahead = signal(0);
const known = signal(/** @type {Map<string, Collection>|null} */ (null));

/** The newest first; null: not known yet. */
export const collections = computed(
  () => known.value && [...known.value.values()].sort((a, b) => b.requested_at.localeCompare(a.requested_at)),
);

/** @param {string} id @returns {Collection|undefined} */
export const collectionOf = (id) => known.value?.get(id);

/** @param {Collection[]} changed */
export function take(changed) {
  const all = new Map(known.value);
  for (const one of changed) all.set(one.id, one);
  known.value = all;
}

function takeQuota(body) {
  batch(() => {
    quota.value = body;
    heardAt.value = Date.now();
    trouble.value = null;
    if (!body) return;
    const at = Date.parse(body.now);
    ahead.value = at - Date.now();
    const since = at - WINDOWS_SHOWN * body.limit.window_s * 1000;
    course.value = [...course.value.filter((point) => point.at >= since && point.at < at), { at, held: body.held }];
  });
}

async function loadCourse() {
  const body = await call("/quota/held").catch(() => null);
  if (body) course.value = body.points.map(({ at, held }) => ({ at: Date.parse(at), held }));
}

/** @type {EventSource|null} */
let source = null;
let retryMs = 1_000;
let silence, retry, poll;

function hear(listener) {
  return (event) => {
    clearTimeout(silence);
    silence = setTimeout(fall, SILENT_MS);
    if (connection.value !== "live") {
      connection.value = "live";
      retryMs = 1_000;
      clearTimeout(poll);
      loadCourse();
    }
    listener(JSON.parse(event.data));
  };
}

function connect() {
  disconnect();
  source = new EventSource(url("/collections/stream"));
  source.addEventListener(
    "collections",
    hear((data) => take(data.collections)),
  );
  source.addEventListener("quota", hear(takeQuota));
  source.addEventListener(
    "problem",
    hear((data) => (trouble.value = data.detail)),
  );
  source.addEventListener("error", fall);
  silence = setTimeout(fall, SILENT_MS);
}

function disconnect() {
  source?.close();
  source = null;
  for (const timer of [silence, retry, poll]) clearTimeout(timer);
}

/** The stream ended or is silent: poll, and try it again. */
function fall() {
  disconnect();
  retry = setTimeout(connect, retryMs);
  retryMs = Math.min(2 * retryMs, LONGEST_RETRY_MS);
  pollOnce();
}

async function pollOnce() {
  try {
    const [list, body] = await Promise.all([
      call("/collections"),
      call("/quota").catch((problem) => (problem.status === 404 ? null : Promise.reject(problem))),
    ]);
    if (connection.value === "live" && source) return;
    batch(() => {
      take(list.collections);
      takeQuota(body);
      connection.value = "polling";
    });
  } catch (problem) {
    if (problem.status) trouble.value = problem.message;
    connection.value = problem.status ? "polling" : "offline";
  }
  poll = setTimeout(pollOnce, POLL_MS);
}

/** Follow the system while the page is visible: browsers allow a host only six connections. */
export function follow() {
  const look = () => (document.hidden ? disconnect() : connect());
  document.addEventListener("visibilitychange", look);
  look();
}
