// The grid of tasks: one cell per task on a canvas, because 10,000 elements would make every update slow.
(() => {
  "use strict";
  const MARKS = {
    queued: "--mark-idle",
    running: "--mark-run",
    done: "--mark-ok",
    failed: "--mark-bad",
    lost: "--mark-warn",
    cancelled: "--mark-off",
  };
  const WORDS = {
    queued: "waits",
    running: "runs",
    done: "done",
    failed: "failed",
    lost: "was killed, runs again",
    cancelled: "cancelled",
  };

  // `light-dark()` and `color-mix()` are resolved by an element's own colour, not by a custom property.
  function colours(canvas) {
    const found = {};
    const kept = canvas.style.color;
    for (const [state, name] of Object.entries(MARKS)) {
      canvas.style.color = `var(${name})`;
      found[state] = getComputedStyle(canvas).color;
    }
    canvas.style.color = kept;
    return found;
  }

  // "done 3,running 2" → [["done", 3], ["running", 2]]
  const runs = (text) =>
    text
      .split(",")
      .filter(Boolean)
      .map((run) => run.split(" "))
      .map(([state, length]) => [state, Number(length)]);

  // As large as fits: few tasks get large cells, many get small ones.
  function layout(width, tasks) {
    const most = 300;
    for (const cell of [22, 18, 15, 12, 10, 8, 6, 5, 4, 3]) {
      const columns = Math.max(1, Math.floor(width / cell));
      const rows = Math.ceil(tasks / columns);
      if (rows * cell <= most || cell === 3) return { cell, columns, rows };
    }
  }

  function draw(canvas) {
    const width = canvas.clientWidth;
    if (!width) return;
    const tasks = Number(canvas.dataset.tasks);
    const place = layout(width, tasks);
    const { cell, columns, rows } = place;
    const scale = Math.min(devicePixelRatio || 1, 2);
    canvas.style.height = `${rows * cell}px`;
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(rows * cell * scale);
    const pen = canvas.getContext("2d");
    pen.scale(scale, scale);
    const gap = cell > 8 ? 2 : cell > 4 ? 1 : 0.5;
    const fills = colours(canvas);
    let task = 0;
    for (const [state, length] of runs(canvas.dataset.runs)) {
      pen.fillStyle = fills[state];
      pen.beginPath();
      for (const end = task + length; task < end; task++) {
        const x = (task % columns) * cell;
        const y = Math.floor(task / columns) * cell;
        if (cell > 9) pen.roundRect(x, y, cell - gap, cell - gap, 3);
        else pen.rect(x, y, cell - gap, cell - gap);
      }
      pen.fill();
    }
    canvas.place = place;
  }

  function under(canvas, event) {
    const { cell, columns } = canvas.place ?? {};
    if (!cell) return null;
    const box = canvas.getBoundingClientRect();
    const column = Math.floor((event.clientX - box.left) / cell);
    const task = Math.floor((event.clientY - box.top) / cell) * columns + column;
    return column < columns && task >= 0 && task < Number(canvas.dataset.tasks) ? task : null;
  }

  function stateOf(canvas, task) {
    for (const [state, length] of runs(canvas.dataset.runs)) {
      if (task < length) return state;
      task -= length;
    }
    return "queued";
  }

  function point(canvas, event) {
    const tip = canvas.parentElement.querySelector(".grid-tip");
    const task = under(canvas, event);
    tip.hidden = task === null;
    if (task === null) return;
    tip.textContent = `Task ${task}: ${WORDS[stateOf(canvas, task)]}`;
    const box = canvas.getBoundingClientRect();
    const left = Math.min(event.clientX - box.left + 12, box.width - tip.offsetWidth);
    tip.style.left = `${Math.max(0, left)}px`;
    tip.style.top = `${event.clientY - box.top + 16}px`;
  }

  const all = () => document.querySelectorAll("canvas.grid");
  const drawAll = () => all().forEach(draw);
  document.addEventListener("mousemove", (event) => {
    if (event.target.matches?.("canvas.grid")) point(event.target, event);
    else document.querySelectorAll(".grid-tip:not([hidden])").forEach((tip) => (tip.hidden = true));
  });
  document.addEventListener("click", (event) => {
    if (!event.target.matches?.("canvas.grid[data-log]")) return;
    const task = under(event.target, event);
    if (task !== null) location.href = `${event.target.dataset.log}${task}`;
  });
  document.addEventListener("htmx:load", drawAll);
  document.addEventListener("cupola:theme", drawAll);
  addEventListener("resize", drawAll);
  drawAll();
})();
