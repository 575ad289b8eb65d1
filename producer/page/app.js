/** The page: its head, and the view that the address names after `#`. */
import { signal } from "@preact/signals";
import { render } from "preact";
import { useEffect } from "preact/hooks";
import { isLocked, url } from "./api.js";
import { CityView } from "./city.js";
import { CollectionView } from "./collection.js";
import { html } from "./html.js";
import { connection, follow, heardAt, trouble } from "./live.js";
import { Overview } from "./overview.js";
import { ScheduleView, SchedulesView } from "./schedules.js";
import { readSession, session, SignIn, signOut } from "./session.js";
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
      <nav aria-label="Main">
        <a href="#/schedules" aria-current=${view.value.startsWith("#/schedules") ? "page" : undefined}>Schedules</a>
        <a href=${url("/docs")}>API</a>
        ${session.value && !isLocked.value && html`<button type="button" class="link" title=${`Signed in with the token ${session.value.name} (${session.value.scope})`} onClick=${signOut}>Sign out</button>`}
      </nav>
      ${!isLocked.value && html`<span class=${`connection ${connection.value}`} role="status"><i aria-hidden="true"></i>${WORDS[connection.value]}</span>`}
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

/** The views, by what their addresses begin with; what follows is decoded. */
const VIEWS = {
  "#/collections/": (id) => html`<${CollectionView} key=${id} id=${id} />`,
  "#/cities/": (id) => html`<${CityView} key=${id} id=${id} />`,
  "#/schedules/": (id) => html`<${ScheduleView} key=${id} name=${id} />`,
};

/** What an address shows: [its title, its view]. */
function shown(hash) {
  if (isLocked.value) return ["Sign in", html`<${SignIn} />`];
  if (hash === "#/schedules") return ["Schedules", html`<${SchedulesView} />`];
  const start = Object.keys(VIEWS).find((one) => hash.startsWith(one) && hash.length > one.length);
  if (!start) return ["", html`<${Overview} />`];
  const name = decoded(hash.slice(start.length));
  return [name, VIEWS[start](name)];
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // a malformed escape: nothing has this name
  }
}

function App() {
  const [title, content] = shown(view.value);
  useEffect(() => {
    document.title = title ? `${title} · Raingauge` : "Raingauge";
  }, [title]);
  return html`
    <a
      class="skip"
      href="#main"
      onClick=${(event) => (event.preventDefault(), document.getElementById("main").focus())}
    >Skip to content</a>
    <${Head} />
    <${Trouble} />
    <main id="main" tabindex="-1" class=${connection.value}>
      ${content}
    </main>
    <footer>Weather: <a href="https://openweathermap.org">OpenWeather</a>. City names: <a href="https://www.geonames.org">GeoNames</a>, CC BY 4.0. Borders: Natural Earth.</footer>
  `;
}

const place = document.getElementById("app");
place.replaceChildren();
render(html`<${App} />`, place);
readSession();
follow();
