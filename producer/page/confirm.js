/** A button that asks before it does what cannot be undone. */
import { useRef, useState } from "preact/hooks";
import { html } from "./html.js";

/**
 * @param {{words: string, title: string, keep: string, act: string, onAct: () => Promise<void>, children: any}} props
 *   `words`: the button that asks; `keep` and `act`: those that answer; `children`: what is removed and what stays
 */
export function Confirm({ words, title, keep, act, onAct, children }) {
  const dialog = useRef();
  const [problem, setProblem] = useState(null);
  const [busy, setBusy] = useState(false);
  const ask = () => {
    setProblem(null);
    dialog.current.showModal();
  };
  const confirm = async (event) => {
    event.preventDefault();
    setBusy(true);
    try {
      await onAct();
      dialog.current?.close();
      document.getElementById("main").focus({ preventScroll: true }); // the button and the dialog are gone
    } catch (error) {
      setProblem(error.message);
    }
    setBusy(false);
  };
  return html`
    <button type="button" class="plain danger" onClick=${ask}>${words}</button>
    <dialog ref=${dialog} aria-labelledby="confirm-title" aria-describedby="confirm-text">
      <form method="dialog" onSubmit=${confirm}>
        <h2 id="confirm-title">${title}</h2>
        <div id="confirm-text">${children}</div>
        ${problem && html`<p class="bad" role="alert">${problem}</p>`}
        <div class="buttons">
          <button type="button" class="plain" onClick=${() => dialog.current.close()}>${keep}</button>
          <button class="primary danger" disabled=${busy}>${act}</button>
        </div>
      </form>
    </dialog>
  `;
}
