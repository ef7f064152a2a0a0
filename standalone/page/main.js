// The page: queues at the left, and at the right the tasks (`#/`) or one task (`#/task/ID`). One loop reads
// everything every two seconds, and only while somebody can see it.

import { LoginNeeded } from "./api.js";
import { setText } from "./dom.js";
import { loginForm } from "./login.js";
import { Queues } from "./queues.js";
import { TaskView } from "./task.js";
import { Tasks } from "./tasks.js";

const POLL_MS = 2000;

const place = document.getElementById("view");
const health = document.getElementById("health");
const queues = new Queues(document.getElementById("queues"));
let view = null;
let wake = () => {};
let asking = false;

function route() {
  const [, id] = location.hash.match(/^#\/task\/([^/]+)$/) ?? [];
  view?.close();
  view = id ? new TaskView(decodeURIComponent(id), () => queues.known) : new Tasks();
  place.replaceChildren(view.element);
  document.body.dataset.view = id ? "task" : "tasks";
  scrollTo(0, 0);
  wake();
}

function askForKeys() {
  asking = true;
  document.body.dataset.view = "login";
  place.replaceChildren(
    loginForm(() => {
      asking = false;
      route();
    }),
  );
}

async function refresh() {
  const current = view;
  try {
    await queues.refresh();
    await current.refresh();
    health.className = "health good";
    setText(health, "live");
    if (current === view) document.title = `${current.title} · podstrap`;
  } catch (error) {
    if (error instanceof LoginNeeded) {
      askForKeys();
      return;
    }
    health.className = "health lost";
    // fetch() throws TypeError when there is no answer at all.
    setText(health, error instanceof TypeError ? "the server does not answer" : String(error.message));
    if (!(error instanceof TypeError)) console.error(error);
  }
}

/** Wait for the next poll: two seconds, or until something woke us; while hidden, until we are seen again. */
function pause() {
  return new Promise((resolve) => {
    wake = resolve;
    if (!document.hidden && !asking) setTimeout(resolve, POLL_MS);
  });
}

addEventListener("hashchange", route);
document.addEventListener("visibilitychange", () => !document.hidden && wake());
route();
for (;;) {
  if (!document.hidden && !asking) await refresh();
  await pause();
}
