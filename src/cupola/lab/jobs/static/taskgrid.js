// The grid of tasks, for the panel in a notebook and for the page of a job: one mark per task on a canvas, because
// ten thousand elements would make every update slow. Each state has a shape of its own beside its colour.

const MEANINGS = {
  done: "done",
  running: "running",
  failed: "failed",
  lost: "lost: its process was killed, it runs again",
  queued: "queued",
  held: "held",
  cancelled: "cancelled",
};
const STATES = Object.keys(MEANINGS);
const CELLS = [22, 18, 15, 12, 10, 8, 7, 6, 5];
const SMALLEST = 5;
const MOST = 300; // pixels of height; what is higher scrolls

const number = (value) => value.toLocaleString("en");

/** Fill a square of `size` device pixels with the shape of a state. */
function shape(pen, state, size, colour) {
  const part = (share) => Math.max(1, Math.round(size * share));
  pen.fillStyle = pen.strokeStyle = colour;
  if (state === "done") {
    if (size < 9) pen.fillRect(0, 0, size, size);
    else {
      pen.beginPath();
      pen.roundRect(0, 0, size, size, size / 6);
      pen.fill();
    }
  } else if (state === "failed") {
    pen.globalAlpha = 0.3;
    pen.fillRect(0, 0, size, size);
    pen.globalAlpha = 1;
    pen.lineWidth = Math.max(1.5, size * 0.26);
    pen.beginPath();
    pen.moveTo(0, 0);
    pen.lineTo(size, size);
    pen.moveTo(size, 0);
    pen.lineTo(0, size);
    pen.stroke();
  } else if (state === "running") {
    pen.beginPath();
    pen.moveTo(0, 0);
    pen.lineTo(size, size / 2);
    pen.lineTo(0, size);
    pen.fill();
  } else if (state === "held") {
    const bar = part(0.34);
    pen.fillRect(0, 0, bar, size);
    pen.fillRect(size - bar, 0, bar, size);
  } else if (state === "lost") {
    const line = part(0.2);
    pen.lineWidth = line;
    pen.strokeRect(line / 2, line / 2, size - line, size - line);
  } else if (state === "cancelled") {
    const bar = part(0.3);
    pen.fillRect(0, Math.round((size - bar) / 2), size, bar);
  } else {
    const dot = part(0.45);
    const edge = Math.round((size - dot) / 2);
    pen.fillRect(edge, edge, dot, dot);
  }
}

export class TaskGrid {
  /**
   * area: element that holds the grid; a canvas and a list that are in it already are used.
   * choose(task, open): called when a task is pointed out, and with `open` when its log is wanted.
   */
  constructor(area, choose) {
    const own = (selector, tag, attributes) => {
      const element = area.querySelector(selector) ?? document.createElement(tag);
      for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
      return element;
    };
    this.area = area;
    this.choose = choose;
    this.tasks = new Uint8Array(0);
    this.chosen = null;
    this.only = null; // the state that alone is shown in full
    this.sprites = new Map();
    this.items = new Map();
    this.field = own(".grid-field", "div", { class: "grid-field" });
    this.scroll = own(".grid-scroll", "div", { class: "grid-scroll" });
    this.canvas = own("canvas.grid", "canvas", { class: "grid", tabindex: "0", role: "application" });
    this.canvas.setAttribute("aria-roledescription", "grid of tasks");
    this.cursor = own(".grid-cursor", "div", { class: "grid-cursor", hidden: "" });
    this.tip = own(".grid-tip", "div", { class: "grid-tip", hidden: "" });
    this.told = own(".grid-told", "div", { class: "grid-told", role: "status" });
    this.key = own("ul.key", "ul", { class: "key", "aria-label": "Tasks by state; choose a state to see its tasks alone" });
    this.key.replaceChildren();
    this.field.append(this.canvas, this.cursor);
    this.scroll.append(this.field);
    // The tip stands outside of what scrolls, which would cut it off.
    area.replaceChildren(this.scroll, this.tip, this.key, this.told);
    this.canvas.addEventListener("pointermove", (event) => this.point(this.under(event)));
    this.canvas.addEventListener("pointerleave", () => this.point(null));
    this.canvas.addEventListener("click", (event) => {
      const task = this.under(event);
      if (task !== null) this.take(task, true);
    });
    this.canvas.addEventListener("keydown", (event) => this.onKey(event));
    this.observer = new ResizeObserver(() => this.canvas.clientWidth !== this.place?.width && this.draw());
    this.observer.observe(this.scroll);
  }

  close() {
    this.observer.disconnect();
  }

  /** Take run lengths, such as [["done", 3], ["running", 2]]; only what changed is drawn again. */
  set(runs) {
    const before = this.tasks;
    const counts = new Map(STATES.map((state) => [state, 0]));
    this.tasks = new Uint8Array(runs.reduce((sum, [, length]) => sum + length, 0));
    let at = 0;
    for (const [state, length] of runs) {
      const code = STATES.includes(state) ? state : "queued";
      counts.set(code, counts.get(code) + length);
      this.tasks.fill(STATES.indexOf(code), at, (at += length));
    }
    this.tell(counts);
    if (this.place && before.length === this.tasks.length && this.place.width === this.canvas.clientWidth) {
      const changed = [];
      for (let task = 0; task < before.length; task++) if (before[task] !== this.tasks[task]) changed.push(task);
      if (changed.length < before.length / 2) {
        this.drawTasks(changed);
        this.drawKey(); // a state may be new
        return;
      }
    }
    this.draw();
  }

  /** Tell the counts, as the legend and to screen readers. */
  tell(counts) {
    const all = this.tasks.length;
    const told = STATES.filter((state) => counts.get(state)).map((state) => `${number(counts.get(state))} ${state}`);
    const word = all === 1 ? "task" : "tasks";
    this.canvas.setAttribute(
      "aria-label",
      `${number(all)} ${word}: ${told.join(", ")}. Arrow keys choose one, Enter shows its log.`,
    );
    for (const state of STATES) {
      const count = counts.get(state);
      let item = this.items.get(state);
      if (!item && !count) continue;
      if (!item) {
        item = this.makeItem(state);
        this.items.set(state, item);
        // In the order of the states, whichever came first.
        const next = STATES.slice(STATES.indexOf(state) + 1).find((other) => this.items.has(other));
        this.key.insertBefore(item.row, next ? this.items.get(next).row : null);
      }
      item.row.hidden = !count && this.only !== state;
      item.text.textContent = `${number(count)} ${state}`;
    }
  }

  makeItem(state) {
    const row = document.createElement("li");
    const button = document.createElement("button");
    const mark = document.createElement("canvas");
    const text = document.createElement("span");
    button.type = "button";
    button.title = `Show the tasks that are ${state} alone`;
    button.setAttribute("aria-pressed", "false");
    button.addEventListener("click", () => this.showOnly(this.only === state ? null : state));
    mark.setAttribute("aria-hidden", "true");
    button.append(mark, text);
    row.append(button);
    return { row, button, mark, text };
  }

  showOnly(state) {
    this.only = state;
    for (const [name, item] of this.items) item.button.setAttribute("aria-pressed", String(name === state));
    this.draw();
  }

  /** Forget the colours: the theme is another. */
  repaint() {
    this.sprites.clear();
    this.draw();
  }

  layout() {
    const width = this.canvas.clientWidth;
    const tasks = Math.max(1, this.tasks.length);
    for (const cell of CELLS) {
      const columns = Math.max(1, Math.floor(width / cell));
      const rows = Math.ceil(tasks / columns);
      if (rows * cell <= MOST || cell === SMALLEST) return { width, cell, columns, rows };
    }
  }

  draw() {
    const place = this.layout();
    if (!place.width) return;
    const began = performance.now();
    // As many pixels as the screen has: a mark that is stretched loses its shape.
    const scale = Math.min(devicePixelRatio || 1, 3);
    if (scale !== this.scale) this.sprites.clear();
    this.scale = scale;
    this.place = this.canvas.place = place;
    this.canvas.style.height = `${place.rows * place.cell}px`;
    this.canvas.width = Math.round(place.width * scale);
    this.canvas.height = Math.round(place.rows * place.cell * scale);
    this.image = new ImageData(this.canvas.width, this.canvas.height);
    this.drawTasks(this.tasks.keys());
    this.drawKey();
    this.showCursor();
    this.canvas.took = performance.now() - began; // milliseconds, for whoever measures
  }

  // The pixels are put together here: ten thousand calls to draw a mark take a hundred times as long.
  drawTasks(tasks) {
    const { cell, columns } = this.place;
    const { width, height } = this.canvas;
    const step = cell * this.scale;
    const size = this.pixels(cell - this.gap(cell));
    const shown = this.only === null ? -1 : STATES.indexOf(this.only);
    const marks = STATES.map((state, code) => this.sprite(state, size, shown === -1 || shown === code));
    const pixels = new Uint32Array(this.image.data.buffer);
    for (const task of tasks) {
      const mark = marks[this.tasks[task]];
      const x = Math.round((task % columns) * step);
      const y = Math.round(Math.floor(task / columns) * step);
      const wide = Math.min(size, width - x);
      const high = Math.min(size, height - y);
      for (let row = 0; row < high; row++) {
        const to = (y + row) * width + x;
        for (let column = 0; column < wide; column++) pixels[to + column] = mark[row * size + column];
      }
    }
    this.canvas.getContext("2d").putImageData(this.image, 0, 0);
  }

  gap(cell) {
    return cell > 8 ? 2 : 1;
  }

  pixels(size) {
    return Math.max(2, Math.round(size * this.scale));
  }

  /** Return the pixels of a state's mark, drawn once; pale where others are to stand out. */
  sprite(state, size, full) {
    const name = `${state} ${size} ${full}`;
    if (!this.sprites.has(name)) {
      const data = this.mark(document.createElement("canvas"), state, size).getImageData(0, 0, size, size).data;
      if (!full) for (let at = 3; at < data.length; at += 4) data[at] *= 0.13;
      this.sprites.set(name, new Uint32Array(data.buffer));
    }
    return this.sprites.get(name);
  }

  /** Draw the mark of a state on a canvas of its own. */
  mark(canvas, state, size) {
    canvas.width = canvas.height = size;
    const pen = canvas.getContext("2d", { willReadFrequently: true });
    shape(pen, state, size, this.colour(state));
    return pen;
  }

  // `light-dark()` and `var()` are resolved by an element's own colour, not by a custom property.
  colour(state) {
    const kept = this.canvas.style.color;
    this.canvas.style.color = `var(--task-${state})`;
    const found = getComputedStyle(this.canvas).color;
    this.canvas.style.color = kept;
    return found;
  }

  drawKey() {
    for (const [state, { mark }] of this.items) this.mark(mark, state, this.pixels(11));
  }

  under(event) {
    if (!this.place) return null;
    const { cell, columns } = this.place;
    const box = this.canvas.getBoundingClientRect();
    const column = Math.floor((event.clientX - box.left) / cell);
    const task = Math.floor((event.clientY - box.top) / cell) * columns + column;
    return column >= 0 && column < columns && task >= 0 && task < this.tasks.length ? task : null;
  }

  text(task) {
    return `Task ${task}: ${MEANINGS[STATES[this.tasks[task]]]}`;
  }

  /** Show beside a task what it is. */
  point(task) {
    this.pointed = task !== null && task < this.tasks.length && this.place ? task : null;
    this.tip.hidden = this.pointed === null;
    if (this.pointed === null) return;
    const { cell, columns, width } = this.place;
    this.tip.textContent = this.text(task);
    const left = Math.min((task % columns) * cell + 12, width - this.tip.offsetWidth);
    this.tip.style.left = `${Math.max(0, left)}px`;
    this.tip.style.top = `${(Math.floor(task / columns) + 1) * cell + 6 - this.scroll.scrollTop}px`;
  }

  showCursor() {
    this.cursor.hidden = this.chosen === null || this.chosen >= this.tasks.length || !this.place;
    if (this.cursor.hidden) return;
    const { cell, columns } = this.place;
    const top = Math.floor(this.chosen / columns) * cell;
    this.cursor.style.left = `${(this.chosen % columns) * cell}px`;
    this.cursor.style.top = `${top}px`;
    this.cursor.style.width = this.cursor.style.height = `${cell - this.gap(cell)}px`;
    const { scrollTop, clientHeight } = this.scroll;
    if (top < scrollTop) this.scroll.scrollTop = top - cell;
    else if (top + cell > scrollTop + clientHeight) this.scroll.scrollTop = top + 2 * cell - clientHeight;
  }

  /** Choose a task, as a click does. */
  take(task, open) {
    this.chosen = task;
    this.showCursor();
    this.told.textContent = this.text(task);
    this.choose(task, open);
  }

  onKey(event) {
    const last = this.tasks.length - 1;
    const from = this.chosen ?? -1;
    const columns = this.place?.columns ?? 1;
    const moves = {
      ArrowRight: from + 1,
      ArrowLeft: from - 1,
      ArrowDown: this.chosen === null ? 0 : from + columns,
      ArrowUp: from - columns,
      PageDown: from + 10 * columns,
      PageUp: from - 10 * columns,
      Home: 0,
      End: last,
    };
    const opens = event.key === "Enter" || event.key === " ";
    if (last < 0 || event.ctrlKey || event.altKey || event.metaKey || (!opens && !(event.key in moves))) return;
    event.preventDefault();
    event.stopPropagation(); // JupyterLab would move to another cell
    let task = opens ? Math.max(0, from) : Math.min(last, Math.max(0, moves[event.key]));
    if (!opens && this.only !== null) task = this.nearest(task, task >= from ? 1 : -1) ?? from;
    if (task < 0) return;
    this.take(task, opens);
    this.point(task);
  }

  /** Return the first task from this one on that is in the state that alone is shown. */
  nearest(task, step) {
    const code = STATES.indexOf(this.only);
    for (let at = task; at >= 0 && at < this.tasks.length; at += step) if (this.tasks[at] === code) return at;
    return null;
  }
}
