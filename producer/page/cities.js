/** Which cities a collection has: the default ones, some found by name, or a pasted list. */
import { useState } from "preact/hooks";
import { html } from "./html.js";
import { Paste } from "./paste.js";
import { Search } from "./search.js";

const WAYS = { default: "Default cities", search: "Search", paste: "Paste a list" };

/** @param {{onChange: (ids: number[]|null) => void}} props null: the default cities */
export function Cities({ onChange }) {
  const [way, setWay] = useState("default");
  const choose = (other) => {
    setWay(other);
    onChange(other === "default" ? null : []);
  };
  return html`
    <fieldset class="choice">
      <legend>Cities</legend>
      ${Object.entries(WAYS).map(
        ([key, words]) => html`
        <label key=${key}><input
          type="radio"
          name="way"
          value=${key}
          checked=${way === key}
          onChange=${() => choose(key)}
        /><span>${words}</span></label>
      `,
      )}
    </fieldset>
    ${way === "search" && html`<${Search} onChange=${onChange} />`}
    ${way === "paste" && html`<${Paste} onChange=${onChange} />`}
  `;
}
