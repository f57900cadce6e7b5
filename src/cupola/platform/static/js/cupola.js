// What makes the pages nicer; without it every page still works.
(() => {
  "use strict";
  const root = document.documentElement;

  // ── Theme ─────────────────────────────────────────────────────────────────
  const night = matchMedia("(prefers-color-scheme: dark)");
  const dark = () => (root.dataset.theme ? root.dataset.theme === "dark" : night.matches);

  function showTheme() {
    for (const button of document.querySelectorAll("[data-theme-switch]")) {
      const label = dark() ? "Switch to the light look" : "Switch to the dark look";
      button.setAttribute("aria-label", label);
      button.title = label;
      button.hidden = false;
      button.querySelector(".when-light").toggleAttribute("hidden", dark());
      button.querySelector(".when-dark").toggleAttribute("hidden", !dark());
    }
    document.dispatchEvent(new Event("cupola:theme"));
  }

  function switchTheme() {
    root.dataset.theme = dark() ? "light" : "dark";
    try {
      localStorage.setItem("jupyterhub-bs-theme", root.dataset.theme);
    } catch {
      // Then it holds for this page only.
    }
    showTheme();
  }

  // ── Times ─────────────────────────────────────────────────────────────────
  // The same words as handlers/pages/wording.py: a page that stays open must not grow stale.
  function ago(seconds) {
    if (seconds < 45) return "just now";
    const minutes = Math.max(1, Math.round(seconds / 60));
    if (minutes < 60) return `${minutes} min ago`;
    const hours = Math.round(seconds / 3600);
    if (hours < 24) return `${hours} h ago`;
    const days = Math.round(seconds / 86400);
    if (days === 1) return "yesterday";
    return days < 14 ? `${days} days ago` : null;
  }

  function tellTimes(part = document) {
    for (const time of part.querySelectorAll("time[data-ago]")) {
      const text = ago((Date.now() - Date.parse(time.dateTime)) / 1000);
      if (text && time.textContent !== text) time.textContent = text;
    }
  }

  // ── Copy ──────────────────────────────────────────────────────────────────
  async function copy(button) {
    const text = button.closest(".code").querySelector("pre").textContent;
    const label = button.querySelector("[data-label]");
    try {
      await navigator.clipboard.writeText(text);
      label.textContent = "Copied";
    } catch {
      // Plain HTTP has no clipboard: mark the text, so that one key does it.
      getSelection().selectAllChildren(button.closest(".code").querySelector("pre"));
      label.textContent = "Press Ctrl+C";
    }
    setTimeout(() => (label.textContent = "Copy"), 2500);
  }

  // ── Questions before something ends ───────────────────────────────────────
  const dialog = document.getElementById("ask");
  let asking = null;

  function ask(form) {
    asking = { form, id: document.activeElement?.id };
    dialog.querySelector("h2").textContent = form.dataset.ask;
    dialog.querySelector("p").textContent = form.dataset.askMore || "";
    dialog.querySelector("[data-yes]").textContent = form.dataset.askYes || "Yes";
    const instead = dialog.querySelector("[data-instead]");
    instead.hidden = !form.dataset.askInstead;
    instead.href = form.dataset.askInstead || "";
    dialog.returnValue = "";
    dialog.showModal();
  }

  dialog?.addEventListener("close", () => {
    const { form, id } = asking ?? {};
    asking = null;
    if (!form) return;
    if (dialog.returnValue === "yes") {
      form.dataset.asked = "yes";
      form.requestSubmit();
    } else if (id) {
      document.getElementById(id)?.focus();
    }
  });

  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (form.dataset.ask && !form.dataset.asked && dialog) {
      event.preventDefault();
      ask(form);
      return;
    }
    // Not `disabled`: that would also leave the button's own value out of the form.
    if (form.method === "post") {
      if (form.dataset.sent) event.preventDefault();
      form.dataset.sent = "yes";
    }
  });

  // ── Live parts ────────────────────────────────────────────────────────────
  document.addEventListener("htmx:beforeRequest", (event) => {
    // Nobody looks, or somebody is about to answer a question about this very part.
    if (event.detail.requestConfig.verb === "get" && (document.hidden || dialog?.open)) event.preventDefault();
  });
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) return;
    for (const part of document.querySelectorAll("[data-live]")) window.htmx?.trigger(part, "look");
  });

  // What a reader has opened stays open when its part is drawn anew.
  let opened = new Set();
  document.addEventListener("htmx:beforeSwap", (event) => {
    if (dialog?.open) event.detail.shouldSwap = false;
    const open = event.detail.target.querySelectorAll("details[open][id]");
    opened = new Set([...open].map((details) => details.id));
  });
  document.addEventListener("htmx:load", (event) => {
    for (const id of opened) document.getElementById(id)?.setAttribute("open", "");
    tellTimes(event.detail.elt);
  });
  const lost = document.getElementById("lost");
  const quiet = (is) => lost && (lost.hidden = !is);
  document.addEventListener("htmx:sendError", () => quiet(true));
  document.addEventListener("htmx:responseError", (event) => quiet(event.detail.xhr.status >= 500));
  document.addEventListener("htmx:afterRequest", (event) => event.detail.successful && quiet(false));

  // ── Everything that is clicked ────────────────────────────────────────────
  document.addEventListener("click", (event) => {
    const at = (selector) => event.target.closest?.(selector);
    if (at("[data-theme-switch]")) switchTheme();
    const button = at(".code .copy");
    if (button) copy(button);
    if (at("[data-dismiss]")) at("[data-dismissed]").remove();
    for (const menu of document.querySelectorAll("details.menu[open]")) {
      if (!menu.contains(event.target)) menu.open = false;
    }
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    for (const menu of document.querySelectorAll("details.menu[open]")) {
      menu.open = false;
      menu.querySelector("summary").focus();
    }
  });

  // A page that "back" brings out of the browser's memory shows what was, and its forms are used up.
  addEventListener("pageshow", (event) => event.persisted && location.reload());
  night.addEventListener("change", showTheme);
  setInterval(tellTimes, 20000);
  showTheme();
  tellTimes();
})();
