// The start-up phases of a run as one bar. podstrap's pod writes them into the task as a user property.

import { h } from "./dom.js";
import { duration } from "./format.js";

export const TIMELINE_PROPERTY = "podstrap_timeline";
const COLOURS = 8;

/** Phases [{name, seconds}] of a task, in the order they were written; empty when there are none to be read. */
export function phases(task) {
  let raw = null;
  try {
    raw = JSON.parse(task.hyperparams?.properties?.[TIMELINE_PROPERTY]?.value ?? "null");
  } catch {
    return [];
  }
  if (raw === null || typeof raw !== "object") return [];
  return Object.entries(raw)
    .map(([name, seconds]) => ({ name, seconds: Number(seconds) }))
    .filter(({ seconds }) => Number.isFinite(seconds) && seconds >= 0);
}

/** The bar; null when the task has no phases. */
export function timeline(task) {
  const found = phases(task);
  if (found.length === 0) return null;
  const total = found.reduce((sum, { seconds }) => sum + seconds, 0);
  const bar = h("div", { class: "bar", role: "img", "aria-label": "Seconds per start-up phase" });
  const names = h("ol", { class: "phases" });
  found.forEach(({ name, seconds }, index) => {
    const colour = `var(--series-${index % COLOURS})`;
    const part = h("span", { class: "part", title: `${name}: ${duration(seconds)}` });
    part.style.flexGrow = String(total ? seconds / total : 1);
    part.style.background = colour;
    bar.append(part);
    const swatch = h("i", { class: "swatch" });
    swatch.style.background = colour;
    names.append(
      h("li", { class: "phase", dataset: { phase: name } }, swatch, h("span", {}, name), h("b", {}, duration(seconds))),
    );
  });
  return h(
    "section",
    { class: "card", id: "timeline" },
    h(
      "header",
      {},
      h("h2", {}, "Start-up"),
      h("span", { class: "dim" }, `${duration(total)} to the end of the last phase`),
    ),
    bar,
    names,
  );
}
