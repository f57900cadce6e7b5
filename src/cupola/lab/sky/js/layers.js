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
    if (document.activeElement !== this.opacity) this.opacity.value = layer.opacity;
    this.draw();
    this.stretch();
  }

  async watch() {
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

// The layers of Aladin, kept as the model wants them.
class Layers {
  constructor(A, view, base, told) {
    Object.assign(this, { A, view, base, told, survey: "", here: [] });
  }

  // Layers lie on one another in the order in which they were added: from the first that changed, all are laid anew.
  show(layers) {
    const wanted = layers.filter((layer) => layer.visible).map((layer) => ({ id: layer.id, address: hips(this.base, layer), layer }));
    let same = 0;
    while (same < this.here.length && same < wanted.length && this.here[same].address === wanted[same].address
      && this.here[same].id === wanted[same].id) same += 1;
    for (const old of this.here.splice(same)) this.view.removeImageLayer(old.id);
    for (const [index, next] of wanted.entries()) {
      if (index < same) {
        const known = this.here[index];
        if (known.opacity !== next.layer.opacity) known.hips.setOpacity(next.layer.opacity);
        known.opacity = next.layer.opacity;
        continue;
      }
      const { opacity, name } = next.layer;
      const made = this.A.imageHiPS(next.address, { name, imgFormat: "png", opacity, requestCredentials: "same-origin" });
      this.here.push({ ...next, opacity, hips: made });
      this.view.setOverlayImageLayer(made, next.id);
    }
  }

  async base_survey(id) {
    if (id === this.survey) return;
    this.survey = id;
    const others = this.here.splice(0);
    for (const old of others) this.view.removeImageLayer(old.id);
    this.view.removeImageLayer("cupola-survey");
    this.told("");
    if (!id) return;
    const gone = () => this.survey === id && this.told(`The survey ${SURVEYS[id] || id} cannot be reached from here; the layers of this session work without it.`);
    const timer = setTimeout(gone, REACH_MS);
    const made = this.A.imageHiPS(id, {
      errorCallback: gone,
      successCallback: () => { clearTimeout(timer); this.told(""); },
    });
    made.query?.catch(() => { clearTimeout(timer); gone(); });
    this.view.setOverlayImageLayer(made, "cupola-survey");
  }
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
