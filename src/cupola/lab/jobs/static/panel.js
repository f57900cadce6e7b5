// The panel of one job. It asks the session's Jupyter server and not the kernel, so it lives while the kernel
// computes, after it was restarted, and in a notebook that was saved. `taskgrid.js` stands before this text.

const ACTIVE = new Set(["queued", "running", "held"]);
const WORDS = { "partly-failed": "partly failed" };
const SECOND = 1000;
const ACTIONS = [
  // action, its button, when it can be done, why not
  ["hold", "Hold", (job) => ["queued", "running"].includes(job.state), "It does not wait or run now."],
  ["release", "Release", (job) => job.state === "held", "It is not on hold."],
  ["retry", "Retry", (job) => !ACTIVE.has(job.state) && job.counts.done < job.counts.inputs, null],
  ["cancel", "Cancel", (job) => ACTIVE.has(job.state), "It has ended."],
];
let panels = 0;

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

function count(value) {
  return value.toLocaleString("en");
}

function inputs(value) {
  return `${count(value)} ${value === 1 ? "input" : "inputs"}`;
}

/** Tell seconds in their two largest units, as the pages do. */
function span(seconds) {
  if (seconds < 10) return `${Math.max(0, seconds).toFixed(1)} s`;
  const whole = Math.round(seconds);
  const two = (large, name, small, rest) => {
    const over = Math.floor((whole % large) / small);
    return `${Math.floor(whole / large)} ${name}${over ? ` ${over} ${rest}` : ""}`;
  };
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return two(60, "min", 1, "s");
  if (whole < 86400) return two(3600, "h", 60, "min");
  return two(86400, "d", 3600, "h");
}

/** Tell core-hours: three digits, also of very few. */
function coreHours(value) {
  return value >= 100 ? count(Math.round(value)) : Number(value.toPrecision(3)).toString();
}

/** Talk to the Jupyter server, which passes it on to the portal. */
class Relay {
  constructor(base, job) {
    this.root = `${base}cupola/api/jobs/${encodeURIComponent(job)}`;
    this.tag = null; // of the last grid
  }

  /** Return what the portal answers; null for a grid that is as it was. */
  async ask(path, method = "GET") {
    const xsrf = /(?:^|; )_xsrf=([^;]*)/.exec(document.cookie);
    const headers = xsrf ? { "X-XSRFToken": decodeURIComponent(xsrf[1]) } : {};
    if (path === "/grid" && this.tag) headers["If-None-Match"] = this.tag;
    const answer = await fetch(this.root + path, { method, headers, credentials: "same-origin", cache: "no-store" });
    if (answer.status === 304) return null;
    if (!answer.ok) {
      const told = await answer.json().catch(() => ({}));
      const error = new Error(told.detail || told.message || `The server answered ${answer.status}.`);
      error.status = answer.status;
      throw error;
    }
    if (path === "/grid") this.tag = answer.headers.get("ETag");
    return (answer.headers.get("Content-Type") || "").includes("json") ? answer.json() : answer.text();
  }
}

class Panel {
  constructor(base, job, meanings, showMap) {
    this.relay = new Relay(base, job.id);
    this.job = job;
    this.meanings = meanings;
    this.showMap = showMap;
    this.told = null; // the last grid
    this.failed = null; // what the failures on the page were made for
    this.timer = null;
    this.closed = false;
    this.id = `cupola-job-${(panels += 1)}`;
    this.build();
    this.show(job);
    // A change of JupyterLab's theme changes the colours of the marks.
    this.theme = new MutationObserver(() => this.grid.repaint());
    this.theme.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light", "data-jp-theme-name"] });
    this.onVisible = () => document.visibilityState === "visible" && this.soon(0);
    document.addEventListener("visibilitychange", this.onVisible);
    this.soon(0);
  }

  build() {
    this.state = make("span", { class: "state" });
    this.bar = Object.fromEntries(["done", "failed", "running"].map((part) => [part, make("span", { class: part })]));
    this.progress = make(
      "div",
      { class: "bar", role: "progressbar", "aria-valuemin": "0", "aria-label": `Progress of ${this.job.name}` },
      ...Object.values(this.bar),
    );
    this.numbers = make("div", { class: "numbers" });
    this.used = make("div", { class: "numbers quiet" });
    this.hints = make("ul", { class: "hints", hidden: true });
    this.reason = make("p", { class: "reason", hidden: true });
    this.problem = make("p", { class: "problem", role: "alert", hidden: true });
    this.live = make("span", { class: "grid-told", role: "status" });
    const area = make("div", { class: "grid-area" });
    this.grid = new TaskGrid(area, (task, open) => this.chooseTask(task, open));
    this.groups = make("div");
    this.failuresTitle = make("summary", {}, "Failures");
    this.failures = make("details", { hidden: true }, this.failuresTitle, this.groups);
    this.element = make(
      "section",
      { class: "cupola-job", "aria-label": `Job ${this.job.name}` },
      make("header", {}, make("h3", {}, this.job.name), this.state, make("span", { class: "quiet" }, this.job.id), this.buildActions()),
      this.progress, this.numbers, this.used, this.reason, this.problem, this.live, this.hints, area,
      this.failures, this.buildLog(), this.buildMap(),
    );
  }

  buildActions() {
    this.buttons = {};
    const actions = make("div", { class: "actions", role: "group", "aria-label": "What can be done" });
    for (const [action, word] of ACTIONS) {
      const says = make("span", { class: "says", id: `${this.id}-${action}` });
      const button = make("button", { type: "button", "aria-describedby": says.id, onclick: () => this.act(action) }, word);
      this.buttons[action] = { button, says };
      actions.append(make("span", { class: "deed" }, button, says));
    }
    return actions;
  }

  buildLog() {
    this.task = make("input", { type: "number", min: "0", onchange: () => this.showTask() });
    this.works = make("div", { class: "works" });
    this.log = make("pre", { tabindex: "0", "aria-label": "Log of the task" }, "Choose a task.");
    this.logs = make(
      "details",
      { ontoggle: () => this.logs.open && this.task.value !== "" && this.showTask() },
      make("summary", {}, "Log and inputs of a task"),
      make("label", {}, "Task ", this.task),
      " ",
      make("button", { type: "button", onclick: () => this.showTask() }, "Show"),
      this.works,
      this.log,
    );
    return this.logs;
  }

  buildMap() {
    if (!this.job.products) return "";
    this.mapNote = make("span", { class: "quiet", role: "status" });
    const button = make("button", { type: "button", onclick: () => this.askMap() }, "Show on a map");
    return make("div", { class: "products" }, button, this.mapNote);
  }

  askMap() {
    this.mapNote.textContent =
      "The map comes as soon as the kernel is free, and shows new products by itself; " +
      `after a restart of the kernel show the job anew: cupola.jobs()["${this.job.name}"]`;
    this.showMap();
  }

  /** Tell what the kernel says of the map: nothing where it is there. */
  tellMap(text) {
    if (this.mapNote) this.mapNote.textContent = text;
  }

  /** Ask again after some milliseconds. */
  soon(delay) {
    clearTimeout(this.timer);
    if (!this.closed) this.timer = setTimeout(() => this.refresh(), delay);
  }

  async refresh() {
    try {
      this.show(await this.relay.ask(""));
      const grid = await this.relay.ask("/grid");
      if (grid) {
        this.told = grid;
        this.grid.set(grid.runs);
        this.show(this.job);
      }
      const failed = `${this.job.attempt}:${this.job.counts.failed}`;
      if (failed !== this.failed) {
        this.showFailures(this.job.counts.failed ? await this.relay.ask("/failures") : []);
        this.failed = failed;
      }
      this.problem.hidden = true;
    } catch (error) {
      this.tell(error);
      if (error.status === 404) return; // deleted: nothing more will come
    }
    const pace = ACTIVE.has(this.job.state) ? SECOND : 10 * SECOND; // an ended job may be retried elsewhere
    this.soon(document.visibilityState === "visible" ? pace : 10 * pace);
  }

  show(job) {
    const { inputs: all, done, failed, running } = job.counts;
    this.job = job;
    const word = WORDS[job.state] || job.state;
    if (this.state.textContent !== word) {
      this.state.textContent = word;
      this.state.dataset.state = job.state;
      // Screen readers are told of changes of state, not of each number.
      if (!ACTIVE.has(job.state)) this.live.textContent = `Job ${word}: ${count(done)} of ${inputs(all)} done.`;
      else this.live.textContent = "";
    }
    for (const [part, value] of Object.entries({ done, failed, running })) {
      this.bar[part].style.width = `${all ? (100 * value) / all : 0}%`;
    }
    this.progress.setAttribute("aria-valuemax", all);
    this.progress.setAttribute("aria-valuenow", done + failed);
    this.progress.setAttribute("aria-valuetext", `${count(done)} of ${count(all)} done, ${count(failed)} failed`);
    const told = [`${count(done)} of ${count(all)} done`];
    if (failed) told.push(`${count(failed)} failed`);
    if (running) told.push(`${count(running)} in running tasks`);
    told.push(...this.pace(job));
    fill(this.numbers, "span", told);
    fill(this.used, "span", this.usage(job));
    fill(this.hints, "li", this.told?.hints ?? []);
    this.hints.hidden = !this.told?.hints?.length;
    const reason = [job.reason, job.waits].filter(Boolean).join(" ");
    this.reason.textContent = reason;
    this.reason.hidden = !reason;
    for (const [action, , can, why] of ACTIONS) {
      const { button, says } = this.buttons[action];
      button.disabled = !can(job);
      const not = why ?? (ACTIVE.has(job.state) ? "It has not ended." : "Every input has its result.");
      const text = `${this.meanings[action] ?? ""}${button.disabled ? ` Not now: ${not}` : ""}`.trim();
      if (says.textContent !== text) says.textContent = text;
    }
    this.task.max = job.tasks - 1;
  }

  /** Tell the rate and the time left, or how long it took. */
  pace(job) {
    if (!ACTIVE.has(job.state)) {
      const seconds = (Date.parse(job.ended) - Date.parse(job.started)) / SECOND;
      return Number.isFinite(seconds) ? [`took ${span(seconds)}`] : [];
    }
    const rate = this.told?.per_minute;
    if (job.state !== "running" || !rate) return [];
    return [`${rate < 10 ? rate : count(Math.round(rate))} inputs a minute`, `about ${span(this.told.seconds_left)} left`];
  }

  /** Tell where it runs and what it uses, beside what it asked for. */
  usage(job) {
    const told = [`runs on ${job.engine}`];
    const most = job.peak_memory_mib;
    told.push(most ? `memory: at most ${count(most)} of ${count(job.memory_mib)} MiB` : `memory: ${count(job.memory_mib)} MiB a task`);
    const cores = this.told?.cores_used;
    told.push(cores != null ? `cores: ${cores.toFixed(1)} of ${job.cpus} busy` : `cores: ${job.cpus} a task`);
    if (job.gpus) told.push(`GPUs: ${job.gpus} a task`);
    if (job.core_hours) told.push(`${coreHours(job.core_hours)} core-hours so far`);
    return told;
  }

  showFailures(groups) {
    // They open by themselves whenever there come any, and stay as somebody leaves them.
    if (groups.length && this.failures.hidden) this.failures.open = true;
    this.failures.hidden = !groups.length;
    const total = groups.reduce((sum, group) => sum + group.count, 0);
    this.failuresTitle.textContent = `${inputs(total)} failed`;
    const open = new Set([...this.groups.querySelectorAll("details[open]")].map((fold) => fold.dataset.cause));
    this.groups.replaceChildren(...groups.map((group) => this.group(group, open)));
  }

  group(group, open) {
    const told = group.inputs.slice(0, 50).join(", ") + (group.count > 50 ? ", …" : "");
    const { example } = group;
    const cause = `${group.error} ${group.line}`;
    const fold = make(
      "details",
      { "data-cause": cause, open: open.has(cause) },
      make("summary", {}, `Traceback of input ${example.input}`),
      make("pre", { tabindex: "0", "aria-label": `Traceback of input ${example.input}` }, example.traceback),
    );
    return make(
      "div",
      { class: "group" },
      make("strong", {}, group.error),
      `: ${example.message}`,
      group.line ? make("div", {}, make("code", {}, group.line)) : "",
      make("div", { class: "quiet" }, `${inputs(group.count)}: ${told}; first `, make("b", {}, example.label)),
      example.traceback ? fold : "",
      make("button", { type: "button", onclick: () => this.grid.take(example.task, true) }, `Log of task ${example.task}`),
    );
  }

  chooseTask(task, open) {
    if (!open) return;
    this.task.value = task;
    if (this.logs.open) this.showTask();
    else this.logs.open = true; // its toggle shows the log
  }

  async showTask() {
    const task = Number(this.task.value);
    if (this.task.value === "" || !Number.isInteger(task) || task < 0 || task >= this.job.tasks) {
      this.log.textContent = `Tasks are numbered 0 to ${this.job.tasks - 1}.`;
      this.works.replaceChildren();
      return;
    }
    try {
      const [works, log] = await Promise.all([this.relay.ask(`/tasks/${task}`), this.relay.ask(`/tasks/${task}/log`)]);
      this.showInputs(works);
      this.log.textContent = log || "It has printed nothing.";
    } catch (error) {
      this.log.textContent = error.message;
    }
  }

  showInputs(works) {
    const failed = new Set(works.failed);
    const most = 20;
    const rows = works.inputs.slice(0, most).map((number, place) =>
      make("li", {}, `Input ${number}: `, make("code", {}, works.labels[place]), failed.has(number) ? " failed" : ""),
    );
    if (works.count > most) rows.push(make("li", {}, `and ${count(works.count - most)} more`));
    this.works.replaceChildren(
      make("p", {}, make("strong", {}, `Task ${works.task}`), ` is ${works.state} and works on ${inputs(works.count)}:`),
      make("ul", {}, ...rows),
    );
  }

  async act(action) {
    for (const { button } of Object.values(this.buttons)) button.disabled = true;
    try {
      this.show(await this.relay.ask(`/${action}`, "POST"));
      this.problem.hidden = true;
    } catch (error) {
      this.tell(error);
      this.show(this.job);
    }
    this.soon(200);
  }

  tell(error) {
    const lost = error instanceof TypeError; // fetch: the server does not answer at all
    this.problem.textContent = lost ? "The session does not answer now; the job runs on." : error.message;
    this.problem.hidden = false;
  }

  close() {
    this.closed = true;
    clearTimeout(this.timer);
    this.grid.close();
    this.theme.disconnect();
    document.removeEventListener("visibilitychange", this.onVisible);
  }
}

/** Fill an element with texts, and leave it alone where they are there: somebody may be selecting them. */
function fill(element, tag, texts) {
  const there = [...element.children].map((child) => child.textContent);
  if (there.length === texts.length && there.every((text, place) => text === texts[place])) return;
  element.replaceChildren(...texts.map((text) => make(tag, {}, text)));
}

function render({ model, el }) {
  const panel = new Panel(model.get("base"), model.get("job"), model.get("meanings") ?? {}, () => model.send({ show: "map" }));
  const told = () => panel.tellMap(model.get("map_told"));
  model.on("change:map_told", told);
  el.append(panel.element);
  return () => {
    model.off("change:map_told", told);
    panel.close();
  };
}

export default { render };
