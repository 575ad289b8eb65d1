/** Calls of the public API, wherever the producer is served. The browser itself sends ETags back. */

/** What every path begins with: this file is at `<root>static/<version>/api.js`. */
export const ROOT = new URL("../../", import.meta.url).pathname;

/** @param {string} path such as `/get?id=1` */
export const url = (path) => ROOT + path.replace(/^\//, "");

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
 * @param {RequestInit & {json?: unknown}} [options] `json`: the body
 * @returns {Promise<any>} the answer's JSON
 * @throws {Problem}
 */
export async function call(path, { json, ...options } = {}) {
  if (json !== undefined) {
    options = {
      ...options,
      method: "POST",
      body: JSON.stringify(json),
      headers: { "Content-Type": "application/json" },
    };
  }
  let answer;
  try {
    answer = await fetch(url(path), options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, "Raingauge does not answer.");
  }
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Problem(answer.status, body.detail ?? `The answer has status ${answer.status}.`);
  return body;
}
