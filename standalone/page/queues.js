// The column at the left: every queue, how many tasks wait in it, and the first of them.

import { call } from "./api.js";
import { h, reconcile, setText } from "./dom.js";
import { age } from "./format.js";

const MAX_COUNTED = 200; // entries asked for: more are shown as "200+"
const MAX_NAMED = 8;

export class Queues {
  /** @param {HTMLElement} element */
  constructor(element) {
    this.element = element;
    this.list = h("div", { class: "queue-list" });
    this.empty = h("p", { class: "dim" }, "No queue yet.");
    element.replaceChildren(h("h2", {}, "Queues"), this.list, this.empty);
    /** @type {{id: string, name: string}[]} */
    this.known = [];
  }

  async refresh() {
    const { queues = [] } = await call("queues.get_all_ex", { max_task_entries: MAX_COUNTED });
    queues.sort((one, other) => (one.name ?? "").localeCompare(other.name ?? ""));
    this.known = queues.map(({ id, name }) => ({ id, name }));
    this.empty.hidden = queues.length > 0;
    reconcile(this.list, queues, (queue) => queue.id, createQueue, updateQueue);
  }
}

function createQueue() {
  return h(
    "section",
    { class: "queue" },
    h("header", {}, h("span", { class: "name" }), h("span", { class: "count" })),
    h("ol", { class: "waiting" }),
    h("p", { class: "dim more" }),
  );
}

function updateQueue(element, queue) {
  const entries = queue.entries ?? [];
  const [header, waiting, more] = element.children;
  setText(header.firstChild, queue.name || queue.id);
  header.firstChild.title = queue.name || queue.id;
  setText(header.lastChild, entries.length >= MAX_COUNTED ? `${MAX_COUNTED}+` : String(entries.length));
  element.classList.toggle("idle", entries.length === 0);
  const named = entries.slice(0, MAX_NAMED).map(({ task, added }) => ({
    id: typeof task === "string" ? task : (task?.id ?? ""),
    name: task?.name || (typeof task === "string" ? task : (task?.id ?? "")),
    added,
  }));
  reconcile(
    waiting,
    named,
    (entry) => entry.id,
    (entry) =>
      h(
        "li",
        {},
        h(
          "a",
          { href: `#/task/${encodeURIComponent(entry.id)}` },
          h("span", { class: "name" }),
          h("span", { class: "dim" }),
        ),
      ),
    (item, entry) => {
      const [name, waited] = item.firstChild.children;
      setText(name, entry.name);
      item.firstChild.title = entry.name;
      setText(waited, age(entry.added));
    },
  );
  setText(more, entries.length > MAX_NAMED ? `and ${entries.length - MAX_NAMED} more` : "");
}
