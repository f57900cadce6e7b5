// The grid of tasks on the page of a job: the panel in a notebook shows the same one.
import { TaskGrid } from "../taskgrid.js";

// "done 3,running 2" → [["done", 3], ["running", 2]]
const runs = (text) =>
  text
    .split(",")
    .filter(Boolean)
    .map((run) => run.split(" "))
    .map(([state, length]) => [state, Number(length)]);

const grids = new Map();

function attach() {
  // What a live part brought anew goes on where the one before it was.
  let last = null;
  for (const [area, grid] of grids) {
    if (area.isConnected) continue;
    last = { chosen: grid.chosen, only: grid.only, pointed: grid.pointed, top: grid.top, focused: grid.focused };
    grid.close();
    grids.delete(area);
  }
  for (const area of document.querySelectorAll(".grid-area[data-runs]")) {
    if (grids.has(area)) continue;
    const grid = new TaskGrid(area, (task, open) => {
      if (open && area.dataset.log) location.href = `${area.dataset.log}${task}`;
    });
    grids.set(area, grid);
    grid.chosen = last?.chosen ?? null;
    grid.set(runs(area.dataset.runs));
    if (last?.only) grid.showOnly(last.only);
    grid.scroll.scrollTop = last?.top ?? 0;
    grid.point(last?.pointed ?? null);
    if (last?.focused) grid.canvas.focus({ preventScroll: true });
  }
}

document.addEventListener("htmx:beforeSwap", () => {
  for (const grid of grids.values()) {
    grid.top = grid.scroll.scrollTop;
    grid.focused = document.activeElement === grid.canvas;
  }
});
// Not only at `htmx:load`, which comes a moment later: nobody is to see the place empty, or lose the focus.
document.addEventListener("htmx:afterSwap", attach);
document.addEventListener("htmx:load", attach);
document.addEventListener("cupola:theme", () => grids.forEach((grid) => grid.repaint()));
attach();
