// How layers lie over one another: order, swipe, and one image for a whole viewport where tiles cost more.
const LOWEST_LAYER = 10;

// An image that was computed for a box of the grid; it stays where it belongs while the map moves.
function planeImage(plane, pane) {
  const PlaneImage = window.L.Layer.extend({
    onAdd() {
      this.image = element("img", "cupola-view leaflet-image-layer leaflet-zoom-animated");
      this.image.alt = "";
      this.image.hidden = true;
      this.getPane(pane).append(this.image);
    },
    onRemove() {
      this.image.remove();
    },
    getContainer() {
      return this.image;
    },
    getEvents() {
      return { zoom: this.lay, viewreset: this.lay, zoomanim: this.animate };
    },
    show(address, box) {
      this.box = box;
      this.image.src = address;
      this.image.hidden = false;
      this.lay();
    },
    lay() {
      if (!this.box) return;
      const [first, last] = this.corners();
      window.L.DomUtil.setPosition(this.image, first);
      this.image.style.width = `${last.x - first.x}px`;
      this.image.style.height = `${last.y - first.y}px`;
    },
    animate({ center, zoom }) {
      if (!this.box) return;
      const [first, last] = this.corners(zoom, center);
      const width = parseFloat(this.image.style.width) || 1;
      window.L.DomUtil.setTransform(this.image, first, (last.x - first.x) / width);
    },
    corners(zoom, center) {
      const [left, bottom, right, top] = this.box;
      const one = plane.point(left, top, zoom, center);
      const other = plane.point(right, bottom, zoom, center);
      return [
        window.L.point(Math.min(one.x, other.x), Math.min(one.y, other.y)),
        window.L.point(Math.max(one.x, other.x), Math.max(one.y, other.y)),
      ];
    },
  });
  return new PlaneImage();
}

// One layer that is drawn as one image per viewport, asked for when the map has come to rest.
class Whole {
  constructor(entry, ctx, shown) {
    this.entry = entry;
    this.ctx = ctx;
    this.shown = shown;
    this.latest = new Latest(ctx.signal);
    this.image = planeImage(ctx.plane, "tilePane").addTo(ctx.leaflet);
    this.move = () => this.draw();
    ctx.leaflet.on("moveend", this.move);
    entry.layer.on("change:url", this.move, this);
    this.draw();
  }

  async draw() {
    const parts = this.entry.parts();
    const { plane, leaflet } = this.ctx;
    const size = leaflet.getSize();
    const visible = this.entry.layer.get("visible");
    this.image.image.style.visibility = visible ? "" : "hidden";
    this.image.image.style.opacity = this.entry.layer.get("opacity");
    if (!parts || !size.x || !size.y || !visible) return;
    const box = plane.box();
    const query = new URLSearchParams(parts.query);
    query.set("box", box.map((side) => side.toPrecision(12)).join(","));
    query.set("width", size.x);
    query.set("height", size.y);
    this.entry.say("One image for the whole view is being computed …");
    const signal = this.latest.next();
    try {
      const address = `${parts.base}/view/${parts.hash}/${parts.tms}.png?${query.toString().replaceAll("%2C", ",")}`;
      const answer = await fetch(address, { headers: headers(), credentials: "same-origin", signal });
      const content = await answer.blob();
      if (signal.aborted) return;
      this.entry.say("");
      this.entry.look();
      this.told = answer.ok ? summed([toldBy(answer)]) : null;
      this.entry.drawNote();
      if (!answer.ok) return;
      const old = this.address;
      this.address = URL.createObjectURL(content);
      this.image.show(this.address, box);
      const loaded = () => {
        if (old) URL.revokeObjectURL(old);
        else this.shown();
      };
      this.image.image.addEventListener("load", loaded, { once: true });
      // Nearer by or further away the other way may be the cheaper one.
      this.ctx.stack.choose(this.entry);
    } catch (error) {
      if (error.name !== "AbortError") this.entry.say(sentence(null));
    }
  }

  end() {
    this.latest.next();
    this.entry.say("");
    this.ctx.leaflet.off("moveend", this.move);
    this.entry.layer.off(null, null, this);
    this.image.remove();
    if (this.address) URL.revokeObjectURL(this.address);
  }
}

class Stack {
  constructor(ctx) {
    this.ctx = ctx;
    this.wholes = new Map();
    this.clip = () => this.drawClip();
    this.added = () => this.arrange();
    ctx.leaflet.on("move zoom zoomend viewreset resize", this.clip);
    ctx.leaflet.on("layeradd", this.added);
  }

  // Bring what is on screen in the order that the kernel or a person chose.
  async arrange() {
    const order = this.ctx.model.get("order");
    for (const entry of this.ctx.entries) {
      const level = LOWEST_LAYER + Math.max(0, order.indexOf(entry.legend.model));
      const drawn = await entry.drawn();
      if (!drawn) continue;
      drawn.setZIndex(level);
      const whole = this.wholes.get(entry.legend.model);
      if (whole) whole.image.image.style.zIndex = level;
    }
    this.drawClip();
  }

  // Move one layer up or down.
  shift(entry, by) {
    const { model } = this.ctx;
    const order = [...model.get("order")];
    const from = order.indexOf(entry.legend.model);
    const to = from + by;
    if (from < 0 || to < 0 || to >= order.length) return;
    [order[from], order[to]] = [order[to], order[from]];
    model.set("order", order);
    model.save_changes();
  }

  // Which way is cheaper, the server knows from what it has measured.
  async choose(entry) {
    const parts = entry.parts();
    if (!parts) return;
    const size = this.ctx.leaflet.getSize();
    let way = entry.legend.way;
    if (way === "auto") {
      try {
        const told = await ask(`${parts.root}/${parts.tms}/way?width=${size.x}&height=${size.y}&v=${parts.revision}`, this.ctx.signal);
        way = told.way;
      } catch {
        return;
      }
    }
    const key = entry.legend.model;
    if (way === "view" && !this.wholes.has(key)) {
      const drawn = await entry.drawn();
      if (!drawn || this.wholes.has(key)) return;
      // Tiles stay until the image that takes their place is there.
      this.wholes.set(key, new Whole(entry, this.ctx, () => this.hideTiles(drawn, true)));
      this.arrange();
    } else if (way === "tiles" && this.wholes.has(key)) {
      this.wholes.get(key).end();
      this.wholes.delete(key);
      const drawn = await entry.drawn();
      if (drawn) this.hideTiles(drawn, false);
    }
  }

  // Tiles that nobody sees are not asked for: the layer stays, but looks for none.
  hideTiles(drawn, hidden) {
    if (hidden === Object.hasOwn(drawn, "_update")) return;
    if (hidden) {
      drawn._removeAllTiles();
      drawn._update = () => {};
    } else {
      delete drawn._update;
      drawn.redraw();
    }
  }

  // Layers left and right of the swipe line.
  async drawClip() {
    const { model, leaflet, entries } = this.ctx;
    const [left, right] = model.get("swipe");
    const size = leaflet.getSize();
    const first = leaflet.containerPointToLayerPoint([0, 0]);
    const line = first.x + size.x * model.get("swipe_at");
    const sides = { left: [first.x, line], right: [line, first.x + size.x] };
    for (const entry of entries) {
      const key = entry.legend.model;
      const side = key === left ? "left" : key === right ? "right" : null;
      const whole = this.wholes.get(key);
      const drawn = await entry.drawn();
      const shape = (dx = 0, dy = 0) => {
        if (!side || left === right) return "";
        const [from, to] = sides[side].map((x) => x - dx);
        const [top, bottom] = [first.y - dy, first.y + size.y - dy];
        return `polygon(${from}px ${top}px, ${to}px ${top}px, ${to}px ${bottom}px, ${from}px ${bottom}px)`;
      };
      const container = drawn?.getContainer();
      if (container) container.style.clipPath = shape();
      if (whole) {
        const at = window.L.DomUtil.getPosition(whole.image.image) || { x: 0, y: 0 };
        whole.image.image.style.clipPath = shape(at.x, at.y);
      }
    }
  }

  // Layers that are gone leave nothing behind.
  prune() {
    const keys = new Set(this.ctx.entries.map((entry) => entry.legend.model));
    for (const [key, whole] of this.wholes) {
      const entry = this.ctx.entries.find((one) => one.legend.model === key);
      if (!keys.has(key)) {
        whole.end();
        this.wholes.delete(key);
      } else if (entry) {
        whole.entry.layer.off(null, null, whole);
        whole.entry = entry;
        entry.layer.on("change:url", whole.move, whole);
      }
    }
  }

  end() {
    for (const whole of this.wholes.values()) whole.end();
    this.wholes.clear();
    this.ctx.leaflet.off("move zoom zoomend viewreset resize", this.clip);
    this.ctx.leaflet.off("layeradd", this.added);
  }
}

// The line between two layers: a slider over the map, so that it goes by mouse, finger and arrow keys.
class Swipe {
  constructor(ctx) {
    this.ctx = ctx;
    // Below popups, so it lies in a pane of Leaflet's and has to stay in place when the map moves.
    this.line = element("div", "cupola-swipe-line");
    ctx.leaflet.getPane(pane(ctx.leaflet, "cupola-swipe", 650)).append(this.line);
    ctx.leaflet.getPane("cupola-swipe").style.pointerEvents = "none";
    this.lay = () => this.drawLine();
    ctx.leaflet.on("move zoom zoomend viewreset resize", this.lay);
    this.slider = element("input", "cupola-swipe");
    Object.assign(this.slider, { type: "range", min: 0, max: 1000, step: 1 });
    this.slider.setAttribute("aria-label", "Swipe between two layers");
    this.slider.addEventListener("input", () => {
      ctx.model.set("swipe_at", Number(this.slider.value) / 1000);
      ctx.model.save_changes();
    });
    own(this.slider);
    ctx.leaflet.getContainer().append(this.slider);
    this.draw();
  }

  draw() {
    const [left, right] = this.ctx.model.get("swipe");
    const shown = Boolean(left && right && left !== right);
    this.line.hidden = !shown;
    this.slider.hidden = !shown;
    const at = this.ctx.model.get("swipe_at");
    this.slider.value = Math.round(at * 1000);
    this.drawLine();
    this.ctx.stack.drawClip();
  }

  drawLine() {
    const { leaflet, model } = this.ctx;
    const size = leaflet.getSize();
    const top = leaflet.containerPointToLayerPoint([size.x * model.get("swipe_at"), 0]);
    window.L.DomUtil.setPosition(this.line, top);
    this.line.style.height = `${size.y}px`;
  }

  end() {
    this.ctx.leaflet.off("move zoom zoomend viewreset resize", this.lay);
    this.line.remove();
    this.slider.remove();
  }
}
