// Small things that all rooms of the map share. The rooms are put together to one module by controls.py.

// Values on a legend: as many digits as tell its two ends apart.
function digits(low, high) {
  const span = Math.abs(high - low);
  if (!(span > 0)) return 2;
  return Math.max(0, Math.min(6, 2 - Math.floor(Math.log10(span))));
}

function number(value, places) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "no data";
  if (Math.abs(value) >= 1e7 || (value !== 0 && Math.abs(value) < 1e-5)) return value.toExponential(2);
  return value.toLocaleString("en", { maximumFractionDigits: places });
}

// A value that stands alone: four digits that matter.
function value(number_) {
  if (number_ === null || number_ === undefined || !Number.isFinite(number_)) return "no data";
  if (number_ !== 0 && (Math.abs(number_) >= 1e7 || Math.abs(number_) < 1e-4)) return number_.toExponential(3);
  return Number(number_.toPrecision(6)).toLocaleString("en", { maximumFractionDigits: 6 });
}

function metres(length) {
  const nice = (v) => Number(v.toPrecision(3)).toLocaleString("en", { maximumFractionDigits: 2 });
  return length >= 1000 ? `${nice(length / 1000)} km` : `${nice(length)} m`;
}

function element(kind, name, text) {
  const made = document.createElement(kind);
  if (name) made.className = name;
  if (text !== undefined) made.textContent = text;
  return made;
}

function button(label, title, action) {
  const made = element("button", "cupola-button", label);
  made.type = "button";
  made.title = title;
  if (title && label.length < 3) made.setAttribute("aria-label", title);
  made.addEventListener("click", action);
  return made;
}

function labelled(text, input, name = "cupola-field") {
  const label = element("label", name);
  label.append(element("span", "", text), input);
  return label;
}

function choice(options, chosen, title, action) {
  const select = element("select", "cupola-select");
  select.title = title;
  select.setAttribute("aria-label", title);
  for (const [key, text] of options) {
    const option = select.appendChild(element("option", "", text));
    option.value = key;
    option.selected = key === chosen;
  }
  select.addEventListener("change", () => action(select.value));
  return select;
}

function headers(more = {}) {
  // A hub checks this header on every request that a script makes with the cookie.
  const token = document.cookie.match(/(?:^|;\s*)_xsrf=([^;]*)/);
  return token ? { "X-XSRFToken": token[1], ...more } : more;
}

async function ask(address, signal, body) {
  const options = { headers: headers(), credentials: "same-origin", signal };
  if (body !== undefined) {
    options.method = "POST";
    options.body = JSON.stringify(body);
    options.headers = headers({ "Content-Type": "application/json" });
  }
  const answer = await fetch(address, options);
  return answer.json();
}

// What a server that answers with an error says in one sentence.
function sentence(told) {
  return (told && (told.detail || told.message)) || "The session's server gave no answer; is it still running?";
}

// Longitude between -180 and 180; where a map shows the world several times, all of them are the same place.
function wrapped(longitude) {
  return ((((longitude + 180) % 360) + 360) % 360) - 180;
}

// A place as its body's maps write it: the Earth and the Moon count to 180 degrees east and west, all others from 0
// to 360 degrees east (IAU 2015; latitudes are planetocentric there).
function place(longitude, latitude, convention, places = 4) {
  const north = `${Math.abs(latitude).toFixed(places)}° ${latitude < 0 ? "S" : "N"}`;
  const lon = wrapped(longitude);
  if (convention === "360") return `${north}, ${(((lon % 360) + 360) % 360).toFixed(places)}° E`;
  return `${north}, ${Math.abs(lon).toFixed(places)}° ${lon < 0 ? "W" : "E"}`;
}

// Whether an address is the one that was asked for last, and a fresh signal for it.
class Latest {
  constructor(parent) {
    this.parent = parent;
    this.controller = null;
  }

  next() {
    this.controller?.abort();
    this.controller = new AbortController();
    if (this.parent.aborted) this.controller.abort();
    else this.parent.addEventListener("abort", () => this.controller.abort(), { once: true });
    return this.controller.signal;
  }
}

// What is typed, clicked and scrolled on a control is not for the map below it: arrow keys would move it.
function own(box) {
  window.L.DomEvent.disableClickPropagation(box);
  window.L.DomEvent.disableScrollPropagation(box);
  // Leaflet asks where a click came from, and a control that was drawn anew by it is no longer there.
  for (const kind of ["click", "keydown", "keypress", "keyup"]) box.addEventListener(kind, (event) => event.stopPropagation());
  return box;
}

// Controls are made anew when layers change; whoever used one with the keyboard must not lose their place.
function keepingFocus(root, change) {
  const key = root.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  change();
  const made = key && root.querySelector(`[data-key="${CSS.escape(key)}"]`);
  // A layer that has come to the top cannot go further up; its row is where the keyboard was.
  if (made) (made.disabled ? made.parentElement.querySelector(":enabled") : made)?.focus();
}
