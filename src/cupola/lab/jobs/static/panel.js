// The panel of one job. It asks the session's Jupyter server and not the kernel, so it lives while the kernel
// computes, and after it was restarted.

const ACTIVE = new Set(["queued", "running", "held"]);
const STATES = ["done", "running", "failed", "lost", "queued", "cancelled"];
const WORDS = { "partly-failed": "partly failed" };
const SECOND = 1000;
const WINDOW = 60 * SECOND; // over which the rate is taken

/** Make an element: attributes by name, children as nodes or texts (never as markup). */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

function count(number) {
  return number.toLocaleString("en");
}

function span(seconds) {
  if (seconds < 60) return `${Math.max(1, Math.round(seconds))} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
  return `${Math.floor(seconds / 3600)} h ${Math.round((seconds % 3600) / 60)} min`;
}

/** Talk to the Jupyter server, which passes it on to the portal. */
class Relay {
  constructor(base, job) {
    this.root = `${base}cupola/api/jobs/${encodeURIComponent(job)}`;
  }

  async ask(path, method = "GET") {
    const xsrf = /(?:^|; )_xsrf=([^;]*)/.exec(document.cookie);
    const headers = xsrf ? { "X-XSRFToken": decodeURIComponent(xsrf[1]) } : {};
    const answer = await fetch(this.root + path, { method, headers, credentials: "same-origin", cache: "no-store" });
    if (!answer.ok) {
      const told = await answer.json().catch(() => ({}));
      const error = new Error(told.detail || told.message || `The server answered ${answer.status}.`);
      error.status = answer.status;
      throw error;
    }
    return (answer.headers.get("Content-Type") || "").includes("json") ? answer.json() : answer.text();
  }
}

/** The grid of tasks: one small square each, drawn at once, also for ten thousand. */
class Grid {
  constructor(onChoose) {
    this.tasks = [];
    this.chosen = null;
    this.onChoose = onChoose;
    this.canvas = make("canvas", { role: "img", tabindex: "0", onkeydown: (e) => this.onKey(e), onclick: (e) => this.onClick(e) });
    this.canvas.addEventListener("mousemove", (e) => {
      const task = this.taskAt(e);
      this.canvas.title = task == null ? "" : `Task ${task}: ${this.tasks[task]}`;
    });
    this.legend = make("div", { class: "legend" });
  }

  /** Take the run lengths that the portal sends. */
  set(grid) {
    this.tasks = grid.runs.flatMap(([state, length]) => Array(length).fill(state));
    const counts = Object.fromEntries(STATES.map((state) => [state, 0]));
    for (const [state, length] of grid.runs) counts[state] += length;
    const told = STATES.filter((state) => counts[state]).map((state) => [state, counts[state]]);
    const text = told.map(([state, number]) => `${count(number)} ${state}`).join(", ");
    this.canvas.setAttribute("aria-label", `${count(grid.tasks)} tasks: ${text}. Arrow keys choose one, Enter shows its log.`);
    this.legend.replaceChildren(
      make("span", {}, `${count(grid.tasks)} ${grid.tasks === 1 ? "task" : "tasks"}:`),
      ...told.map(([state, number]) => {
        const mark = make("i", { "aria-hidden": "true" });
        mark.style.background = `var(--job-${state})`;
        return make("span", {}, mark, `${count(number)} ${state}`);
      }),
    );
    this.draw();
  }

  layout() {
    const width = this.canvas.clientWidth || 700;
    const tasks = Math.max(1, this.tasks.length);
    // As large as fits into about 120 pixels of height, between 3 and 14 pixels.
    const step = Math.min(14, Math.max(3, Math.floor(Math.sqrt((width * 120) / tasks))));
    const columns = Math.max(1, Math.floor(width / step));
    return { width, step, columns, height: Math.ceil(tasks / columns) * step };
  }

  draw() {
    const { width, step, columns, height } = this.layout();
    const scale = window.devicePixelRatio || 1;
    this.canvas.width = Math.round(width * scale);
    this.canvas.height = Math.round(height * scale);
    this.canvas.style.height = `${height}px`;
    const pen = this.canvas.getContext("2d");
    pen.scale(scale, scale);
    const style = getComputedStyle(this.canvas);
    const colours = Object.fromEntries(STATES.map((state) => [state, style.getPropertyValue(`--job-${state}`).trim()]));
    const gap = step > 4 ? 1 : 0.5;
    for (const state of STATES) {
      pen.fillStyle = colours[state];
      for (let task = 0; task < this.tasks.length; task += 1) {
        if (this.tasks[task] !== state) continue;
        pen.fillRect((task % columns) * step, Math.floor(task / columns) * step, step - gap, step - gap);
      }
    }
    if (this.chosen != null && this.chosen < this.tasks.length) {
      pen.strokeStyle = style.color;
      pen.lineWidth = 2;
      pen.strokeRect((this.chosen % columns) * step, Math.floor(this.chosen / columns) * step, step - gap, step - gap);
    }
  }

  taskAt(event) {
    const { step, columns } = this.layout();
    const column = Math.floor(event.offsetX / step);
    const task = Math.floor(event.offsetY / step) * columns + column;
    return column < columns && task >= 0 && task < this.tasks.length ? task : null;
  }

  choose(task, show) {
    this.chosen = task;
    this.draw();
    this.onChoose(task, show);
  }

  onClick(event) {
    const task = this.taskAt(event);
    if (task != null) this.choose(task, true);
  }

  onKey(event) {
    const { columns } = this.layout();
    const move = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns }[event.key];
    if (move === undefined && event.key !== "Enter") return;
    event.preventDefault();
    event.stopPropagation(); // JupyterLab would move to another cell
    const from = this.chosen ?? (move > 0 ? -1 : 0);
    const task = Math.min(this.tasks.length - 1, Math.max(0, from + (move || 0)));
    this.choose(task, event.key === "Enter");
  }
}

class Panel {
  constructor(base, job) {
    this.relay = new Relay(base, job.id);
    this.job = job;
    this.samples = [];
    this.failed = null; // what the failures on the page were made for
    this.timer = null;
    this.closed = false;
    this.build();
    this.show(job);
    this.observer = new ResizeObserver(() => this.grid.draw());
    this.observer.observe(this.grid.canvas);
    // A change of JupyterLab's theme changes the colours of the squares.
    this.theme = new MutationObserver(() => this.grid.draw());
    this.theme.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light", "data-jp-theme-name"] });
    this.onVisible = () => document.visibilityState === "visible" && this.soon(0);
    document.addEventListener("visibilitychange", this.onVisible);
    this.soon(0);
  }

  build() {
    const name = make("h3", {}, this.job.name);
    this.state = make("span", { class: "state" });
    this.buttons = {};
    const actions = make("div", { class: "actions" });
    for (const [action, word, title] of [
      ["hold", "Hold", "Freeze the job until you release it"],
      ["release", "Release", "Let the job go on"],
      ["retry", "Retry", "Run again what failed or was cancelled; results are kept"],
      ["cancel", "Cancel", "End the job; results are kept"],
    ]) {
      this.buttons[action] = make("button", { type: "button", title, onclick: () => this.act(action) }, word);
      actions.append(this.buttons[action]);
    }
    this.bar = {};
    const bar = make("div", { class: "bar", role: "progressbar", "aria-valuemin": "0", "aria-label": `Progress of ${this.job.name}` });
    for (const part of ["done", "failed", "running"]) bar.append((this.bar[part] = make("span", { class: part })));
    this.progress = bar;
    this.numbers = make("div", { class: "numbers" });
    this.reason = make("p", { class: "reason", hidden: true });
    this.problem = make("p", { class: "problem", role: "alert", hidden: true });
    this.live = make("span", { class: "quiet", role: "status" });
    this.grid = new Grid((task, show) => this.chooseTask(task, show));
    this.groups = make("div");
    this.failuresTitle = make("summary", {}, "Failures");
    this.failures = make("details", { hidden: true }, this.failuresTitle, this.groups);
    this.task = make("input", { type: "number", min: "0", "aria-label": "Task whose log to show", onchange: () => this.showLog() });
    this.log = make("pre", { tabindex: "0", "aria-label": "Log of the task" }, "Choose a task.");
    this.logs = make(
      "details",
      { ontoggle: () => this.logs.open && this.task.value !== "" && this.showLog() },
      make("summary", {}, "Task log"),
      make("label", {}, "Task ", this.task),
      " ",
      make("button", { type: "button", onclick: () => this.showLog() }, "Show"),
      this.log,
    );
    const id = make("span", { class: "quiet" }, this.job.id);
    this.element = make(
      "section",
      { class: "cupola-job", "aria-label": `Job ${this.job.name}` },
      make("header", {}, name, this.state, id, actions),
      bar, this.numbers, this.reason, this.problem, this.live, this.grid.canvas, this.grid.legend, this.failures, this.logs,
    );
  }

  /** Ask again after some milliseconds. */
  soon(delay) {
    clearTimeout(this.timer);
    if (!this.closed) this.timer = setTimeout(() => this.refresh(), delay);
  }

  async refresh() {
    try {
      const before = this.job;
      const job = await this.relay.ask("");
      this.show(job);
      this.problem.hidden = true;
      const changed = JSON.stringify(before.counts) !== JSON.stringify(job.counts) || before.state !== job.state;
      if (changed || !this.grid.tasks.length) this.grid.set(await this.relay.ask("/grid"));
      const failed = `${job.attempt}:${job.counts.failed}`;
      if (failed !== this.failed) {
        this.showFailures(job.counts.failed ? await this.relay.ask("/failures") : []);
        this.failed = failed;
      }
    } catch (error) {
      this.tell(error);
      if (error.status === 404) return; // deleted: nothing more will come
    }
    const pace = ACTIVE.has(this.job.state) ? SECOND : 10 * SECOND; // an ended job may be retried elsewhere
    this.soon(document.visibilityState === "visible" ? pace : 10 * pace);
  }

  show(job) {
    const { inputs, done, failed, running } = job.counts;
    if (job.attempt !== this.job.attempt) this.samples = [];
    this.job = job;
    const word = WORDS[job.state] || job.state;
    if (this.state.textContent !== word) {
      this.state.textContent = word;
      this.state.dataset.state = job.state;
      // Screen readers are told of changes of state, not of each number.
      if (!ACTIVE.has(job.state)) this.live.textContent = `Job ${word}: ${count(done)} of ${count(inputs)} inputs done.`;
      else this.live.textContent = "";
    }
    for (const [part, number] of Object.entries({ done, failed, running })) {
      this.bar[part].style.width = `${inputs ? (100 * number) / inputs : 0}%`;
    }
    this.progress.setAttribute("aria-valuemax", inputs);
    this.progress.setAttribute("aria-valuenow", done + failed);
    this.progress.setAttribute("aria-valuetext", `${count(done)} of ${count(inputs)} done, ${count(failed)} failed`);
    const told = [`${count(done)} of ${count(inputs)} done`];
    if (failed) told.push(`${count(failed)} failed`);
    if (running) told.push(`${count(running)} in running tasks`);
    told.push(...this.pace(job));
    if (job.peak_memory_mib) told.push(`largest task ${count(job.peak_memory_mib)} MiB`);
    this.numbers.replaceChildren(...told.map((text) => make("span", {}, text)));
    this.reason.textContent = job.reason || "";
    this.reason.hidden = !job.reason;
    const active = ACTIVE.has(job.state);
    this.buttons.cancel.hidden = !active;
    this.buttons.hold.hidden = !["queued", "running"].includes(job.state);
    this.buttons.release.hidden = job.state !== "held";
    this.buttons.retry.hidden = active || done >= inputs;
    this.task.max = job.tasks - 1;
  }

  /** Tell the rate and the time left, or how long it took. */
  pace(job) {
    const settled = job.counts.done + job.counts.failed;
    if (!ACTIVE.has(job.state)) {
      const seconds = (Date.parse(job.ended) - Date.parse(job.started)) / SECOND;
      return Number.isFinite(seconds) ? [`took ${span(seconds)}`] : [];
    }
    if (job.state !== "running") {
      this.samples = [];
      return [];
    }
    const now = Date.now();
    this.samples.push([now, settled]);
    while (this.samples.length > 2 && now - this.samples[0][0] > WINDOW) this.samples.shift();
    const [then, before] = this.samples[0];
    const rate = (SECOND * (settled - before)) / (now - then);
    if (!Number.isFinite(rate) || rate <= 0) return [];
    const per = rate >= 1 ? `${rate.toFixed(rate < 10 ? 1 : 0)} per second` : `${(60 * rate).toFixed(1)} per minute`;
    return [per, `about ${span((job.counts.inputs - settled) / rate)} left`];
  }

  showFailures(groups) {
    this.failures.hidden = !groups.length;
    const total = groups.reduce((sum, group) => sum + group.count, 0);
    this.failuresTitle.textContent = `${count(total)} ${total === 1 ? "input" : "inputs"} failed`;
    if (groups.length && this.failed === null) this.failures.open = true;
    this.groups.replaceChildren(
      ...groups.map((group) => {
        const told = group.inputs.slice(0, 50).join(", ") + (group.count > 50 ? ", …" : "");
        const example = group.example;
        return make(
          "div",
          { class: "group" },
          make("strong", {}, group.error),
          `: ${example.message}`,
          group.line ? make("div", {}, make("code", {}, group.line)) : "",
          make("div", { class: "quiet" }, `${count(group.count)} ${group.count === 1 ? "input" : "inputs"}: ${told}`),
          example.traceback
            ? make("details", {}, make("summary", {}, `Traceback of input ${example.input} (${example.label})`), make("pre", { tabindex: "0" }, example.traceback))
            : "",
          make("button", { type: "button", onclick: () => this.grid.choose(example.task, true) }, `Log of task ${example.task}`),
        );
      }),
    );
  }

  chooseTask(task, show) {
    this.task.value = task;
    if (show) {
      if (this.logs.open) this.showLog();
      else this.logs.open = true; // its toggle shows the log
    }
  }

  async showLog() {
    const task = Number(this.task.value);
    if (this.task.value === "" || !Number.isInteger(task) || task < 0 || task >= this.job.tasks) {
      this.log.textContent = `Tasks are numbered 0 to ${this.job.tasks - 1}.`;
      return;
    }
    try {
      this.log.textContent = (await this.relay.ask(`/tasks/${task}/log`)) || "It has printed nothing.";
    } catch (error) {
      this.log.textContent = error.message;
    }
  }

  async act(action) {
    this.setBusy(true);
    try {
      this.show(await this.relay.ask(`/${action}`, "POST"));
      this.problem.hidden = true;
    } catch (error) {
      this.tell(error);
    }
    this.setBusy(false);
    this.soon(200);
  }

  setBusy(busy) {
    for (const button of Object.values(this.buttons)) button.disabled = busy;
  }

  tell(error) {
    const lost = error instanceof TypeError; // fetch: the server does not answer at all
    this.problem.textContent = lost ? "The session does not answer now; the job runs on." : error.message;
    this.problem.hidden = false;
  }

  close() {
    this.closed = true;
    clearTimeout(this.timer);
    this.observer.disconnect();
    this.theme.disconnect();
    document.removeEventListener("visibilitychange", this.onVisible);
  }
}

function render({ model, el }) {
  const panel = new Panel(model.get("base"), model.get("job"));
  el.append(panel.element);
  return () => panel.close();
}

export default { render };
