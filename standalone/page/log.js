// A task's console as lines, read from events.get_task_log: the last page first, then what is added, then, when
// the reader scrolls up, earlier pages.
//
// Reading on: `from_timestamp` is exclusive and a page holds a timestamp's events either all or not at all, but
// events may still come in with a time already passed (several writers, one index). So each poll reads again from
// OVERLAP_MS before the last line and replaces what it had there: nothing doubled, nothing missed, in order. The
// answer's `total` says for free when nothing came.

import { call } from "./api.js";
import { settle } from "./ansi.js";

const PAGE_EVENTS = 1000;
const MAX_PAGES_A_POLL = 5;
const OVERLAP_MS = 2000;
const MAX_LINES = 200_000;

export class Log {
  /** @param {string} task */
  constructor(task) {
    this.task = task;
    /** @type {{text: string, level: string, timestamp: number}[]} */
    this.lines = [];
    this.total = -1;
    this.hasEarlier = false;
    this.dropped = 0;
  }

  /** Read what is new; true when the lines changed. `this.dropped` says how many left at the top. */
  async poll() {
    this.dropped = 0;
    if (this.lines.length === 0) return this.#readLast();
    const from = this.lines.at(-1).timestamp - OVERLAP_MS;
    let page = await this.#page({ navigate_earlier: false, from_timestamp: from });
    if (page.total === this.total) return false;
    if (page.total < this.total) return this.#readLast(); // the task was reset
    const added = [...page.events];
    for (let pages = 1; page.events.length >= PAGE_EVENTS; pages += 1) {
      if (pages === MAX_PAGES_A_POLL) return this.#readLast(); // far behind: go to the tail, not through it all
      page = await this.#page({ navigate_earlier: false, from_timestamp: added.at(-1).timestamp });
      added.push(...page.events);
    }
    this.#replaceAfter(from, toLines(added));
    this.total = page.total;
    this.#keepTail();
    return true;
  }

  /** Read one page before the first line; how many lines it brought. */
  async earlier() {
    if (!this.hasEarlier || this.lines.length === 0 || this.lines.length >= MAX_LINES) return 0;
    const page = await this.#page({ navigate_earlier: true, from_timestamp: this.lines[0].timestamp });
    const found = toLines(page.events);
    this.hasEarlier = found.length > 0 && page.events.length >= PAGE_EVENTS;
    this.lines = found.concat(this.lines);
    return found.length;
  }

  /** The lines later than `from` become `fresh`; a line that is the same stays the same object. */
  #replaceAfter(from, fresh) {
    let start = this.lines.length;
    while (start > 0 && this.lines[start - 1].timestamp > from) start -= 1;
    let same = 0;
    while (same < fresh.length && equal(this.lines[start + same], fresh[same])) same += 1;
    this.lines.length = start + same;
    for (const line of fresh.slice(same)) this.lines.push(line);
  }

  async #readLast() {
    const page = await this.#page({ navigate_earlier: true });
    if (page.total === this.total && page.events.length === 0) return false;
    this.lines = toLines(page.events);
    this.total = page.total;
    this.hasEarlier = page.events.length < page.total;
    this.#keepTail();
    return true;
  }

  async #page(payload) {
    const answer = await call("events.get_task_log", { task: this.task, batch_size: PAGE_EVENTS, ...payload });
    // A page read backwards comes newest timestamp first; sort is stable, so equal timestamps keep their order.
    const events = (answer.events ?? []).sort((one, other) => one.timestamp - other.timestamp);
    return { events, total: answer.total ?? events.length };
  }

  #keepTail() {
    const excess = this.lines.length - MAX_LINES;
    if (excess <= 0) return;
    this.lines = this.lines.slice(excess);
    this.dropped = excess;
    this.hasEarlier = true;
  }
}

function equal(one, other) {
  return one !== undefined && one.timestamp === other.timestamp && one.text === other.text && one.level === other.level;
}

function toLines(events) {
  const lines = [];
  for (const { msg, level, timestamp } of events) {
    for (const text of String(msg ?? "")
      .replace(/\r?\n$/, "")
      .split(/\r?\n/)) {
      lines.push({ text: settle(text), level: level ?? "", timestamp });
    }
  }
  return lines;
}
