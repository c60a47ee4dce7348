// The page of the cameras: their pictures as they come, how each of them is, and what has happened.
import { Card, keyOf } from "./camera_card.js";
import { showEvents } from "./camera_events.js";
import { byId } from "./elements.js";
import { Parts } from "./multipart.js";
import { ask, documentOf, hasToken, useToken } from "./server.js";

const STATE_MS = 2000;
const EVENTS_MS = 3000;
const TICK_MS = 500;
/** Pause before the stream is asked for again: doubled each time up to the longest. */
const SOON_MS = 500;
const SELDOM_MS = 8000;

const cards = new Map();
let edits = false;
let refused = false;
let stream = null;
let pause = SOON_MS;
const troubles = new Map();

// -- what is wrong ---------------------------------------------------------------------------------

function trouble(where, text) {
  if (text) troubles.set(where, text);
  else troubles.delete(where);
  const all = [...new Set(troubles.values())].join(" ");
  const line = byId("trouble");
  if (line.textContent !== all) line.textContent = all;
  line.hidden = !all;
}

/** An error of a call; true: it is about the token, which is asked for. */
function failed(where, error) {
  if (error.status === 401) {
    refused = true;
    trouble(where, "");
    openAccess(hasToken() ? "The server does not take this token." : "This server needs a token.");
    return true;
  }
  trouble(where, error.status === 0 ? "The server does not answer. Pictures and figures below are the last that came; this page tries again." : error.message);
  return false;
}

// -- the cameras -----------------------------------------------------------------------------------

function showCameras(found) {
  const keys = new Set(found.map(keyOf));
  for (const [key, card] of cards) {
    if (!keys.has(key)) {
      card.item.remove();
      cards.delete(key);
    }
  }
  for (const camera of found) {
    let card = cards.get(keyOf(camera));
    if (!card) {
      card = new Card(camera, { edits: () => edits, failed: (error) => failed("switch", error) });
      cards.set(keyOf(camera), card);
      byId("cameras").append(card.item);
    }
    card.told(camera, true);
  }
  const chosen = byId("events-of");
  const names = [...cards.keys()];
  if ([...chosen.options].slice(1).map((option) => option.value).join() !== names.join()) {
    const before = chosen.value;
    while (chosen.options.length > 1) chosen.remove(1);
    for (const [key, card] of cards) chosen.add(new Option(card.title, key));
    chosen.value = names.includes(before) ? before : "";
  }
  chosen.hidden = names.length < 2;
  const several = new Set(found.map((camera) => camera.model)).size > 1;
  for (const card of cards.values()) card.showModel(several);
}

function summarise(models) {
  const all = [...cards.values()];
  const live = all.filter((card) => card.state.kind === "live").length;
  const kind = !all.length ? "unknown" : live === all.length ? "live" : live ? "waiting" : all.every((card) => card.state.kind === "over") ? "over" : "lost";
  const word = !all.length ? "no cameras" : live === all.length ? (live === 1 ? "live" : `all ${live} live`) : `${live} of ${all.length} live`;
  showSummary(kind, word);
  const empty = byId("empty");
  empty.hidden = all.length > 0;
  empty.textContent = "No pipeline of this server has cameras. They are the `sources:` of its YAML file.";
  const bad = Object.entries(models).filter(([, why]) => why).map(([name, why]) => `${name} is not ready: ${why}.`);
  trouble("models", bad.join(" "));
}

function showSummary(kind, word) {
  const summary = byId("summary");
  summary.className = `state ${kind}`;
  const text = summary.querySelector(".word");
  if (text.textContent !== word) text.textContent = word;
}

async function askState() {
  if (refused || document.hidden) return;
  try {
    const found = await documentOf("cameras/state");
    edits = found.edit;
    showCameras(found.cameras);
    summarise(found.models);
    trouble("state", "");
  } catch (error) {
    failed("state", error);
    showSummary("unknown", refused ? "no access" : "no answer");
    cards.forEach((card) => card.unknown());
  }
}

// -- the stream ------------------------------------------------------------------------------------

async function follow() {
  if (refused || document.hidden || stream) return;
  const own = new AbortController();
  stream = own;
  try {
    const response = await ask("cameras/stream", { signal: own.signal });
    const reader = response.body.getReader();
    const parts = new Parts();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      pause = SOON_MS;
      trouble("stream", "");
      for (const part of parts.take(value)) take(part);
    }
  } catch (error) {
    // Broken off: by this page, or with the server. `askState` says if that does not answer.
    if (error.status) failed("stream", error);
  }
  if (stream === own) stream = null;
  if (!document.hidden && !refused) {
    setTimeout(follow, pause);
    pause = Math.min(2 * pause, SELDOM_MS);
  }
}

function take(part) {
  const [, , model, name] = part.location.split("/").map(decodeURIComponent);
  const card = cards.get(keyOf({ model, camera: name.replace(/\.jpg$/, "") }));
  if (!card) return;
  if (part.type === "image/jpeg") card.pictured(part.bytes);
  else card.told(JSON.parse(new TextDecoder().decode(part.bytes)), false);
}

// -- events ----------------------------------------------------------------------------------------

async function askEvents() {
  if (refused || document.hidden) return;
  try {
    const found = await documentOf("cameras/events");
    showEvents(found.events, byId("events-of").value, found.time);
    trouble("events", "");
  } catch (error) {
    failed("events", error);
  }
}

// -- the token -------------------------------------------------------------------------------------

function openAccess(why) {
  byId("access-why").textContent = why;
  byId("access").hidden = false;
  byId("token-open").setAttribute("aria-expanded", "true");
  if (why) byId("token").focus();
}

function closeAccess() {
  byId("access").hidden = true;
  byId("token-open").setAttribute("aria-expanded", "false");
}

function begin() {
  refused = false;
  pause = SOON_MS;
  askState().then(follow);
  askEvents();
}

byId("token-open").addEventListener("click", () => (byId("access").hidden ? openAccess("") : closeAccess()));
byId("access").addEventListener("submit", (event) => {
  event.preventDefault();
  useToken(byId("token").value.trim());
  byId("token").value = "";
  closeAccess();
  begin();
});
byId("token-forget").addEventListener("click", () => {
  useToken("");
  closeAccess();
  stream?.abort();
  begin();
});

byId("events-of").addEventListener("change", askEvents);
document.addEventListener("visibilitychange", () => {
  // A page that is not seen asks for nothing, so that sources draw nothing for it.
  if (document.hidden) stream?.abort();
  else begin();
});
setInterval(askState, STATE_MS);
setInterval(askEvents, EVENTS_MS);
setInterval(() => cards.forEach((card) => card.tick()), TICK_MS);
begin();
