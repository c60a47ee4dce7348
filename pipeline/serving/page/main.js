// The page: asks the server again and again while it is seen, and shows the models and the chosen one.
import { byId, make } from "./elements.js";
import { chip, described, modelView, stateOf } from "./model.js";
import { documentOf, hasToken, useToken } from "./server.js";
import { History, lineOf } from "./statistics.js";

const EVERY_MS = 2000;
/** Longest pause between questions while the server does not answer. */
const SELDOM_MS = 15000;

const cards = new Map();
const histories = new Map();
let entries = [];
let view = null;
let timer = null;
let pause = EVERY_MS;
let paused = false;
let refused = false;
let asking = false;

// -- the models -----------------------------------------------------------------------------------

function chosen() {
  const wanted = new URLSearchParams(location.hash.slice(1)).get("model");
  return entries.find((entry) => entry.name === wanted) ?? entries[0];
}

function linkOf(name) {
  return `#${new URLSearchParams({ model: name })}`;
}

/** Cards stay the same elements, so that the keyboard's focus stays where it is. */
function showCards() {
  const list = byId("models");
  const names = new Set(entries.map((entry) => entry.name));
  for (const [name, card] of cards) {
    if (!names.has(name)) {
      card.item.remove();
      cards.delete(name);
    }
  }
  for (const entry of entries) {
    if (!cards.has(entry.name)) {
      const card = { state: make("span", {}), line: make("p", { class: "quiet" }), reason: make("p", { class: "reason", hidden: true }) };
      card.version = make("span", { class: "quiet" });
      card.link = make("a", { href: linkOf(entry.name) }, make("span", { class: "head" }, make("span", { class: "name" }, entry.name, " ", card.version), card.state), card.line, card.reason);
      card.item = make("li", {}, card.link);
      cards.set(entry.name, card);
      list.append(card.item);
    }
    const card = cards.get(entry.name);
    const state = stateOf(entry);
    card.state.replaceChildren(chip(state));
    card.version.textContent = entry.version ? `v${entry.version}` : "";
    card.reason.textContent = entry.reason ?? "";
    card.reason.hidden = !entry.reason;
    const history = histories.get(entry.name);
    card.line.textContent = history?.samples.length ? lineOf(history) : "";
    if (entry === chosen()) card.link.setAttribute("aria-current", "true");
    else card.link.removeAttribute("aria-current");
  }
  byId("model-count").textContent = entries.length > 1 ? `(${entries.length})` : "";
}

async function showDetail() {
  const entry = chosen();
  if (!entry) {
    view = null;
    byId("detail").replaceChildren(make("p", { class: "panel quiet" }, "The server has no models."));
    return;
  }
  const key = `${entry.name} ${entry.version ?? ""}`;
  if (view?.key !== key) {
    const loaded = stateOf(entry).className !== "unloaded";
    if (!loaded) {
      view = { key: null };
      byId("detail").replaceChildren(make("h2", { id: "detail-name" }, entry.name, " "), chip(stateOf(entry)), make("p", { class: "quiet" }, "This model is not loaded, so the server tells nothing of it."));
      document.title = `${entry.name} · trtlab`;
      return;
    }
    const found = await described(entry.name);
    // Another one may have been chosen meanwhile.
    if (chosen()?.name !== entry.name) return;
    view = { key, ...modelView(entry.name, found) };
    byId("detail").replaceChildren(view.element);
    document.title = `${entry.name} · trtlab`;
  }
  view.update(entry, histories.get(entry.name));
}

function showServer() {
  const known = entries.filter((entry) => stateOf(entry).className !== "unloaded");
  const ready = known.filter((entry) => entry.state === "READY").length;
  const all = known.length > 0 && ready === known.length;
  const state = byId("server-state");
  state.className = `state ${all ? "ready" : known.length ? "not-ready" : "unloaded"}`;
  const word = all ? (known.length > 1 ? `all ${ready} models are ready` : "ready") : `${ready} of ${known.length} models ready`;
  state.querySelector(".word").textContent = word;
}

// -- asking ---------------------------------------------------------------------------------------

async function look() {
  const [index, statistics] = await Promise.all([
    documentOf("v2/repository/index", { method: "POST" }),
    documentOf("v2/models/stats"),
  ]);
  const now = performance.now();
  entries = index;
  for (const stats of statistics.model_stats) {
    if (!histories.has(stats.name)) histories.set(stats.name, new History());
    histories.get(stats.name).add(stats, now);
  }
  if (!byId("server-version").textContent) {
    byId("server-version").textContent = (await documentOf("v2")).version;
  }
  showServer();
  showCards();
  await showDetail();
}

function trouble(error) {
  const place = byId("trouble");
  const text = error ? error.message : "";
  // The same text again would be read out again.
  if (place.textContent !== text) place.textContent = text;
  place.hidden = !error;
  if (error?.status === 0 || error?.status === 503) {
    const state = byId("server-state");
    state.className = "state not-ready";
    state.querySelector(".word").textContent = "no answer";
  }
}

/** Ask once, and again after a while, unless the page is not seen or was told to pause. */
async function poll() {
  clearTimeout(timer);
  if (asking) return;
  asking = true;
  try {
    await look();
    trouble(null);
    refused = false;
    pause = EVERY_MS;
    byId("updated").textContent = `as of ${new Date().toLocaleTimeString()}`;
  } catch (error) {
    refused = error.status === 401;
    if (refused) askForToken(hasToken() ? "This token is not the server's." : "This server needs a token.");
    trouble(refused ? null : error);
    pause = Math.min(SELDOM_MS, pause * 1.5);
  } finally {
    asking = false;
  }
  next();
}

function next() {
  clearTimeout(timer);
  if (!document.hidden && !paused && !refused) timer = setTimeout(poll, pause);
}

// -- the token ------------------------------------------------------------------------------------

function openAccess(open) {
  byId("access").hidden = !open;
  byId("token-open").setAttribute("aria-expanded", String(open));
}

function askForToken(why) {
  byId("access-why").textContent = why;
  byId("empty")?.replaceChildren("The models are shown when the server has its token.");
  const state = byId("server-state");
  state.className = "state unknown";
  state.querySelector(".word").textContent = "needs a token";
  if (byId("access").hidden) {
    openAccess(true);
    byId("token").focus();
  }
}

byId("token-open").addEventListener("click", () => {
  byId("access-why").textContent = hasToken() ? "There is a token." : "Calls go without a token.";
  openAccess(byId("access").hidden);
  if (!byId("access").hidden) byId("token").focus();
});

byId("access").addEventListener("submit", (event) => {
  event.preventDefault();
  useToken(byId("token").value.trim());
  byId("token").value = "";
  openAccess(false);
  poll();
});

byId("token-forget").addEventListener("click", () => {
  useToken("");
  openAccess(false);
  poll();
});

// -- the rest -------------------------------------------------------------------------------------

byId("pause").addEventListener("click", () => {
  paused = !paused;
  byId("pause").setAttribute("aria-pressed", String(paused));
  byId("pause").textContent = paused ? "Paused" : "Pause";
  if (paused) next();
  else poll();
});

byId("openapi").addEventListener("click", async (event) => {
  // A link brings no token, so with one the document is fetched here, and shown as what it is.
  if (!hasToken()) return;
  event.preventDefault();
  try {
    const text = JSON.stringify(await documentOf("openapi.json"), null, 2);
    const link = make("a", { href: URL.createObjectURL(new Blob([text], { type: "application/json" })), download: "openapi.json" });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  } catch (error) {
    trouble(error);
  }
});

document.addEventListener("visibilitychange", () => {
  if (document.hidden) clearTimeout(timer);
  else if (!paused && !refused) poll();
});

// Not as a link: the address names the chosen model.
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  byId("detail").focus();
});

addEventListener("hashchange", async () => {
  try {
    showCards();
    await showDetail();
    byId("detail").focus();
  } catch (error) {
    trouble(error);
  }
});

poll();
