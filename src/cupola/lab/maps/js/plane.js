// The plane that a map is drawn on: metres of its grid (pixels of the image in image space) and pixels of the screen.
class Plane {
  constructor(model, leaflet) {
    this.model = model;
    this.leaflet = leaflet;
  }

  get crs() {
    return this.leaflet.options.crs;
  }

  get isImage() {
    return this.model.get("tms") === "ImageSpace";
  }

  // Left, bottom, right, top of what is in view, in units of the grid.
  box() {
    const bounds = this.leaflet.getPixelBounds();
    const scale = this.crs.scale(this.leaflet.getZoom());
    const first = this.crs.transformation.untransform(bounds.min, scale);
    const last = this.crs.transformation.untransform(bounds.max, scale);
    return [Math.min(first.x, last.x), Math.min(first.y, last.y), Math.max(first.x, last.x), Math.max(first.y, last.y)];
  }

  // Where a point of the grid lies, in pixels of Leaflet's layers, at any zoom level and centre.
  point(x, y, zoom = this.leaflet.getZoom(), center = null) {
    const { crs, leaflet } = this;
    const at = crs.transformation.transform(window.L.point(x, y), crs.scale(zoom));
    return at.subtract(center ? leaflet._getNewPixelOrigin(center, zoom) : leaflet.getPixelOrigin());
  }

  // Longitude and latitude, or column and row, of a point of Leaflet's.
  lonlat(latlng) {
    return this.isImage ? [latlng.lng, -latlng.lat] : [wrapped(latlng.lng), latlng.lat];
  }

  words(latlng, places) {
    const [longitude, latitude] = this.lonlat(latlng);
    if (this.isImage) return `column ${Math.floor(longitude)}, row ${Math.floor(latitude)}`;
    if (!Number.isFinite(longitude) || Math.abs(latitude) > 90) return "";
    return place(longitude, latitude, this.model.get("convention"), places);
  }

  // Metres on the ground per pixel of the screen in the middle of the map. Leaflet's own scale takes every body for
  // the Earth.
  here() {
    const resolutions = this.model.get("resolutions");
    const zoom = this.leaflet.getZoom();
    const latitude = (this.leaflet.getCenter().lat * Math.PI) / 180;
    const shrink = this.model.get("mercator") ? Math.cos(latitude) : 1;
    const lowest = this.model.get("lowest");
    const at = (level) => {
      const floor = Math.max(0, Math.min(resolutions.length - 1, Math.floor(level - lowest)));
      return (resolutions[floor] / 2 ** (level - lowest - floor)) * shrink;
    };
    // In an equirectangular map a pixel is narrower than high, off the equator.
    const across = this.model.get("cylindrical") && !this.model.get("mercator") ? Math.cos(latitude) : 1;
    return resolutions.length ? { zoom, at, across } : null;
  }

  // Ring of longitudes and latitudes around a place at a distance on the ground.
  circle(center, edge) {
    const radians = Math.PI / 180;
    const [lon, lat] = [center.lng * radians, center.lat * radians];
    const [lon2, lat2] = [edge.lng * radians, edge.lat * radians];
    const half = Math.sin((lat2 - lat) / 2) ** 2 + Math.cos(lat) * Math.cos(lat2) * Math.sin((lon2 - lon) / 2) ** 2;
    const angle = 2 * Math.asin(Math.min(1, Math.sqrt(half)));
    const ring = [];
    for (let step = 0; step < 96; step += 1) {
      const bearing = (2 * Math.PI * step) / 96;
      const to = Math.asin(Math.sin(lat) * Math.cos(angle) + Math.cos(lat) * Math.sin(angle) * Math.cos(bearing));
      const east = Math.atan2(
        Math.sin(bearing) * Math.sin(angle) * Math.cos(lat),
        Math.cos(angle) - Math.sin(lat) * Math.sin(to),
      );
      ring.push([(lon + east) / radians, to / radians]);
    }
    return { ring, radius: angle * this.model.get("radius") };
  }
}

// Keep the part of a ring that lies west (or east) of a meridian.
function halved(ring, meridian, west) {
  const inside = ([longitude]) => (west ? longitude <= meridian : longitude >= meridian);
  const kept = [];
  ring.forEach((point, index) => {
    const before = ring[(index + ring.length - 1) % ring.length];
    if (inside(point) !== inside(before)) {
      const share = (meridian - before[0]) / (point[0] - before[0]);
      kept.push([meridian, before[1] + share * (point[1] - before[1])]);
    }
    if (inside(point)) kept.push(point);
  });
  return kept;
}

// A ring of places as GeoJSON of longitudes and latitudes: around a pole it is closed over the pole, and across the
// meridian of 180 degrees it is cut in two, as RFC 7946 wants.
function geometryOf(ring, isImage) {
  const close = (points) => [...points, points[0]];
  if (isImage) return { type: "Polygon", coordinates: [close(ring)] };
  const running = [];
  for (const [longitude, latitude] of ring) {
    const before = running.length ? running[running.length - 1][0] : longitude;
    running.push([before + wrapped(longitude - before), latitude]);
  }
  const last = running[running.length - 1];
  const turn = last[0] + wrapped(running[0][0] - last[0]) - running[0][0];
  if (Math.abs(turn) > 180) {
    const mean = running.reduce((sum, point) => sum + point[1], 0) / running.length;
    const pole = mean > 0 ? 90 : -90;
    running.push([running[0][0] + turn, running[0][1]], [running[0][0] + turn, pole], [running[0][0], pole]);
  }
  const shift = Math.floor((Math.min(...running.map((point) => point[0])) + 180) / 360) * 360;
  const moved = running.map(([longitude, latitude]) => [longitude - shift, latitude]);
  if (Math.max(...moved.map((point) => point[0])) <= 180) return { type: "Polygon", coordinates: [close(moved)] };
  const east = halved(moved, 180, false).map(([longitude, latitude]) => [longitude - 360, latitude]);
  return { type: "MultiPolygon", coordinates: [[close(halved(moved, 180, true))], [close(east)]] };
}
