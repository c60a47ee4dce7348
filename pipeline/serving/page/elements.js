// Elements of the page. Text from the server and from files becomes text nodes only, never markup.

/**
 * An element with attributes, listeners (on...) and children.
 * A child that is no node is shown as its text; null is left out.
 */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, String(value));
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

/** The element of this id. */
export function byId(id) {
  return document.getElementById(id);
}

let numbers = 0;

/** An id that no other element has. */
export function freshId() {
  numbers += 1;
  return `made-${numbers}`;
}

/** A table with its heads. It scrolls by itself if it is wide. */
export function table(heads, rows, caption) {
  const cells = (tag, values, more) => values.map((value) => make(tag, more, value));
  // What scrolls must be reached by the keyboard, and have a name.
  const wide = heads.length > 4 ? { tabindex: "0", role: "group", "aria-label": caption } : {};
  return make(
    "div",
    { class: "scroll", ...wide },
    make(
      "table",
      {},
      caption ? make("caption", {}, caption) : null,
      make("thead", {}, make("tr", {}, cells("th", heads, { scope: "col" }))),
      make("tbody", {}, rows.map((row) => make("tr", {}, cells("td", row, {})))),
    ),
  );
}

/** Bytes as people read them. */
export function sized(bytes) {
  if (bytes < 1024) return `${bytes} B`;
  const units = ["KiB", "MiB", "GiB"];
  let value = bytes / 1024;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${value.toFixed(value < 10 ? 1 : 0)} ${units[unit]}`;
}

/** Nanoseconds as people read them. */
export function lasting(ns) {
  if (!Number.isFinite(ns)) return "–";
  if (ns < 1e6) return `${(ns / 1e3).toFixed(0)} µs`;
  if (ns < 1e9) return `${(ns / 1e6).toFixed(ns < 1e7 ? 2 : 1)} ms`;
  return `${(ns / 1e9).toFixed(2)} s`;
}

/** A shape as people read it. */
export function shaped(shape) {
  return `[${shape.join(", ")}]`;
}
