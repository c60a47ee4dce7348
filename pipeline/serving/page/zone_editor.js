// The editor of a camera's zones, over a still picture: by mouse, finger and keyboard.
import { byId, freshId, make } from "./elements.js";
import { ask, documentOf } from "./server.js";
import { indexFor, lowest, nextCorner, placed, whyNoName, yamlOf } from "./zone_shapes.js";

const SVG = "http://www.w3.org/2000/svg";
const STEP = 0.01;
const WIDE_STEP = 0.05;
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

function pathOf(camera, call) {
  return `cameras/${encodeURIComponent(camera.model)}/${camera.camera}/${call}`;
}

/** Open the editor; `image`: the last picture, or null. */
export async function openEditor(camera, image, edits) {
  const opener = document.activeElement;
  const dialog = byId("editor");
  // Before the server is asked: the next picture takes this one's place, and what was let go of cannot be drawn.
  const still = stillOf(camera, image);
  let found;
  try {
    found = await documentOf(pathOf(camera, "zones"));
  } catch (error) {
    found = { stage: camera.stage, file: "", zones: camera.zones ?? {}, tag: "", why_not: error.message };
  }
  const editor = new Editor(camera, still, found, edits);
  dialog.replaceChildren(...editor.elements);
  dialog.oncancel = (event) => {
    // Escape, like Close: what was drawn is not dropped by one press.
    event.preventDefault();
    editor.close();
  };
  dialog.onclose = () => {
    dialog.replaceChildren();
    opener?.focus?.();
  };
  dialog.showModal();
  editor.draw();
}

/** A copy of the last picture, or as large an empty one. */
function stillOf(camera, image) {
  const [width, height] = [image?.width ?? camera.width ?? 640, image?.height ?? camera.height ?? 360];
  const still = make("canvas", { width: width || 640, height: height || 360, role: "img", "aria-label": `Still picture of ${camera.camera}` });
  if (image) still.getContext("2d").drawImage(image, 0, 0);
  return still;
}

class Editor {
  constructor(camera, still, found, edits) {
    this.camera = camera;
    this.found = found;
    this.writes = edits && found.tag !== "";
    this.zones = structuredClone(found.zones);
    this.chosen = Object.keys(this.zones)[0] ?? "";
    this.saved = JSON.stringify(this.zones);
    this.warned = false;
    this.still = still;
    this.width = still.width;
    this.height = still.height;
    this.svg = document.createElementNS(SVG, "svg");
    this.svg.setAttribute("viewBox", `0 0 ${this.width} ${this.height}`);
    this.svg.setAttribute("role", "group");
    this.svg.setAttribute("aria-label", "Corners of the chosen zone");
    this.svg.addEventListener("pointerdown", (event) => this.pressed(event));
    this.list = make("div", { class: "zones", role: "group", "aria-label": "Zones" });
    this.message = make("p", { class: "editor-message", role: "status" });
    this.name = make("input", { id: freshId(), autocomplete: "off", spellcheck: "false", maxlength: "40", placeholder: "porch" });
    this.yaml = make("pre", { tabindex: "0", "aria-label": "YAML of the zones" });
    this.save = make("button", { type: "button", class: "main", onclick: () => this.write() }, `Write to ${found.file}`);
    this.elements = [
      make("div", { class: "dialog-top" },
        make("h2", { id: "editor-head" }, `Zones of ${camera.camera}`),
        make("button", { type: "button", onclick: () => this.close() }, "Close")),
      make("div", { class: "board" }, this.still, this.svg),
      make("p", { class: "quiet" }, "Choose a zone, then click the picture to add a corner, and drag corners. By keyboard: Tab to a corner, arrows move it (with Shift further), Delete takes it away."),
      this.list,
      make("form", { class: "row", onsubmit: (event) => this.add(event) },
        make("label", { for: this.name.id }, "New zone"), this.name, make("button", { type: "submit" }, "Add zone")),
      this.message,
      this.writes
        ? make("div", { class: "row" }, this.save)
        : make("p", {}, `Nothing is written from here: ${found.why_not || "this server was not started with --edit"}. Copy the YAML into ${found.file || "the config"}, then run `, make("code", {}, this.reload), "."),
      make("details", this.writes ? {} : { open: true },
        make("summary", {}, "YAML"), this.yaml,
        make("button", { type: "button", onclick: () => this.copy() }, "Copy the YAML")),
    ];
  }

  get reload() {
    return `pipeline reload ${this.camera.model}`;
  }

  get changed() {
    return JSON.stringify(this.zones) !== this.saved;
  }

  say(text, bad = false) {
    this.message.textContent = text;
    this.message.classList.toggle("bad", bad);
  }

  close() {
    if (this.changed && this.writes && !this.warned) {
      this.warned = true;
      this.say("These changes are not written. Close again to drop them.", true);
      return;
    }
    byId("editor").close();
  }

  // -- zones ---------------------------------------------------------------------------------------

  add(event) {
    event.preventDefault();
    const name = this.name.value.trim();
    const why = whyNoName(name, Object.keys(this.zones));
    if (why) {
      this.say(why, true);
      this.name.focus();
      return;
    }
    this.zones[name] = [];
    this.chosen = name;
    this.name.value = "";
    this.say(`Now set the corners of ${name}: click the picture, or press “Add corner” three times.`);
    this.draw();
    this.list.querySelector("[data-do=corner]").focus();
  }

  remove() {
    const name = this.chosen;
    delete this.zones[name];
    this.chosen = Object.keys(this.zones)[0] ?? "";
    this.say(`The zone ${name} is taken away.`);
    this.draw();
    (this.list.querySelector("button") ?? this.name).focus();
  }

  // -- corners -------------------------------------------------------------------------------------

  get corners() {
    return this.zones[this.chosen];
  }

  get ratio() {
    return this.width / this.height;
  }

  addCorner() {
    const { index, corner } = nextCorner(this.corners, this.ratio);
    this.corners.splice(index, 0, corner);
    this.draw();
    this.focusCorner(index);
  }

  removeCorner(index) {
    this.corners.splice(index, 1);
    this.draw();
    if (this.corners.length) this.focusCorner(Math.min(index, this.corners.length - 1));
    else this.list.querySelector("[data-do=corner]").focus();
  }

  focusCorner(index) {
    this.svg.querySelectorAll("circle")[index]?.focus();
  }

  at(event) {
    const box = this.svg.getBoundingClientRect();
    return [placed((event.clientX - box.left) / box.width), placed((event.clientY - box.top) / box.height)];
  }

  pressed(event) {
    if (event.button) return;
    event.preventDefault();
    if (!this.chosen) {
      this.say("Name a new zone first.", true);
      this.name.focus();
      return;
    }
    let index = [...this.svg.querySelectorAll("circle")].indexOf(event.target);
    if (index < 0) {
      const corner = this.at(event);
      index = indexFor(this.corners, corner, this.ratio);
      this.corners.splice(index, 0, corner);
      this.draw();
    }
    this.focusCorner(index);
    const move = (next) => {
      this.corners[index] = this.at(next);
      this.draw();
    };
    const over = () => {
      this.svg.removeEventListener("pointermove", move);
      this.focusCorner(index);
    };
    this.svg.setPointerCapture(event.pointerId);
    this.svg.addEventListener("pointermove", move);
    for (const end of ["pointerup", "pointercancel"]) this.svg.addEventListener(end, over, { once: true });
  }

  key(event, index) {
    if (event.key === "Delete" || event.key === "Backspace") this.removeCorner(index);
    else if (ARROWS[event.key]) {
      const step = event.shiftKey ? WIDE_STEP : STEP;
      const [x, y] = this.corners[index];
      this.corners[index] = [placed(x + step * ARROWS[event.key][0]), placed(y + step * ARROWS[event.key][1])];
      this.draw();
      this.focusCorner(index);
    } else return;
    event.preventDefault();
  }

  // -- what is seen --------------------------------------------------------------------------------

  draw() {
    this.warned = false;
    const shapes = [];
    for (const [name, corners] of Object.entries(this.zones)) {
      const points = corners.map(([x, y]) => `${x * this.width},${y * this.height}`).join(" ");
      const shape = element(corners.length < 3 ? "polyline" : "polygon", { points, class: name === this.chosen ? "chosen" : "" });
      shapes.push(shape);
      if (corners.length) {
        const [x, y] = lowest(corners);
        const text = element("text", { x: Math.min(x * this.width + 14, 0.9 * this.width), y: y * this.height - 8, "font-size": this.width / 36 });
        text.textContent = name;
        shapes.push(text);
      }
    }
    // Corners keep their size on a small screen, where a finger must hit them.
    const shown = this.svg.getBoundingClientRect().width || this.width;
    const radius = (10 * this.width) / shown;
    (this.corners ?? []).forEach(([x, y], index) => {
      const label = `Corner ${index + 1} of ${this.chosen}: ${Math.round(100 * x)} % from the left, ${Math.round(100 * y)} % from the top`;
      const circle = element("circle", { cx: x * this.width, cy: y * this.height, r: radius, tabindex: "0", role: "button", "aria-label": label });
      circle.addEventListener("keydown", (event) => this.key(event, index));
      shapes.push(circle);
    });
    this.svg.replaceChildren(...shapes);
    this.list.replaceChildren(
      ...Object.keys(this.zones).map((name) => make("button", { type: "button", "aria-pressed": String(name === this.chosen), onclick: () => this.choose(name) }, name)),
      ...(this.chosen
        ? [make("button", { type: "button", "data-do": "corner", onclick: () => this.addCorner() }, "Add corner"),
          make("button", { type: "button", onclick: () => this.remove() }, `Remove ${this.chosen}`)]
        : [make("span", { class: "quiet" }, "No zones yet.")]),
    );
    this.yaml.textContent = yamlOf(this.found.stage, this.camera.camera, this.zones);
  }

  choose(name) {
    this.chosen = name;
    this.draw();
    this.list.querySelector("[aria-pressed=true]").focus();
  }

  // -- what becomes of it --------------------------------------------------------------------------

  async write() {
    const few = Object.entries(this.zones).find(([, corners]) => corners.length < 3);
    if (few) {
      this.say(`The zone ${few[0]} has ${few[1].length} corners: a zone has at least three.`, true);
      return;
    }
    this.save.setAttribute("aria-disabled", "true");
    try {
      const body = JSON.stringify({ zones: this.zones, tag: this.found.tag });
      const response = await ask(pathOf(this.camera, "zones"), { method: "POST", body, headers: { "Content-Type": "application/json" } });
      const done = await response.json();
      this.saved = JSON.stringify(this.zones);
      this.found = await documentOf(pathOf(this.camera, "zones"));
      this.say(`Written to ${done.file}; the text before is ${done.before}. The pipeline has the old zones until you run: ${this.reload}`);
    } catch (error) {
      this.say(error.message, true);
    }
    this.save.removeAttribute("aria-disabled");
  }

  async copy() {
    try {
      await navigator.clipboard.writeText(this.yaml.textContent);
      this.say("The YAML is copied.");
    } catch {
      // Over plain HTTP a browser gives no clipboard: then it is selected, to be copied by hand.
      getSelection().selectAllChildren(this.yaml);
      this.say("The YAML is selected: copy it.");
    }
  }
}

function element(tag, attributes) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, String(value));
  return made;
}
