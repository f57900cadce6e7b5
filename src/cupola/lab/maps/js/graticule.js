// Lines of equal longitude and latitude of the body itself, on any grid: straight, curved or around a pole.
const STEPS = [90, 60, 45, 30, 20, 15, 10, 5, 2, 1, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001, 0.0005, 0.0002, 0.0001];
const SAMPLES = 24;

function graticuleLayer(plane) {
  const Graticule = window.L.Layer.extend({
    onAdd(map) {
      this.canvas = element("canvas", "cupola-graticule leaflet-zoom-hide");
      this.canvas.setAttribute("aria-hidden", "true");
      if (!map.getPane("cupola-graticule")) {
        const pane = map.createPane("cupola-graticule");
        pane.style.zIndex = 410;
        pane.style.pointerEvents = "none";
      }
      map.getPane("cupola-graticule").append(this.canvas);
      this.draw();
    },
    onRemove() {
      this.canvas.remove();
    },
    getEvents() {
      return { moveend: this.draw, resize: this.draw, viewreset: this.draw };
    },
    // Longitudes and latitudes in view. Where a pole is in view all longitudes are.
    seen(size) {
      const map = this._map;
      const found = { west: 0, east: 0, south: 90, north: -90, polar: false };
      const middle = map.getCenter().lng;
      let [low, high] = [Infinity, -Infinity];
      for (let row = 0; row <= SAMPLES; row += 1) {
        for (let column = 0; column <= SAMPLES; column += 1) {
          const point = map.containerPointToLatLng([(size.x * column) / SAMPLES, (size.y * row) / SAMPLES]);
          if (!Number.isFinite(point.lat) || !Number.isFinite(point.lng) || Math.abs(point.lat) > 90.01) continue;
          found.south = Math.min(found.south, point.lat);
          found.north = Math.max(found.north, point.lat);
          // Around a pole longitudes run around: count from the middle of the map.
          const away = plane.model.get("cylindrical") ? point.lng - middle : wrapped(point.lng - middle);
          low = Math.min(low, away);
          high = Math.max(high, away);
        }
      }
      [found.west, found.east] = [middle + low, middle + high];
      if (!plane.model.get("cylindrical")) {
        const pole = map.latLngToContainerPoint([plane.model.get("projection") === "spolar" ? -90 : 90, 0]);
        if (pole.x > -1 && pole.y > -1 && pole.x < size.x + 1 && pole.y < size.y + 1) {
          Object.assign(found, { west: -180, east: 180, polar: true });
          if (plane.model.get("projection") === "spolar") found.south = -90;
          else found.north = 90;
        }
      } else if (!plane.model.get("mercator")) {
        // The grid ends at its edges; there is nothing beyond.
        found.west = Math.max(found.west, -180);
        found.east = Math.min(found.east, 180);
      }
      return found;
    },
    draw() {
      const map = this._map;
      if (!map) return;
      const size = map.getSize();
      const ratio = window.devicePixelRatio || 1;
      window.L.DomUtil.setPosition(this.canvas, map.containerPointToLayerPoint([0, 0]));
      Object.assign(this.canvas, { width: size.x * ratio, height: size.y * ratio });
      Object.assign(this.canvas.style, { width: `${size.x}px`, height: `${size.y}px` });
      const paint = this.canvas.getContext("2d");
      paint.scale(ratio, ratio);
      paint.font = "11px system-ui, sans-serif";
      paint.lineWidth = 1;
      const seen = this.seen(size);
      if (!(seen.north > seen.south)) return;
      this.labels = [];
      const high = this.step(seen.north - seen.south);
      const wide = seen.polar ? 30 : this.step(seen.east - seen.west);
      const first = (low, step) => Math.ceil(low / step - 1e-9) * step;
      for (let lat = first(seen.south, high); lat <= seen.north + 1e-9; lat += high) {
        if (Math.abs(lat) < 90) this.line(paint, size, seen, lat, true, high);
      }
      for (let lon = first(seen.west, wide); lon <= seen.east + 1e-9; lon += wide) {
        if (!(seen.polar && lon <= -180 + 1e-9)) this.line(paint, size, seen, lon, false, wide);
      }
      for (const [text, x, y] of this.labels) {
        paint.strokeStyle = "rgba(255, 255, 255, 0.85)";
        paint.lineWidth = 3;
        paint.strokeText(text, x, y);
        paint.fillStyle = "#16202b";
        paint.fillText(text, x, y);
      }
      this.canvas.dataset.lines = this.labels.map((label) => label[0]).join(" ");
    },
    step(span) {
      return STEPS.filter((step) => span / step <= 8).pop() || 90;
    },
    line(paint, size, seen, at, parallel, step) {
      const places = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
      let label = null;
      let before = null;
      paint.beginPath();
      for (let index = 0; index <= 90; index += 1) {
        const share = index / 90;
        const lon = parallel ? seen.west + share * (seen.east - seen.west) : at;
        const lat = parallel ? at : Math.max(-89.999, Math.min(89.999, seen.south + share * (seen.north - seen.south)));
        const point = this._map.latLngToContainerPoint([lat, lon]);
        const far = before && Math.hypot(point.x - before.x, point.y - before.y) > 4 * (size.x + size.y);
        if (!Number.isFinite(point.x) || far) before = null;
        else if (before) paint.lineTo(point.x, point.y);
        else paint.moveTo(point.x, point.y);
        before = Number.isFinite(point.x) ? point : null;
        const inside = before && point.x >= 2 && point.y >= 12 && point.x <= size.x - 2 && point.y <= size.y - 4;
        if (inside && !label) label = point;
      }
      for (const [colour, width] of [["rgba(255, 255, 255, 0.65)", 2.2], ["rgba(20, 30, 45, 0.75)", 0.9]]) {
        paint.strokeStyle = colour;
        paint.lineWidth = width;
        paint.stroke();
      }
      if (!label) return;
      const text = parallel
        ? `${Math.abs(at).toFixed(places)}°${at < -1e-9 ? "S" : at > 1e-9 ? "N" : ""}`
        : place(at, 0, plane.model.get("convention"), places).split(", ")[1].replace("° ", "°");
      const width = paint.measureText(text).width;
      const x = parallel && !seen.polar ? 4 : Math.min(label.x + 3, size.x - width - 3);
      const y = parallel || seen.polar ? label.y - 3 : size.y - 5;
      this.labels.push([text, x, y]);
    },
  });
  return new Graticule();
}
