/** Cities found by their names, and those that were chosen. */
import { useEffect, useState } from "preact/hooks";
import { call } from "./api.js";
import { html } from "./html.js";
import { country, whole } from "./text.js";

/** Where a city is, in words. */
export const where = (city) => [city.admin1, country(city.country)].filter(Boolean).join(", ");

/** @param {{onChange: (ids: number[]) => void}} props */
export function Search({ onChange }) {
  const [text, setText] = useState("");
  const [found, setFound] = useState(/** @type {any[]|null} */ (null));
  const [problem, setProblem] = useState(null);
  const [chosen, setChosen] = useState([]);
  useEffect(() => {
    if (text.trim().length < 2) return setFound(null);
    const stop = new AbortController();
    const timer = setTimeout(() => {
      call(`/cities?limit=8&q=${encodeURIComponent(text.trim())}`, { signal: stop.signal }).then(
        (body) => (setFound(body.cities), setProblem(null)),
        (error) => error.name !== "AbortError" && setProblem(error.message),
      );
    }, 150);
    return () => {
      clearTimeout(timer);
      stop.abort();
    };
  }, [text]);
  const change = (cities) => {
    setChosen(cities);
    onChange(cities.map((city) => city.id));
  };
  const toggle = (city) =>
    change(isChosen(city) ? chosen.filter((one) => one.id !== city.id) : [...chosen, city]);
  const isChosen = (city) => chosen.some((one) => one.id === city.id);
  return html`
    <div class="search">
      <label>City <input
        type="search"
        placeholder="Montevideo"
        autocomplete="off"
        value=${text}
        onInput=${(event) => setText(event.target.value)}
        onKeyDown=${(event) => event.key === "Enter" && event.preventDefault()}
      /></label>
      ${problem && html`<p class="note" role="alert">${problem}. City ids can be pasted without it.</p>`}
      ${
        found &&
        !problem &&
        html`
        <ul class="found" aria-label="Cities found">
          ${found.length === 0 && html`<li class="note">No city has this name.</li>`}
          ${found.map(
            (city) => html`
            <li key=${city.id}>
              <button type="button" aria-pressed=${isChosen(city)} onClick=${() => toggle(city)}>
                <b>${city.name}</b> <span>${where(city)}</span> ${city.population > 0 && html`<span class="figure">${whole(city.population)}</span>`}
              </button>
            </li>
          `,
          )}
        </ul>
      `
      }
      ${
        chosen.length > 0 &&
        html`
        <ul class="chosen" aria-label="Cities chosen">
          ${chosen.map(
            (city) => html`
            <li key=${city.id}><button
              type="button"
              title="Remove"
              aria-label=${`Remove ${city.name}`}
              onClick=${() => change(chosen.filter((one) => one !== city))}
            >${city.name} <span aria-hidden="true">×</span></button></li>
          `,
          )}
        </ul>
      `
      }
    </div>
  `;
}
