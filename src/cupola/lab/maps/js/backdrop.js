// What lies below and above the chains: base maps, vector layers, the mark of a named feature.
const PATIENCE_MS = 6000;
const END_OF_FILE = -85.5;

// Arcs of a TopoJSON file, decoded as its specification says: differences of whole numbers, scaled and shifted.
function topology(file) {
  const { scale, translate } = file.transform;
  const arcs = file.arcs.map((arc) => {
    let [x, y] = [0, 0];
    return arc.map(([dx, dy]) => {
      x += dx;
      y += dy;
      const latitude = y * scale[1] + translate[1];
      // The file ends a little before the south pole, where the Antarctic has no coast.
      return [x * scale[0] + translate[0], latitude < END_OF_FILE ? -90 : latitude];
    });
  });
  const ring = (numbers) => numbers.flatMap((number_, index) => {
    const arc = number_ < 0 ? [...arcs[~number_]].reverse() : arcs[number_];
    return index ? arc.slice(1) : arc;
  });
  return file.objects.land.geometries.flatMap((geometry) => {
    const polygons = geometry.type === "Polygon" ? [geometry.arcs] : geometry.arcs;
    return polygons.map((polygon) => polygon.map(ring));
  });
}

function pane(leaflet, name, zIndex) {
  const made = leaflet.getPane(name) || leaflet.createPane(name);
  made.style.zIndex = zIndex;
  return name;
}

// A tile layer over a WMS that knows only longitude and latitude: on an equirectangular grid in metres a tile is a
// box of degrees, so its box is asked for in degrees.
function degreesWms(base, plane) {
  const DegreesWms = window.L.TileLayer.extend({
    getTileUrl(coords) {
      const size = this.getTileSize();
      const { crs } = plane;
      const corner = (x, y) => crs.pointToLatLng(window.L.point(x * size.x, y * size.y), coords.z);
      const [first, last] = [corner(coords.x, coords.y), corner(coords.x + 1, coords.y + 1)];
      const query = new URLSearchParams({
        SERVICE: "WMS", VERSION: "1.1.1", REQUEST: "GetMap", LAYERS: base.layers, STYLES: "", SRS: "EPSG:4326",
        BBOX: [first.lng, last.lat, last.lng, first.lat].map((side) => side.toFixed(9)).join(","),
        WIDTH: size.x, HEIGHT: size.y, FORMAT: "image/png",
      });
      return `${base.url}&${query}`;
    },
  });
  return new DegreesWms("", { pane: pane(plane.leaflet, "cupola-base", 150), noWrap: true, bounds: [[-90, -180], [90, 180]] });
}

class Backdrop {
  constructor(ctx) {
    this.ctx = ctx;
    this.round = 0;
    this.base = null;
    this.vectors = new Map();
    this.graticule = graticuleLayer(ctx.plane);
    this.drawGraticule();
    this.drawBase();
    this.drawVectors();
    this.drawMark();
  }

  drawGraticule() {
    const { model, leaflet, plane } = this.ctx;
    this.graticule.remove();
    if (model.get("graticule") && !plane.isImage) this.graticule.addTo(leaflet);
  }

  async drawBase() {
    const mine = ++this.round;
    const { model } = this.ctx;
    this.base?.remove();
    this.base = null;
    this.ctx.say("base", "");
    const wanted = model.get("bases").find((base) => base.key === model.get("base"));
    if (!wanted || wanted.kind === "none") return;
    try {
      const made = await this.make(wanted);
      if (mine === this.round) this.base = made.addTo(this.ctx.leaflet);
    } catch (problem) {
      if (mine !== this.round || problem.name === "AbortError") return;
      const spare = model.get("bases").find((base) => base.kind === "land");
      const instead = spare && wanted.kind !== "land" ? `; ${spare.title} is shown instead` : "";
      this.ctx.say("base", `${wanted.title} cannot be reached from this browser${instead}.`);
      if (!instead) return;
      const made = await this.make(spare).catch(() => null);
      if (made && mine === this.round) this.base = made.addTo(this.ctx.leaflet);
    }
    if (mine === this.round && wanted.attribution) this.ctx.say("credit", wanted.attribution);
  }

  async make(base) {
    const { leaflet, plane } = this.ctx;
    const name = pane(leaflet, "cupola-base", 150);
    this.ctx.say("credit", "");
    if (base.kind === "land") return this.land();
    if (base.kind === "chain") return window.L.tileLayer(base.url, { pane: name, maxNativeZoom: base.finest ?? undefined, maxZoom: 24, noWrap: true });
    const made = base.kind === "wms"
      ? degreesWms(base, plane)
      : window.L.tileLayer(base.url, { pane: name, maxNativeZoom: base.finest, maxZoom: 24 });
    const first = base.kind === "wms"
      ? made.getTileUrl({ x: 0, y: 0, z: 1 })
      : base.url.replace("{z}", 0).replace("{x}", 0).replace("{y}", 0).replace("{s}", "a");
    await reachable(first);
    return made;
  }

  async land() {
    const { model, leaflet, plane } = this.ctx;
    const name = pane(leaflet, "cupola-base", 150);
    leaflet.getPane(name).style.pointerEvents = "none";
    const answer = await fetch(`${model.get("server")}cupola/vendor/land-50m.json`, { headers: headers(), signal: this.ctx.signal });
    if (!answer.ok) throw new Error("no land");
    let polygons = topology(await answer.json());
    const pole = { npolar: 1, spolar: -1 }[model.get("projection")] || 0;
    if (pole) {
      // The other half of the globe lies beyond the edge of a polar map, its pole infinitely far.
      polygons = polygons
        .filter(([outer]) => outer.some(([, lat]) => lat * pole > -10))
        .map((rings) => rings.map((ring) => ring.map(([lon, lat]) => [lon, pole * Math.max(lat * pole, -60)])));
    } else if (plane.model.get("mercator")) {
      polygons = polygons.map((rings) => rings.map((ring) => ring.map(([lon, lat]) => [lon, Math.max(-85.05, Math.min(85.05, lat))])));
    }
    const style = { pane: name, renderer: window.L.canvas({ pane: name, padding: 0.3 }), interactive: false, stroke: false };
    const dark = getComputedStyle(document.body).getPropertyValue("--jp-layout-color0").trim().startsWith("#1");
    return window.L.geoJSON(
      { type: "MultiPolygon", coordinates: polygons },
      { ...style, style: { fillColor: dark ? "#4d5a55" : "#c9cfc0", fillOpacity: 1 } },
    );
  }

  async drawVectors() {
    const { model, leaflet } = this.ctx;
    const wanted = model.get("vectors");
    for (const [key, layer] of this.vectors) {
      if (!wanted.includes(key)) {
        layer.drawn.remove();
        layer.vector.off(null, null, this);
        this.vectors.delete(key);
      }
    }
    for (const key of wanted) {
      if (this.vectors.has(key)) continue;
      const vector = await model.widget_manager.get_model(key);
      if (this.vectors.has(key) || this.ctx.signal.aborted) continue;
      const drawn = vectorLayer(vector, this.ctx);
      this.vectors.set(key, { vector, drawn });
      const show = () => (vector.get("visible") ? drawn.addTo(leaflet) : drawn.remove());
      vector.on("change:visible", show, this);
      show();
    }
    this.ctx.panel?.draw();
  }

  drawMark() {
    const { model, leaflet, plane } = this.ctx;
    this.mark?.remove();
    this.mark = null;
    const marked = model.get("marked");
    if (marked.name === undefined) return;
    const at = [plane.isImage ? -marked.latitude : marked.latitude, marked.longitude];
    const name = pane(leaflet, "cupola-mark", 640);
    leaflet.getPane(name).style.pointerEvents = "none";
    this.mark = window.L.circleMarker(at, {
      pane: name, renderer: window.L.svg({ pane: name }), radius: 6, weight: 2, color: "#b3261e", fillColor: "#fff", fillOpacity: 0.9,
      interactive: false,
    });
    this.mark.addTo(leaflet).bindTooltip(marked.name, { permanent: true, direction: "right", offset: [8, 0] }).openTooltip();
  }

  end() {
    this.round += 1;
    this.graticule.remove();
    this.base?.remove();
    this.mark?.remove();
    for (const { vector, drawn } of this.vectors.values()) {
      vector.off(null, null, this);
      drawn.remove();
    }
  }
}

// Whether a site outside answers at all, within a short time.
function reachable(address) {
  return new Promise((resolve, reject) => {
    const image = new Image();
    const timer = setTimeout(() => {
      image.src = "";
      reject(new Error("no answer"));
    }, PATIENCE_MS);
    image.onload = () => (clearTimeout(timer), resolve());
    image.onerror = () => (clearTimeout(timer), reject(new Error("refused")));
    image.referrerPolicy = "strict-origin-when-cross-origin";
    image.src = address;
  });
}

function properties(feature) {
  const box = element("div", "cupola-popup");
  const entries = Object.entries(feature.properties || {});
  if (!entries.length) box.append(element("em", "", "no properties"));
  const table = box.appendChild(element("table"));
  for (const [key, text] of entries) {
    const row = table.appendChild(element("tr"));
    const shown = text === null ? "–" : typeof text === "object" ? JSON.stringify(text) : String(text);
    row.append(element("th", "", key), element("td", "", shown));
  }
  return box;
}

// More names than these cover what they name, and make the page slow.
const MOST_LABELS = 500;
const LABEL = { permanent: true, direction: "right", offset: [4, 0], className: "cupola-name" };

// A vector layer on a canvas of its own: thousands of shapes as SVG would make the page slow.
function vectorLayer(vector, { leaflet, plane }) {
  const name = pane(leaflet, `cupola-vector-${vector.model_id}`, 420);
  // A canvas takes all clicks where it lies, so that of a layer below would get none; paths of few features do not.
  const many = vector.get("count") > 2000;
  const renderer = many ? window.L.canvas({ pane: name }) : window.L.svg({ pane: name });
  const style = { ...vector.get("style"), renderer, pane: name, bubblingMouseEvents: false };
  const flip = plane.isImage ? { coordsToLatLng: ([x, y]) => window.L.latLng(-y, x) } : {};
  const drawn = window.L.geoJSON(JSON.parse(vector.get("text")), {
    ...flip,
    style: () => style,
    pointToLayer: (_, latlng) => window.L.circleMarker(latlng, { radius: 5, ...style }),
    onEachFeature: (feature, layer) => {
      layer.bindPopup(() => properties(feature), { maxHeight: 220 });
      const said = feature.properties?.[style.label];
      // Text, and no markup: names come from files of others.
      if (said && vector.get("count") <= MOST_LABELS) layer.bindTooltip(element("span", "", String(said)), LABEL);
    },
  });
  return drawn;
}
