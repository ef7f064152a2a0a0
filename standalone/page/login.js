// Asked only where the server hands out no session by itself: it listens beyond this machine, or is another user's.

import { login, LoginNeeded } from "./api.js";
import { h, setText } from "./dom.js";

/** The form; calls `done` after a login that worked. */
export function loginForm(done) {
  const access = h("input", { name: "access", autocomplete: "username", required: true });
  const secret = h("input", { name: "secret", type: "password", autocomplete: "current-password", required: true });
  const note = h("p", { class: "bad", role: "alert" });
  const submit = async (event) => {
    event.preventDefault();
    try {
      await login(access.value.trim(), secret.value.trim());
      done();
    } catch (error) {
      setText(note, error instanceof LoginNeeded ? "The server does not know these keys." : String(error.message));
    }
  };
  return h(
    "form",
    { class: "card login", onsubmit: submit },
    h("h2", {}, "Log in"),
    h("p", { class: "dim" }, "The keys that `podstrap standalone` printed when it started."),
    h("label", {}, "Access key", access),
    h("label", {}, "Secret key", secret),
    h("button", {}, "Log in"),
    note,
  );
}
