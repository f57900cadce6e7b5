// Small plots as SVG: a histogram, and values over time. They take the colours of the page around them.
const PLOT = { width: 260, height: 84, left: 44, bottom: 16, top: 6, right: 6 };

function svg(kind, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", kind);
  for (const [name, text] of Object.entries(attributes)) made.setAttribute(name, text);
  return made;
}

// A number that stands beside an axis: three digits that matter are enough.
function short(number_) {
  if (number_ !== 0 && (Math.abs(number_) >= 1e5 || Math.abs(number_) < 1e-3)) return number_.toExponential(1);
  return Number(number_.toPrecision(3)).toString();
}

function frame(title, low, high, first, last) {
  const { width, height, left, bottom, top, right } = PLOT;
  const plot = svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", class: "cupola-plot" });
  plot.append(svg("title", {}));
  plot.firstChild.textContent = title;
  plot.append(svg("path", { d: `M${left} ${top}V${height - bottom}H${width - right}`, class: "cupola-axis" }));
  const word = (x, y, anchor, text) => {
    const made = plot.appendChild(svg("text", { x, y, "text-anchor": anchor }));
    made.textContent = text;
  };
  word(left - 3, top + 8, "end", high);
  word(left - 3, height - bottom, "end", low);
  word(left, height - 4, "start", first);
  word(width - right, height - 4, "end", last);
  return plot;
}

function histogram(edges, counts, title) {
  const { width, height, left, bottom, top, right } = PLOT;
  const most = Math.max(1, ...counts);
  const plot = frame(title, "0", most.toLocaleString("en"), short(edges[0]), short(edges[edges.length - 1]));
  const step = (width - left - right) / counts.length;
  counts.forEach((count, index) => {
    const tall = ((height - top - bottom) * count) / most;
    plot.append(svg("rect", {
      x: left + index * step, y: height - bottom - tall, width: Math.max(step - 0.5, 0.5), height: tall,
      class: "cupola-filled",
    }));
  });
  return plot;
}

// Points are pairs of a time (ISO text) and a value.
function series(points, title) {
  const { width, height, left, bottom, top, right } = PLOT;
  const known = points
    .map(([time, number_]) => [Date.parse(time), number_])
    .filter(([time, number_]) => Number.isFinite(time) && number_ !== null && Number.isFinite(number_))
    .sort((one, other) => one[0] - other[0]);
  if (known.length < 2) return null;
  const [first, last] = [known[0][0], known[known.length - 1][0]];
  const low = Math.min(...known.map((point) => point[1]));
  const high = Math.max(...known.map((point) => point[1]));
  const day = (time) => new Date(time).toISOString().slice(0, 10);
  const plot = frame(title, short(low), short(high), day(first), day(last));
  const x = (time) => left + ((width - left - right) * (time - first)) / (last - first || 1);
  const y = (number_) => height - bottom - ((height - top - bottom - 4) * (number_ - low)) / (high - low || 1);
  const line = known.map(([time, number_], index) => `${index ? "L" : "M"}${x(time).toFixed(1)} ${y(number_).toFixed(1)}`);
  plot.append(svg("path", { d: line.join(""), class: "cupola-line" }));
  for (const [time, number_] of known) plot.append(svg("circle", { cx: x(time), cy: y(number_), r: 1.8, class: "cupola-filled" }));
  return plot;
}
