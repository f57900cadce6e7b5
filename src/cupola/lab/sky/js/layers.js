// One layer in the panel: its switches, its legend, and what went wrong with it.
class Entry {
  constructor(layer, actions, signal) {
    this.layer = layer;
    this.actions = actions;
    this.signal = signal;
    this.limits = null;
    this.bands = 1;
    this.box = element("div", "cupola-sky-layer");
    const head = this.box.appendChild(element("div", "cupola-sky-head"));
    this.shown = head.appendChild(labelled("input", `show ${layer.name}`, { type: "checkbox", checked: layer.visible }));
    head.append(element("span", "cupola-sky-name", layer.name));
    for (const [sign, label, step] of [["↑", "raise", 1], ["↓", "lower", -1]]) {
      const button = head.appendChild(labelled("button", `${label} ${layer.name}`, { type: "button", textContent: sign }));
      button.addEventListener("click", () => actions.move(layer.id, step));
    }
    const goto = head.appendChild(labelled("button", `look at ${layer.name}`, { type: "button", textContent: "◎" }));
    goto.addEventListener("click", () => this.stretched && actions.look(this.stretched));
    const tools = this.box.appendChild(element("div", "cupola-sky-tools"));
    this.opacity = tools.appendChild(
      labelled("input", `opacity of ${layer.name}`, { type: "range", min: 0, max: 1, step: 0.05, value: layer.opacity }),
    );
    this.cmap = tools.appendChild(this.choice(`colours of ${layer.name}`, Object.keys(actions.cmaps), layer.cmap));
    this.scale = tools.appendChild(this.choice(`scale of ${layer.name}`, ["linear", "sqrt", "log", "asinh"], layer.scale));
    this.shown.addEventListener("change", () => actions.change(layer.id, { visible: this.shown.checked }));
    this.opacity.addEventListener("input", () => actions.change(layer.id, { opacity: Number(this.opacity.value) }));
    this.cmap.addEventListener("change", () => actions.change(layer.id, { cmap: this.cmap.value }));
    this.scale.addEventListener("change", () => actions.change(layer.id, { scale: this.scale.value }));
    this.bar = this.box.appendChild(element("div", "cupola-sky-bar"));
    this.ends = this.box.appendChild(element("div", "cupola-sky-ends"));
    const row = this.box.appendChild(element("label", "cupola-sky-exact"));
    this.exact = row.appendChild(labelled("input", `exact preview of ${layer.name}`, { type: "checkbox", checked: layer.exact }));
    row.append(element("span", "", "Exact preview"));
    this.exact.addEventListener("change", () => actions.change(layer.id, { exact: this.exact.checked }));
    this.note = this.box.appendChild(element("div", "cupola-sky-note"));
    this.problem = this.box.appendChild(element("div", "cupola-sky-problem"));
    this.problem.setAttribute("role", "status");
    this.problem.hidden = true;
    this.draw();
    this.stretch();
  }

  choice(label, names, chosen) {
    const made = labelled("select", label);
    for (const name of names.includes(chosen) ? names : [...names, chosen]) {
      made.append(Object.assign(element("option", "", name), { value: name, selected: name === chosen }));
    }
    return made;
  }

  async stretch() {
    const mine = look(this.layer, "");
    if (this.asked === mine) return;
    this.asked = mine;
    try {
      const told = await ask(`${this.actions.base}cupola/hips/${this.layer.hash}/${mine}/stretch`, this.signal);
      if (told.limits) {
        this.stretched = told;
        this.limits = told.empty ? null : told.limits;
        this.bands = told.bands;
        this.draw();
        this.actions.known(told);
      } else {
        this.tell(told);
      }
    } catch {
      // The server is gone or restarting: the next look tells.
      this.asked = null;
    }
  }

  draw() {
    const { layer } = this;
    const end = (own, index) => (own.length ? own[0] : this.limits ? this.limits[0][index] : null);
    const low = end(layer.vmin, 0);
    const high = end(layer.vmax, 1);
    const colours = this.actions.cmaps[layer.cmap] || layer.colours;
    this.bar.hidden = this.bands > 2;
    this.cmap.hidden = this.bands > 2;
    this.bar.style.background = `linear-gradient(to right, ${colours.join(", ")})`;
    if (low === null || high === null) {
      this.ends.replaceChildren(element("span", "", "…"));
      return;
    }
    const digits = places(low, high);
    const unit = layer.unit ? ` ${layer.unit}` : "";
    this.ends.replaceChildren(element("span", "", number(low, digits)), element("span", "", number(high, digits) + unit));
  }

  update(layer) {
    this.layer = layer;
    this.shown.checked = layer.visible;
    this.exact.checked = layer.exact;
    if (document.activeElement !== this.opacity) this.opacity.value = layer.opacity;
    this.draw();
    this.stretch();
  }

  // Look what the server told of the tiles that are shown now.
  async tellScale() {
    const { layer, stretched } = this;
    const mine = (this.looking = {});
    const shown = stretched && layer.visible ? this.actions.shown(layer, stretched.order) : [];
    const told = await this.actions.told.together(shown, this.problem.hidden);
    if (mine !== this.looking) return;
    const { exact, halo, pinned } = layer;
    const resolution = stretched ? stretched.degrees * 3600 : null;
    this.note.textContent = scaleWord(told, { asked: exact, halo, pinned, resolution, length: arc });
  }

  async watch() {
    this.tellScale();
    try {
      this.tell((await ask(`${this.actions.base}cupola/tiles/${this.layer.hash}/problem`, this.signal)).problem);
    } catch {
      // As above.
    }
  }

  tell(problem) {
    const text = problem ? `${problem.message || problem.detail || ""} ${problem.line || ""}`.trim() : "";
    this.problem.hidden = !text;
    if (this.problem.textContent !== text) this.problem.textContent = text;
  }
}

// The layers of Aladin, kept as the model wants them, one change after the other.
class Layers {
  constructor(A, view, base, told) {
    Object.assign(this, { A, view, base, told, survey: "", address: null, here: [], waiting: new Map(), tries: new Map(), count: 0 });
    view.on("stackChanged", ({ change, layer }) => change === "added" && this.settle(layer?.layer));
  }

  settle(key) {
    this.waiting.get(key)?.();
    this.waiting.delete(key);
  }

  // A busy machine may have been too slow: a layer that did not come is asked for again, a few times.
  failed(key, address) {
    this.settle(key);
    const tries = (this.tries.get(address) || 0) + 1;
    this.tries.set(address, tries);
    if (tries > TRIES) return;
    setTimeout(() => {
      const entry = this.here.find((one) => one.key === key);
      if (!entry) return;
      entry.address = "";
      this.show(this.layers);
    }, AGAIN_MS);
  }

  show(layers) {
    this.layers = layers;
    this.again = true;
    this.turn ??= this.work().finally(() => { this.turn = null; });
  }

  async work() {
    while (this.again) {
      this.again = false;
      const below = this.address ? [{ id: "survey", name: this.survey, address: this.address, opacity: 1 }] : [];
      const own = this.layers.map((layer) => ({
        ...layer, address: hips(this.base, layer), opacity: layer.visible ? layer.opacity : 0,
      }));
      // What was seen once stays, clear: it comes back at once, and Aladin need not load it anew.
      const drawn = (layer) => this.here.some((known) => known.id === layer.id && known.address === layer.address);
      await this.lay([...below, ...own.filter((layer) => layer.visible || drawn(layer))]);
    }
  }

  // Layers lie on one another in the order in which they were added: from the first that changed, all are laid anew.
  async lay(wanted) {
    const { here } = this;
    let same = 0;
    const alike = (one, other) => one && other && one.id === other.id && one.address === other.address;
    while (same < wanted.length && alike(here[same], wanted[same])) same += 1;
    for (const old of here.splice(same)) {
      // What is not there yet cannot be taken away, and would come afterwards.
      await old.settled;
      this.view.removeImageLayer(old.key);
    }
    for (const [index, next] of wanted.entries()) {
      if (index >= same) here.push(this.add(next));
      else if (here[index].opacity !== next.opacity) {
        here[index].opacity = next.opacity;
        here[index].settled.then(() => here[index]?.hips.setOpacity(here[index].opacity));
      }
    }
  }

  add({ id, name, address, opacity }) {
    this.count += 1;
    const key = `${id}#${this.count}`;
    const settled = new Promise((resolve) => this.waiting.set(key, resolve));
    const made = this.A.imageHiPS(address, {
      name, opacity, requestCredentials: "same-origin", errorCallback: () => this.failed(key, address),
      ...(id === "survey" ? {} : { imgFormat: "png" }),
    });
    this.view.setOverlayImageLayer(made, key);
    return { id, address, opacity, key, settled, hips: made };
  }

  // Aladin lets all layers wait for the slowest: a survey is added only once it is known to answer.
  async choose(id) {
    if (id === this.survey) return;
    this.survey = id;
    this.told("");
    let address = null;
    if (id) {
      try {
        address = await place(id);
      } catch {
        if (this.survey === id) this.told(`The survey ${SURVEYS[id] || id} cannot be reached from here; the layers of this session work without it.`);
      }
    }
    if (this.survey !== id) return;
    this.address = address;
    this.show(this.layers || []);
  }
}

// Where a public survey is: the CDS tells by its identifier.
async function place(id) {
  const signal = AbortSignal.timeout(REACH_MS);
  if (/^https?:/.test(id)) {
    await fetch(`${id.replace(/\/$/, "")}/properties`, { mode: "no-cors", signal });
    return id;
  }
  const answer = await fetch(`${DIRECTORY}?${new URLSearchParams({ ID: id, get: "record", fmt: "json" })}`, { signal });
  const [found] = await answer.json();
  return found.hips_service_url.replace(/^http:/, "https:");
}

// Catalogues and footprints over the layers.
class Overlays {
  constructor(A, view) {
    Object.assign(this, { A, view, known: new Map() });
  }

  show(catalogues, footprints) {
    const wanted = new Map([...catalogues, ...footprints].map((entry) => [entry.id, entry]));
    for (const [id, { key, drawn }] of this.known) {
      if (wanted.get(id)?.key === key) continue;
      this.view.removeOverlay(drawn);
      this.known.delete(id);
    }
    for (const entry of wanted.values()) {
      if (!this.known.has(entry.id)) this.known.set(entry.id, entry.polygons ? this.outline(entry) : this.catalogue(entry));
    }
  }

  catalogue(entry) {
    const drawn = this.A.catalog({ name: entry.name, color: entry.colour, shape: entry.shape, sourceSize: entry.size });
    this.view.addCatalog(drawn);
    const ra = numbers(entry.ra);
    const dec = numbers(entry.dec);
    const sources = Array.from(ra, (value, row) => this.A.source(value, dec[row], { row, catalogue: entry.id }));
    drawn.addSources(sources);
    return { key: entry.key, drawn, rows: () => (entry.unpacked ??= unpack(entry.rows)) };
  }

  outline(entry) {
    const drawn = this.A.graphicOverlay({ name: entry.name, color: entry.colour, lineWidth: 2 });
    this.view.addOverlay(drawn);
    drawn.addFootprints(entry.polygons.map((corners) => this.A.polygon(corners)));
    return { key: entry.key, drawn };
  }

  async row(source) {
    const { row, catalogue } = source.data;
    const columns = await this.known.get(catalogue).rows();
    return Object.fromEntries(Object.entries(columns).map(([name, values]) => [name, values[row]]));
  }
}
