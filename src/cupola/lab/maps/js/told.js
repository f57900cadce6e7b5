// What the server told of pictures when it sent them: at which scale it computed each, and whether a run gives its
// values. The browser keeps pictures together with that, so asking for those on screen costs the server nothing.
const MOST_TOLD = 2000;
const AFTER_FAILURE_MS = 30000;

class Told {
  constructor(signal, head) {
    Object.assign(this, { signal, head, known: new Map(), failed: new Map() });
  }

  async of(address) {
    const { known, failed } = this;
    if (known.has(address)) return known.get(address);
    if (performance.now() - failed.get(address) < AFTER_FAILURE_MS) return null;
    const options = { headers: this.head(), credentials: "same-origin", signal: this.signal, cache: "force-cache" };
    let found = null;
    try {
      const answer = await fetch(address, options);
      if (!answer.ok) throw new Error(answer.statusText);
      found = toldBy(answer);
      known.set(address, found);
    } catch {
      failed.set(address, performance.now());
    }
    for (const kept of [known, failed]) if (kept.size > MOST_TOLD) kept.delete(kept.keys().next().value);
    return found;
  }

  // Of all pictures that are shown; `again` is whether it may be asked for what was not looked at before.
  async together(addresses, again = true) {
    const wanted = again ? addresses : addresses.filter((address) => this.known.has(address));
    return summed(await Promise.all(wanted.map((address) => this.of(address))));
  }
}

// What one answer tells: nothing for a picture without a pixel.
function toldBy(answer) {
  const scale = Number(answer.headers.get("X-Cupola-Scale"));
  return scale > 0 ? { scale, exact: answer.headers.get("X-Cupola-Exact") === "True" } : null;
}

function summed(found) {
  const told = found.filter(Boolean);
  if (!told.length) return null;
  const scales = told.map((one) => one.scale);
  const exact = told.filter((one) => one.exact).length;
  return { low: Math.min(...scales), high: Math.max(...scales), exact: exact === told.length, partly: exact > 0 };
}

// The word below a legend. `length` writes a size of pixels; `asked` is whether an exact preview is wanted.
function scaleWord(told, { asked, halo, pinned, resolution, length }) {
  if (!told) return "";
  const { low, high } = told;
  const range = high > low * 1.05 ? `${length(low)} to ${length(high)}` : length(high);
  if (told.exact) {
    if (pinned) return `computed at ${range}/px, as in a run`;
    if (!halo && !asked) return "";
    return `${asked ? "exact preview: " : ""}computed at full resolution (${length(resolution || low)}/px)`;
  }
  const full = resolution ? `, full resolution is ${length(resolution)}/px` : "";
  if (asked && told.partly) return `exact only in a part of this view: computed at ${range}/px${full}; zoom in`;
  if (asked) return `no exact preview of so large a view: computed at ${range}/px${full}; zoom in`;
  // After a reduction the view has pixels of its own, and so have its neighbours.
  if (resolution && high <= resolution * 1.05) return `computed on the pixels of this view, as fine as full resolution (${length(resolution)}/px)`;
  return `computed at ${range}/px${full}`;
}
