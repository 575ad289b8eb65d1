/** A pasted list of ids, names or coordinates, resolved line by line. Nothing is guessed: who has several candidates chooses. */
import { useEffect, useRef, useState } from "preact/hooks";
import { call } from "./api.js";
import { html } from "./html.js";
import { where } from "./search.js";
import { count, whole } from "./text.js";

const AT_ONCE = 6;
const NEAR_KM = 10;
const ID = /^\d+$/;
const IDS = /^\d{4,}([\s,;]+\d{4,})+$/;
const PLACE = /^(-?\d+(?:\.\d+)?)\s*[,;\s]\s*(-?\d+(?:\.\d+)?)$/;

const folded = (text) => text.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase();

/**
 * @param {string} line
 * @returns {Promise<{line: string, candidates: any[], id: number|null, problem?: string}>} id: which city it is, if that is clear
 * @throws {import("./api.js").Problem} cities cannot be looked up
 */
async function resolve(line) {
  if (ID.test(line)) return { line, candidates: [], id: Number(line) };
  const place = PLACE.exec(line);
  const [name, country] = line.split(/[,;\t]/).map((part) => part.trim());
  const query = place
    ? { near: `${place[1]},${place[2]}`, limit: 1 }
    : { q: name, limit: 8, ...(country && { country }) };
  try {
    const { cities } = await call(`/cities?${new URLSearchParams(query)}`);
    if (place) return { line, candidates: cities, id: cities[0]?.distance_km <= NEAR_KM ? cities[0].id : null };
    const same = cities.filter((city) => folded(city.name) === folded(name));
    const candidates = same.length ? same : cities;
    return { line, candidates, id: candidates.length === 1 ? candidates[0].id : null };
  } catch (problem) {
    if (problem.status !== 422) throw problem;
    return { line, candidates: [], id: null, problem: problem.message };
  }
}

/** @param {string[]} lines @param {() => boolean} isWanted whether to go on */
async function resolveAll(lines, isWanted) {
  const results = [];
  for (let start = 0; start < lines.length && isWanted(); start += AT_ONCE) {
    results.push(...(await Promise.all(lines.slice(start, start + AT_ONCE).map(resolve))));
  }
  return results;
}

const described = (city) =>
  `${city.name}, ${where(city)}${city.population ? ` (${whole(city.population)})` : ""}${city.distance_km == null ? "" : `, ${city.distance_km.toFixed(1)} km away`}`;

function Found({ one, onChoose }) {
  if (one.candidates.length > 1 || (one.candidates.length && !one.id)) {
    return html`
      <select
        aria-label=${`Which ${one.line}`}
        value=${one.id ?? ""}
        onChange=${(event) => onChoose(Number(event.target.value) || null)}
      >
        <option value="">${one.candidates.length > 1 ? `Choose one of ${one.candidates.length}…` : "Is it this one?"}</option>
        ${one.candidates.map((city) => html`<option value=${city.id}>${described(city)}</option>`)}
      </select>
    `;
  }
  if (one.candidates.length) return described(one.candidates[0]);
  return one.id ? "by its id" : html`<span class="bad">${one.problem ?? "No city has this name"}</span>`;
}

/** @param {{onChange: (ids: number[]) => void}} props */
export function Paste({ onChange }) {
  const [text, setText] = useState("");
  const [results, setResults] = useState(/** @type {any[]|null} */ (null));
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState(null);
  const latest = useRef(0);
  useEffect(() => () => (latest.current = -1), []);
  const put = (next) => {
    setResults(next);
    onChange([...new Set((next ?? []).map((one) => one.id).filter(Boolean))]);
  };
  const check = async () => {
    const lines = new Set(
      text.split("\n").flatMap((line) => (IDS.test(line.trim()) ? line.trim().split(/[\s,;]+/) : [line.trim()])),
    );
    lines.delete("");
    setBusy(true);
    setProblem(null);
    latest.current += 1;
    const mine = latest.current;
    const isWanted = () => latest.current === mine;
    try {
      const found = await resolveAll([...lines], isWanted);
      if (isWanted()) put(found);
    } catch (error) {
      if (!isWanted()) return;
      setProblem(error.message);
      put([...lines].filter((line) => ID.test(line)).map((line) => ({ line, candidates: [], id: Number(line) })));
    }
    if (isWanted()) setBusy(false);
  };
  const change = (event) => {
    latest.current += 1; // what is being looked up is no longer wanted
    setText(event.target.value);
    setBusy(false);
    setProblem(null);
    put(null);
  };
  const open = (results ?? []).filter((one) => !one.id);
  return html`
    <div class="paste">
      <label>One city a line: name, name and country, id, or latitude and longitude
        <textarea
          rows="6"
          spellcheck=${false}
          placeholder=${"Montevideo, UY\n3441575\n-34.9, -56.2"}
          value=${text}
          onInput=${change}
        ></textarea>
      </label>
      <button
        type="button"
        class="plain"
        disabled=${!text.trim() || busy}
        onClick=${check}
      >${busy ? "Finding cities…" : "Find these cities"}</button>
      ${problem && html`<p class="note" role="alert">${problem}. Ids work without it.</p>`}
      ${
        results &&
        html`
        <p
          class="note"
          role="status"
        >${count(results.length - open.length, "city is", "cities are")} clear${open.length ? `; ${count(open.length, "line needs", "lines need")} your choice or will be left out` : ""}.</p>
        <ul class="resolved" tabindex="0" aria-label="Cities of the list">
          ${[...open, ...results.filter((one) => one.id)].map(
            (one) => html`
            <li key=${one.line}><b>${one.line}</b> <${Found}
              one=${one}
              onChoose=${(id) => put(results.map((other) => (other === one ? { ...one, id } : other)))}
            /></li>
          `,
          )}
        </ul>
      `
      }
    </div>
  `;
}
