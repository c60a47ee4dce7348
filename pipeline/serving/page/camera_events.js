// The events of cameras, newest first, with their snapshots and clips.
import { keyOf, seconds } from "./camera_card.js";
import { byId, make } from "./elements.js";

const MOST = 30;
const items = new Map();
let opener = null;

/** What has happened, in words. */
function told(event) {
  const place = event.zone ? ` ${event.zone}` : "";
  const what = event.label ?? "something";
  switch (event.rule) {
    case "object": return `${what} seen`;
    case "enter": return place ? `${what} entered${place}` : `${what} came into the picture`;
    case "loiter": return `${what} stays${place ? ` in${place}` : ""}`;
    case "leave": return place ? `${what} left${place}` : `${what} left`;
    case "count": return `${event.count} at once${place ? ` in${place}` : ""}`;
    // Of an event before this run there is no more than its recording.
    default: return "recorded";
  }
}

function moment(time, now) {
  const when = new Date(1000 * time);
  const clock = when.toLocaleTimeString();
  return now - time < 43200 ? clock : `${when.toLocaleDateString()} ${clock}`;
}

/** Show the events of one camera, or of all. */
export function showEvents(events, of, now) {
  const shown = events.filter((event) => !of || keyOf(event) === of).slice(0, MOST);
  const keys = shown.map((event) => `${keyOf(event)}/${event.id}`);
  for (const [key, item] of items) {
    if (!keys.includes(key)) {
      item.element.remove();
      items.delete(key);
    }
  }
  const list = byId("events");
  shown.forEach((event, index) => {
    const key = keys[index];
    if (!items.has(key)) items.set(key, new Item());
    const item = items.get(key);
    item.show(event, now);
    // Elements stay the same, so that the keyboard's focus stays where it is.
    if (list.children[index] !== item.element) list.insertBefore(item.element, list.children[index] ?? null);
  });
  byId("no-events").hidden = shown.length > 0;
}

class Item {
  constructor() {
    this.image = make("img", { loading: "lazy", alt: "", hidden: true });
    this.what = make("p", { class: "what" });
    this.when = make("p", { class: "quiet" });
    this.play = make("button", { type: "button", hidden: true, onclick: () => openClip(this.event, this.play) }, "Play clip");
    this.element = make("li", {}, this.image, make("div", {}, this.what, this.when, this.play));
    // A snapshot that was deleted meanwhile.
    this.image.addEventListener("error", () => this.picture(false));
  }

  picture(there) {
    this.image.hidden = !there;
    this.element.classList.toggle("plain", !there);
  }

  show(event, now) {
    this.event = event;
    const words = told(event);
    this.what.textContent = words;
    const lasts = event.end === null && event.rule ? make("span", { class: "on-now" }, " · goes on") : event.duration ? ` · ${seconds(event.duration)}` : "";
    this.when.replaceChildren(`${event.camera} · `, make("time", { datetime: new Date(1000 * event.start).toISOString() }, moment(event.start, now)), lasts);
    if (event.snapshot && this.image.getAttribute("src") !== event.snapshot) {
      this.image.setAttribute("src", event.snapshot);
      this.picture(true);
    }
    if (!event.snapshot) this.picture(false);
    this.image.alt = `${event.camera}, ${moment(event.start, now)}: ${words}`;
    this.play.hidden = !event.clip;
    this.play.setAttribute("aria-label", `Play clip: ${words}, ${event.camera}, ${moment(event.start, now)}`);
  }
}

function openClip(event, from) {
  opener = from;
  byId("clip-head").textContent = `${event.camera}: ${told(event)}`;
  const video = byId("clip-video");
  byId("clip-trouble").hidden = true;
  byId("clip-save").href = event.clip;
  video.setAttribute("aria-label", byId("clip-head").textContent);
  video.src = event.clip;
  byId("clip").showModal();
  // A browser may refuse to play by itself: then the person presses play.
  video.play().catch(() => {});
}

byId("clip-close").addEventListener("click", () => byId("clip").close());
byId("clip-video").addEventListener("error", () => {
  if (byId("clip-video").hasAttribute("src")) byId("clip-trouble").hidden = false;
});
byId("clip").addEventListener("close", () => {
  const video = byId("clip-video");
  video.pause();
  video.removeAttribute("src");
  video.load();
  opener?.focus();
});
