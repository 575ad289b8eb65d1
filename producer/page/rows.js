/** The readings as a table that can be sorted, filtered and turned page by page. */
import { useMemo, useState } from "preact/hooks";
import { html } from "./html.js";
import { count, country, degrees, percent, time, whole } from "./text.js";

const PAGE = 50;
const COLUMNS = [
  {
    key: "name",
    words: "City",
    value: (row) => row.name ?? `City ${row.city_id}`,
    show: (name, row) => html`<a href=${`#/cities/${row.city_id}`}>${name}</a>`,
  },
  { key: "country", words: "Country", value: (row) => country(row.country) },
  { key: "temperature", words: "Temperature", figure: true, value: (row) => row.temperature, show: (value) => degrees(value) },
  {
    key: "humidity",
    words: "Humidity",
    figure: true,
    value: (row) => row.humidity,
    show: percent,
  },
  {
    key: "observed_at",
    words: "Observed",
    figure: true,
    value: (row) => row.observed_at,
    show: (moment) => time(moment),
  },
  { key: "city_id", words: "City id", figure: true, value: (row) => row.city_id },
];

const { compare: compareTexts } = new Intl.Collator("en");
const compare = (a, b) => (typeof a === "string" ? compareTexts(a, b) : (a ?? -Infinity) - (b ?? -Infinity));

/** @param {{rows: any[]}} props */
export function Rows({ rows }) {
  const [by, setBy] = useState({ key: "name", down: false });
  const [filter, setFilter] = useState("");
  const [page, setPage] = useState(0);
  const found = useMemo(() => {
    const wanted = filter.trim().toLowerCase();
    const column = COLUMNS.find((one) => one.key === by.key);
    const left = wanted
      ? rows.filter((row) => `${row.name ?? ""} ${country(row.country)} ${row.city_id}`.toLowerCase().includes(wanted))
      : [...rows];
    left.sort((a, b) => compare(column.value(a), column.value(b)) * (by.down ? -1 : 1));
    return left;
  }, [rows, by, filter]);
  const pages = Math.max(1, Math.ceil(found.length / PAGE));
  const at = Math.min(page, pages - 1);
  const sort = (key) => {
    setBy({ key, down: by.key === key ? !by.down : key === "temperature" });
    setPage(0);
  };
  return html`
    <div class="tools">
      <label>Filter <input
        type="search"
        placeholder="city, country or id"
        value=${filter}
        onInput=${(event) => (setFilter(event.target.value), setPage(0))}
      /></label>
      <span
        class="note"
        role="status"
      >${found.length === rows.length ? count(rows.length, "city", "cities") : `${whole(found.length)} of ${count(rows.length, "city", "cities")}`}</span>
    </div>
    <div class="scroll wide" tabindex="0" role="region" aria-label="Table of readings">
      <table class="rows">
        <thead>
          <tr>${COLUMNS.map(
            ({ key, words, figure }) => html`
            <th
              key=${key}
              scope="col"
              class=${figure ? "figure" : ""}
              aria-sort=${by.key === key ? (by.down ? "descending" : "ascending") : "none"}
            >
              <button
                type="button"
                onClick=${() => sort(key)}
              >${words}<span aria-hidden="true">${by.key === key ? (by.down ? " ↓" : " ↑") : ""}</span></button>
            </th>
          `,
          )}</tr>
        </thead>
        <tbody>
          ${found.slice(at * PAGE, (at + 1) * PAGE).map(
            (row) => html`
            <tr key=${row.city_id}>${COLUMNS.map(
              ({ key, figure, value, show }) => html`<td
              key=${key}
              class=${figure ? "figure" : ""}
            >${show ? show(value(row), row) : value(row)}</td>`,
            )}</tr>
          `,
          )}
        </tbody>
      </table>
    </div>
    ${found.length === 0 && html`<p class="empty">No city matches.</p>`}
    ${
      pages > 1 &&
      html`
      <nav class="pages" aria-label="Pages of the table">
        <button type="button" class="plain" disabled=${at === 0} onClick=${() => setPage(at - 1)}>Previous</button>
        <span class="figure">${at + 1} of ${pages}</span>
        <button type="button" class="plain" disabled=${at === pages - 1} onClick=${() => setPage(at + 1)}>Next</button>
      </nav>
    `
    }
  `;
}
