/** Signing in with a token, where the API wants one; the browser keeps it as a cookie that scripts cannot read. */
import { signal } from "@preact/signals";
import { useState } from "preact/hooks";
import { call, isLocked } from "./api.js";
import { html } from "./html.js";
import { connection, follow } from "./live.js";

const SCOPES = ["read", "write", "admin"];

/** Who is signed in: {name, scope}; null: nobody needs to; undefined: not known yet. */
export const session = signal(undefined);

/** @param {string} scope @returns {boolean|undefined} whether whoever looks may do what needs it; undefined: not known yet */
export function may(scope) {
  if (!session.value) return session.value === null || undefined;
  return SCOPES.indexOf(session.value.scope) >= SCOPES.indexOf(scope);
}

/** Read who is signed in. */
export async function readSession() {
  const found = await call("/session").catch(() => undefined);
  if (found) session.value = found.name ? found : null;
}

connection.subscribe((now) => now === "live" && session.value === undefined && readSession()); // if it failed before

/** What needs a scope; or, for a token that lacks it, that it does. */
export function Needs({ scope, children }) {
  if (may(scope) !== false) return children;
  const { name, scope: own } = session.value;
  return html`<p class="empty">The token ${name} has the scope ${own}; this needs ${scope}.</p>`;
}

export async function signOut() {
  const problem = await call("/session", { method: "DELETE" }).then(() => null, (error) => error);
  if (problem) return alert(problem.message);
  session.value = undefined;
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
      await readSession();
      isLocked.value = false;
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
