// The start-up phases of a run as one bar. podstrap's pod writes them into the task as a user property: JSON of phase
// -> seconds, in order (bootstrap/timeline.py). Repository and environment are prepared side by side, so they share a
// part of the bar, as long as the longer of the two.

import { h } from "./dom.js";
import { duration } from "./format.js";

export const TIMELINE_PROPERTY = "podstrap_timeline";
const SIDE_BY_SIDE = new Set(["repository", "environment"]);
const FIRST_LINE = "first line";
const COLOURS = 8;

/** Phases [{name, seconds, colour}] of a task, in the order they were written; empty when there are none to be read. */
export function phases(task) {
  let raw = null;
  try {
    raw = JSON.parse(task.hyperparams?.properties?.[TIMELINE_PROPERTY]?.value ?? "null");
  } catch {
    return [];
  }
  if (raw === null || typeof raw !== "object") return [];
  return Object.entries(raw)
    .map(([name, value], index) => ({ name, seconds: Number(value), colour: `var(--series-${index % COLOURS})` }))
    .filter(({ seconds }) => Number.isFinite(seconds) && seconds >= 0);
}

/** Phases one after the other → parts of the bar [{seconds, phases}]: those side by side are one part. */
export function parts(found) {
  const made = [];
  for (const phase of found) {
    const last = made.at(-1);
    if (last && SIDE_BY_SIDE.has(phase.name) && SIDE_BY_SIDE.has(last.phases[0].name)) {
      last.phases.push(phase);
      last.seconds = Math.max(last.seconds, phase.seconds);
    } else {
      made.push({ seconds: phase.seconds, phases: [phase] });
    }
  }
  return made;
}

/** The bar; null when the task has no phases. */
export function timeline(task) {
  const found = phases(task);
  if (found.length === 0) return null;
  const made = parts(found);
  const total = made.reduce((sum, { seconds }) => sum + seconds, 0);
  const told = found.some(({ name }) => name === FIRST_LINE) ? `${duration(total)} to the first line` : duration(total);
  return h(
    "section",
    { class: "card", id: "timeline" },
    h("header", {}, h("h2", {}, "Start-up"), h("span", { class: "dim" }, told)),
    h("div", { class: "bar" }, ...made.map((part) => partElement(part, total))),
    h("ol", { class: "phases" }, ...found.map(nameElement)),
  );
}

function partElement({ seconds, phases: own }, total) {
  const part = h("div", { class: "part" }, ...own.map((phase) => laneElement(phase, seconds)));
  part.style.flexGrow = String(total ? seconds / total : 1);
  return part;
}

function laneElement({ name, seconds, colour }, longest) {
  const lane = h("span", { class: "lane", title: `${name}: ${duration(seconds)}` });
  lane.style.background = colour;
  lane.style.width = `${longest ? (100 * seconds) / longest : 100}%`;
  return lane;
}

function nameElement({ name, seconds, colour }) {
  const swatch = h("i", { class: "swatch" });
  swatch.style.background = colour;
  return h("li", { class: "phase" }, swatch, h("span", {}, name), h("b", {}, duration(seconds)));
}
