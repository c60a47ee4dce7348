// One camera: its picture with boxes and zones, how it is, and its switches.
import { make } from "./elements.js";
import { ask } from "./server.js";
import { openEditor } from "./zone_editor.js";
import { lowest } from "./zone_shapes.js";

/** What tells cameras apart. */
export function keyOf(camera) {
  return `${camera.model}/${camera.camera}`;
}

const ZONE = "#ffb020";
const COLOURS = ["#4ade80", "#60a5fa", "#f472b6", "#fbbf24", "#a78bfa", "#22d3ee", "#fb923c"];
/** Seconds after which a picture is old, if the camera has a few a second. */
const OLD_S = 3;

/** How a camera is, for people: a kind (of the style sheet) and a word. */
function stateOf(camera) {
  if (camera.state === "silent") return { kind: "lost", word: "source is silent" };
  if (camera.paused || camera.state === "paused") return { kind: "paused", word: "paused" };
  if (camera.state === "connected") return { kind: "live", word: "live" };
  if (camera.state === "connecting") return { kind: "waiting", word: "connecting" };
  if (camera.state === "ended") return { kind: "over", word: "ended" };
  return { kind: "lost", word: "reconnecting" };
}

/** Seconds as people read them. */
export function seconds(value) {
  if (value < 10) return `${value.toFixed(1)} s`;
  if (value < 120) return `${Math.round(value)} s`;
  return value < 7200 ? `${Math.round(value / 60)} min` : `${Math.round(value / 3600)} h`;
}

/** What is in a picture: "2 × person, 1 × car". */
function contents(tracks) {
  const counts = new Map();
  for (const track of tracks) counts.set(track.label, (counts.get(track.label) ?? 0) + 1);
  return [...counts].map(([label, count]) => `${count} × ${label}`).join(", ");
}

export class Card {
  /** `edits` says whether the server takes zones; `failed` is told errors. */
  constructor(camera, { edits, failed }) {
    this.camera = camera;
    this.state = stateOf(camera);
    this.title = camera.camera;
    this.failed = failed;
    this.at = performance.now();
    this.image = null;
    this.decoding = false;
    this.waiting = null;
    this.canvas = make("canvas", { width: 640, height: 360, role: "img" });
    this.note = make("p", { class: "note", hidden: true });
    this.chip = make("span", {}, make("span", { class: "mark", "aria-hidden": "true" }), make("span", { class: "word" }));
    this.name = make("h2", {});
    this.detail = make("p", { class: "detail", hidden: true });
    this.seen = make("p", { class: "seen" });
    this.values = {};
    const readings = [
      ["fps", "Frames/s", "Frames that were answered in a second; the camera gives more if its fps are limited"],
      ["age", "Age", "How long ago the last frame that was answered was decoded"],
      ["latency", "Latency", "From the decoded frame to its answer, median"],
      ["drops", "Dropped", ""],
    ];
    const list = make("dl", { class: "readings" }, readings.map(([name, label, title]) => {
      this.values[name] = make("dd", {}, "–");
      return make("div", { title }, make("dt", {}, label), this.values[name]);
    }));
    this.pause = make("button", { type: "button", onclick: () => this.switch() }, "Pause");
    this.zones = make("button", { type: "button", onclick: () => openEditor(this.camera, this.image, edits()) }, "Zones");
    this.item = make("li", {},
      make("div", { class: "screen" }, this.canvas, this.note),
      make("div", { class: "inner" },
        make("div", { class: "head" }, this.name, this.chip), this.detail, this.seen, list,
        make("div", { class: "row" }, this.pause, this.zones)),
    );
    this.showModel(false);
    this.told(camera, true);
  }

  /** Whether the model's name stands beside the camera's. */
  showModel(shown) {
    this.title = shown ? `${this.camera.model}: ${this.camera.camera}` : this.camera.camera;
    if (this.name.textContent !== this.title) this.name.textContent = this.title;
    this.zones.setAttribute("aria-label", `Zones of ${this.title}`);
  }

  /** How the camera is; `whole`: it is the server's own view, and not only the source's. */
  told(camera, whole) {
    this.camera = camera;
    this.at = performance.now();
    this.become(stateOf(camera));
    const why = this.state.kind === "lost" ? camera.detail : camera.error ? `The last frame had no answer: ${camera.error}` : "";
    this.detail.textContent = why;
    this.detail.hidden = !why;
    this.zones.hidden = !camera.stage;
    this.pause.textContent = camera.paused ? "Resume" : "Pause";
    this.pause.setAttribute("aria-label", `${camera.paused ? "Resume" : "Pause"} ${this.title}`);
    this.pause.hidden = camera.state === "ended";
    this.values.fps.textContent = camera.fps.toFixed(1);
    this.values.latency.textContent = camera.latency_ms ? `${camera.latency_ms.toFixed(0)} ms` : "–";
    const dropped = Object.entries(camera.dropped ?? {});
    this.values.drops.textContent = String(dropped.reduce((sum, [, count]) => sum + count, 0));
    this.values.drops.parentElement.title = dropped.map(([reason, count]) => `${count} ${reason}`).join(", ") || "No frame was dropped";
    // The boxes of a picture come behind it.
    if (!whole || !this.image) this.draw();
    this.tick();
  }

  /** The server does not answer: how the camera is now is not known. */
  unknown() {
    this.become({ kind: "unknown", word: "not known" });
    this.draw();
    this.tick();
  }

  become(state) {
    this.state = state;
    this.chip.className = `state ${state.kind}`;
    const word = this.chip.querySelector(".word");
    if (word.textContent !== state.word) word.textContent = state.word;
  }

  /** Seconds since the last frame that was answered; null: there was none. */
  get age() {
    return this.camera.age_s === null ? null : this.camera.age_s + (performance.now() - this.at) / 1000;
  }

  /** Time passes. */
  tick() {
    const age = this.age;
    this.values.age.textContent = age === null ? "–" : seconds(age);
    const old = age !== null && age > Math.max(OLD_S, this.camera.fps ? 3 / this.camera.fps : 0);
    const note = age === null ? "no frame yet" : old || this.state.kind !== "live" ? `last frame ${seconds(age)} ago` : "";
    if (this.note.textContent !== note) this.note.textContent = note;
    this.note.hidden = !note;
    const tracks = this.camera.tracks ?? [];
    const seen = contents(tracks) || (this.state.kind === "live" ? "nothing in sight" : "");
    if (this.seen.textContent !== seen) this.seen.textContent = seen;
    this.seen.hidden = !seen;
    const label = `${this.title}, ${this.state.word}${seen ? `: ${seen}` : ""}${note ? `; ${note}` : ""}`;
    if (this.canvas.getAttribute("aria-label") !== label) this.canvas.setAttribute("aria-label", label);
  }

  /** A picture has come. If it is not decoded before the next one, only the last of those that wait is. */
  async pictured(bytes) {
    this.waiting = bytes;
    if (this.decoding) return;
    this.decoding = true;
    while (this.waiting) {
      const next = this.waiting;
      this.waiting = null;
      try {
        const image = await createImageBitmap(new Blob([next], { type: "image/jpeg" }));
        this.image?.close?.();
        this.image = image;
        this.draw();
      } catch {
        // Not whole: the next one will be.
      }
    }
    this.decoding = false;
  }

  draw() {
    const { canvas, image, camera } = this;
    const width = image?.width ?? 640;
    const height = image?.height ?? (camera.width ? Math.round((640 * camera.height) / camera.width) : 360);
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const context = canvas.getContext("2d");
    if (image) context.drawImage(image, 0, 0);
    else {
      context.fillStyle = "#10151b";
      context.fillRect(0, 0, width, height);
    }
    const unit = width / 640;
    context.font = `600 ${Math.round(15 * unit)}px system-ui, sans-serif`;
    context.lineJoin = "round";
    for (const [name, corners] of Object.entries(camera.zones ?? {})) drawZone(context, name, corners, width, height, unit);
    if (this.state.kind === "live") for (const track of camera.tracks ?? []) drawBox(context, track, width, height, unit);
  }

  async switch() {
    const on = !this.camera.paused;
    this.pause.setAttribute("aria-disabled", "true");
    try {
      await ask(`cameras/${encodeURIComponent(this.camera.model)}/${this.camera.camera}/${on ? "pause" : "resume"}`, { method: "POST" });
      this.told({ ...this.camera, paused: on, age_s: this.age }, true);
    } catch (error) {
      this.failed(error);
    }
    this.pause.removeAttribute("aria-disabled");
  }
}

function drawZone(context, name, corners, width, height, unit) {
  context.beginPath();
  corners.forEach(([x, y], index) => context[index ? "lineTo" : "moveTo"](x * width, y * height));
  context.closePath();
  context.fillStyle = "rgb(255 176 32 / 0.07)";
  context.fill();
  context.strokeStyle = ZONE;
  context.setLineDash([8 * unit, 5 * unit]);
  context.lineWidth = 2 * unit;
  context.stroke();
  context.setLineDash([]);
  const [x, y] = lowest(corners);
  tag(context, name, x * width + 4 * unit, y * height - 4 * unit, ZONE, unit);
}

function drawBox(context, track, width, height, unit) {
  const [top, left, bottom, right] = track.box;
  const colour = COLOURS[track.id % COLOURS.length];
  context.strokeStyle = colour;
  context.lineWidth = 3 * unit;
  context.strokeRect(left * width, top * height, (right - left) * width, (bottom - top) * height);
  const words = `${track.label} ${track.id} · ${Math.round(100 * track.score)} %`;
  tag(context, words, left * width, Math.max(22 * unit, top * height), colour, unit);
}

/** Words on a ground of their own, so that they can be read on any picture; their lower left corner is at x, y. */
function tag(context, words, x, y, colour, unit) {
  const size = context.measureText(words).width + 10 * unit;
  const left = Math.max(0, Math.min(x, context.canvas.width - size));
  context.fillStyle = colour;
  context.fillRect(left, y - 21 * unit, size, 21 * unit);
  context.fillStyle = "#0b0f14";
  context.fillText(words, left + 5 * unit, y - 5 * unit);
}
