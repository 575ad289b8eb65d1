/** Figures, times and sentences. Pure. */

const WHOLE = new Intl.NumberFormat("en");
const TENTHS = new Intl.NumberFormat("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });
const TIME = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const DAY = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });
const MINUTE = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const YEAR = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric" });
const COUNTRIES = new Intl.DisplayNames("en", { type: "region" });

/** @param {number} value */
export const whole = (value) => WHOLE.format(value);

/** @param {number} value @param {string} one @param {string} [many] */
export const count = (value, one, many = `${one}s`) => `${whole(value)} ${value === 1 ? one : many}`;

/** @param {number|null} value degrees Celsius */
export const degrees = (value) => (value === null ? "–" : `${TENTHS.format(value).replace("-", "−")} °C`);

/** @param {number|null} value */
export const percent = (value) => (value === null ? "–" : `${Math.round(value)} %`);

/** @param {string|number} moment @param {boolean} [isExact] to the second. Today: the time, else the day, too */
export function time(moment, isExact = true) {
  const [date, now] = [new Date(moment), new Date()];
  if (date.toDateString() === now.toDateString()) return clock(date, isExact);
  return (Math.abs(date - now) > 300 * 86_400_000 ? YEAR : DAY).format(date);
}

/** @param {Date|number} moment @param {boolean} isExact to the second @returns {string} the time alone */
export const clock = (moment, isExact) => (isExact ? TIME : MINUTE).format(moment);

/** @param {number} seconds */
export function duration(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 90) return `${s}\u00a0s`;
  if (s < 5_400) return `${Math.round(s / 60)}\u00a0min`;
  const minutes = Math.round(s / 60);
  if (s < 172_800) return `${Math.floor(minutes / 60)}\u00a0h ${minutes % 60}\u00a0min`;
  return `${Math.round(s / 86_400)}\u00a0days`;
}

/** Names of countries by code: looking one up takes long, and a table sorts thousands. */
const named = new Map();

/** @param {string|null|undefined} code @returns {string} */
export function country(code) {
  if (!code) return "";
  if (!named.has(code)) {
    let name = code;
    try {
      name = COUNTRIES.of(code);
    } catch {
      // The provider has a code that is none.
    }
    named.set(code, name);
  }
  return named.get(code);
}

/** @param {number} seconds the provider's window */
export const perWindow = (seconds) => (seconds === 60 ? "a minute" : `in ${duration(seconds)}`);

const GATES = {
  quota: "The provider says that its quota is spent.",
  key: "The provider does not accept the API key.",
  provider: "No usable answers come from the provider.",
  database: "Calls are stopped, because the database’s clock stepped back or a person stopped them.",
  failover: "Calls are stopped: the database is another server than before, and its last charges may be missing.",
};

/**
 * Why a collection waits.
 * @param {string} reason as in `GET /get`
 * @param {any} quota as `GET /quota` answers; undefined: not known yet
 */
export function why(reason, quota) {
  if (reason === "no consumer") return "No consumer is running.";
  if (reason === "newer message") return "Consumers cannot read a message of a newer version. Upgrade them.";
  if (reason === "month")
    return `The month’s budget allows no more cities yet.${quota ? ` A new month begins ${time(quota.month.ends_at)}.` : ""}`;
  const state = quota?.gate.state in GATES ? quota.gate.state : reason;
  const until = quota?.gate.blocked_until;
  const next =
    until && Date.parse(until) > Date.parse(quota.now)
      ? ` The next call is due at ${time(until)}.`
      : " The next call is due now.";
  return GATES[state] + next;
}

/**
 * The system in one sentence or two.
 * @param {any} quota
 * @param {import("./live.js").Collection[]} open the collections that are not finished
 */
export function state(quota, open) {
  if (quota === null) return "No consumer has started yet. Collections wait for the first one.";
  const stuck = open.find((one) => one.reason);
  if (quota.consumers === 0)
    return `No consumer is running. ${open.length ? "What is open waits for one." : "Collections would wait."}`;
  if (quota.gate.state !== "open") return why(quota.gate.state, quota);
  if (stuck) return why(stuck.reason, quota);
  if (open.length === 0) {
    if (quota.month.allowed_now === 0) return why("month", quota);
    const next = quota.free > 0 || !quota.next_release ? "at once" : `at ${time(quota.next_release.at)}`;
    return `Nothing waits. A new collection starts ${next}.`;
  }
  const pace = `${whole(quota.limit.cities_per_window)} cities ${perWindow(quota.limit.window_s)}`;
  const what = open.length === 1 ? "One collection is" : `${whole(open.length)} collections are`;
  const ends = open
    .map((one) => one.expected_at)
    .filter(Boolean)
    .sort();
  const end =
    ends.length === open.length ? ` The last city is expected at ${time(ends.at(-1), false)}.` : "";
  return `${what} under way, at no more than ${pace}.${end}`;
}
