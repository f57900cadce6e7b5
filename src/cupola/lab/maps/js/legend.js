// What is known of one layer: its legend, its style, the scale it is computed at, and what went wrong.
const ASK_AGAIN_MS = 30000;

class Entry {
  constructor(legend, layer, ctx) {
    this.legend = legend;
    this.layer = layer;
    this.ctx = ctx;
    this.signal = ctx.signal;
    this.limits = null;
    this.bands = 1;
    this.box = element("div", "cupola-layer");
    this.name = this.box.appendChild(element("div", "cupola-name", legend.name));
    this.bar = this.box.appendChild(element("div", "cupola-bar"));
    this.ends = this.box.appendChild(element("div", "cupola-ends"));
    this.note = this.box.appendChild(element("div", "cupola-note"));
    this.word = this.box.appendChild(element("div", "cupola-note"));
    this.problem = this.box.appendChild(element("div", "cupola-problem"));
    this.problem.setAttribute("role", "status");
    this.problem.hidden = true;
    this.shown = null;
    this.drawEnds();
  }

  // The address up to the chain's hash, the grid, and the query, out of the layer's own address.
  parts() {
    const found = (this.layer.get("url") || "").match(/^(.*)\/cupola\/tiles\/([0-9a-f]+)\/(\w+)\/[^?]*\?(.*)$/);
    if (!found) return null;
    const query = new URLSearchParams(found[4]);
    const base = `${found[1]}/cupola`;
    return { base, hash: found[2], tms: found[3], query, root: `${base}/tiles/${found[2]}`, revision: query.get("v") || "" };
  }

  // Numbers of the style that is drawn now: what was given, or else what the server chose.
  given(side, index) {
    const text = this.parts()?.query.get(side);
    if (text) return Number(text.split(",")[0]);
    return this.limits ? this.limits[0][index] : null;
  }

  get cmap() {
    return this.parts()?.query.get("cmap") || "viridis";
  }

  get exact() {
    return this.parts()?.query.get("exact") === "1";
  }

  // Draw with another style. The address of the tiles says it all, so this works while the kernel is busy; the
  // kernel reads it from there. Until it has, an address of its own (a new product came) must not undo the choice.
  restyle(change) {
    this.layer.cupolaChosen = { ...(this.layer.cupolaChosen || {}), ...change };
    this.restore();
  }

  restore() {
    const [address, text] = (this.layer.get("url") || "").split("?");
    const query = new URLSearchParams(text);
    for (const [name, wanted] of Object.entries(this.layer.cupolaChosen || {})) {
      if (wanted === null) query.delete(name);
      else query.set(name, wanted);
    }
    const url = `${address}?${query.toString().replaceAll("%2C", ",")}`;
    if (url === this.layer.get("url")) return;
    this.layer.set("url", url);
    this.layer.save_changes();
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

  // Spread the colours between the percentiles of what is in view.
  async stretchToView() {
    const parts = this.parts();
    if (!parts) return;
    const box = this.ctx.plane.box().map((side) => side.toPrecision(12)).join(",");
    const zoom = Math.round(this.ctx.leaflet.getZoom()) - this.ctx.model.get("lowest");
    this.say("Looking at what is in view …");
    try {
      const told = await ask(`${parts.root}/${parts.tms}/stretch?box=${box}&zoom=${zoom}&v=${parts.revision}`, this.signal);
      if (!told.limits) this.say(sentence(told));
      else if (told.empty) this.say("Nothing of this layer is in view.");
      else {
        const side = (index) => told.limits.map((pair) => Number(pair[index].toPrecision(6))).join(",");
        this.say("");
        this.bands = told.bands;
        this.restyle({ vmin: side(0), vmax: side(1) });
      }
    } catch (error) {
      if (error.name !== "AbortError") this.say(sentence(null));
    }
  }

  say(text) {
    this.word.textContent = text;
  }

  drawEnds() {
    const colours = this.ctx.model.get("cmaps")[this.cmap] || this.legend.colours;
    this.bar.style.background = `linear-gradient(to right, ${colours.join(", ")})`;
    const low = this.given("vmin", 0);
    const high = this.given("vmax", 1);
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

  // Look what the server told of the tiles that are shown now, or of the one image in their place.
  async drawNote() {
    const mine = (this.looking = {});
    const whole = this.ctx.stack.wholes.get(this.legend.model);
    // A tile that failed says so by itself, and asking for it again would cost its whole time.
    const told = whole ? whole.told : await this.ctx.told.together(await this.shownTiles(), !this.shown && !this.waiting);
    // Until the next tiles are there, those before them are shown.
    if (mine !== this.looking || (!told && this.layer.get("loading"))) return;
    const { halo, pinned, resolution } = this.legend;
    const length = (size) => (this.ctx.plane.isImage ? `${value(size)} pixel${size === 1 ? "" : "s"}` : metres(size));
    this.note.textContent = scaleWord(told, { asked: this.exact, halo, pinned, resolution, length });
  }

  // Addresses of the tiles of the current level that are in view.
  async shownTiles() {
    const drawn = await this.drawn();
    if (!drawn || !this.layer.get("visible")) return [];
    const frame = this.ctx.leaflet.getContainer().getBoundingClientRect();
    const seen = ({ el }) => {
      const box = el.getBoundingClientRect();
      return box.right > frame.left && box.left < frame.right && box.bottom > frame.top && box.top < frame.bottom;
    };
    return Object.values(drawn._tiles || {}).filter((tile) => tile.current && tile.loaded && seen(tile)).map((tile) => tile.el.src);
  }

  async look() {
    const parts = this.parts();
    if (!parts) return;
    try {
      const told = await ask(`${parts.root}/problem`, this.signal);
      this.drawProblem(told.problem);
      // Tiles of very many images lack some of them until the session has made an overview.
      if (this.fresher !== undefined && told.fresher > this.fresher) (await this.drawn())?.redraw?.();
      this.fresher = told.fresher;
      this.waiting = told.waiting;
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

  // The layer as Leaflet draws it on this map, once it is there.
  async drawn() {
    for (const promised of Object.values(this.layer.views || {})) {
      const view = await promised;
      if (view.obj && (view.obj._map === this.ctx.leaflet || view.map_view?.obj === this.ctx.leaflet)) return view.obj;
    }
    return null;
  }
}

// ipyleaflet takes the grid of a map only when it is drawn first. Where the first layer turns out to show another
// body than the map on screen, the map is built anew, once nothing of it is under way any more.
async function settle(map) {
  const wanted = (map.get("crs") || {}).name;
  for (const promised of Object.values(map.views || {})) {
    const view = await promised;
    if (!view.obj || view.cupolaSettling) continue;
    if (gridName(view.obj) === wanted.replace(":", "")) continue;
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

function gridName(leaflet) {
  const { crs } = leaflet.options;
  return crs === window.L?.CRS.Simple ? "Simple" : (crs.code || "").replace(":", "");
}

// A layer whose address changes asks anew only for tiles that had appeared before: those on their way stay as they
// were. Products come faster than tiles, so look after them.
async function freshen(layer) {
  for (const promised of Object.values(layer.views || {})) {
    const { obj } = await promised;
    if (!obj || !obj._map) continue;
    for (const tile of Object.values(obj._tiles || {})) {
      // A copy of the world beside the first shows the first one's tiles.
      const url = obj.getTileUrl(obj._wrapCoords(tile.coords));
      if (!tile.current || new URL(tile.el.src, location.href).href === new URL(url, location.href).href) continue;
      const asked = tile.cupolaAsked || {};
      if (asked.url === url && performance.now() - asked.time < ASK_AGAIN_MS) continue;
      tile.cupolaAsked = { url, time: performance.now() };
      obj._refreshTileUrl(tile, url);
    }
  }
}
