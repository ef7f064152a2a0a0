// Scalars as charts: one per metric, one series per variant. Machine use is grouped by what is measured. Titles and
// legends are ours, so uPlot never sees a name that came from a task.

import { h, reconcile, setText } from "./dom.js";
import { clock, number } from "./format.js";

const COLOURS = 8; // --series-0 … --series-7 in page.css
const HEIGHT = 190; // pixels
const PERCENT = "use, %";

/**
 * @typedef {{title: string, byTime: boolean, percent?: boolean,
 *            series: {name: string, x: number[], y: number[]}[]}} Chart
 */

/** Charts of an answer of events.scalar_metrics_iter_histogram, the machine's metrics left out. */
export function scalarCharts(histogram) {
  return Object.keys(histogram)
    .filter((metric) => !isMachine(metric))
    .sort()
    .map((metric) => ({ title: metric, byTime: false, series: seriesOf(histogram[metric]) }));
}

/** Charts of machine use (x in seconds since the epoch): one per metric and quantity. */
export function machineCharts(histogram) {
  const charts = new Map();
  for (const metric of Object.keys(histogram).filter(isMachine).sort()) {
    const place = metric.split(":").at(-1);
    for (const one of seriesOf(histogram[metric])) {
      const title = `${place} · ${quantity(one.name)}`;
      if (!charts.has(title))
        charts.set(title, { title, byTime: true, percent: quantity(one.name) === PERCENT, series: [] });
      charts.get(title).series.push({ ...one, x: one.x.map((milliseconds) => milliseconds / 1000) });
    }
  }
  return [...charts.values()];
}

/** ClearML's resource monitor reports under these names, and so does podstrap. */
export function isMachine(metric) {
  return metric.startsWith(":monitor:");
}

function seriesOf(variants) {
  return Object.keys(variants)
    .sort()
    .map((name) => ({ name, x: variants[name].x ?? [], y: variants[name].y ?? [] }));
}

/** What a machine metric measures, in which unit: alike go into one chart, so that no scale flattens another. */
function quantity(name) {
  if (/temperature/.test(name)) return "temperature, °C";
  if (/power/.test(name)) return "power, W";
  if (/^network/.test(name)) return "network, MB/s";
  if (/^io_|_mbs$/.test(name)) return "disk, MB/s";
  if (/_gb$/.test(name)) return /^disk/.test(name) ? "disk, GB" : "memory, GB";
  return /usage|utilization|percent/.test(name) ? PERCENT : "other";
}

/** A grid of charts that is kept up to date. */
export class Charts {
  constructor() {
    this.views = new Map();
    this.element = h("div", { class: "charts" });
    this.scheme = matchMedia("(prefers-color-scheme: dark)");
    this.recolour = () => this.views.forEach((view) => view.recolour());
    this.scheme.addEventListener("change", this.recolour);
    this.resized = new ResizeObserver((entries) => {
      for (const { target } of entries) this.views.get(target.parentElement.dataset.key)?.fit();
    });
  }

  /** @param {Chart[]} charts */
  show(charts) {
    const gone = new Set(this.views.keys());
    reconcile(
      this.element,
      charts,
      (chart) => chart.title,
      (chart) => {
        const view = new ChartView(chart);
        this.views.set(chart.title, view);
        this.resized.observe(view.plot);
        return view.element;
      },
      (_, chart) => {
        gone.delete(chart.title);
        this.views.get(chart.title).show(chart);
      },
    );
    for (const title of gone) {
      this.views.get(title).close();
      this.views.delete(title);
    }
  }

  close() {
    this.scheme.removeEventListener("change", this.recolour);
    this.resized.disconnect();
    this.views.forEach((view) => view.close());
  }
}

class ChartView {
  constructor(chart) {
    this.uplot = null;
    this.names = "";
    this.drawn = "";
    this.hidden = new Set();
    this.legend = h("div", { class: "legend" });
    this.plot = h("div", { class: "plot" });
    this.element = h(
      "figure",
      { class: "chart" },
      h("figcaption", { title: chart.title }, chart.title),
      this.plot,
      this.legend,
    );
  }

  show(chart) {
    const mark = JSON.stringify(chart.series.map(({ name, x, y }) => [name, x.length, x.at(-1), y.at(-1)]));
    if (mark === this.drawn) return;
    this.drawn = mark;
    this.chart = chart;
    const names = chart.series.map((one) => one.name).join("\n");
    this.joined = join(chart.series);
    if (names === this.names && this.uplot) this.uplot.setData(this.joined);
    else this.#make(names);
    this.#showLegend(null);
  }

  recolour() {
    this.uplot?.redraw(false, true);
  }

  fit() {
    const width = this.plot.clientWidth;
    if (this.uplot && width && width !== this.uplot.width) this.uplot.setSize({ width, height: HEIGHT });
  }

  close() {
    this.uplot?.destroy();
    this.uplot = null;
  }

  #make(names) {
    this.names = names;
    this.close();
    const axis = {
      stroke: () => colour("--dim"),
      grid: { stroke: () => colour("--grid"), width: 1 },
      ticks: { show: false },
      font: "11px system-ui, sans-serif",
    };
    this.uplot = new window.uPlot(
      {
        width: this.plot.clientWidth || 360,
        height: HEIGHT,
        legend: { show: false },
        cursor: { y: false, points: { size: 6 }, drag: { x: true, y: false } },
        scales: {
          x: { time: this.chart.byTime },
          y: this.chart.percent ? { range: (_, low, high) => [0, Math.max(100, high)] } : {},
        },
        axes: [
          {
            ...axis,
            space: 60,
            size: 28,
            values: this.chart.byTime ? (_, ticks) => ticks.map((tick) => clock(tick * 1000)) : undefined,
          },
          {
            ...axis,
            space: 34,
            size: 54,
            values: (_, ticks) => ticks.map((tick) => (tick === null ? "" : number(tick))),
          },
        ],
        series: [
          {},
          ...this.chart.series.map(({ name, x }, index) => ({
            stroke: () => colour(`--series-${index % COLOURS}`),
            width: 1.6,
            dash: index >= COLOURS ? [6, 3] : undefined,
            spanGaps: true,
            show: !this.hidden.has(name),
            points: { show: x.length < 2 },
          })),
        ],
        hooks: { setCursor: [(uplot) => this.#showLegend(uplot.cursor.idx)] },
      },
      this.joined,
      this.plot,
    );
  }

  /** The legend's values: at the cursor, or each series' last. */
  #showLegend(index) {
    const at = index ?? null;
    reconcile(
      this.legend,
      this.chart.series.map((series, place) => ({ series, place })),
      ({ series }) => series.name,
      ({ series }) => {
        const swatch = h("i", { class: "swatch" });
        return h(
          "button",
          { class: "entry", title: series.name, onclick: () => this.#toggle(series.name) },
          swatch,
          h("span", { class: "name" }, series.name),
          h("b"),
        );
      },
      (element, { series, place }) => {
        element.firstChild.style.background = `var(--series-${place % COLOURS})`;
        element.classList.toggle("off", this.hidden.has(series.name));
        setText(element.lastChild, number(at === null ? series.y.at(-1) : this.joined[place + 1][at]));
      },
    );
  }

  #toggle(name) {
    if (!this.hidden.delete(name)) this.hidden.add(name);
    const place = this.chart.series.findIndex((series) => series.name === name);
    this.uplot.setSeries(place + 1, { show: !this.hidden.has(name) });
    this.#showLegend(null);
  }
}

/** uPlot's data: one x for all series, null where a series has no value there. */
function join(series) {
  const places = [...new Set(series.flatMap((one) => one.x))].sort((one, other) => one - other);
  const rows = series.map(({ x, y }) => {
    const values = new Map(x.map((place, index) => [place, y[index]]));
    return places.map((place) => values.get(place) ?? null);
  });
  return [places, ...rows];
}

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}
