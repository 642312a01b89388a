// One chart a point: history on first sight, then live. Gaps stay gaps.

import { number, titleOf, unitOf, valueText, when } from "./format.js";

const POINTS_MAX = 900;
const HELD_MAX = 4000;
const HEIGHT = 104;
const REFETCH_MS = 3000;

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const dark = matchMedia("(prefers-color-scheme: dark)");

const charts = new Set();
dark.addEventListener("change", () => charts.forEach((chart) => chart.repaint()));
const sizes = new ResizeObserver((entries) => entries.forEach((entry) => entry.target.chart?.resize()));
const sight = new IntersectionObserver((entries) => {
  for (const entry of entries) entry.target.chart?.seen(entry.isIntersecting);
}, { rootMargin: "200px" });

// Line breaks where readings are missing: an interval far above the usual one.
export function withGaps(times, values) {
  if (times.length < 4) return [times, values];
  const steps = times.slice(1).map((time, at) => time - times[at]).sort((a, b) => a - b);
  const usual = steps[Math.floor(steps.length * 0.5)];
  const wide = steps[Math.floor(steps.length * 0.95)];
  const limit = Math.max(4 * usual, 2 * wide);
  const xs = [times[0]], ys = [values[0]];
  for (let at = 1; at < times.length; at++) {
    if (times[at] - times[at - 1] > limit) {
      xs.push((times[at] + times[at - 1]) / 2);
      ys.push(null);
    }
    xs.push(times[at]);
    ys.push(values[at]);
  }
  return [xs, ys];
}

export class Chart {
  constructor(element, { site, device, point, unit, tone, range }) {
    Object.assign(this, { element, site, device, point, unit, tone, range });
    this.times = [];
    this.values = [];
    this.words = null; // text and truth are drawn as steps between these
    this.visible = this.loaded = this.dirty = false;
    this.refetchAt = 0;
    element.chart = this;
    charts.add(this);
    sizes.observe(element);
    sight.observe(element);
  }

  seen(visible) {
    this.visible = visible;
    if (visible && !this.loaded) this.load();
    else if (visible && this.dirty) this.draw();
  }

  setRange(range) {
    this.range = range;
    this.loaded = false;
    if (this.visible) this.load();
  }

  async load() {
    this.loaded = true;
    this.refetchAt = 0;
    const ask = new URLSearchParams({ site: this.site, device: this.device, point: this.point, points_max: POINTS_MAX });
    if (this.range && this.newest) ask.set("from", new Date(this.newest - this.range * 1000).toISOString());
    this.element.setAttribute("aria-busy", "true");
    try {
      const answer = await fetch(`/api/history?${ask}`);
      if (answer.ok) this.take(await answer.json());
      else if (answer.status !== 404) throw new Error(answer.statusText);
    } catch {
      this.loaded = false; // asked again when it is next seen, or with the next reading
    } finally {
      this.element.removeAttribute("aria-busy");
    }
  }

  take(series) {
    const fresher = this.times.findIndex((time) => series.times.length && time > Date.parse(series.times.at(-1)) / 1000);
    const tail = fresher < 0 ? [[], []] : [this.times.slice(fresher), this.values.slice(fresher)];
    this.unit = series.unit;
    this.times = series.times.map((time) => Date.parse(time) / 1000).concat(tail[0]);
    this.values = series.values.concat(tail[1]);
    this.draw();
  }

  // A reading arrived. `skipped`: others before it were not shown, so history is asked again soon.
  add(time, value, skipped) {
    this.newest = Math.max(this.newest ?? 0, time);
    const seconds = time / 1000;
    if (this.times.length && seconds <= this.times.at(-1)) return;
    this.times.push(seconds);
    this.values.push(value);
    const oldest = this.range ? seconds - this.range : -Infinity;
    let drop = 0;
    while (this.times[drop] < oldest) drop++;
    if (drop > 64) { this.times.splice(0, drop); this.values.splice(0, drop); }
    if ((skipped || this.times.length > HELD_MAX) && !this.refetchAt) this.refetchAt = performance.now() + REFETCH_MS;
    this.dirty = true;
  }

  tick(now) {
    if (!this.visible) { if (this.refetchAt) this.loaded = false; return; }
    if (!this.loaded || (this.refetchAt && now > this.refetchAt)) this.load();
    else if (this.dirty) this.draw();
  }

  draw() {
    this.dirty = false;
    const stepped = this.values.some((value) => typeof value !== "number");
    this.words = stepped ? [...new Set(this.values.map(valueText))].sort() : null;
    const ys = stepped ? this.values.map((value) => this.words.indexOf(valueText(value))) : this.values;
    const data = stepped ? [this.times, ys] : withGaps(this.times, ys);
    this.describe(stepped);
    if (this.times.length < 2) { this.element.dataset.state = "thin"; return; }
    delete this.element.dataset.state;
    if (this.plot && this.stepped === stepped) this.plot.setData(data);
    else this.make(data, stepped);
  }

  describe(stepped) {
    const many = this.values.length;
    const text = !many ? "no history yet"
      : stepped ? `now ${valueText(this.values.at(-1))}, states ${this.words.join(", ")}`
      : `from ${number(Math.min(...this.values))} to ${number(Math.max(...this.values))} ${unitOf(this.unit)}, last ${number(this.values.at(-1))}`;
    this.element.setAttribute("role", "img");
    this.element.setAttribute("aria-label", `Chart of ${titleOf(this.point)}: ${text}`);
  }

  make(data, stepped) {
    this.plot?.destroy();
    this.stepped = stepped;
    const line = () => css(this.tone);
    const axis = { stroke: () => css("--muted"), font: "11px system-ui, sans-serif", ticks: { show: false } };
    const grid = { stroke: () => css("--line"), width: 1 };
    this.plot = new uPlot({
      width: this.element.clientWidth, height: HEIGHT,
      padding: [8, 6, 0, 0],
      legend: { show: false },
      cursor: { sync: { key: `${this.site}/${this.device}` }, y: false, drag: { x: false, y: false }, points: { size: 7 } },
      scales: { y: { range: stepped ? () => [-0.4, Math.max(this.words.length - 0.6, 0.6)] : span } },
      axes: [
        { ...axis, space: 64, size: 22, grid: { show: false }, values: (_, splits) => times(splits) },
        { ...axis, space: stepped ? 18 : 30, size: stepped ? 58 : 46, gap: 4, grid,
          splits: stepped ? () => this.words.map((_, at) => at) : undefined,
          values: (_, splits) => splits.map((value) => (stepped ? (this.words[value] ?? "") : number(value))) },
      ],
      series: [{}, {
        stroke: line, width: 1.6,
        fill: stepped ? undefined : () => `color-mix(in srgb, ${css(this.tone)} 9%, transparent)`,
        paths: stepped ? uPlot.paths.stepped({ align: 1 }) : undefined,
        points: { show: false },
      }],
      hooks: { drawClear: [(plot) => shadeGaps(plot)], setCursor: [(plot) => this.tip(plot)] },
    }, data, this.element);
    this.note ??= this.element.appendChild(Object.assign(document.createElement("output"), { className: "tip" }));
    this.element.append(this.note);
  }

  tip(plot) {
    const at = plot.cursor.idx;
    const value = at == null ? null : plot.data[1][at];
    this.note.hidden = value == null;
    if (value == null) return;
    const text = this.words ? this.words[value] : `${number(value)} ${unitOf(this.unit)}`;
    this.note.textContent = `${text} · ${when(plot.data[0][at] * 1000)}`;
  }

  resize() {
    const width = this.element.clientWidth;
    if (this.plot && width && Math.abs(this.plot.width - width) > 1) this.plot.setSize({ width, height: HEIGHT });
  }

  repaint() {
    if (this.plot) this.plot.redraw(false);
  }

  remove() {
    sizes.unobserve(this.element);
    sight.unobserve(this.element);
    charts.delete(this);
    this.plot?.destroy();
  }
}

// A flat line gets room around it instead of an axis of noise.
function span(_, low, high) {
  if (low == null) return [0, 1];
  const room = Math.max((high - low) * 0.12, Math.abs(high) * 0.004, 1e-6);
  return [low >= 0 && low - room < 0 ? 0 : low - room, high + room];
}

function times(splits) {
  const long = splits.at(-1) - splits[0] > 129_600;
  const style = long ? { day: "numeric", month: "short" } : { hour: "2-digit", minute: "2-digit" };
  const format = new Intl.DateTimeFormat("en-GB", style);
  return splits.map((split) => format.format(split * 1000));
}

function shadeGaps(plot) {
  const [xs, ys] = plot.data;
  const { ctx } = plot;
  ctx.save();
  ctx.fillStyle = css("--gap");
  for (let at = 1; at < xs.length - 1; at++) {
    if (ys[at] !== null) continue;
    const from = plot.valToPos(xs[at - 1], "x", true), to = plot.valToPos(xs[at + 1], "x", true);
    ctx.fillRect(from, plot.bbox.top, Math.max(to - from, 1), plot.bbox.height);
  }
  ctx.restore();
}

export const tickAll = () => { const now = performance.now(); charts.forEach((chart) => chart.tick(now)); };
export const rangeAll = (range) => charts.forEach((chart) => chart.setRange(range));
