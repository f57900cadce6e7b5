// What makes the launch form nicer; without it the form does all the same.
(() => {
  "use strict";

  // ── Search among many volumes ─────────────────────────────────────────────
  for (const part of document.querySelectorAll("[data-searched]")) {
    const field = part.querySelector("[data-search]");
    if (!field) continue;
    const options = [...part.querySelectorAll("[data-words]")];
    const found = part.querySelector("[data-found]");
    part.querySelector(".search").hidden = false;
    field.addEventListener("input", () => {
      const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const option of options) {
        // What is chosen stays in sight: nobody shall launch with something forgotten.
        const fits = words.every((word) => option.dataset.words.includes(word));
        option.hidden = !fits && !option.querySelector("input").checked;
        if (fits) shown += 1;
      }
      found.textContent = words.length ? `${shown} of ${options.length} fit` : "";
    });
    field.addEventListener("keydown", (event) => event.key === "Enter" && event.preventDefault());
  }

  // ── More rows for variables ───────────────────────────────────────────────
  for (const button of document.querySelectorAll("[data-more-rows]")) {
    button.hidden = false;
    button.addEventListener("click", () => {
      const rows = button.parentElement.querySelectorAll(".variable");
      const row = rows[rows.length - 1].cloneNode(true);
      for (const input of row.querySelectorAll("input")) {
        input.value = "";
        input.setAttribute("aria-label", input.getAttribute("aria-label").replace(/\d+$/, rows.length + 1));
      }
      button.before(row);
      row.querySelector("input").focus();
    });
  }
})();
