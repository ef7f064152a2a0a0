// The list of tasks: the latest change first, filtered by status on the server and by text here.

import { call } from "./api.js";
import { h, reconcile, setText } from "./dom.js";
import { age, moment, runTime, seconds } from "./format.js";

const PAGE_SIZE = 100;
export const STATUSES = ["in_progress", "queued", "failed", "completed", "stopped", "created"];
const FIELDS = [
  "name", "type", "project.name", "status", "status_reason", "status_message", "status_changed", "created", "started",
  "completed", "execution.queue.name", "last_worker", "last_iteration",
]; // prettier-ignore

/** What people call a status. */
export function statusWord(status) {
  return status === "in_progress" ? "running" : status || "unknown";
}

/** A coloured word. */
export function setStatus(element, status) {
  element.className = `status s-${STATUSES.includes(status) ? status : "created"}`;
  setText(element, statusWord(status));
}

export class Tasks {
  constructor() {
    this.title = "tasks";
    this.status = "";
    this.size = PAGE_SIZE;
    this.found = [];
    this.filter = h("input", {
      type: "search",
      placeholder: "filter by name, project, queue or id",
      "aria-label": "Filter tasks",
      oninput: () => this.#show(),
    });
    this.chips = h(
      "div",
      { class: "chips", role: "group", "aria-label": "Status" },
      ...["", ...STATUSES].map((status) => this.#chip(status)),
    );
    this.rows = h("tbody");
    this.note = h("p", { class: "dim empty" }, "Reading …");
    this.more = h("button", { class: "quiet", hidden: true, onclick: () => this.#readMore() }, "show more");
    const columns = ["Status", "Task", "Project", "Queue", "Changed", "Duration"];
    this.element = h(
      "section",
      { class: "card tasks" },
      h("header", {}, h("h2", {}, "Tasks"), this.chips, this.filter),
      h("table", {}, h("thead", {}, h("tr", {}, ...columns.map((name) => h("th", {}, name)))), this.rows),
      this.note,
      this.more,
    );
  }

  async refresh() {
    const asked = this.status;
    const { tasks = [] } = await call("tasks.get_all_ex", {
      page: 0,
      page_size: this.size,
      order_by: ["-last_update"],
      only_fields: FIELDS,
      system_tags: ["-archived"],
      ...(asked ? { status: [asked] } : {}),
    });
    if (asked !== this.status) return; // another chip was pressed meanwhile: its own answer follows
    this.found = tasks.sort((one, other) => changedAt(other) - changedAt(one));
    this.#show();
  }

  close() {}

  #show() {
    const wanted = this.filter.value.trim().toLowerCase();
    const shown = this.found.filter((task) => !wanted || searchText(task).includes(wanted));
    reconcile(this.rows, shown, (task) => task.id, createRow, updateRow);
    this.note.hidden = shown.length > 0;
    setText(
      this.note,
      this.found.length
        ? "No task matches."
        : this.status
          ? `No ${statusWord(this.status)} task.`
          : "No task yet: create one with clearml-task, and it appears here.",
    );
    this.more.hidden = this.found.length < this.size;
  }

  #chip(status) {
    const pressed = () => {
      this.status = status;
      for (const chip of this.chips.children) chip.setAttribute("aria-pressed", String(chip.dataset.status === status));
      this.refresh().catch(() => {}); // the page's own loop reports it
    };
    return h(
      "button",
      { class: "chip", "aria-pressed": String(status === ""), dataset: { status }, onclick: pressed },
      status ? statusWord(status) : "all",
    );
  }

  #readMore() {
    this.size += PAGE_SIZE;
    this.refresh().catch(() => {});
  }
}

/** The list stands still while tasks run: last_update moves at every report, this only with the status. */
function changedAt(task) {
  return seconds(task.status_changed ?? task.created) || 0;
}

function searchText(task) {
  return `${task.name} ${task.project?.name ?? ""} ${task.execution?.queue?.name ?? ""} ${task.id}`.toLowerCase();
}

function createRow(task) {
  const open = () => {
    if (!getSelection()?.toString()) location.hash = link(task);
  };
  return h(
    "tr",
    { onclick: open },
    h("td", {}, h("span")),
    h("td", { class: "what" }, h("a", { href: link(task) }), h("div", { class: "why" })),
    h("td", { class: "dim" }),
    h("td", { class: "dim" }),
    h("td", { class: "dim number" }),
    h("td", { class: "number" }),
  );
}

function updateRow(row, task) {
  const [status, what, project, queue, changed, ran] = row.children;
  setStatus(status.firstChild, task.status);
  setText(what.firstChild, task.name || task.id);
  const why = reasonLine(task);
  setText(what.lastChild, why);
  what.lastChild.title = why;
  what.lastChild.classList.toggle("bad", task.status === "failed");
  setText(project, task.project?.name ?? "");
  setText(queue, task.execution?.queue?.name ?? "");
  setText(changed, age(task.status_changed ?? task.created));
  changed.title = `changed ${moment(task.status_changed)}\ncreated ${moment(task.created)}`;
  setText(ran, runTime(task));
}

/** Why a task failed, stopped or waits, in one line; of a running or completed one nothing needs saying. */
function reasonLine(task) {
  if (!["failed", "stopped", "queued"].includes(task.status)) return "";
  const said = new Set([task.status_reason, task.status_message].filter(Boolean));
  return [...said].join(" · ").split("\n").join(" ");
}

function link(task) {
  return `#/task/${encodeURIComponent(task.id)}`;
}
