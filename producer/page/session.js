/** Signing in with a token, where the API wants one; the browser keeps it as a cookie that scripts cannot read. */
import { signal } from "@preact/signals";
import { useState } from "preact/hooks";
import { call, isLocked } from "./api.js";
import { html } from "./html.js";
import { follow } from "./live.js";

/** Who is signed in: {name, scope}; null: nobody, or nobody needs to. */
export const session = signal(null);

/** Read who is signed in. */
export async function readSession() {
  const found = await call("/session").catch(() => null);
  session.value = found?.name ? found : null;
}

export async function signOut() {
  const problem = await call("/session", { method: "DELETE" }).then(() => null, (error) => error);
  if (problem) return alert(problem.message);
  session.value = null;
  isLocked.value = true;
}

export function SignIn() {
  const [problem, setProblem] = useState(null);
  const [busy, setBusy] = useState(false);
  const signIn = async (event) => {
    event.preventDefault();
    setBusy(true);
    try {
      await call("/session", { json: { token: new FormData(event.target).get("token").trim() } });
      isLocked.value = false;
      await readSession();
      follow();
    } catch (error) {
      setProblem(error.message);
      setBusy(false);
    }
  };
  return html`
    <h1 class="statement">Sign in</h1>
    <form class="start sign-in" onSubmit=${signIn}>
      <label>Token <input type="password" name="token" required autocomplete="current-password" spellcheck=${false} placeholder="rg_…" /></label>
      <p class="note">Whoever runs Raingauge makes one with <code>raingauge admin token add</code>.</p>
      <div aria-live="polite">${problem && html`<p class="bad" role="alert">${problem}</p>`}</div>
      <button class="primary" disabled=${busy}>Sign in</button>
    </form>
  `;
}
