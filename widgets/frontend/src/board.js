// A board: the live curves of one run. Main chart (train faint and smoothed, validation, best) and small multiples beneath.
//
// Columns of the training rows: step, epoch, tokens, time, loss, grad_norm, lr, tokens_per_second, memory_bytes (float32; time and tokens
// float64). Validation rows: step, epoch, tokens, time, loss. A missing or non-finite value is NaN and stays a gap.
import uPlot from "uplot";
import { bestOf, decimate, inside, lonely, quantile, smooth } from "./series.js";

const TRAIN = ["step", "epoch", "tokens", "time", "loss", "grad_norm", "lr", "tokens_per_second", "memory_bytes"];
const CHECK = ["step", "epoch", "tokens", "time", "loss"];
const DOUBLES = new Set(["tokens", "time"]);
const AXES = { step: "Step", epoch: "Epoch", tokens: "Tokens", time: "Seconds" };
const SMALL = { lr: "Learning rate", grad_norm: "Gradient norm", tokens_per_second: "Tokens / s", memory_bytes: "Memory (GB)" };
const HEIGHTS = { 1: "Shown", 0.99: "Cut at 99 %", 0.95: "Cut at 95 %" };
const POINTS = 1500;
// Axes that count: their ticks are whole numbers.
const WHOLE = new Set(["step", "tokens"]);
const STEPS = [...Array(10).keys()].flatMap((power) => [1, 2, 5].map((digit) => digit * 10 ** power));
let made = 0;

export class Boards {
  constructor(root, send) {
    this.root = root;
    this.send = send;
    this.data = new Map();
    this.views = new Map();
    this.theme = new MutationObserver(() => this.each((view) => view.rebuild()));
    this.theme.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light", "data-jp-theme-name", "class"] });
  }

  // Snapshots: {board: {train: buffer, train_n, train_total, check: ..., restarts}}.
  load(boards) {
    for (const [name, snapshot] of Object.entries(boards)) {
      const data = fresh();
      data.restarts = snapshot.restarts ?? [];
      extend(data.train, TRAIN, snapshot.train_n, snapshot.train);
      extend(data.check, CHECK, snapshot.check_n, snapshot.check);
      // A snapshot is thinned: rows that it stands for count as received.
      data.train.left = snapshot.train_total - snapshot.train_n;
      data.check.left = snapshot.check_total - snapshot.check_n;
      this.data.set(name, data);
    }
    this.each((view, name) => view.show(this.data.get(name) ?? fresh()));
  }

  append(message, buffers) {
    const data = this.data.get(message.board) ?? fresh();
    this.data.set(message.board, data);
    const part = message.split === "train" ? data.train : data.check;
    const names = message.split === "train" ? TRAIN : CHECK;
    const have = part.step.length + part.left;
    if (message.start > have) {
      this.send({ kind: "resend", board: message.board });
      return;
    }
    if (message.restarts) data.restarts = message.restarts;
    extend(part, names, message.n, buffers[0], have - message.start);
    this.views.get(message.board)?.show(data);
  }

  reset(name) {
    this.data.set(name, fresh());
    this.views.get(name)?.show(this.data.get(name));
  }

  mount() {
    for (const [name, view] of this.views) {
      if (!this.root.contains(view.host)) {
        view.destroy();
        this.views.delete(name);
      }
    }
    for (const host of this.root.querySelectorAll("[data-board]")) {
      const name = host.dataset.board;
      if (this.views.has(name)) continue;
      const view = new Board(host, () => this.send({ kind: "resend", board: name }));
      this.views.set(name, view);
      view.show(this.data.get(name) ?? fresh());
    }
  }

  each(act) {
    for (const [name, view] of this.views) act(view, name);
  }

  destroy() {
    this.theme.disconnect();
    this.each((view) => view.destroy());
  }
}

class Board {
  constructor(host, more) {
    this.host = host;
    this.more = more;
    this.axis = "step";
    this.weight = 0.6;
    this.log = false;
    this.share = 1;
    // Two boards of a page do not share their hover and their zoom.
    this.key = `${host.dataset.board}-${(made += 1)}`;
    this.charts = [];
    this.zoom = null;
    this.data = fresh();
    host.append(this.controls());
    this.main = el("div", "am-chart-main");
    this.small = el("div", "am-chart-small");
    host.append(this.main, this.small);
    this.size = new ResizeObserver(() => (this.charts.length ? this.resize() : this.rebuild()));
    this.size.observe(host);
  }

  controls() {
    const bar = el("div", "am-chart-bar");
    const axis = select("Horizontal axis", AXES, (value) => {
      this.axis = value;
      this.zoom = null;
      this.rebuild();
    });
    const strength = el("input");
    Object.assign(strength, { type: "range", min: "0", max: "0.99", step: "0.01", value: String(this.weight) });
    const shown = el("output");
    shown.textContent = "0.60";
    strength.addEventListener("input", () => {
      this.weight = Number(strength.value);
      shown.textContent = this.weight.toFixed(2);
      this.draw();
    });
    const log = el("input");
    log.type = "checkbox";
    log.addEventListener("change", () => {
      this.log = log.checked;
      this.rebuild();
    });
    const height = select("Spikes of the loss: shown, or cut above this share of its values", HEIGHTS, (value) => {
      this.share = Number(value);
      this.draw();
    });
    height.value = "1";
    const whole = el("button", "am-button am-quiet");
    whole.type = "button";
    whole.textContent = "Show all";
    whole.addEventListener("click", () => {
      this.zoom = null;
      this.draw();
    });
    bar.append(labelled("Axis", axis), labelled("Smoothing", strength, shown), labelled("Log scale", log), labelled("Spikes", height), whole);
    return bar;
  }

  show(data) {
    this.data = data;
    if (!this.charts.length) this.rebuild();
    else if (!this.waiting) {
      this.waiting = requestAnimationFrame(() => {
        this.waiting = null;
        this.draw();
      });
    }
  }

  rebuild() {
    this.charts.forEach((chart) => chart.plot.destroy());
    this.charts = [];
    this.small.replaceChildren();
    const color = (name) => getComputedStyle(this.host).getPropertyValue(name).trim();
    // Colours and sizes are known once the view hangs in the page and its style is there.
    if (!color("--am-train")) {
      if (this.host.isConnected) requestAnimationFrame(() => this.charts.length || this.rebuild());
      return;
    }
    const base = { color, cursor: { sync: { key: this.key }, drag: { x: true, y: false } } };
    this.charts.push(this.mainChart(base));
    for (const [name, title] of Object.entries(SMALL)) this.charts.push(this.smallChart(name, title, base));
    for (const { plot } of this.charts) {
      const wrap = plot.root.querySelector(".u-wrap");
      wrap.setAttribute("role", "img");
      wrap.setAttribute("aria-label", plot.series[1].label === "Train" ? "Loss" : plot.series[1].label);
      plot.over.addEventListener("dblclick", () => {
        this.zoom = null;
        this.draw();
      });
    }
    this.draw();
  }

  mainChart({ color, cursor }) {
    const series = [
      { label: AXES[this.axis] },
      { label: "Train", stroke: color("--am-train-faint"), width: 1, points: alone },
      { label: "Train, smoothed", stroke: color("--am-train"), width: 2, points: alone },
      { label: "Validation", stroke: color("--am-check"), width: 2, dash: [6, 3], spanGaps: true, points: { show: true, size: 6, fill: color("--am-check") } },
    ];
    const options = {
      width: this.width(this.main),
      height: 260,
      series,
      cursor,
      legend: { live: true },
      scales: { x: { time: false }, y: { distr: this.log ? 3 : 1, range: (_plot, low, high) => this.height(low, high) } },
      axes: [{ ...axisStyle(color, AXES[this.axis]), ...(WHOLE.has(this.axis) ? { incrs: STEPS } : {}), size: 30 }, axisStyle(color, "Loss")],
      hooks: { setSelect: [(plot) => this.keepZoom(plot)], draw: [(plot) => this.marks(plot, color)] },
    };
    const plot = new uPlot(options, [[], [], [], []], this.main);
    return { plot, host: this.main, values: () => this.mainValues() };
  }

  smallChart(name, title, { color, cursor }) {
    const figure = el("div", "am-chart-cell");
    this.small.append(figure);
    const options = {
      width: this.width(figure, 220),
      height: 120,
      title,
      cursor,
      legend: { show: false },
      series: [{}, { label: title, stroke: color("--am-train"), width: 1.5, points: alone }],
      scales: { x: { time: false }, y: { range: padded } },
      axes: [axisStyle(color), { ...axisStyle(color), values: (_plot, ticks) => ticks.map(short), size: 58, space: 18 }],
      hooks: { setSelect: [(plot) => this.keepZoom(plot)] },
    };
    const plot = new uPlot(options, [[], []], figure);
    const scale = name === "memory_bytes" ? 1e-9 : 1;
    const values = () => {
      const [x, y] = decimate(...inside(this.xs(this.data.train), this.data.train[name], this.zoom), POINTS / 2);
      return [x, y.map((value) => (value === null ? null : value * scale))];
    };
    return { plot, host: figure, values, cell: figure };
  }

  xs(part) {
    const values = part[this.axis];
    if (this.axis !== "time" || !values.length) return values;
    const origin = this.data.train.time[0] ?? values[0];
    return values.map((value) => value - origin);
  }

  mainValues() {
    const train = this.data.train;
    const xs = this.xs(train);
    this.ceiling = this.share < 1 ? quantile(train.loss, this.share) : null;
    const [x, raw] = decimate(...inside(xs, train.loss, this.zoom), POINTS);
    const [sx, soft] = decimate(...inside(xs, smooth(train.loss, this.weight), this.zoom), POINTS);
    // No reduction, but the same gaps: of checks there are few.
    const [cx, checks] = decimate(...inside(this.xs(this.data.check), this.data.check.loss, null), Infinity);
    // A logarithm has no place for zero: there the curve has a gap.
    const above = (values) => (this.log ? values.map((value) => (value > 0 ? value : null)) : values);
    return uPlot.join([
      [x, above(raw)],
      [sx, above(soft)],
      [cx, above(checks)],
    ]);
  }

  // The range of the loss, with spikes above the chosen share of the values cut off.
  height(low, high) {
    const top = this.ceiling === null || high === null || this.ceiling <= low ? high : Math.min(high, this.ceiling);
    if (!this.log) return padded(null, low, top);
    return low == null ? [0.1, 10] : uPlot.rangeLog(low, top, 10, false);
  }

  draw() {
    for (const chart of this.charts) {
      chart.plot.setData(chart.values(), this.zoom === null);
      if (this.zoom) chart.plot.setScale("x", this.zoom);
    }
    // What the curve covers, for whoever cannot see into a canvas.
    const { train, check } = this.data;
    Object.assign(this.host.dataset, { rows: train.step.length + train.left, from: train.step[0] ?? "", to: train.step[train.step.length - 1] ?? "" });
    Object.assign(this.host.dataset, { zoom: this.zoom ? `${this.zoom.min} ${this.zoom.max}` : "", drawn: this.charts[0]?.plot.data[0].length ?? 0 });
    Object.assign(this.host.dataset, { checks: check.step.length + check.left, restarts: this.data.restarts.join(" ") });
  }

  keepZoom(plot) {
    if (plot.select.width < 4) return;
    this.zoom = { min: plot.posToVal(plot.select.left, "x"), max: plot.posToVal(plot.select.left + plot.select.width, "x") };
    plot.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
    // What a view opens with is thinned for a whole screen; a part of the curve needs every row.
    if (this.data.train.left > 0) this.more();
    this.draw();
  }

  // The best validation loss gets a star, a resume a dashed line with a word.
  marks(plot, color) {
    const context = plot.ctx;
    this.host.dataset.top = plot.scales.y.max;
    context.save();
    const best = bestOf(this.data.check.loss);
    if (best >= 0 && Number.isFinite(this.xs(this.data.check)[best])) {
      const x = plot.valToPos(this.xs(this.data.check)[best], "x", true);
      const y = plot.valToPos(this.data.check.loss[best], "y", true);
      context.fillStyle = color("--am-check");
      context.font = `${Math.round(20 * devicePixelRatio)}px sans-serif`;
      context.textAlign = "center";
      context.textBaseline = "middle";
      context.fillText("★", x, y - 12 * devicePixelRatio);
    }
    context.strokeStyle = color("--am-muted");
    context.fillStyle = color("--am-muted");
    context.font = `${Math.round(11 * devicePixelRatio)}px sans-serif`;
    context.textAlign = "left";
    context.setLineDash([4, 4]);
    for (const step of this.data.restarts) {
      const at = this.data.train.step.findIndex((value) => value > step);
      if (at < 0) continue;
      const x = plot.valToPos(this.xs(this.data.train)[at], "x", true);
      context.beginPath();
      context.moveTo(x, plot.bbox.top);
      context.lineTo(x, plot.bbox.top + plot.bbox.height);
      context.stroke();
      context.fillText("resumed", x + 4, plot.bbox.top + 12 * devicePixelRatio);
    }
    context.restore();
  }

  width(node, least = 280) {
    return Math.max(node.clientWidth || this.host.clientWidth || 600, least);
  }

  resize() {
    for (const chart of this.charts) {
      const width = this.width(chart.host, chart.cell ? 160 : 280);
      if (Math.abs(width - chart.plot.width) > 2) chart.plot.setSize({ width, height: chart.plot.height });
    }
  }

  destroy() {
    this.size.disconnect();
    this.charts.forEach((chart) => chart.plot.destroy());
  }
}

function fresh() {
  const empty = (names) => Object.assign(Object.fromEntries(names.map((name) => [name, []])), { left: 0 });
  return { train: empty(TRAIN), check: empty(CHECK), restarts: [] };
}

// Adds n rows from one buffer, column after column, leaving out the first `skip` that are here already.
function extend(part, names, n, buffer, skip = 0) {
  if (!n || !buffer) return;
  const bytes = buffer instanceof DataView ? buffer.buffer.slice(buffer.byteOffset, buffer.byteOffset + buffer.byteLength) : buffer.buffer ?? buffer;
  let at = 0;
  const ordered = [...names.filter((name) => DOUBLES.has(name)), ...names.filter((name) => !DOUBLES.has(name))];
  for (const name of ordered) {
    const wide = DOUBLES.has(name);
    const column = wide ? new Float64Array(bytes, at, n) : new Float32Array(bytes, at, n);
    at += n * (wide ? 8 : 4);
    for (let i = skip; i < n; i++) part[name].push(column[i]);
  }
}

// A curve of one point, and a point between gaps, is drawn as a dot.
const alone = { show: true, size: 5, filter: (plot, index) => lonely(plot.data[index]) };

function padded(_plot, low, high) {
  if (low == null || high == null) return [0, 1];
  const room = (high - low || Math.abs(high) || 1) * 0.12;
  return [low - room, high + room];
}

// A tick in few characters: small and large numbers by their power of ten.
function short(value) {
  const size = Math.abs(value);
  if (value !== 0 && (size < 1e-2 || size >= 1e6)) return value.toExponential(1).replace(".0e", "e").replace("e+", "e");
  return size >= 1e4 ? `${value / 1e3}k` : String(Number(value.toPrecision(6)));
}

function axisStyle(color, label) {
  const line = { stroke: color("--am-grid"), width: 1 };
  return { stroke: color("--am-text"), grid: line, ticks: line, label, labelSize: label ? 20 : 0, labelGap: 0, font: "12px sans-serif", labelFont: "12px sans-serif" };
}

function el(tag, name) {
  const node = document.createElement(tag);
  if (name) node.className = name;
  return node;
}

function select(title, options, change) {
  const box = el("select");
  for (const [value, text] of Object.entries(options)) box.append(new Option(text, value));
  box.addEventListener("change", () => change(box.value));
  box.title = title;
  return box;
}

function labelled(text, ...nodes) {
  const label = el("label", "am-inline");
  const name = el("span");
  name.textContent = text;
  label.append(name, ...nodes);
  return label;
}
