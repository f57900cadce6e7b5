// A Cupola map in the browser: legend and scale below, layers and tools above, all over an ipyleaflet map.
// Everything comes from the map's own models in this page and from the session's server: the kernel may be busy or
// gone.
const POLL_MS = 1500;
const LONGEST_BAR = 120;
let widgets = 0;

// The Leaflet map that an element was put on: a map may be shown in several places at once.
async function leafletOf(map, el, signal) {
  for (let tries = 0; tries < 400 && !signal.aborted; tries += 1) {
    for (const promised of Object.values(map.views || {})) {
      const view = await promised;
      if (view.obj?.getContainer?.()?.contains(el)) return view.obj;
    }
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
  return null;
}

// Legend, scale and sentences in the lower corner.
class Foot {
  constructor(ctx, root) {
    this.ctx = ctx;
    this.place = root.appendChild(element("div", "cupola-place"));
    this.place.setAttribute("aria-hidden", "true");
    this.list = root.appendChild(element("div"));
    this.words = {};
    for (const name of ["base", "draw", "credit"]) {
      this.words[name] = root.appendChild(element("div", name === "credit" ? "cupola-credit" : "cupola-say"));
      if (name !== "credit") this.words[name].setAttribute("role", "status");
    }
    this.scaleText = root.appendChild(element("div", "cupola-scale-text"));
    this.scale = root.appendChild(element("div", "cupola-scale"));
  }

  say(name, text) {
    this.words[name].textContent = text;
  }

  drawScale() {
    const { model, plane, entries } = this.ctx;
    const now = plane.here();
    if (!now) return;
    const perPixel = now.at(now.zoom) * now.across;
    const most = perPixel * LONGEST_BAR;
    const power = 10 ** Math.floor(Math.log10(most));
    const nice = [5, 2, 1].map((step) => step * power).find((step) => step <= most);
    if (!nice || !Number.isFinite(perPixel) || perPixel <= 0) return;
    this.scale.style.width = `${nice / perPixel}px`;
    this.scaleText.textContent = plane.isImage ? `${value(nice)} pixels` : `${model.get("body")} · ${metres(nice)}`;
    for (const entry of entries) entry.drawNote();
  }
}

// Layers come and go: legends follow, and what belongs to them.
async function rebuild(ctx) {
  const mine = (ctx.round = (ctx.round || 0) + 1);
  const { model } = ctx;
  const legends = model.get("layers");
  const layers = await Promise.all(legends.map((legend) => model.widget_manager.get_model(legend.model)));
  if (mine !== ctx.round || ctx.signal.aborted) return;
  const before = new Map(ctx.entries.map((entry) => [entry.legend.model, entry]));
  for (const entry of ctx.entries) entry.layer.off(null, null, entry);
  ctx.entries = legends.map((legend, index) => {
    const layer = layers[index];
    const old = before.get(legend.model);
    // A style that the kernel chose now counts more than one that was chosen here before.
    if (old && JSON.stringify(old.legend.style) !== JSON.stringify(legend.style)) layer.cupolaChosen = null;
    const entry = new Entry(legend, layer, ctx);
    if (old) [entry.limits, entry.bands] = [old.limits, old.bands];
    return entry;
  });
  ctx.foot.list.replaceChildren(...ctx.entries.map((entry) => entry.box));
  for (const entry of ctx.entries) listen(entry, ctx);
  ctx.stack.prune();
  await ctx.stack.arrange();
  ctx.panel.draw();
  ctx.swipe.draw();
  ctx.drawScale();
}

function listen(entry, ctx) {
  entry.layer.on("change:loading", () => {
    const looked = entry.look();
    if (entry.layer.get("loading")) return;
    ctx.stack.choose(entry);
    looked.then(() => entry.drawNote());
  }, entry);
  entry.layer.on("change:url", () => {
    entry.restore();
    entry.drawEnds();
    entry.stretch();
    entry.look();
  }, entry);
  entry.layer.on("change:visible change:opacity", () => ctx.stack.wholes.get(entry.legend.model)?.draw(), entry);
  entry.drawEnds();
  entry.stretch();
  entry.look();
  ctx.stack.choose(entry);
}

async function render({ model, el }) {
  const root = el.appendChild(element("div", "cupola-footer"));
  const end = new AbortController();
  const map = await model.widget_manager.get_model(model.get("map_model"));
  const resettle = () => settle(map);
  map.on("change:crs", resettle);
  const cleanup = [() => map.off("change:crs", resettle), () => end.abort()];
  // anywidget takes the function that ends a view only from a finished render, and the map is on the page only then.
  start({ model, map, root, el, signal: end.signal, cleanup }).catch((problem) => {
    if (!end.signal.aborted) console.error("cupola: the map's controls could not be drawn", problem);
  });
  // The grid may have changed before this began to listen. The footer's own view has to be finished first:
  // it is among those that are taken away.
  setTimeout(resettle, 0);
  return () => {
    for (const done of cleanup.reverse()) done();
  };
}

async function start({ model, map, root, el, signal, cleanup }) {
  const leaflet = await leafletOf(map, el, signal);
  if (!leaflet || signal.aborted) return;
  const ctx = { model, map, leaflet, signal, entries: [], id: ++widgets };
  ctx.plane = new Plane(model, leaflet);
  ctx.told = new Told(signal, headers);
  ctx.foot = new Foot(ctx, root);
  ctx.say = (name, text) => ctx.foot.say(name, text);
  ctx.drawScale = () => ctx.foot.drawScale();
  ctx.showPlace = (latlng) => { ctx.foot.place.textContent = ctx.plane.words(latlng); };
  ctx.stack = new Stack(ctx);
  ctx.inspector = new Inspector(ctx);
  ctx.panel = new Panel(ctx);
  ctx.swipe = new Swipe(ctx);
  ctx.backdrop = new Backdrop(ctx);
  leaflet.getContainer().classList.add("cupola-map");
  const { backdrop, panel, stack, swipe, inspector } = ctx;
  const reactions = {
    "change:layers": () => rebuild(ctx),
    "change:resolutions change:body": () => ctx.drawScale(),
    "change:order": () => { stack.arrange(); panel.draw(); },
    "change:swipe change:swipe_at": () => swipe.draw(),
    "change:graticule": () => { backdrop.drawGraticule(); panel.drawTools(); },
    "change:base change:bases": () => { backdrop.drawBase(); panel.drawTools(); },
    "change:vectors": () => backdrop.drawVectors(),
    "change:marked": () => backdrop.drawMark(),
    "change:drawn": () => inspector.drawGiven(),
    "change:features": () => panel.search.form.replaceWith((panel.search = new Search(ctx)).form),
  };
  for (const [names, action] of Object.entries(reactions)) {
    model.on(names, action);
    cleanup.push(() => model.off(names, action));
  }
  leaflet.on("zoomend moveend resize", ctx.drawScale);
  // A tile may take its whole time limit: say what is wrong as soon as the first one failed.
  const timer = setInterval(() => {
    if (document.hidden) return;
    for (const entry of ctx.entries) {
      if (entry.layer.get("loading") || entry.waiting) entry.look();
      else entry.drawNote();
      freshen(entry.layer);
    }
  }, POLL_MS);
  cleanup.push(() => {
    clearInterval(timer);
    leaflet.off("zoomend moveend resize", ctx.drawScale);
    for (const entry of ctx.entries) entry.layer.off(null, null, entry);
    for (const part of [backdrop, inspector, swipe, stack, panel]) part.end();
  });
  await rebuild(ctx);
}

export default { render };
