// Shows the screen of a session: connects by itself, takes the size of the window, shares the clipboard.
import RFB from "./novnc/core/rfb.js";

const LONGEST_WAIT = 8000; // ms between two tries
const GIVE_UP_ASKING = 5; // tries after which a person may want to know more
const screen = document.getElementById("screen");
const notice = document.getElementById("notice");
const panel = document.getElementById("clipboard");
const text = document.getElementById("clipboard-text");
let rfb = null;
let tries = 0;

function tell(sentence, button) {
  notice.replaceChildren(Object.assign(document.createElement("p"), { textContent: sentence }));
  if (button) {
    const again = Object.assign(document.createElement("button"), { type: "button", textContent: button });
    again.addEventListener("click", () => location.reload());
    notice.append(again);
  }
  notice.hidden = false;
}

function connect() {
  const address = new URL("rfb", location.href);
  address.protocol = address.protocol.replace("http", "ws");
  address.search = address.hash = "";
  rfb = new RFB(screen, address.href, { shared: true });
  rfb.resizeSession = true;
  rfb.scaleViewport = true; // where two look at it, the smaller window sees all of it too
  rfb.background = "#12202f";
  rfb.qualityLevel = 8;
  rfb.compressionLevel = 2;
  rfb.addEventListener("connect", () => {
    tries = 0;
    notice.hidden = true;
    rfb.focus();
    readClipboard();
  });
  rfb.addEventListener("disconnect", lost);
  rfb.addEventListener("clipboard", (event) => keepClipboard(event.detail.text));
}

async function lost() {
  rfb = null;
  tries += 1;
  tell("The connection to the session was lost. Trying again …", tries > GIVE_UP_ASKING ? "Reload" : null);
  try {
    const asked = { redirect: "manual", cache: "no-store", headers: { Accept: "text/html" } };
    const answer = await fetch(location.href, asked);
    // A proxy that just came up knows no session yet, and says so in plain text.
    const ended = [404, 424].includes(answer.status) && answer.headers.get("Content-Type")?.startsWith("text/html");
    if (answer.status === 403) {
      tell("You have no access to this session (any more). Ask its owner, or sign in again.", "Sign in");
      return;
    }
    if (answer.type === "opaqueredirect" || ended) {
      location.reload(); // to the sign-in, or to the platform's page on how the session ended
      return;
    }
  } catch {
    // The network is away: the next try tells.
  }
  setTimeout(connect, Math.min(500 * 2 ** tries, LONGEST_WAIT));
}

// -- the clipboard: by itself where the browser allows it (https, and asked), by the panel everywhere ---------------------

let known = "";
let read = ""; // what the browser's clipboard held last: only what is new there goes to the screen

function keepClipboard(value) {
  known = text.value = value;
  navigator.clipboard?.writeText(value).catch(() => {});
}

async function readClipboard() {
  if (!rfb || !navigator.clipboard?.readText || !document.hasFocus()) return;
  try {
    const value = await navigator.clipboard.readText();
    if (value && value !== known && value !== read) {
      known = text.value = value;
      rfb.clipboardPasteFrom(value);
    }
    read = value;
  } catch {
    // Not allowed: there is the panel.
  }
}

window.addEventListener("focus", readClipboard);
screen.addEventListener("pointerenter", readClipboard);
text.addEventListener("input", () => {
  known = text.value;
  rfb?.clipboardPasteFrom(text.value);
});

function openPanel(open) {
  panel.hidden = !open;
  document.getElementById("clipboard-button").setAttribute("aria-expanded", String(open));
  if (open) text.focus();
  else rfb?.focus();
}

document.getElementById("clipboard-button").addEventListener("click", () => openPanel(panel.hidden));
panel.addEventListener("keydown", (event) => event.key === "Escape" && openPanel(false));
panel.addEventListener("submit", (event) => event.preventDefault());
screen.addEventListener("pointerdown", () => panel.hidden || openPanel(false));

document.getElementById("full-button").addEventListener("click", async () => {
  if (document.fullscreenElement) await document.exitFullscreen();
  else await document.documentElement.requestFullscreen();
  rfb?.focus();
});
document.addEventListener("fullscreenchange", () => {
  const full = Boolean(document.fullscreenElement);
  document.getElementById("full-button").textContent = full ? "Leave full screen" : "Full screen";
});

connect();
