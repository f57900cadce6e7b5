// The corner with what a person can change: layers, base map, tools, search.
class Panel {
  constructor(ctx) {
    this.ctx = ctx;
    const Control = window.L.Control.extend({ onAdd: () => this.build(), onRemove: () => {} });
    this.control = new Control({ position: "topright" });
    this.control.addTo(ctx.leaflet);
  }

  build() {
    this.root = element("div", "cupola-panel leaflet-control");
    own(this.root);
    this.toggle = button("Layers and tools", "", () => this.open(this.body.hidden));
    this.body = element("div", "cupola-panel-body");
    this.body.id = `cupola-panel-${this.ctx.id}`;
    this.toggle.setAttribute("aria-controls", this.body.id);
    this.search = new Search(this.ctx);
    this.layers = element("div");
    this.tools = element("div");
    this.body.append(this.search.form, this.layers, this.tools);
    this.root.append(this.toggle, this.body);
    this.open(false);
    this.draw();
    return this.root;
  }

  open(wanted) {
    this.body.hidden = !wanted;
    this.toggle.setAttribute("aria-expanded", String(wanted));
    this.body.style.maxHeight = `${Math.max(120, this.ctx.leaflet.getSize().y - 70)}px`;
  }

  draw() {
    keepingFocus(this.root, () => {
      this.drawLayers();
      this.drawTools();
    });
  }

  drawLayers() {
    const { model, entries } = this.ctx;
    const order = model.get("order");
    const shown = [...entries].sort((one, other) => order.indexOf(other.legend.model) - order.indexOf(one.legend.model));
    const made = shown.map((entry, index) => this.layer(entry, index, shown.length));
    const vectors = [...(this.ctx.backdrop?.vectors.values() || [])].reverse().map(({ vector }) => this.vector(vector));
    this.layers.replaceChildren(...vectors, ...made, ...this.others());
    if (shown.length > 1) this.layers.append(this.swipe(shown));
  }

  check(text, checked, key, action) {
    const input = element("input");
    input.type = "checkbox";
    input.checked = checked;
    input.dataset.key = key;
    input.addEventListener("change", () => action(input.checked));
    const label = element("label", "cupola-check");
    label.append(input, element("span", "", text));
    return label;
  }

  slider(text, opacity, key, action) {
    const input = element("input", "cupola-slider");
    Object.assign(input, { type: "range", min: 0, max: 100, value: Math.round(opacity * 100) });
    input.dataset.key = key;
    input.setAttribute("aria-label", text);
    input.addEventListener("input", () => action(Number(input.value) / 100));
    return input;
  }

  layer(entry, index, number_) {
    const { layer, legend } = entry;
    const { stack, model } = this.ctx;
    const save = (name, wanted) => {
      layer.set(name, wanted);
      layer.save_changes();
      stack.wholes.get(legend.model)?.draw();
    };
    const box = element("div", "cupola-control");
    const head = box.appendChild(element("div", "cupola-row"));
    head.append(this.check(legend.name, layer.get("visible"), `${legend.model}-visible`, (wanted) => save("visible", wanted)));
    if (number_ > 1) {
      const up = button("↑", `Move ${legend.name} up`, () => stack.shift(entry, 1));
      const down = button("↓", `Move ${legend.name} down`, () => stack.shift(entry, -1));
      up.disabled = index === 0;
      down.disabled = index === number_ - 1;
      up.dataset.key = `${legend.model}-up`;
      down.dataset.key = `${legend.model}-down`;
      head.append(up, down);
    }
    const row = box.appendChild(element("div", "cupola-row"));
    row.append(this.slider(`Opacity of ${legend.name}`, layer.get("opacity"), `${legend.model}-opacity`, (wanted) => save("opacity", wanted)));
    const spreads = ["linear", "sqrt", "log", "asinh"].map((name) => [name, name]);
    const spread = choice(spreads, entry.parts()?.query.get("scale") || "linear", `How the values of ${legend.name} are spread`, (wanted) => {
      entry.restyle({ scale: wanted === "linear" ? null : wanted });
    });
    spread.dataset.key = `${legend.model}-spread`;
    row.append(spread);
    const names = Object.keys(model.get("cmaps"));
    const own = entry.cmap.toLowerCase();
    const known = names.find((name) => name.toLowerCase() === own);
    const options = (known ? names : [entry.cmap, ...names]).map((name) => [name, name]);
    const colours = choice(options, known || entry.cmap, `Colours of ${legend.name}`, (wanted) => {
      entry.restyle({ cmap: wanted });
    });
    colours.dataset.key = `${legend.model}-cmap`;
    const stretch = button("Stretch to view", `Spread the colours of ${legend.name} between the 2nd and 98th percentile of what is in view`, () => entry.stretchToView());
    stretch.dataset.key = `${legend.model}-stretch`;
    const second = box.appendChild(element("div", "cupola-row"));
    second.append(colours, stretch);
    box.append(this.check("Exact preview", entry.exact, `${legend.model}-exact`, (wanted) => {
      entry.restyle({ exact: wanted ? "1" : null });
    }));
    return box;
  }

  vector(vector) {
    const box = element("div", "cupola-control");
    box.append(this.check(vector.get("name"), vector.get("visible"), `${vector.model_id}-visible`, (wanted) => {
      vector.set("visible", wanted);
      vector.save_changes();
    }));
    const swatch = box.firstChild.insertBefore(element("span", "cupola-swatch"), box.firstChild.lastChild);
    swatch.style.background = vector.get("style").color || "#3388ff";
    if (vector.get("word")) box.append(element("div", "cupola-note", vector.get("word")));
    return box;
  }

  // Layers of ipyleaflet that a person added by themselves.
  others() {
    const own = new Set(this.ctx.entries.map((entry) => entry.layer));
    const layers = (this.ctx.map.get("layers") || []).filter((layer) => !own.has(layer) && layer.has?.("visible"));
    return layers.map((layer) => {
      const box = element("div", "cupola-control");
      box.append(this.check(layer.get("name") || "Layer", layer.get("visible"), `${layer.model_id}-visible`, (wanted) => {
        layer.set("visible", wanted);
        layer.save_changes();
      }));
      return box;
    });
  }

  swipe(shown) {
    const { model } = this.ctx;
    const box = element("div", "cupola-row");
    const options = [["", "off"], ...shown.map((entry) => [entry.legend.model, entry.legend.name])];
    ["left", "right"].forEach((side, index) => {
      const select = choice(options, model.get("swipe")[index] || "", `Swipe: ${side} of the line`, (wanted) => {
        const pair = [...model.get("swipe"), "", ""].slice(0, 2);
        pair[index] = wanted;
        model.set("swipe", pair);
        model.save_changes();
      });
      select.dataset.key = `swipe-${side}`;
      box.append(labelled(index ? "right" : "Swipe: left", select));
    });
    return box;
  }

  drawTools() {
    if (!this.tools) return;
    const { model, inspector, plane, leaflet } = this.ctx;
    const made = [];
    const bases = model.get("bases");
    if (bases.length > 1) {
      const select = choice(bases.map((base) => [base.key, base.title]), model.get("base"), "Base map", (wanted) => {
        model.set("base", wanted);
        model.save_changes();
      });
      select.dataset.key = "base";
      made.push(labelled("Base map", select));
    }
    const tick = (text, name) => this.check(text, model.get(name), name, (wanted) => {
      model.set(name, wanted);
      model.save_changes();
    });
    if (!plane.isImage) made.push(tick("Graticule", "graticule"));
    made.push(tick("Values under a click", "probing"));
    const row = element("div", "cupola-row cupola-wrap");
    for (const [mode, text] of [["rectangle", "Rectangle"], ["polygon", "Polygon"], ["circle", "Circle"]]) {
      const tool = button(text, `Draw a ${mode} and look at its statistics`, () => inspector.choose(inspector.mode === mode ? null : mode));
      tool.setAttribute("aria-pressed", String(inspector?.mode === mode));
      tool.dataset.key = mode;
      row.append(tool);
    }
    const view = button("View", "Statistics of all that is in view", () => inspector.takeView());
    view.dataset.key = "view";
    const middle = button("Centre", "Values in the middle of the map", () => inspector.probe(leaflet.getCenter()));
    middle.dataset.key = "middle";
    row.append(view, middle);
    made.push(element("div", "cupola-note", "Statistics of an area; values in the middle"), row);
    this.tools.replaceChildren(...made);
  }

  end() {
    this.control.remove();
  }
}
