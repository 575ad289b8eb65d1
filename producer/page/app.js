/** The page: its head, and the view that the address names after `#`. */
import { signal } from "@preact/signals";
import { render } from "preact";
import { useEffect } from "preact/hooks";
import { url } from "./api.js";
import { CollectionView } from "./collection.js";
import { html } from "./html.js";
import { connection, follow, heardAt, trouble } from "./live.js";
import { Overview } from "./overview.js";
import { time } from "./text.js";

const WORDS = { connecting: "Connecting", live: "Live", polling: "Every 2 s", offline: "Offline" };

const view = signal(location.hash);
addEventListener("hashchange", () => {
  view.value = location.hash;
  document.getElementById("main").focus({ preventScroll: true });
  scrollTo(0, 0);
});

function Head() {
  return html`
    <header class="head">
      <a class="brand" href="#/"><svg viewBox="0 0 32 32" aria-hidden="true"><path class="glass" d="M9 3h14v3l-2 1v19a3 3 0 0 1-3 3h-4a3 3 0 0 1-3-3V7L9 6z" /><path
        class="water"
        d="M13 16h6v9.500a1.500 1.500 0 0 1-1.500 1.500h-3a1.500 1.500 0 0 1-1.500-1.500z"
      /></svg>Raingauge</a>
      <nav aria-label="Documentation"><a href=${url("/docs")}>API</a></nav>
      <span class=${`connection ${connection.value}`} role="status"><i aria-hidden="true"></i>${WORDS[connection.value]}</span>
    </header>
  `;
}

function Trouble() {
  const since = heardAt.value ? ` The figures are from ${time(heardAt.value)}.` : "";
  if (connection.value === "offline")
    return html`<p class="trouble" role="alert">Raingauge does not answer. The page goes on by itself when it does.${since}</p>`;
  if (trouble.value)
    return html`<p class="trouble" role="alert">Nothing can be read: ${trouble.value}.${since}</p>`;
  return null;
}

/** Which collection an address shows, if any. */
function shownId(hash) {
  const [, id] = /^#\/collections\/(.+)$/.exec(hash) ?? [];
  try {
    return id && decodeURIComponent(id);
  } catch {
    return id; // no escape that anything has: there is no such collection
  }
}

function App() {
  const id = shownId(view.value);
  useEffect(() => {
    document.title = id ? `${id} · Raingauge` : "Raingauge";
  }, [id]);
  return html`
    <a
      class="skip"
      href="#main"
      onClick=${(event) => (event.preventDefault(), document.getElementById("main").focus())}
    >To the content</a>
    <${Head} />
    <${Trouble} />
    <main id="main" tabindex="-1" class=${connection.value}>
      ${id ? html`<${CollectionView} key=${id} id=${id} />` : html`<${Overview} />`}
    </main>
    <footer>Weather: <a href="https://openweathermap.org">OpenWeather</a>. City names: <a href="https://www.geonames.org">GeoNames</a>, CC BY 4.0. Borders: Natural Earth.</footer>
  `;
}

const place = document.getElementById("app");
place.replaceChildren();
render(html`<${App} />`, place);
follow();
