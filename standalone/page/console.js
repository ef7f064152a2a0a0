// The live console: of any number of lines only those in sight are elements. Lines have one height, so a line's
// place is its number times LINE_HEIGHT; the view follows the tail until somebody scrolls up.

import { runs, strip } from "./ansi.js";
import { h, place, setText } from "./dom.js";
import { clock } from "./format.js";
import { Log } from "./log.js";

const LINE_HEIGHT = 18; // pixels, as --line in page.css
const MARGIN_LINES = 30; // rendered above and below the visible part
const MAX_SHOWN_CHARACTERS = 4000;
const MARKED = new Set(["error", "critical", "fatal", "stderr"]);

export class Console {
  /** @param {string} task */
  constructor(task) {
    this.log = new Log(task);
    this.shown = this.log.lines;
    this.following = true;
    this.pending = false;
    this.loading = false;
    this.made = new WeakMap();
    this.rows = h("div", { class: "rows" });
    this.spacer = h("div", { class: "spacer" }, this.rows);
    this.scroll = h(
      "div",
      { class: "console", tabindex: 0, "aria-label": "Console", onscroll: () => this.#scrolled() },
      this.spacer,
    );
    this.count = h("span", { class: "dim" });
    this.filter = h("input", {
      type: "search",
      placeholder: "filter lines",
      "aria-label": "Filter lines",
      oninput: () => this.#changed(),
    });
    this.follow = h("button", { class: "follow", hidden: true, onclick: () => this.#toEnd() }, "↓ follow");
    this.element = h(
      "section",
      { class: "card console-card", id: "console" },
      h("header", {}, h("h2", {}, "Console"), this.count, this.filter),
      h("div", { class: "console-frame" }, this.scroll, this.follow),
    );
    this.resized = new ResizeObserver(() => this.#later());
    this.resized.observe(this.scroll);
    this.#render();
  }

  /** Read what is new and show it. */
  async refresh() {
    if (!(await this.log.poll())) return;
    const above = this.log.dropped;
    if (!this.following && above) this.scroll.scrollTop -= above * LINE_HEIGHT;
    this.#changed();
  }

  close() {
    this.resized.disconnect();
  }

  #changed() {
    const wanted = this.filter.value.toLowerCase();
    this.shown = wanted
      ? this.log.lines.filter((line) => strip(line.text).toLowerCase().includes(wanted))
      : this.log.lines;
    const all = this.log.lines.length.toLocaleString();
    const lines = wanted ? `${this.shown.length.toLocaleString()} of ${all} lines` : `${all} lines`;
    setText(this.count, this.log.hasEarlier ? `last ${lines}; scroll up for earlier ones` : lines);
    this.spacer.style.height = `${this.shown.length * LINE_HEIGHT}px`;
    if (this.following) this.scroll.scrollTop = this.scroll.scrollHeight;
    this.#render();
  }

  #scrolled() {
    const left = this.scroll.scrollHeight - this.scroll.scrollTop - this.scroll.clientHeight;
    this.following = left < 2 * LINE_HEIGHT;
    this.follow.hidden = this.following;
    this.#later();
    if (this.scroll.scrollTop < 20 * LINE_HEIGHT && !this.following) this.#readEarlier();
  }

  async #readEarlier() {
    if (this.loading || !this.log.hasEarlier || this.filter.value) return;
    this.loading = true;
    try {
      const added = await this.log.earlier();
      const at = this.scroll.scrollTop + added * LINE_HEIGHT;
      this.#changed();
      this.scroll.scrollTop = at;
    } catch {
      // The next scroll tries again; the page's health line tells that the server does not answer.
    } finally {
      this.loading = false;
    }
  }

  #toEnd() {
    this.following = true;
    this.follow.hidden = true;
    this.scroll.scrollTop = this.scroll.scrollHeight;
  }

  #later() {
    if (this.pending) return;
    this.pending = true;
    requestAnimationFrame(() => {
      this.pending = false;
      if (this.following) this.scroll.scrollTop = this.scroll.scrollHeight;
      this.#render();
    });
  }

  #render() {
    const first = Math.max(0, Math.floor(this.scroll.scrollTop / LINE_HEIGHT) - MARGIN_LINES);
    const count = Math.ceil((this.scroll.clientHeight || 400) / LINE_HEIGHT) + 2 * MARGIN_LINES;
    const lines = this.shown.slice(first, first + count);
    this.rows.style.transform = `translateY(${first * LINE_HEIGHT}px)`;
    const rows = lines.map((line, index) => this.#row(line, this.shown[first + index - 1]));
    const empty = this.log.lines.length ? "No line matches." : "Nothing has been printed.";
    place(this.rows, rows.length ? rows : [h("div", { class: "line empty" }, empty)]);
  }

  /** A line's element, made once; its time stands there when the line before has another. */
  #row(line, before) {
    let row = this.made.get(line);
    if (!row) this.made.set(line, (row = lineElement(line)));
    const time = clock(line.timestamp);
    row.firstChild.dataset.time = before && clock(before.timestamp) === time ? "" : time;
    return row;
  }
}

function lineElement(line) {
  const marked = MARKED.has(line.level);
  const long = line.text.length - MAX_SHOWN_CHARACTERS;
  const text = long > 0 ? line.text.slice(0, MAX_SHOWN_CHARACTERS) : line.text;
  return h(
    "div",
    { class: marked ? "line stderr" : line.level.startsWith("warn") ? "line warning" : "line" },
    h("span", { class: "time" }),
    ...runs(text).map(runElement),
    long > 0 ? h("span", { class: "dim" }, ` … ${long.toLocaleString()} more characters`) : null,
  );
}

function runElement({ text, style }) {
  if (!style) return text;
  const classes = ["bold", "dim", "italic", "underline"].filter((name) => style[name]);
  const element = h("span", {}, text);
  for (const [name, property, prefix] of [
    ["color", "color", "fg"],
    ["background", "backgroundColor", "bg"],
  ]) {
    if (!style[name]) continue;
    if (style[name].startsWith("#")) element.style[property] = style[name];
    else classes.push(`${prefix}-${style[name]}`);
  }
  element.className = classes.join(" ");
  return element;
}
