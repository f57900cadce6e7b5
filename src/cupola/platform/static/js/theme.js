// Loaded in the head and before anything is painted: a remembered theme must not flash.
(() => {
  const root = document.documentElement;
  root.classList.add("js");
  // The name is that of the hub, whose pages then look the same.
  let kept = null;
  try {
    kept = localStorage.getItem("jupyterhub-bs-theme");
  } catch {
    // Storage may be switched off; the system's choice holds then.
  }
  if (kept === "light" || kept === "dark") root.dataset.theme = kept;
})();
