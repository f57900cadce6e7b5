// The corner of a Cupola map: a legend by layer, the scale, and what went wrong with the tiles.
// Everything comes from the map's own model in this page and from the session's server:
// the kernel may be busy or gone.

const POLL_MS = 1500;
const ASK_AGAIN_MS = 30000;
const LONGEST_BAR = 120;

// Values on a legend: as many digits as tell its two ends apart.
function digits(low, high) {
  const span = Math.abs(high - low);
  if (!(span > 0)) return 2;
  return Math.max(0, Math.min(6, 2 - Math.floor(Math.log10(span))));
}

function number(value, places) {
  if (Math.abs(value) >= 1e7 || (value !== 0 && Math.abs(value) < 1e-5)) return value.toExponential(2);
  return value.toLocaleString("en", { maximumFractionDigits: places });
}

function metres(value) {
  const nice = (v) => Number(v.toPrecision(3)).toLocaleString("en", { maximumFractionDigits: 2 });
  return value >= 1000 ? `${nice(value / 1000)} km` : `${nice(value)} m`;
}

function element(kind, name, text) {
  const made = document.createElement(kind);
  if (name) made.className = name;
  if (text !== undefined) made.textContent = text;
  return made;
}

async function ask(address, signal) {
  // A hub checks this header on every request that a script makes with the cookie.
  const token = document.cookie.match(/(?:^|;\s*)_xsrf=([^;]*)/);
  const headers = token ? { "X-XSRFToken": token[1] } : {};
  const answer = await fetch(address, { headers, credentials: "same-origin", signal });
  return answer.json();
}

// What is known of one layer, and its few elements.
class Entry {
  constructor(legend, layer, stop) {
    this.legend = legend;
    this.layer = layer;
    this.signal = stop;
    this.limits = null;
    this.bands = 1;
    this.box = element("div", "cupola-layer");
    this.name = this.box.appendChild(element("div", "cupola-name", legend.name));
    this.bar = this.box.appendChild(element("div", "cupola-bar"));
    this.bar.style.background = `linear-gradient(to right, ${legend.colours.join(", ")})`;
    this.ends = this.box.appendChild(element("div", "cupola-ends"));
    this.note = this.box.appendChild(element("div", "cupola-note"));
    this.problem = this.box.appendChild(element("div", "cupola-problem"));
    this.problem.setAttribute("role", "status");
    this.problem.hidden = true;
    this.shown = null;
    this.drawEnds();
  }

  // The address up to the chain's hash, the grid, and the revision, out of the layer's own address.
  parts() {
    const found = this.layer.get("url").match(/^(.*\/cupola\/tiles\/[0-9a-f]+)\/(\w+)\/.*[?&]v=(\w*)/);
    return found ? { root: found[1], tms: found[2], revision: found[3] } : null;
  }

  async stretch() {
    const parts = this.parts();
    if (!parts) return;
    try {
      const told = await ask(`${parts.root}/${parts.tms}/stretch?v=${parts.revision}`, this.signal);
      if (told.limits) {
        this.limits = told.empty ? null : told.limits;
        this.bands = told.bands;
        this.drawEnds();
      }
    } catch {
      // The server is gone or restarting: the next look tells.
    }
  }

  drawEnds() {
    const given = (side, index) => {
      const own = index ? this.legend.vmax : this.legend.vmin;
      if (own.length) return own[0];
      return this.limits ? this.limits[0][index] : null;
    };
    const low = given("low", 0);
    const high = given("high", 1);
    const colour = this.bands > 2;
    this.bar.hidden = colour;
    this.ends.replaceChildren();
    if (low === null || high === null) {
      this.ends.append(element("span", "", "…"));
      return;
    }
    const places = digits(low, high);
    const unit = this.legend.unit ? ` ${this.legend.unit}` : "";
    if (colour) {
      this.ends.append(element("span", "", `colours from ${number(low, places)} to ${number(high, places)}${unit}`));
      return;
    }
    this.ends.append(element("span", "", number(low, places)), element("span", "", number(high, places) + unit));
  }

  drawNote(here) {
    const { halo, resolution } = this.legend;
    if (!halo || !here) {
      this.note.textContent = "";
      return;
    }
    const limit = this.layer.get("max_native_zoom");
    const at = here.at(limit === null || limit === undefined ? here.zoom : Math.min(here.zoom, limit));
    const full = resolution && at <= resolution * 1.05;
    this.note.textContent = full
      ? `computed at full resolution (${metres(resolution)}/px)`
      : `computed at ${metres(at)}/px${resolution ? `, full resolution is ${metres(resolution)}/px` : ""}`;
  }

  async look() {
    const parts = this.parts();
    if (!parts) return;
    try {
      const told = await ask(`${parts.root}/problem`, this.signal);
      this.drawProblem(told.problem);
    } catch {
      // As above.
    }
  }

  drawProblem(problem) {
    const key = problem ? problem.message + problem.line + problem.traceback : null;
    if (key === this.shown) return;
    this.shown = key;
    this.problem.hidden = !problem;
    this.problem.replaceChildren();
    if (!problem) return;
    this.problem.append(element("div", "", problem.message));
    if (problem.line) this.problem.append(element("code", "", problem.line));
    if (problem.traceback) {
      const more = this.problem.appendChild(element("details"));
      more.append(element("summary", "", "Traceback"), element("pre", "", problem.traceback));
    }
  }
}

// ipyleaflet takes the grid of a map only when it is drawn first. Where the first layer turns out to show another
// body than the map on screen, the map is built anew, once nothing of it is under way any more.
async function settle(map) {
  const wanted = (map.get("crs") || {}).name;
  for (const promised of Object.values(map.views || {})) {
    const view = await promised;
    if (!view.obj || view.cupolaSettling) continue;
    if (view.obj.options.crs.code.replace(":", "") === wanted.replace(":", "")) continue;
    view.cupolaSettling = true;
    try {
      await view.layer_views.remove();
      await view.control_views.remove();
      view.rerender();
    } finally {
      view.cupolaSettling = false;
    }
  }
}

// A layer whose address changes asks anew only for tiles that had appeared before: those on their way stay as they
// were. Products come faster than tiles, so look after them.
async function freshen(layer) {
  for (const promised of Object.values(layer.views || {})) {
    const { obj } = await promised;
    if (!obj || !obj._map) continue;
    for (const tile of Object.values(obj._tiles || {})) {
      const url = obj.getTileUrl(tile.coords);
      if (!tile.current || new URL(tile.el.src, location.href).href === new URL(url, location.href).href) continue;
      const asked = tile.cupolaAsked || {};
      if (asked.url === url && performance.now() - asked.time < ASK_AGAIN_MS) continue;
      tile.cupolaAsked = { url, time: performance.now() };
      obj._refreshTileUrl(tile, url);
    }
  }
}

async function render({ model, el }) {
  const root = el.appendChild(element("div", "cupola-footer"));
  const list = root.appendChild(element("div"));
  const scaleText = root.appendChild(element("div", "cupola-scale-text"));
  const scale = root.appendChild(element("div", "cupola-scale"));
  const end = new AbortController();
  let entries = [];
  let round = 0;

  const map = await model.widget_manager.get_model(model.get("map_model"));

  // Metres per pixel on the ground in the middle of the map. Leaflet's own scale takes every body for the Earth.
  function here() {
    const resolutions = model.get("resolutions");
    const zoom = map.get("zoom");
    const latitude = ((map.get("center") || [0])[0] * Math.PI) / 180;
    const shrink = model.get("mercator") ? Math.cos(latitude) : 1;
    const at = (level) => {
      const floor = Math.max(0, Math.min(resolutions.length - 1, Math.floor(level)));
      return (resolutions[floor] / 2 ** (level - floor)) * shrink;
    };
    // In an equirectangular map a pixel is narrower than high, off the equator.
    const across = model.get("cylindrical") && !model.get("mercator") ? Math.cos(latitude) : 1;
    return resolutions.length ? { zoom, at, across } : null;
  }

  function drawScale() {
    const now = here();
    if (!now) return;
    const perPixel = now.at(now.zoom) * now.across;
    const most = perPixel * LONGEST_BAR;
    const power = 10 ** Math.floor(Math.log10(most));
    const nice = [5, 2, 1].map((step) => step * power).find((step) => step <= most);
    if (!nice || !Number.isFinite(perPixel) || perPixel <= 0) return;
    scale.style.width = `${nice / perPixel}px`;
    scaleText.textContent = `${model.get("body")} · ${metres(nice)}`;
    for (const entry of entries) entry.drawNote(now);
  }

  async function rebuild() {
    const mine = ++round;
    const legends = model.get("layers");
    const layers = await Promise.all(legends.map((legend) => model.widget_manager.get_model(legend.model)));
    if (mine !== round) return;
    for (const entry of entries) entry.layer.off(null, null, entry);
    entries = legends.map((legend, number) => new Entry(legend, layers[number], end.signal));
    list.replaceChildren(...entries.map((entry) => entry.box));
    for (const entry of entries) {
      entry.layer.on("change:loading", () => entry.look(), entry);
      entry.layer.on("change:url", () => { entry.stretch(); entry.look(); }, entry);
      entry.stretch();
      entry.look();
    }
    drawScale();
  }

  // A tile may take its whole time limit: say what is wrong as soon as the first one failed.
  const timer = setInterval(() => {
    if (document.hidden) return;
    for (const entry of entries) {
      if (entry.layer.get("loading")) entry.look();
      freshen(entry.layer);
    }
  }, POLL_MS);

  const redraw = () => drawScale();
  const resettle = () => settle(map);
  map.on("change:crs", resettle);
  map.on("change:zoom change:center", redraw);
  model.on("change:layers", rebuild);
  model.on("change:resolutions change:body", redraw);
  await rebuild();
  // The grid may have changed before this began to listen. The footer's own view has to be finished first:
  // it is among those that are taken away.
  setTimeout(resettle, 0);

  return () => {
    clearInterval(timer);
    end.abort();
    map.off("change:crs", resettle);
    map.off("change:zoom change:center", redraw);
    model.off("change:layers", rebuild);
    model.off("change:resolutions change:body", redraw);
    for (const entry of entries) entry.layer.off(null, null, entry);
  };
}

export default { render };
