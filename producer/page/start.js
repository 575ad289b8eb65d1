/** A new collection: its name, its cities, what it would cost. */
import { useEffect, useState } from "preact/hooks";
import { call } from "./api.js";
import { Cities } from "./cities.js";
import { html } from "./html.js";
import { ahead, take } from "./live.js";
import { count, duration } from "./text.js";

const AGAIN_MS = 30_000;

const two = (value) => String(value).padStart(2, "0");

/** A name that nothing has yet, most likely. */
function suggested() {
  const now = new Date();
  return `${now.getFullYear()}-${two(now.getMonth() + 1)}-${two(now.getDate())}-${two(now.getHours())}${two(now.getMinutes())}${two(now.getSeconds())}`;
}

/** What it would cost: asked of the API a moment after the last change, and again while nothing changes. */
function useEstimate(request) {
  const [estimate, setEstimate] = useState(null);
  const asked = JSON.stringify(request);
  useEffect(() => {
    setEstimate(null);
    if (!request) return;
    const stop = new AbortController();
    const ask = async () => {
      try {
        const found = await call("/collect?dry_run=true", { json: JSON.parse(asked), signal: stop.signal });
        const takes_s = found.expected_at && (Date.parse(found.expected_at) - Date.now() - ahead.peek()) / 1000;
        setEstimate({ ...found, takes_s });
      } catch (problem) {
        if (problem.name !== "AbortError") setEstimate({ problem: problem.message });
      }
    };
    const first = setTimeout(ask, 300);
    const again = setInterval(() => document.hidden || ask(), AGAIN_MS);
    return () => {
      clearTimeout(first);
      clearInterval(again);
      stop.abort();
    };
  }, [asked]);
  return estimate;
}

function Estimate({ found }) {
  if (!found) return html`<p class="estimate"> </p>`;
  if (found.problem) return html`<p class="estimate bad">${found.problem}</p>`;
  const left = found.takes_s;
  const reused =
    found.fresh > 0 ? ` ${count(found.fresh, "observation is", "observations are")} recent and used again.` : "";
  const done =
    left !== null && left < 1
      ? " Done at once."
      : left
        ? ` Done in about ${duration(left)}, if started now.`
        : " No forecast yet.";
  return html`<p class="estimate">${count(found.total, "city", "cities")}.${reused}${done}</p>`;
}

export function Start() {
  const [name, setName] = useState(suggested);
  const [ids, setIds] = useState(/** @type {number[]|null} */ (null));
  const [anew, setAnew] = useState(false);
  const [problem, setProblem] = useState(null);
  const [busy, setBusy] = useState(false);
  const complete = name && (ids === null || ids.length > 0);
  const request = complete
    ? { id: name, ...(ids && { cities: ids }), ...(anew && { max_age_s: 0 }) }
    : null;
  const estimate = useEstimate(request);
  useEffect(() => setProblem(null), [JSON.stringify(request)]);

  const start = async (event) => {
    event.preventDefault();
    setBusy(true);
    setProblem(null);
    try {
      const accepted = await call("/collect", { json: request });
      take([await call(`/get?id=${encodeURIComponent(accepted.id)}&data=false`)]);
      location.hash = `#/collections/${encodeURIComponent(accepted.id)}`;
    } catch (error) {
      setProblem(error.message);
      setBusy(false);
    }
  };
  return html`
    <form class="start" onSubmit=${start}>
      <label>Name <input
        name="id"
        required
        maxlength="64"
        pattern="(?!\\.\\.?$)[A-Za-z0-9._\\-]+"
        title="Letters, digits, dots, hyphens, underscores, and not only one or two dots"
        autocomplete="off"
        spellcheck=${false}
        value=${name}
        onInput=${(event) => setName(event.target.value)}
      /></label>
      <${Cities} onChange=${setIds} />
      <label class="check"><input
        type="checkbox"
        checked=${anew}
        onChange=${(event) => setAnew(event.target.checked)}
      /> Fetch every city anew</label>
      <div aria-live="polite">${problem ? html`<p class="bad" role="alert">${problem}</p>` : html`<${Estimate} found=${estimate} />`}</div>
      <button class="primary" disabled=${!complete || busy}>${busy ? "Starting…" : "Start"}</button>
    </form>
  `;
}
