function table(rows) {
  const made = element("table", "cupola-sky-table");
  for (const [name, value] of Object.entries(rows)) {
    const line = made.appendChild(element("tr"));
    line.append(element("th", "", name), element("td", "", value === null ? "–" : String(value)));
  }
  return made;
}

class Sky {
  constructor({ model, el }, end) {
    Object.assign(this, { model, end, entries: new Map(), moving: null, fitted: model.get("placed") });
    this.base = model.get("base");
    this.root = el.appendChild(element("div", "cupola-sky"));
    this.frame = this.root.appendChild(element("div", "cupola-sky-frame"));
    this.frame.style.height = model.get("height");
    this.bar = this.root.appendChild(element("div", "cupola-sky-tools"));
    this.word = this.root.appendChild(element("div", "cupola-sky-problem"));
    this.word.setAttribute("role", "status");
    this.word.hidden = true;
    this.list = this.root.appendChild(element("div", "cupola-sky-layers"));
    this.readout = this.root.appendChild(element("div", "cupola-sky-readout"));
    this.readout.setAttribute("aria-live", "polite");
  }

  tell(text) {
    this.word.hidden = !text;
    this.word.textContent = text;
  }

  // Aladin measures its frame once: it has to be on the page.
  async sized() {
    while (!this.end.signal.aborted && !(this.frame.isConnected && this.frame.clientWidth)) {
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  async start() {
    await this.sized();
    if (this.end.signal.aborted) return;
    const [ra, dec] = this.model.get("center");
    let A;
    try {
      A = await aladin(this.base);
    } catch {
      loading = null;
      this.tell("The sky map could not be loaded from this session's server; reload the page, or restart the session.");
      return;
    }
    if (this.end.signal.aborted) return;
    this.view = this.draw(A, {
      // No survey, no list of surveys, no reports: nothing outside of the session is asked unless somebody wants it.
      survey: [], hipsList: [], log: false, samp: false,
      target: `${ra} ${dec}`, fov: this.model.get("fov"), projection: this.model.get("projection"),
      cooFrame: "ICRSd", backgroundColor: "rgb(16, 18, 24)", gridColor: "rgb(110, 150, 190)", gridOpacity: 0.5,
      showCooGrid: this.model.get("grid"), showCooGridControl: false, showLayersControl: false, showReticle: false,
      showStatusBar: false, showSettingsControl: false, showShareControl: false, showContextMenu: false,
      showProjectionControl: true, showFullscreenControl: true, showZoomControl: true, expandLayersControl: false,
    });
    if (!this.view) return;
    // Otherwise Aladin fetches its usual survey where no layer can be shown.
    this.view.view.empty = false;
    this.layers = new Layers(A, this.view, this.base, (text) => this.tell(text));
    this.overlays = new Overlays(A, this.view);
    this.told = new Told(this.end.signal, () => ({ "X-XSRFToken": xsrf() }));
    this.controls();
    this.listen();
    this.redraw();
    nameControls(this.frame);
    this.frame.cupolaSky = this.view;
    this.root.dataset.ready = "true";
  }

  draw(A, options) {
    try {
      return A.aladin(this.frame, options);
    } catch (error) {
      this.tell(`The sky cannot be drawn: this browser gives no WebGL 2 (${error.message || error}); close other maps of the page, or switch on hardware acceleration.`);
      return null;
    }
  }

  controls() {
    const survey = this.bar.appendChild(labelled("select", "survey below the layers"));
    const names = { ...SURVEYS };
    const own = this.model.get("survey");
    if (own && !(own in names)) names[own] = own;
    for (const [id, name] of Object.entries(names)) {
      survey.append(Object.assign(element("option", "", name), { value: id }));
    }
    survey.addEventListener("change", () => this.save({ survey: survey.value }));
    this.survey = survey;
    const form = this.bar.appendChild(element("form", "cupola-sky-find"));
    const name = form.appendChild(labelled("input", "name or position to look at", { type: "search", placeholder: "M 31, or 10.68 +41.27" }));
    form.append(labelled("button", "go there", { type: "submit", textContent: "Go" }));
    form.addEventListener("submit", (event) => { event.preventDefault(); this.find(name.value); });
    const grid = this.bar.appendChild(labelled("button", "coordinate grid", { type: "button", textContent: "Grid" }));
    grid.addEventListener("click", () => this.save({ grid: !this.model.get("grid") }));
    const select = this.bar.appendChild(labelled("button", "select sources in a rectangle", { type: "button", textContent: "Select" }));
    select.addEventListener("click", () => this.view.select("rect"));
  }

  save(values) {
    for (const [name, value] of Object.entries(values)) this.model.set(name, value);
    this.model.save_changes();
  }

  listen() {
    const { model, view } = this;
    this.watched = {
      "change:layers change:survey": () => this.redraw(),
      "change:catalogues change:footprints": () => this.overlays.show(model.get("catalogues"), model.get("footprints")),
      "change:center change:fov": () => this.follow(),
      "change:grid": () => view.setCooGrid({ enabled: model.get("grid") }),
      "change:projection": () => view.setProjection(model.get("projection")),
    };
    for (const [names, react] of Object.entries(this.watched)) model.on(names, react);
    this.overlays.show(model.get("catalogues"), model.get("footprints"));
    view.on("positionChanged", () => this.moved());
    view.on("zoomChanged", () => this.moved());
    view.on("click", (at) => at && !at.isDragging && this.probe(at.ra, at.dec));
    view.on("objectClicked", (source) => source?.data?.catalogue && this.pick(source));
    view.on("objectsSelected", (groups) => this.select(groups));
    this.timer = setInterval(() => {
      nameControls(this.frame);
      if (!document.hidden) for (const entry of this.entries.values()) entry.watch();
    }, POLL_MS);
  }

  // The browser moved: the kernel hears of it once it stands still.
  moved() {
    if (this.following) return;
    clearTimeout(this.moving);
    this.moving = setTimeout(() => {
      const [ra, dec] = this.view.getRaDec();
      this.said = { center: [ra, dec], fov: this.view.getFov()[0] };
      // Values arrive one after the other: what is half told must not move the map back.
      this.telling = true;
      this.save({ ...this.said, placed: true });
      this.telling = false;
      for (const entry of this.entries.values()) entry.tellScale();
    }, SETTLED_MS);
  }

  // The kernel moved.
  follow() {
    if (this.telling) return;
    const [ra, dec] = this.model.get("center");
    const fov = this.model.get("fov");
    const { said } = this;
    if (said && said.fov === fov && Math.abs(said.center[0] - ra) < CLOSE && Math.abs(said.center[1] - dec) < CLOSE) return;
    this.go(ra, dec, fov);
  }

  go(ra, dec, fov) {
    this.following = true;
    this.view.gotoRaDec(ra, dec);
    if (fov) this.view.setFoV(fov);
    setTimeout(() => { this.following = false; }, SETTLED_MS);
  }

  look(about) {
    this.go(about.ra, about.dec, about.fov);
    this.following = false;
    this.moved();
  }

  async find(text) {
    const words = text.trim();
    const position = words.match(/^([+-]?\d+(?:\.\d*)?)[\s,]+([+-]?\d+(?:\.\d*)?)$/);
    const key = words.toLowerCase().replace(/[\s_-]+/g, "");
    const known = this.model.get("places")[key];
    this.tell("");
    if (!words) return;
    if (position) this.look({ ra: Number(position[1]), dec: Number(position[2]) });
    else if (known) this.look({ ra: known[0], dec: known[1], fov: known[2] });
    else {
      this.view.gotoObject(words, {
        success: () => this.moved(),
        error: () => this.tell(`“${words}” is not in the list of this map, and the name service of the CDS does not know it or cannot be reached; give a position in degrees.`),
      });
    }
  }

  redraw() {
    const layers = this.model.get("layers");
    const actions = {
      base: this.base,
      cmaps: this.model.get("cmaps"),
      change: (id, values) => this.save({ layers: this.model.get("layers").map((one) => (one.id === id ? { ...one, ...values } : one)) }),
      move: (id, step) => this.move(id, step),
      look: (about) => this.look(about),
      told: this.told,
      shown: (layer, deepest) => tilesInView(this.view, hips(this.base, layer), deepest),
      known: (about) => {
        // The first layer decides where the map looks, unless somebody did.
        if (this.fitted || this.model.get("placed")) return;
        this.fitted = true;
        this.look(about);
      },
    };
    this.survey.value = this.model.get("survey");
    this.layers.show(layers);
    this.layers.choose(this.model.get("survey"));
    const boxes = [];
    for (const layer of layers) {
      let entry = this.entries.get(layer.id);
      if (!entry || entry.layer.hash !== layer.hash || entry.layer.name !== layer.name) {
        entry = new Entry(layer, actions, this.end.signal);
        this.entries.set(layer.id, entry);
      } else entry.update(layer);
      boxes.unshift(entry.box);
    }
    for (const id of this.entries.keys()) if (!layers.some((layer) => layer.id === id)) this.entries.delete(id);
    if (boxes.length !== this.list.children.length || boxes.some((box, index) => this.list.children[index] !== box)) {
      this.list.replaceChildren(...boxes);
    }
  }

  move(id, step) {
    const layers = [...this.model.get("layers")];
    const from = layers.findIndex((layer) => layer.id === id);
    const to = from + step;
    if (from < 0 || to < 0 || to >= layers.length) return;
    [layers[from], layers[to]] = [layers[to], layers[from]];
    this.save({ layers });
  }

  async probe(ra, dec) {
    this.save({ clicked: [ra, dec] });
    const lines = this.readout;
    lines.replaceChildren(element("div", "cupola-sky-place", `${sexagesimal(ra, dec)}   (${ra.toFixed(6)}, ${dec.toFixed(6)})`));
    const mine = (this.asking = {});
    for (const layer of [...this.model.get("layers")].reverse()) {
      if (!layer.visible) continue;
      let text;
      try {
        const told = await ask(`${this.base}cupola/probe/${layer.hash}?lon=${ra}&lat=${dec}&v=${layer.v}`, this.end.signal);
        text = told.values ? told.values.map((value) => number(value, 6)).join(", ") : told.detail || "no value";
      } catch {
        text = "the session's server does not answer";
      }
      if (mine !== this.asking) return;
      lines.append(element("div", "", `${layer.name}: ${text}${layer.unit ? ` ${layer.unit}` : ""}`));
    }
  }

  async pick(source) {
    const { row, catalogue } = source.data;
    this.save({ picked: { catalogue, row } });
    const values = await this.overlays.row(source);
    this.readout.append(table(values));
  }

  select(groups) {
    const selected = {};
    for (const source of (groups || []).flat()) {
      if (source?.data?.catalogue) (selected[source.data.catalogue] ??= []).push(source.data.row);
    }
    const count = Object.values(selected).reduce((sum, rows) => sum + rows.length, 0);
    this.readout.replaceChildren(element("div", "", `${count} ${count === 1 ? "source" : "sources"} selected`));
    this.save({ selection_rows: selected });
  }

  stop() {
    clearInterval(this.timer);
    clearTimeout(this.moving);
    this.end.abort();
    for (const [names, react] of Object.entries(this.watched || {})) this.model.off(names, react);
    // A page may hold some sixteen drawing contexts: give this one back.
    for (const canvas of this.frame.querySelectorAll("canvas")) {
      canvas.getContext("webgl2")?.getExtension("WEBGL_lose_context")?.loseContext();
    }
  }
}

async function render({ model, el }) {
  const sky = new Sky({ model, el }, new AbortController());
  // Not waited for: where there is no room on the page yet, the notebook must go on.
  sky.start();
  return () => sky.stop();
}

export default { render };
