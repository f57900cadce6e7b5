// Named features of the body, found by name without asking anybody.
const LISTED = 250;

function plain(text) {
  return text.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase().replace(/[^\p{L}\p{N}]+/gu, " ").trim();
}

// How many letters differ (Levenshtein), given up beyond `most`.
function distance(one, other, most) {
  if (Math.abs(one.length - other.length) > most) return most + 1;
  let row = Array.from({ length: other.length + 1 }, (_, index) => index);
  for (let i = 1; i <= one.length; i += 1) {
    const next = [i];
    for (let j = 1; j <= other.length; j += 1) {
      next[j] = Math.min(row[j] + 1, next[j - 1] + 1, row[j - 1] + (one[i - 1] === other[j - 1] ? 0 : 1));
    }
    if (Math.min(...next) > most) return most + 1;
    row = next;
  }
  return row[other.length];
}

// A feature is [name, kind, longitude, latitude, diameter in km]; the largest first.
function findFeature(features, text) {
  const wanted = plain(text);
  if (!wanted) return { found: null, near: [] };
  const names = features.map((feature) => plain(feature[0]));
  for (const fits of [(name) => name === wanted, (name) => name.startsWith(wanted), (name) => name.includes(wanted)]) {
    const index = names.findIndex(fits);
    if (index >= 0) return { found: features[index], near: [] };
  }
  const most = Math.max(2, Math.floor(wanted.length / 3));
  const near = names
    .map((name, index) => [Math.min(distance(name, wanted, most), ...name.split(" ").map((word) => distance(word, wanted, most))), index])
    .filter(([away]) => away <= most)
    .sort((one, other) => one[0] - other[0])
    .slice(0, 4)
    .map(([, index]) => features[index]);
  return { found: null, near };
}

class Search {
  constructor(ctx) {
    this.ctx = ctx;
    this.form = element("form", "cupola-search");
    this.input = element("input", "cupola-input");
    this.input.type = "search";
    this.input.dataset.key = "search";
    this.input.setAttribute("aria-label", "Go to a named feature");
    this.input.placeholder = "Go to a named feature";
    const list = element("datalist");
    list.id = `cupola-features-${ctx.id}`;
    this.input.setAttribute("list", list.id);
    for (const [name, kind] of ctx.model.get("features").slice(0, LISTED)) {
      const option = list.appendChild(element("option", "", kind));
      option.value = name;
    }
    this.words = element("div", "cupola-note");
    this.words.setAttribute("role", "status");
    this.form.append(this.input, list, button("Go", "", () => {}), this.words);
    this.form.lastChild.previousSibling.type = "submit";
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.search(this.input.value);
    });
  }

  search(text) {
    const coordinates = text.match(/^\s*(-?\d+(?:\.\d+)?)\s*[, ]\s*(-?\d+(?:\.\d+)?)\s*$/);
    if (coordinates && Math.abs(coordinates[2]) <= 90) {
      this.go([`${coordinates[1]}, ${coordinates[2]}`, "", Number(coordinates[1]), Number(coordinates[2]), 0]);
      return;
    }
    const { found, near } = findFeature(this.ctx.model.get("features"), text);
    this.words.replaceChildren();
    if (found) {
      this.go(found);
      return;
    }
    const body = this.ctx.model.get("body");
    this.words.append(`No feature of ${body} called “${text.trim()}” is known here${near.length ? "; did you mean " : "."}`);
    near.forEach((feature, index) => {
      if (index) this.words.append(" or ");
      this.words.append(button(feature[0], "", () => this.go(feature)));
    });
  }

  go([name, kind, longitude, latitude, diameter]) {
    const { leaflet, model, plane } = this.ctx;
    this.words.replaceChildren(kind ? `${name}: ${kind}` : name);
    const size = leaflet.getSize();
    let zoom = leaflet.getZoom();
    if (diameter > 0) {
      const shrink = model.get("mercator") ? Math.cos((latitude * Math.PI) / 180) : 1;
      const needed = (diameter * 1000 * 1.6) / Math.min(size.x, size.y);
      const fitting = model.get("resolutions").map((step) => step * shrink).filter((step) => step >= needed);
      zoom = model.get("lowest") + Math.max(0, fitting.length - 1);
    }
    leaflet.setView([plane.isImage ? -latitude : latitude, wrapped(longitude)], zoom);
    model.set("marked", { name, longitude: wrapped(longitude), latitude });
    model.save_changes();
  }
}
