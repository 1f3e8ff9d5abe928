"use strict";
// Charts on canvas over one shared time axis: zoom, cursor and size are the same for all.
const Charts = (() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const view = { from: 0, to: data.end, cursor: null };
  const charts = [];
  const STEPS = [1, 2, 5, 10, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200,
    86400, 172800, 432000, 864000, 1728000, 2592000, 7776000, 15552000, 31104000];
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const make = (tag, attributes, ...children) => {
    const element = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.append(...children);
    return element;
  };

  function short(value) {
    const size = Math.abs(value);
    if (size >= 999500) return (value / 1e6).toFixed(size < 1e7 ? 3 : 1) + "M";
    if (size >= 10000) return (value / 1e3).toFixed(1).replace(".0", "") + "k";
    if (size >= 100 || Number.isInteger(value)) return value.toFixed(0);
    return value.toFixed(size >= 10 ? 1 : 2);
  }
  function span(seconds) {
    const part = (value, unit) => (value < 9.95 && Math.abs(value - Math.round(value)) > 0.05
      ? value.toFixed(1) : value.toFixed(0)) + " " + unit;
    if (seconds < 59.95) return part(seconds, "s");
    if (seconds < 3597) return part(seconds / 60, "min");
    if (seconds < 259200) return part(seconds / 3600, "h");
    return part(seconds / 86400, "d");
  }
  function clock(seconds) {
    const whole = Math.round(seconds);
    const two = (n) => String(n).padStart(2, "0");
    const days = Math.floor(whole / 86400);
    const rest = two(Math.floor(whole / 3600) % 24) + ":" + two(Math.floor(whole / 60) % 60) +
      (data.end < 7200 ? ":" + two(whole % 60) : "");
    return (days > 0 ? days + " d " : "") + rest;
  }
  // Prints so that two ticks one step apart differ.
  function precise(value, step) {
    const decimals = Math.min(6, Math.max(0, Math.ceil(-Math.log10(step) - 1e-9)));
    const [whole, rest] = Math.abs(value).toFixed(decimals).split(".");
    return (value < 0 ? "\u2212" : "") + whole.replace(/\B(?=(\d{3})+$)/g, ",") + (rest ? "." + rest : "");
  }
  const print = (spec, value) => spec.unit === "s" ? span(value)
    : short(value) + (spec.unit ? " " + spec.unit : "");

  function timeTicks(width) {
    const most = Math.max(2, Math.floor(width / 85));
    const length = view.to - view.from;
    const step = STEPS.find((s) => length / s <= most) || length;
    const ticks = [];
    for (let at = Math.ceil(view.from / step) * step; at <= view.to; at += step) {
      let label = "0";
      if (at > 0 && at % 86400 === 0) label = at / 86400 + " d";
      else if (at > 0) label = step >= 3600 && at < 86400 ? at / 3600 + " h" : clock(at);
      ticks.push([at, label]);
    }
    return ticks;
  }
  function round(range) {
    const raw = range / 5;
    const decade = Math.pow(10, Math.floor(Math.log10(raw)));
    return [1, 2, 2.5, 5, 10].map((f) => f * decade).find((s) => s >= raw * 0.999) || raw;
  }

  // Which points can be seen, one more on each side.
  function seen(times) {
    let from = 0, to = times.length - 1;
    while (from < to && times[from + 1] < view.from) from += 1;
    while (to > from && times[to - 1] > view.to) to -= 1;
    return [from, to];
  }
  function nearest(times, at) {
    let low = 0, high = times.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (times[middle] < at) low = middle + 1; else high = middle;
    }
    return low;
  }

  class Chart {
    constructor(spec, parent) {
      this.spec = spec;
      this.off = new Set();
      this.drawn = false;
      this.canvas = make("canvas", { tabindex: "0", role: "img", "aria-label": spec.title +
        ". " + (spec.series || []).map((s) => s.name).join(", ") });
      this.read = make("p", { class: "read" });
      const head = make("div", { class: "head" }, make("h3", {}, spec.title));
      this.card = make("div", { class: "card plot", id: "plot-" + spec.id }, head);
      if (spec.kind === "heat") {
        this.cells = Uint8Array.from(atob(spec.cells), (c) => c.charCodeAt(0));
        const bar = make("i", { style: "background:linear-gradient(90deg," + spec.ramp.join() + ")" });
        head.append(make("span", { class: "ramp" }, "0 %", bar, "100 %"));
      } else {
        this.legend(head);
      }
      this.card.append(this.read, this.canvas);
      parent.append(this.card);
      this.listen();
    }
    legend(head) {
      const box = make("div", { class: "legend", role: "group", "aria-label": "Series" });
      this.spec.series.forEach((series, i) => {
        const chip = make("i", { "aria-hidden": "true" });
        const button = make("button", { type: "button", "aria-pressed": "true" }, chip, series.name);
        button.addEventListener("click", () => {
          if (this.off.has(i)) this.off.delete(i); else this.off.add(i);
          button.setAttribute("aria-pressed", String(!this.off.has(i)));
          this.draw();
        });
        series.chip = chip;
        box.append(button);
      });
      this.card.append(box);
    }
    listen() {
      const at = (event) => {
        const box = this.canvas.getBoundingClientRect();
        const part = (event.clientX - box.left - this.left) / this.width;
        return view.from + Math.min(1, Math.max(0, part)) * (view.to - view.from);
      };
      this.canvas.addEventListener("pointerdown", (event) => {
        if (event.button !== 0) return;
        this.drag = [at(event), at(event)];
        this.canvas.setPointerCapture(event.pointerId);
      });
      this.canvas.addEventListener("pointermove", (event) => {
        const box = this.canvas.getBoundingClientRect();
        this.pointerY = event.clientY - box.top;
        if (this.drag) this.drag[1] = at(event);
        moveCursor(at(event), this);
      });
      this.canvas.addEventListener("pointerup", () => {
        const drag = this.drag;
        this.drag = null;
        if (drag && Math.abs(drag[1] - drag[0]) > (view.to - view.from) * 0.01) {
          zoom(Math.min(...drag), Math.max(...drag));
        } else drawAll();
      });
      this.canvas.addEventListener("pointercancel", () => { this.drag = null; drawAll(); });
      this.canvas.addEventListener("pointerleave", () => { this.pointerY = null; moveCursor(null, this); });
      this.canvas.addEventListener("dblclick", () => zoom(0, data.end));
      this.canvas.addEventListener("keydown", (event) => {
        const length = view.to - view.from;
        const now = view.cursor === null ? (view.from + view.to) / 2 : view.cursor;
        const step = length / 100;
        const keys = {
          ArrowLeft: () => moveCursor(Math.max(view.from, now - step), this),
          ArrowRight: () => moveCursor(Math.min(view.to, now + step), this),
          "+": () => zoom(now - length / 4, now + length / 4),
          "-": () => zoom(now - length, now + length),
          0: () => zoom(0, data.end),
          Escape: () => zoom(0, data.end),
        };
        if (keys[event.key]) { keys[event.key](); event.preventDefault(); }
      });
    }
    x(at) { return this.left + (at - view.from) / (view.to - view.from) * this.width; }
    y(value) {
      const part = this.spec.log
        ? Math.log(Math.max(value, 1)) / Math.log(this.high)
        : (value - this.low) / (this.high - this.low);
      return this.top + this.height * (1 - Math.min(1, Math.max(0, part)));
    }
    prepare() {
      const ratio = window.devicePixelRatio || 1;
      const width = this.canvas.clientWidth || 600;
      const height = this.spec.kind === "heat" ? Math.min(420, Math.max(120, this.spec.rows * 4 + 34)) : 240;
      this.canvas.style.height = height + "px";
      this.canvas.width = Math.round(width * ratio);
      this.canvas.height = Math.round(height * ratio);
      const pen = this.canvas.getContext("2d");
      pen.setTransform(ratio, 0, 0, ratio, 0, 0);
      pen.clearRect(0, 0, width, height);
      pen.font = "12px Inter, sans-serif";
      this.left = this.spec.free ? 76 : width < 500 ? 46 : 58;
      this.top = 10;
      this.width = width - this.left - 14;
      this.height = height - this.top - 24;
      return pen;
    }
    draw() {
      const pen = this.prepare();
      pen.save();
      pen.beginPath();
      pen.rect(this.left, this.top - 1, this.width, this.height + 2);
      if (this.spec.kind === "heat") {
        pen.clip();
        this.heat(pen);
        pen.restore();
      } else {
        const lines = this.lines();
        this.scale(lines);
        pen.clip();
        if (this.spec.kind === "stack") this.stack(pen, lines); else this.strokes(pen, lines);
        pen.restore();
        this.grid(pen);
      }
      this.axis(pen);
      this.marks(pen);
      this.say();
      this.drawn = true;
    }
    colour(i) {
      const colour = this.spec.series[i].colour;
      return colour.startsWith("--") ? css(colour) : colour;
    }
    // The visible lines; those of a stack lie on top of each other.
    lines() {
      const sums = new Array(this.spec.times.length).fill(0);
      const out = [];
      this.spec.series.forEach((series, i) => {
        if (this.off.has(i)) return;
        const values = this.spec.kind !== "stack" || series.line ? series.values
          : series.values.map((v, k) => (sums[k] += v));
        out.push({ i, values, line: series.line });
      });
      return out;
    }
    scale(lines) {
      const [from, to] = seen(this.spec.times);
      let low = this.spec.kind === "line" && this.spec.free ? Infinity : 0, high = -Infinity;
      for (const line of lines) {
        for (let k = from; k <= to; k += 1) {
          const value = line.values[k];
          if (value === null) continue;
          high = Math.max(high, value);
          low = Math.min(low, value);
        }
      }
      if (!(high > -Infinity)) high = 1;
      if (low === Infinity || (low > 0 && low < high * 0.4)) low = 0;
      if (high <= low) high = low + 1;
      this.step = round(high - low);
      this.low = Math.floor(low / this.step) * this.step;
      if (this.spec.log) this.high = Math.max(high, 60);
      else if (this.spec.kind === "stack") this.high = high * 1.01;
      else this.high = Math.ceil(high / this.step * 0.999999) * this.step;
    }
    stack(pen, lines) {
      const times = this.spec.times;
      const [from, to] = seen(times);
      for (const line of [...lines].reverse()) {
        if (line.line) continue;
        pen.beginPath();
        pen.moveTo(this.x(from === 0 ? 0 : times[from]), this.y(0));
        if (from === 0) pen.lineTo(this.x(0), this.y(line.values[0]));
        for (let k = from; k <= to; k += 1) pen.lineTo(this.x(times[k]), this.y(line.values[k]));
        pen.lineTo(this.x(times[to]), this.y(0));
        pen.fillStyle = this.colour(line.i);
        pen.fill();
      }
      this.strokes(pen, lines.filter((line) => line.line));
    }
    strokes(pen, lines) {
      const times = this.spec.times;
      const [from, to] = seen(times);
      pen.lineJoin = "round";
      for (const line of [...lines].reverse()) {
        pen.beginPath();
        let isOpen = false;
        for (let k = from; k <= to; k += 1) {
          if (line.values[k] === null) { isOpen = false; continue; }
          const x = this.x(times[k]), y = this.y(line.values[k]);
          if (isOpen) pen.lineTo(x, y); else { pen.moveTo(x, y); pen.lineTo(x + 0.5, y); }
          isOpen = true;
        }
        pen.strokeStyle = this.colour(line.i);
        pen.lineWidth = line.line ? 1.1 : 1.7;
        pen.stroke();
      }
    }
    grid(pen) {
      pen.textAlign = "right";
      pen.textBaseline = "middle";
      const marks = [];
      if (this.spec.log) {
        for (const v of [1, 10, 60, 600, 3600, 36000, 259200, 2592000]) if (v <= this.high) marks.push(v);
      } else for (let v = this.low; v <= this.high + this.step * 1e-6; v += this.step) marks.push(v);
      for (const value of marks) {
        const y = Math.round(this.y(value)) + 0.5;
        pen.strokeStyle = css("--ink");
        pen.globalAlpha = 0.12;
        pen.lineWidth = 1;
        pen.beginPath();
        pen.moveTo(this.left, y);
        pen.lineTo(this.left + this.width, y);
        pen.stroke();
        pen.globalAlpha = 1;
        pen.fillStyle = css("--quiet");
        pen.fillText(this.spec.unit === "s" ? span(value)
          : this.low > 0 ? precise(value, this.step) : short(value), this.left - 6, y);
      }
    }
    axis(pen) {
      const base = this.top + this.height;
      pen.strokeStyle = css("--axis");
      pen.fillStyle = css("--quiet");
      pen.textBaseline = "top";
      pen.textAlign = "center";
      pen.lineWidth = 1;
      pen.beginPath();
      pen.moveTo(this.left, base + 0.5);
      pen.lineTo(this.left + this.width, base + 0.5);
      for (const [at, label] of timeTicks(this.width)) {
        const x = Math.round(this.x(at)) + 0.5;
        pen.moveTo(x, base);
        pen.lineTo(x, base + 4);
        const half = pen.measureText(label).width / 2;
        const most = this.left + this.width + 12 - half;
        pen.fillText(label, Math.min(x, most), base + 7);
      }
      pen.stroke();
    }
    heat(pen) {
      const { columns, rows, ramp } = this.spec;
      if (!this.picture) {
        this.picture = document.createElement("canvas");
        this.picture.width = columns;
        this.picture.height = rows;
        const brush = this.picture.getContext("2d");
        const image = brush.createImageData(columns, rows);
        const rgb = ramp.map((c) => [1, 3, 5].map((k) => parseInt(c.slice(k, k + 2), 16)));
        this.cells.forEach((cell, i) => {
          let colour = [180, 186, 194];
          if (cell <= 250) {
            const place = cell / 250 * 4, step = Math.min(3, Math.floor(place));
            colour = rgb[step].map((a, k) => a + (rgb[step + 1][k] - a) * (place - step));
          }
          image.data.set([...colour, 255], i * 4);
        });
        brush.putImageData(image, 0, 0);
      }
      pen.imageSmoothingEnabled = false;
      const from = view.from / data.end * columns, to = view.to / data.end * columns;
      pen.drawImage(this.picture, from, 0, to - from, rows, this.left, this.top, this.width, this.height);
    }
    // The cursor and the part that is being dragged.
    marks(pen) {
      if (this.drag) {
        const [a, b] = this.drag.map((at) => this.x(at));
        pen.fillStyle = css("--accent");
        pen.globalAlpha = 0.18;
        pen.fillRect(Math.min(a, b), this.top, Math.abs(b - a), this.height);
        pen.globalAlpha = 1;
      }
      if (view.cursor === null) return;
      const x = Math.round(this.x(view.cursor)) + 0.5;
      pen.strokeStyle = css("--ink");
      pen.lineWidth = 1;
      pen.setLineDash([3, 3]);
      pen.beginPath();
      pen.moveTo(x, this.top);
      pen.lineTo(x, this.top + this.height);
      pen.stroke();
      pen.setLineDash([]);
    }
    say() {
      const spec = this.spec;
      if (view.cursor === null) { this.read.textContent = spec.note || ""; return; }
      if (spec.kind === "heat") {
        const column = Math.min(spec.columns - 1, Math.floor(view.cursor / data.end * spec.columns));
        const y = this.pointerY;
        if (y === null || y === undefined) { this.read.textContent = clock(view.cursor); return; }
        const row = Math.min(spec.rows - 1, Math.max(0, Math.floor((y - this.top) / this.height * spec.rows)));
        const cell = this.cells[row * spec.columns + column];
        this.read.textContent = clock(view.cursor) + "  \u00b7  " + (spec.names[row] || "") + "  " +
          (cell > 250 ? "not reachable" : (cell / 2.5).toFixed(0) + "\u00a0%");
        return;
      }
      const k = nearest(spec.times, view.cursor);
      const parts = spec.series.filter((_, i) => !this.off.has(i))
        .filter((series) => series.values[k] !== null && series.values[k] !== undefined)
        .map((series) => series.name + " " + print(spec, series.values[k]));
      this.read.textContent = [clock(spec.times[k]), ...parts].join("  \u00b7  ");
    }
  }

  let isAsked = false;
  function drawAll() {
    if (isAsked) return;
    isAsked = true;
    requestAnimationFrame(() => { isAsked = false; drawNow(); });
  }
  function drawNow() {
    for (const chart of charts) {
      for (const series of chart.spec.series || []) {
        series.chip.style.background = series.colour.startsWith("--") ? css(series.colour) : series.colour;
      }
      chart.draw();
    }
  }
  function moveCursor(at, chart) { view.cursor = at; for (const c of charts) if (c !== chart) c.pointerY = null; drawAll(); }
  function zoom(from, to) {
    view.from = Math.max(0, from);
    view.to = Math.min(data.end, to);
    if (view.to - view.from < 1) { view.from = 0; view.to = data.end; }
    drawAll();
  }
  const parent = document.getElementById("plots");
  for (const spec of data.charts) charts.push(new Chart(spec, parent));
  if (charts.length === 0) parent.append("This run has no time series.");
  drawNow();
  window.addEventListener("resize", drawAll);
  return { charts, view, zoom, drawNow };
})();
