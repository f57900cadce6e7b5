// Looking closer: the values of all layers under a click, and the statistics of an area that is drawn.
const EDGE_STEPS = 16;

class Inspector {
  constructor(ctx) {
    this.ctx = ctx;
    this.latest = new Latest(ctx.signal);
    this.latestArea = new Latest(ctx.signal);
    this.mode = null;
    this.points = [];
    this.shape = null;
    this.handlers = {
      click: (event) => this.click(event),
      dblclick: () => this.finish(),
      mousedown: (event) => this.press(event),
      mousemove: (event) => this.drag(event),
      mouseup: (event) => this.release(event),
    };
    ctx.leaflet.on(this.handlers);
    this.keys = (event) => {
      if (event.key === "Escape") this.choose(null);
      if (event.key === "Enter" && this.mode === "polygon" && this.points.length) this.finish();
    };
    ctx.leaflet.getContainer().addEventListener("keydown", this.keys);
    this.card = element("section", "cupola-card");
    this.card.hidden = true;
    this.card.setAttribute("aria-label", "Statistics of the area");
    own(this.card);
    ctx.leaflet.getContainer().append(this.card);
    this.drawGiven();
  }

  visible() {
    return this.ctx.entries.filter((entry) => entry.layer.get("visible"));
  }

  // Values under a point

  click(event) {
    if (this.mode === "polygon") {
      this.points.push(event.latlng);
      this.preview([...this.points]);
      return;
    }
    if (!this.mode && this.ctx.model.get("probing") && !this.justDrawn) this.probe(event.latlng);
    this.justDrawn = false;
  }

  async probe(latlng) {
    const { model, leaflet, plane } = this.ctx;
    const entries = this.visible();
    if (!entries.length) return;
    const [longitude, latitude] = plane.lonlat(latlng);
    const signal = this.latest.next();
    const box = element("div", "cupola-popup");
    box.append(element("div", "cupola-name", plane.words(latlng, 5)));
    const rows = entries.map((entry) => {
      const row = box.appendChild(element("div", "cupola-probe"));
      row.append(element("span", "", entry.legend.name), element("span", "cupola-value", "…"));
      return row;
    });
    const popup = window.L.popup({ minWidth: 230, maxWidth: 320, maxHeight: 320, autoPanPaddingTopLeft: [54, 10] }).setLatLng(latlng).setContent(box).openOn(leaflet);
    const answers = await Promise.all(entries.map(async (entry, index) => {
      const parts = entry.parts();
      const query = `lon=${longitude}&lat=${latitude}&v=${parts.revision}`;
      let told = null;
      try {
        told = await ask(`${parts.base}/probe/${parts.hash}?${query}`, signal);
      } catch (error) {
        if (error.name === "AbortError") return null;
      }
      this.fill(rows[index], entry, told);
      popup.update();
      return told && told.items ? { layer: entry.legend.name, ...told } : { layer: entry.legend.name, problem: sentence(told) };
    }));
    if (signal.aborted) return;
    const where = plane.isImage ? { column: Math.floor(longitude), row: Math.floor(latitude) } : { longitude, latitude };
    model.set("probed", { ...where, layers: answers });
    model.save_changes();
  }

  fill(row, entry, told) {
    const shown = row.querySelector(".cupola-value");
    if (!told || !told.items) {
      shown.textContent = sentence(told);
      return;
    }
    const unit = entry.legend.unit ? ` ${entry.legend.unit}` : "";
    shown.textContent = told.values ? told.values.map(value).join(", ") + (told.values.some(Number.isFinite) ? unit : "") : "no data here";
    const plot = series(told.items.map((item) => [item.datetime, item.values?.[0] ?? null]), `${entry.legend.name} over time`);
    if (plot) row.append(plot);
  }

  // Areas

  choose(mode) {
    const { leaflet } = this.ctx;
    this.mode = mode;
    this.points = [];
    this.shape?.remove();
    this.shape = null;
    const container = leaflet.getContainer();
    container.classList.toggle("cupola-drawing", Boolean(mode));
    leaflet.dragging[mode ? "disable" : "enable"]();
    leaflet.doubleClickZoom[mode ? "disable" : "enable"]();
    const words = {
      rectangle: "Draw a rectangle: press, drag, let go. Escape gives up.",
      circle: "Draw a circle from its middle: press, drag, let go. Escape gives up.",
      polygon: "Click the corners of a polygon; a double click or Enter closes it. Escape gives up.",
    };
    this.ctx.say("draw", words[mode] || "");
    if (mode) container.focus({ preventScroll: true });
    this.ctx.panel?.drawTools();
  }

  press(event) {
    if (this.mode !== "rectangle" && this.mode !== "circle") return;
    this.start = event.latlng;
  }

  drag(event) {
    this.ctx.showPlace(event.latlng);
    if (this.mode === "polygon" && this.points.length) this.preview([...this.points, event.latlng]);
    if (!this.start) return;
    this.preview(this.ringOf(event.latlng));
  }

  release(event) {
    if (!this.start) return;
    const ring = this.ringOf(event.latlng);
    const far = this.ctx.leaflet.latLngToContainerPoint(this.start).distanceTo(this.ctx.leaflet.latLngToContainerPoint(event.latlng));
    this.start = null;
    if (far < 4) return;
    this.justDrawn = true;
    setTimeout(() => { this.justDrawn = false; }, 0);
    this.take(ring);
  }

  finish() {
    if (this.mode !== "polygon") return;
    // A double click has given its corner twice.
    const { leaflet } = this.ctx;
    const corners = this.points.filter((point, index) => !index
      || leaflet.latLngToContainerPoint(point).distanceTo(leaflet.latLngToContainerPoint(this.points[index - 1])) > 3);
    if (corners.length < 3) {
      this.ctx.say("draw", "A polygon has three corners or more; click the next one.");
      return;
    }
    this.take(this.dense(corners));
  }

  // Points along the straight lines of the screen, which are curves of longitude and latitude on most grids.
  dense(corners) {
    const { leaflet } = this.ctx;
    const points = corners.map((corner) => leaflet.latLngToContainerPoint(corner));
    return points.flatMap((point, index) => {
      const next = points[(index + 1) % points.length];
      return Array.from({ length: EDGE_STEPS }, (_, step) => {
        const share = step / EDGE_STEPS;
        return leaflet.containerPointToLatLng([point.x + share * (next.x - point.x), point.y + share * (next.y - point.y)]);
      });
    });
  }

  rectangle(first, last) {
    const { leaflet } = this.ctx;
    const [one, other] = [leaflet.latLngToContainerPoint(first), leaflet.latLngToContainerPoint(last)];
    const corner = (x, y) => leaflet.containerPointToLatLng([x, y]);
    return this.dense([corner(one.x, one.y), corner(other.x, one.y), corner(other.x, other.y), corner(one.x, other.y)]);
  }

  ringOf(latlng) {
    const { leaflet, plane } = this.ctx;
    if (this.mode === "rectangle") return this.rectangle(this.start, latlng);
    if (!plane.isImage) return plane.circle(this.start, latlng).ring.map(([lon, lat]) => window.L.latLng(lat, lon));
    const middle = leaflet.latLngToContainerPoint(this.start);
    const radius = middle.distanceTo(leaflet.latLngToContainerPoint(latlng));
    return Array.from({ length: 96 }, (_, step) => {
      const angle = (2 * Math.PI * step) / 96;
      return leaflet.containerPointToLatLng([middle.x + radius * Math.cos(angle), middle.y + radius * Math.sin(angle)]);
    });
  }

  preview(ring) {
    const { leaflet } = this.ctx;
    this.shape?.remove();
    const name = pane(leaflet, "cupola-area", 630);
    leaflet.getPane(name).style.pointerEvents = "none";
    this.shape = window.L.polygon(ring, {
      pane: name, renderer: window.L.svg({ pane: name }), color: "#b3261e", weight: 2, fillOpacity: 0.12, interactive: false,
    }).addTo(leaflet);
  }

  takeView() {
    const { leaflet } = this.ctx;
    const size = leaflet.getSize();
    const corner = (x, y) => leaflet.containerPointToLatLng([x * size.x, y * size.y]);
    this.take(this.dense([corner(0.02, 0.02), corner(0.98, 0.02), corner(0.98, 0.98), corner(0.02, 0.98)]));
  }

  take(ring) {
    const { plane, model } = this.ctx;
    this.choose(null);
    const places = ring.map((point) => plane.lonlat(point)).filter(([x, y]) => Number.isFinite(x) && Number.isFinite(y));
    this.preview(ring);
    const geometry = geometryOf(places, plane.isImage);
    this.own = JSON.stringify(geometry);
    model.set("drawn", geometry);
    model.save_changes();
    this.measure(geometry);
  }

  // An area that the kernel gave is shown like one that was drawn.
  drawGiven() {
    const geometry = this.ctx.model.get("drawn");
    if (!geometry.type || JSON.stringify(geometry) === this.own) return;
    this.own = JSON.stringify(geometry);
    this.shape?.remove();
    const { leaflet, plane } = this.ctx;
    const name = pane(leaflet, "cupola-area", 630);
    leaflet.getPane(name).style.pointerEvents = "none";
    const flip = plane.isImage ? { coordsToLatLng: ([x, y]) => window.L.latLng(-y, x) } : {};
    this.shape = window.L.geoJSON(geometry, {
      ...flip, style: { color: "#b3261e", weight: 2, fillOpacity: 0.12 }, pane: name, interactive: false,
      renderer: window.L.svg({ pane: name }),
    }).addTo(leaflet);
  }

  async measure(geometry) {
    const entries = this.visible();
    if (!entries.length) {
      this.ctx.say("draw", "There is no visible layer to look at in this area.");
      return;
    }
    const signal = this.latestArea.next();
    this.card.hidden = false;
    const close = button("×", "Close the statistics", () => this.clear());
    const head = element("div", "cupola-card-head");
    head.append(element("strong", "", "Area"), close);
    this.card.replaceChildren(head);
    const answers = await Promise.all(entries.map(async (entry) => {
      const box = this.card.appendChild(element("div", "cupola-layer"));
      box.append(element("div", "cupola-name", entry.legend.name));
      const body = box.appendChild(element("div", "", "Computing …"));
      const parts = entry.parts();
      let told = null;
      try {
        told = await ask(`${parts.base}/area/${parts.hash}?v=${parts.revision}`, signal, geometry);
      } catch (error) {
        if (error.name === "AbortError") return null;
      }
      body.replaceChildren(...this.statistics(entry, told));
      return told && told.bands ? { layer: entry.legend.name, ...told } : { layer: entry.legend.name, problem: sentence(told) };
    }));
    if (signal.aborted) return;
    this.ctx.model.set("measured", { geometry, layers: answers });
    this.ctx.model.save_changes();
  }

  statistics(entry, told) {
    if (!told || !told.bands) return [element("div", "cupola-problem", sentence(told))];
    const unit = entry.legend.unit ? ` ${entry.legend.unit}` : "";
    const made = [];
    told.bands.forEach((band, index) => {
      if (told.bands.length > 1) made.push(element("div", "cupola-note", `Band ${index + 1}`));
      if (!band.count) {
        made.push(element("div", "", "no data in this area"));
        return;
      }
      const table = element("table", "cupola-table");
      for (const [name, text] of [
        ["mean", value(band.mean) + unit], ["median", value(band.median) + unit], ["min", value(band.min) + unit],
        ["max", value(band.max) + unit], ["std", value(band.std) + unit], ["pixels", band.count.toLocaleString("en")],
      ]) {
        const row = table.appendChild(element("tr"));
        row.append(element("th", "", name), element("td", "", text));
      }
      made.push(table);
      if (band.histogram?.counts?.length) made.push(histogram(band.histogram.edges, band.histogram.counts, `Histogram of ${entry.legend.name}`));
    });
    const over = series((told.items || []).map((item) => [item.datetime, item.bands?.[0]?.mean ?? null]), `Mean of ${entry.legend.name} over time`);
    if (over) made.push(element("div", "cupola-note", "mean over time"), over);
    if (told.scale) made.push(element("div", "cupola-note", this.ctx.plane.isImage ? `every ${value(told.scale)} pixels` : `computed at ${metres(told.scale)}/px`));
    return made;
  }

  clear() {
    this.latestArea.next();
    this.card.hidden = true;
    this.shape?.remove();
    this.shape = null;
    this.own = "{}";
    this.ctx.model.set("drawn", {});
    this.ctx.model.save_changes();
    this.ctx.leaflet.getContainer().focus({ preventScroll: true });
  }

  end() {
    this.latest.next();
    this.latestArea.next();
    this.ctx.leaflet.off(this.handlers);
    this.ctx.leaflet.getContainer().removeEventListener("keydown", this.keys);
    this.ctx.leaflet.getContainer().classList.remove("cupola-drawing");
    this.card.remove();
    this.shape?.remove();
  }
}
