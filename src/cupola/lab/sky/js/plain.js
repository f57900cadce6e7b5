// A sky map of Cupola: Aladin Lite from the session's own server, layers that the session computes, catalogues and
// footprints over them. Layers, names and values under a click work while the kernel is busy.

const POLL_MS = 2000;
const SETTLED_MS = 400;
const CLOSE = 1e-9;
const COARSEST_LISTED = 3;
const SURVEYS = {
  "": "no survey",
  "CDS/P/DSS2/color": "DSS2 colour",
  "CDS/P/2MASS/color": "2MASS colour",
  "CDS/P/PanSTARRS/DR1/color-i-r-g": "Pan-STARRS colour",
  "CDS/P/allWISE/color": "AllWISE colour",
  "CDS/P/GALEXGR6_7/color": "GALEX colour",
  "CDS/P/Fermi/color": "Fermi colour",
};
const REACH_MS = 5000;
const AGAIN_MS = 4000;
const TRIES = 5;
const DIRECTORY = "https://alasky.cds.unistra.fr/MocServer/query";

let loading = null;

function element(kind, name, text) {
  const made = document.createElement(kind);
  if (name) made.className = name;
  if (text !== undefined) made.textContent = text;
  return made;
}

function labelled(kind, label, options = {}) {
  const made = element(kind, "cupola-sky-control");
  made.setAttribute("aria-label", label);
  made.title = label;
  return Object.assign(made, options);
}

// A hub checks this word on every request that a script makes with the cookie.
function xsrf() {
  const token = document.cookie.match(/(?:^|;\s*)_xsrf=([^;]*)/);
  return token ? token[1] : "";
}

async function ask(address, signal) {
  const answer = await fetch(address, { headers: { "X-XSRFToken": xsrf() }, credentials: "same-origin", signal });
  return answer.json();
}

// One module for all sky maps of a page: it is large, and holds a program of its own.
function aladin(base) {
  const token = xsrf();
  const address = `${base}cupola/vendor/aladin.js${token ? `?_xsrf=${encodeURIComponent(token)}` : ""}`;
  loading ??= import(new URL(address, location.href).href).then(async (module) => {
    await module.default.init;
    return module.default;
  });
  return loading;
}

function places(low, high) {
  const span = Math.abs(high - low);
  return span > 0 ? Math.max(0, Math.min(8, 2 - Math.floor(Math.log10(span)))) : 2;
}

function number(value, digits) {
  if (value === null || value === undefined || Number.isNaN(value)) return "no value";
  if (Math.abs(value) >= 1e7 || (value !== 0 && Math.abs(value) < 1e-4)) return value.toExponential(3);
  return value.toLocaleString("en", { maximumFractionDigits: digits });
}

function sexagesimal(ra, dec) {
  const parts = (value, digits) => {
    const unit = 10 ** digits;
    let rest = Math.round(value * 3600 * unit);
    const seconds = (rest % (60 * unit)) / unit;
    rest = Math.floor(rest / (60 * unit));
    const pad = (n) => String(n).padStart(2, "0");
    return [pad(Math.floor(rest / 60)), pad(rest % 60), seconds.toFixed(digits).padStart(3 + digits, "0")];
  };
  const [h, m, s] = parts((((ra % 360) + 360) % 360) / 15, 2);
  const [d, arcm, arcs] = parts(Math.abs(dec), 1);
  return `${h}h${m}m${s}s ${dec < 0 ? "−" : "+"}${d}°${arcm}′${arcs}″`;
}

// What the tiles depend on, as a part of their address.
function look(layer, token) {
  const query = new URLSearchParams({ cmap: layer.cmap });
  if (layer.vmin.length) query.set("vmin", layer.vmin.join(","));
  if (layer.vmax.length) query.set("vmax", layer.vmax.join(","));
  if (layer.scale !== "linear") query.set("scale", layer.scale);
  if (layer.exact) query.set("exact", "1");
  if (layer.v) query.set("v", layer.v);
  if (token) query.set("_xsrf", token);
  return query.toString();
}

function hips(base, layer) {
  return new URL(`${base}cupola/hips/${layer.hash}/${look(layer, xsrf())}`, location.href).href;
}

// Addresses of a layer's tiles that are in view: Aladin shows the order that fits its own pixels, down to the deepest.
function tilesInView(view, address, deepest) {
  const { wasm } = view.view;
  const order = Math.min(wasm.getNOrder(), deepest);
  // Aladin lists no cells of the coarsest orders.
  const listed = Math.max(order, COARSEST_LISTED);
  const cells = Array.from(wasm.getVisibleCells(listed), ({ ipix }) => Math.floor(Number(ipix) / 4 ** (listed - order)));
  return [...new Set(cells)].map(
    (cell) => `${address}/Norder${order}/Dir${Math.floor(cell / 10000) * 10000}/Npix${cell}.png`,
  );
}

// Aladin's own controls are pictures without a word; whoever cannot see them has to hear what they do.
function nameControls(frame) {
  const names = {
    ".aladin-input-select": "coordinate system",
    ".aladin-location-copy": "copy the position",
    ".aladin-zoom-out": "zoom out",
    ".aladin-zoom-in": "zoom in",
    ".aladin-fullScreen-control > .aladin-btn": "full screen",
  };
  for (const [place, name] of Object.entries(names)) {
    for (const control of frame.querySelectorAll(place)) control.setAttribute("aria-label", name);
  }
  for (const picture of frame.querySelectorAll("img:not([alt])")) picture.alt = "";
}

// A size of pixels on the sky, given in arcseconds.
function arc(seconds) {
  const nice = (size) => Number(size.toPrecision(3)).toLocaleString("en", { maximumFractionDigits: 3 });
  if (seconds >= 3600) return `${nice(seconds / 3600)}°`;
  if (seconds >= 60) return `${nice(seconds / 60)}′`;
  return `${nice(seconds)}″`;
}

// The rows of a catalogue travel packed; only a click needs them.
async function unpack(view) {
  const stream = new Blob([view]).stream().pipeThrough(new DecompressionStream("deflate"));
  return JSON.parse(await new Response(stream).text());
}

function numbers(view) {
  // A view may begin anywhere in the message's buffer; doubles have to begin at a multiple of eight.
  return new Float64Array(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength));
}
