"use strict";
// Themes, sortable tables, printing, and a test of the page by itself.
(() => {
  const root = document.documentElement;
  const button = document.getElementById("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  // A page of many runs has no charts over time.
  const charts = typeof Charts === "undefined" ? { charts: [], drawNow() {}, view: {} } : Charts;
  const isDark = () => (root.dataset.theme || (system.matches ? "dark" : "light")) === "dark";
  function show() {
    button.textContent = isDark() ? "Light" : "Dark";
    button.setAttribute("aria-pressed", String(isDark()));
    button.setAttribute("aria-label", "Switch to " + (isDark() ? "light" : "dark") + " colours");
    charts.drawNow();
  }
  button.addEventListener("click", () => { root.dataset.theme = isDark() ? "light" : "dark"; show(); });
  system.addEventListener("change", show);
  if (location.hash === "#dark" || location.hash === "#light") root.dataset.theme = location.hash.slice(1);

  let before = null;
  addEventListener("beforeprint", () => {
    before = root.dataset.theme;
    root.dataset.theme = "light";
    show();
  });
  addEventListener("afterprint", () => {
    if (before) root.dataset.theme = before; else delete root.dataset.theme;
    show();
  });

  const value = (row, column) => row.cells[column].dataset.order || row.cells[column].textContent;
  const number = (text) => text === "" ? null : Number(text.replace("\u2212", "-"));
  function sort(table, column, direction) {
    const head = table.tHead.rows[0].cells;
    const isNumber = head[column].classList.contains("n");
    const body = table.tBodies[0];
    const rows = [...body.rows].map((row, i) => [row, i]);
    const order = (a, b) => {
      let x = value(a[0], column), y = value(b[0], column);
      if (isNumber) { x = number(x); y = number(y); }
      const isGone = (v) => v === null || v === "";
      if (isGone(x) || isGone(y)) return isGone(x) - isGone(y) || a[1] - b[1];
      const by = isNumber ? x - y : x < y ? -1 : x > y ? 1 : 0;
      return by * direction || a[1] - b[1];
    };
    rows.sort(order);
    body.append(...rows.map((pair) => pair[0]));
    for (const cell of head) cell.setAttribute("aria-sort", "none");
    head[column].setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
  }
  for (const table of document.querySelectorAll("table.sortable")) {
    [...table.tHead.rows[0].cells].forEach((cell, column) => {
      cell.querySelector("button").addEventListener("click", () => {
        const first = cell.classList.contains("n") ? "descending" : "ascending";
        const now = cell.getAttribute("aria-sort");
        const next = now === "none" ? first : now === "ascending" ? "descending" : "ascending";
        sort(table, column, next === "ascending" ? 1 : -1);
      });
    });
  }

  // Opened with #selftest, the page tries itself out and writes what it found into its root.
  function selftest() {
    const found = { charts: 0, blank: [], unsorted: [], requests: 0, zoomed: false, toggled: true,
      silent: [],
      wide: root.scrollWidth > root.clientWidth };
    const isBlank = (canvas) => {
      const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
      const colours = new Set();
      for (let i = 0; i < pixels.length; i += 4) colours.add(pixels[i] << 16 | pixels[i + 1] << 8 | pixels[i + 2]);
      return colours.size < 4;
    };
    for (const chart of charts.charts) {
      found.charts += 1;
      if (isBlank(chart.canvas)) found.blank.push(chart.spec.id);
      const box = chart.canvas.getBoundingClientRect();
      chart.canvas.dispatchEvent(new PointerEvent("pointermove", {
        clientX: box.left + box.width / 2, clientY: box.top + box.height / 2 }));
      chart.draw();
      if (!/\d/.test(chart.read.textContent)) found.silent.push(chart.spec.id);
      const toggle = chart.card.querySelector(".legend button");
      if (toggle) {
        toggle.click();
        found.toggled = found.toggled && toggle.getAttribute("aria-pressed") === "false";
        toggle.click();
      }
    }
    charts.view.cursor = null;
    if (charts.charts.length > 0) {
      const end = charts.view.to;
      charts.zoom(end / 4, end / 2);
      found.zoomed = charts.view.from === end / 4 && charts.view.to === end / 2;
      charts.charts[0].canvas.dispatchEvent(new MouseEvent("dblclick"));
      found.zoomed = found.zoomed && charts.view.to === end;
    }
    for (const table of document.querySelectorAll("table.sortable")) {
      [...table.tHead.rows[0].cells].forEach((cell, column) => {
        for (let turn = 0; turn < 2; turn += 1) {
          cell.querySelector("button").click();
          const up = cell.getAttribute("aria-sort") === "ascending";
          const isNumber = cell.classList.contains("n");
          const values = [...table.tBodies[0].rows].map((row) => value(row, column))
            .filter((v) => v !== "").map((v) => isNumber ? number(v) : v);
          const isSorted = values.every((v, i) => i === 0 || (up ? values[i - 1] <= v : values[i - 1] >= v));
          if (!isSorted) found.unsorted.push(table.id + ":" + column);
        }
      });
    }
    const remote = (entry) => !entry.name.startsWith("data:");
    found.requests = performance.getEntriesByType("resource").filter(remote).length;
    root.dataset.selftest = JSON.stringify(found);
  }
  show();
  if (document.fonts) document.fonts.ready.then(() => charts.drawNow());
  if (location.hash === "#selftest") selftest();
})();
