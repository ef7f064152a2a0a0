// One task: how it stands and why, how it started, its console, its charts, what it was made of.

import { ApiError, call, download } from "./api.js";
import { Charts, isMachine, machineCharts, scalarCharts } from "./charts.js";
import { Console } from "./console.js";
import { h, setText, webLink } from "./dom.js";
import { age, bytes, moment, runTime } from "./format.js";
import { setStatus } from "./tasks.js";
import { timeline, TIMELINE_PROPERTY } from "./timeline.js";

const MAX_SAMPLES = 1000; // points per series
const MACHINE_METRICS = [":monitor:machine", ":monitor:gpu"];
const FIELDS = [
  "name", "type", "project.name", "status", "status_reason", "status_message", "status_changed", "created", "started",
  "completed", "execution.queue.name", "execution.artifacts", "last_worker", "last_iteration", "last_update",
  "hyperparams", "script", "container", "tags", "runtime",
]; // prettier-ignore

export class TaskView {
  /**
   * @param {string} id
   * @param {() => {id: string, name: string}[]} queues the queues known now
   */
  constructor(id, queues) {
    this.id = id;
    this.title = id;
    this.queues = queues;
    this.task = null;
    this.drawn = {};
    this.console = new Console(id);
    this.scalars = new Charts();
    this.machine = new Charts();
    this.status = h("span");
    this.name = h("h1");
    this.facts = h("dl", { class: "facts" });
    this.actions = h("div", { class: "actions" });
    this.reason = h("div", { class: "reason", id: "reason", hidden: true }, h("strong"), h("pre"));
    this.timeline = h("div", { class: "maybe" });
    this.details = h("div", { class: "details" });
    this.scalarSection = h(
      "section",
      { class: "card", id: "scalars", hidden: true },
      h("header", {}, h("h2", {}, "Scalars")),
      this.scalars.element,
    );
    this.machineSection = h(
      "section",
      { class: "card", id: "machine", hidden: true },
      h("header", {}, h("h2", {}, "Machine")),
      this.machine.element,
    );
    this.body = h(
      "div",
      { class: "stack" },
      this.timeline,
      this.console.element,
      this.scalarSection,
      this.machineSection,
      this.details,
    );
    this.element = h(
      "div",
      { class: "stack task" },
      h(
        "section",
        { class: "card head" },
        h("div", { class: "title" }, this.status, this.name, this.actions),
        this.facts,
        this.reason,
      ),
      this.body,
    );
  }

  async refresh() {
    const { tasks = [] } = await call("tasks.get_all_ex", { id: [this.id], only_fields: FIELDS });
    if (tasks.length === 0) return this.#showMissing();
    const before = this.task;
    this.task = tasks[0];
    this.body.hidden = false;
    this.#showHead();
    this.#showDetails();
    const changed = before?.last_update !== this.task.last_update || before?.status !== this.task.status;
    await Promise.all([
      this.console.refresh(),
      changed || this.task.status === "in_progress" ? this.#refreshCharts() : null,
    ]);
    return undefined;
  }

  close() {
    this.console.close();
    this.scalars.close();
    this.machine.close();
  }

  async #refreshCharts() {
    const ask = (payload) =>
      call("events.scalar_metrics_iter_histogram", { task: this.id, samples: MAX_SAMPLES, ...payload });
    const [byIteration, byTime] = await Promise.all([
      ask({ key: "iter" }),
      ask({ key: "timestamp", metrics: MACHINE_METRICS.map((metric) => ({ metric })) }),
    ]);
    const machine = Object.fromEntries(Object.entries(byTime).filter(([metric]) => isMachine(metric)));
    for (const [section, charts, found] of [
      [this.scalarSection, this.scalars, scalarCharts(byIteration)],
      [this.machineSection, this.machine, machineCharts(machine)],
    ]) {
      section.hidden = found.length === 0;
      charts.show(found);
    }
  }

  #showMissing() {
    this.task = null;
    setStatus(this.status, "");
    setText(this.name, "This task does not exist");
    this.facts.replaceChildren(fact("id", this.id));
    this.actions.replaceChildren();
    this.body.hidden = true;
  }

  #showHead() {
    const { task } = this;
    this.title = task.name || task.id;
    setStatus(this.status, task.status);
    setText(this.name, this.title);
    const failed = task.status === "failed";
    this.reason.classList.toggle("bad", failed);
    this.reason.hidden = !task.status_reason && !task.status_message;
    setText(this.reason.firstChild, task.status_reason || (failed ? "failed" : ""));
    const message = task.status_message === task.status_reason ? "" : (task.status_message ?? "");
    setText(this.reason.lastChild, message);
    this.reason.lastChild.hidden = !message;
    const facts = [
      ["project", task.project?.name],
      ["queue", task.execution?.queue?.name],
      ["worker", task.last_worker],
      ["type", task.type],
      ["created", `${age(task.created)} ago`, moment(task.created)],
      ["started", task.started ? `${age(task.started)} ago` : "", moment(task.started)],
      ["duration", runTime(task)],
      ["iteration", task.last_iteration ? String(task.last_iteration) : ""],
      ["tags", (task.tags ?? []).join(", ")],
      ["id", task.id],
    ];
    this.#draw("facts", this.facts, facts, () => facts.filter(([, value]) => value).map((one) => fact(...one)));
    this.#draw("actions", this.actions, [task.status, this.queues()], () => this.#buttons());
    this.#draw("timeline", this.timeline, task.hyperparams?.properties, () => [timeline(task)].filter(Boolean));
  }

  /** Rebuild `place` only when what it shows changed: a selection in it survives the polls. */
  #draw(name, place, shown, build) {
    const mark = JSON.stringify(shown) ?? "";
    if (this.drawn[name] === mark) return;
    this.drawn[name] = mark;
    place.replaceChildren(...build());
  }

  #buttons() {
    const { status } = this.task;
    const act = (words, endpoint, payload = {}) =>
      h(
        "button",
        { class: "quiet", onclick: (event) => this.#act(event.currentTarget, words, endpoint, payload) },
        words,
      );
    if (status === "queued" || status === "in_progress")
      return [act("Abort", "tasks.stop", { status_reason: "Aborted on the page" })];
    const buttons = [];
    if (status === "created" || status === "stopped" || status === "failed") {
      const choice = h(
        "select",
        { "aria-label": "Queue" },
        ...this.queues().map(({ id, name }) =>
          h("option", { value: id, selected: id === this.task.execution?.queue?.id }, name),
        ),
      );
      const enqueue = h(
        "button",
        {
          class: "quiet",
          onclick: (event) => this.#act(event.currentTarget, "Enqueue", "tasks.enqueue", { queue: choice.value }),
        },
        "Enqueue",
      );
      if (choice.options.length) buttons.push(choice, enqueue);
    }
    if (status !== "created" && status !== "published") buttons.push(act("Reset", "tasks.reset"));
    return buttons;
  }

  async #act(button, words, endpoint, payload) {
    if (words === "Reset" && !confirm("Reset this task? Its console, scalars and results are deleted.")) return;
    button.disabled = true;
    try {
      await call(endpoint, { task: this.id, ...payload });
      this.drawn.actions = "";
      await this.refresh();
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      alert(`${words}: ${error.message}`);
    } finally {
      button.disabled = false;
    }
  }

  #showDetails() {
    const { task } = this;
    const shown = [task.script, task.container, task.hyperparams, task.execution?.artifacts];
    this.#draw("details", this.details, shown, () =>
      [
        ...Object.entries(task.hyperparams ?? {}).map(([section, values]) => parameters(section, values)),
        source(task),
        artifacts(task.execution?.artifacts ?? []),
      ].filter(Boolean),
    );
  }
}

function fact(name, value, title = "") {
  return h("div", {}, h("dt", {}, name), h("dd", { title: title || null }, value));
}

function parameters(section, values) {
  const rows = Object.entries(values ?? {})
    .filter(([name]) => name !== TIMELINE_PROPERTY)
    .map(([name, item]) => [name, String(item?.value ?? "")]);
  return rows.length ? card(section === "properties" ? "Properties" : `Configuration · ${section}`, table(rows)) : null;
}

function source({ script = {}, container = {} }) {
  const requirements = script.requirements?.pip;
  const rows = [
    ["repository", script.repository],
    ["branch", script.branch],
    ["commit", script.version_num],
    ["tag", script.tag],
    ["entry point", script.entry_point],
    ["working folder", script.working_dir],
    ["interpreter", script.binary],
    ["image", container?.image],
    ["docker arguments", container?.arguments],
    ["requirements", Array.isArray(requirements) ? requirements.join("\n") : requirements],
    ["uncommitted changes", script.diff],
  ].filter(([, value]) => value);
  return rows.length ? card("Source", table(rows)) : null;
}

function artifacts(found) {
  if (found.length === 0) return null;
  const rows = found.map(({ key, uri, type, content_size: size }) => [
    key ?? "",
    artifactLink(key ?? "artifact", uri ?? ""),
    `${type ?? ""} ${size ? bytes(size) : ""}`,
  ]);
  return card("Artifacts", table(rows));
}

/** A file of this server needs the session's token, which a plain link does not carry: fetch and save it. */
function artifactLink(name, uri) {
  if (!URL.canParse(uri) || new URL(uri).origin !== location.origin) return webLink(uri);
  const save = (event) => {
    event.preventDefault();
    const file = new URL(uri).pathname.split("/").at(-1) || name;
    download(uri, decodeURIComponent(file)).catch((error) => alert(error.message));
  };
  return h("a", { href: uri, onclick: save }, uri);
}

function card(title, content) {
  return h("section", { class: "card" }, h("header", {}, h("h2", {}, title)), content);
}

function table(rows) {
  return h(
    "table",
    { class: "values" },
    h(
      "tbody",
      {},
      ...rows.map(([name, ...cells]) =>
        h("tr", {}, h("th", { scope: "row" }, name), ...cells.map((cell) => h("td", {}, cellContent(cell)))),
      ),
    ),
  );
}

function cellContent(cell) {
  return typeof cell === "string" && cell.includes("\n") ? h("pre", {}, cell) : cell;
}
