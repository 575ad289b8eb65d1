/** What the system looks like now: by one stream of events, or by polling where streams do not get through. */
import { batch, computed, signal } from "@preact/signals";
import { call, isLocked, url } from "./api.js";

/** @typedef {{id: string, status: string, reason: string|null, progress: number, total: number, collected: number,
 *   failed: number, requested_at: string, finished_at: string|null, expected_at: string|null}} Collection */

const POLL_MS = 2_000;
const SILENT_MS = 6_000;
const LONGEST_RETRY_MS = 10_000;
const WINDOWS_SHOWN = 10;
const POINTS_SHOWN = 600;
/** Without a figure for so long, the course is read again. */
const GAP_MS = 6_000;
/** How many open collections are listed and streamed, the newest. */
export const STREAMED = 100;
/** How many collections are known at least; older ones are read page by page. */
export const NEWEST = 100;
/** A balancer's answers where there is no producer. */
const AWAY = [0, 502, 504];

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
/** Of each id, when the last one that was deleted had been requested. */
const deleted = signal(/** @type {Map<string, string>} */ (new Map()));

const newestFirst = (a, b) => b.requested_at.localeCompare(a.requested_at);

/** The newest first; null: not known yet. */
export const collections = computed(() => known.value && [...known.value.values()].sort(newestFirst));

/** @param {string} id @returns {Collection|undefined} */
export const collectionOf = (id) => known.value?.get(id);

/** @param {{id: string, requested_at: string}} one @returns {boolean} whether it was deleted while the page was open */
export const wasDeleted = ({ id, requested_at }) => deleted.value.has(id) && requested_at <= deleted.value.get(id);

/**
 * @param {Collection[]} changed
 * @param {boolean} isInOrder whether they come in the order in which they were read, as events do
 */
export function take(changed, isInOrder = false) {
  const all = new Map(known.value);
  for (const one of changed) {
    if (wasDeleted(one)) continue; // the answer is older than the deletion
    const before = all.get(one.id);
    // An answer can be older than an event that came before it: what has ended stays so. But a failover can reopen it.
    const isOlder = before?.finished_at && !one.finished_at && before.requested_at === one.requested_at;
    if (isInOrder || !isOlder) all.set(one.id, one);
  }
  known.value = all;
}

/** @param {{id: string, requested_at: string}[]} gone collections that were deleted; later ones may have their ids */
export function forget(gone) {
  const [all, requested] = [new Map(known.value), new Map(deleted.value)];
  for (const { id, requested_at } of gone) {
    requested.set(id, requested_at);
    if (all.get(id)?.requested_at <= requested_at) all.delete(id);
  }
  batch(() => {
    known.value = known.value && all;
    deleted.value = requested;
  });
}

/**
 * Take the newest and the open ones. What is open here, and is not among them, has ended meanwhile; what is newer than
 * the last of the newest, and is not among them, was deleted.
 */
function takeAll(current) {
  const now = new Map(current.map((one) => [one.id, one]));
  const isComplete = [...now.values()].filter((one) => !one.finished_at).length < STREAMED;
  const last = [...now.values()].sort(newestFirst)[NEWEST - 1]?.requested_at ?? "";
  const isOlder = (one) => one.requested_at <= last && (one.finished_at || !isComplete);
  const left = [...(known.value ?? [])].filter(([id, one]) => now.has(id) || isOlder(one));
  batch(() => {
    known.value = new Map(left);
    take(current, true);
  });
}

function takeQuota(body) {
  batch(() => {
    quota.value = body;
    heardAt.value = Date.now();
    trouble.value = null;
    if (!body) return;
    const at = Date.parse(body.now);
    ahead.value = at - Date.now();
    const span = WINDOWS_SHOWN * body.limit.window_s * 1000;
    const points = course.value.filter((point) => point.at >= at - span && point.at < at);
    if (!points.length || at - points.at(-1).at > GAP_MS) loadCourse();
    if (points.length > 1 && at - points.at(-2).at < span / POINTS_SHOWN) points.pop();
    course.value = [...points, { at, held: body.held }];
  });
}

async function loadCourse() {
  const body = await call("/quota/held").catch(() => null);
  if (body) course.value = body.points.map(({ at, held }) => ({ at: Date.parse(at), held }));
}

/** @type {EventSource|null} */
let source = null;
/** @type {AbortController|null} */
let polling = null;
let retryMs = 1_000;
let silence, retry;

function hear(listener) {
  return (event) => {
    clearTimeout(silence);
    silence = setTimeout(fall, SILENT_MS);
    stopPolling();
    retryMs = 1_000;
    connection.value = "live";
    listener(JSON.parse(event.data));
  };
}

function connect() {
  let isFirst = true;
  source = new EventSource(url("/collections/stream"));
  source.addEventListener(
    "collections",
    hear((data) => {
      if (isFirst || data.all) takeAll(data.collections);
      else take(data.collections, true);
      isFirst = false;
    }),
  );
  source.addEventListener(
    "deleted",
    hear((data) => forget(data.collections)),
  );
  source.addEventListener("quota", hear(takeQuota));
  source.addEventListener(
    "problem",
    hear((data) => {
      trouble.value = data.detail;
      isFirst = true; // all of them come again
    }),
  );
  source.addEventListener("error", fall);
  silence = setTimeout(fall, SILENT_MS);
}

function disconnect() {
  source?.close();
  source = null;
  clearTimeout(silence);
  clearTimeout(retry);
}

/** The stream ended or is silent: poll, and try it again. */
function fall() {
  disconnect();
  retry = setTimeout(connect, retryMs);
  retryMs = Math.min(2 * retryMs, LONGEST_RETRY_MS);
  if (polling) return;
  polling = new AbortController();
  poll(polling.signal);
}

function stopPolling() {
  polling?.abort();
  polling = null;
}

async function poll(signal) {
  while (!signal.aborted) {
    await pollOnce(signal);
    await new Promise((resume) => setTimeout(resume, POLL_MS));
  }
}

async function pollOnce(stopped) {
  const options = { signal: AbortSignal.any([stopped, AbortSignal.timeout(SILENT_MS)]) };
  try {
    const [newest, open, body] = await Promise.all([
      call("/collections", options),
      call("/collections?status=open", options),
      call("/quota", options).catch((problem) => (problem.status === 404 ? null : Promise.reject(problem))),
    ]);
    if (stopped.aborted) return;
    batch(() => {
      takeAll([...newest.collections, ...open.collections]);
      takeQuota(body);
      connection.value = "polling";
    });
  } catch (problem) {
    if (stopped.aborted) return;
    const isAway = AWAY.includes(problem.status);
    if (!isAway) trouble.value = problem.message;
    connection.value = isAway ? "offline" : "polling";
  }
}

/** Begin to follow the system anew, or stop while the page is hidden or locked: a host gets only six connections. */
export function follow() {
  disconnect();
  stopPolling();
  connection.value = "connecting";
  if (!document.hidden && !isLocked.value) connect();
}
document.addEventListener("visibilitychange", follow);
isLocked.subscribe((locked) => locked && follow());
