/** Calls of the public API, wherever the producer is served. The browser itself sends ETags and the cookie. */
import { signal } from "@preact/signals";

/** What every path begins with: this file is at `<root>static/<version>/api.js`. */
export const ROOT = new URL("../../", import.meta.url).pathname;

/** @param {string} path such as `/get?id=1` */
export const url = (path) => ROOT + path.replace(/^\//, "");

/** @param {string} link as an answer has it, such as `<root>get?id=1` @returns {string} the path for `call` */
export const pathOf = (link) => link.slice(ROOT.length - 1);

/** Whether the API wants a token that the browser does not have. */
export const isLocked = signal(false);

/** An answer that is not a success; status 0: there was no answer. */
export class Problem extends Error {
  /** @param {number} status @param {string} detail */
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

/**
 * @param {string} path
 * @param {RequestInit & {json?: unknown}} [options] `json`: the body; without a method it is a POST
 * @returns {Promise<any>} the answer's JSON; null where it has none
 * @throws {Problem}
 */
export async function call(path, { json, ...options } = {}) {
  if (json !== undefined) {
    options = {
      method: "POST",
      ...options,
      body: JSON.stringify(json),
      headers: { "Content-Type": "application/json" },
    };
  }
  try {
    const answer = await fetch(url(path), options);
    if (answer.status === 204) return null;
    const body = await answer.json().catch((error) => (answer.ok ? Promise.reject(error) : {}));
    if (answer.status === 401) isLocked.value = true;
    if (!answer.ok) throw new Problem(answer.status, body.detail ?? `the answer has status ${answer.status}`);
    return body;
  } catch (error) {
    if (error instanceof Problem || error.name === "AbortError") throw error;
    throw new Problem(0, "Raingauge does not answer.");
  }
}
