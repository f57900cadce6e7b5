// Loaded in the head and before anything is painted: a remembered theme must not flash.
(() => {
  const root = document.documentElement;
  root.classList.add("js");
  let kept = null;
  try {
    kept = localStorage.getItem("cupola-theme");
  } catch {
    // Storage may be switched off; the system's choice holds then.
  }
  if (kept === "light" || kept === "dark") root.dataset.theme = kept;
})();
