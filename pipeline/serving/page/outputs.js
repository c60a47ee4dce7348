// Outputs, so that people can read them: labels with scores as bars, pictures, documents, text and tables of numbers.
import { make, shaped, sized, table } from "./elements.js";
import { isPicture, painted, pictureOf, preview } from "./pictures.js";
import { countOf } from "./tensors.js";

const BARS = 10;
const ROWS = 20;
const COLUMNS = 10;
const LONGEST = 20000;

/** Elements that show these outputs. */
export function shown(outputs) {
  const labelled = labelsWithScores(outputs);
  const found = labelled ? [bars(labelled)] : [];
  for (const output of outputs) {
    const own = make(
      "section",
      {},
      make("h4", {}, output.name, make("span", { class: "quiet" }, ` ${output.datatype} ${shaped(output.shape)}`)),
      body(output),
    );
    found.push(own);
  }
  if (labelled) {
    const [first, ...rest] = found;
    return [first, make("details", {}, make("summary", {}, "All outputs"), make("div", { class: "answer" }, rest))];
  }
  return found;
}

// -- labels ---------------------------------------------------------------------------------------

/** The labels and their scores, if that is what these outputs are. */
function labelsWithScores(outputs) {
  for (const output of outputs) {
    const labels = stringsOf(output);
    if (!labels || labels.length === 0) continue;
    const scores = outputs.find((each) => each.datatype.startsWith("FP") && each.values.length === labels.length);
    if (scores) return { labels, scores: scores.values, names: [output.name, scores.name] };
  }
  return null;
}

/** The strings of an output: its elements, or the list that its only element is as JSON; null: it is no such. */
function stringsOf(output) {
  if (output.datatype !== "BYTES") return null;
  const texts = output.values.map(textOf);
  if (texts.some((text) => text === null)) return null;
  if (texts.length > 1) return texts;
  const document = documentOf(texts[0] ?? "");
  return Array.isArray(document) && document.every((each) => typeof each === "string") ? document : null;
}

function bars({ labels, scores, names }) {
  const rows = labels.map((label, at) => [label, Number(scores[at])]).sort((a, b) => b[1] - a[1]).slice(0, BARS);
  const sum = scores.reduce((total, score) => total + Number(score), 0);
  // Parts of one whole are shown as such; other scores beside the largest.
  const share = sum <= 1.001 && rows.every(([, score]) => score >= 0);
  const largest = share ? 1 : Math.max(...rows.map(([, score]) => Math.abs(score)), 1e-30);
  return make(
    "section",
    {},
    make("h4", {}, names.join(" and ")),
    make(
      "ol",
      { class: "bars" },
      rows.map(([label, score]) => {
        const fill = make("div", { class: "fill" });
        fill.style.width = `${Math.max(0, Math.min(1, Math.abs(score) / largest)) * 100}%`;
        return make(
          "li",
          {},
          make("span", { class: "label" }, label || "(no name)"),
          make("span", { class: "amount" }, share ? `${(score * 100).toFixed(1)} %` : number(score)),
          make("div", { class: "track", "aria-hidden": "true" }, fill),
        );
      }),
    ),
  );
}

// -- one output -----------------------------------------------------------------------------------

function body(output) {
  if (output.datatype === "BYTES") return elements(output);
  if (output.datatype === "UINT8" && isPicture(Uint8Array.from(output.values.slice(0, 16)))) {
    return encoded(Uint8Array.from(output.values), output.name);
  }
  const pixels = asPixels(output);
  return pixels ?? numbers(output);
}

function asPixels({ name, datatype, shape, values }) {
  const extents = shape.length === 4 && shape[0] === 1 ? shape.slice(1) : shape;
  const [height, width, channels] = extents;
  if (datatype !== "UINT8" || extents.length !== 3 || ![1, 3, 4].includes(channels)) return null;
  if (height < 8 || width < 8 || height * width > 2 ** 24) return null;
  return painted(values, width, height, channels, `${name}, ${width} × ${height} pixels`);
}

/** The picture that these bytes are as a file; if the browser cannot read it, how many bytes there are. */
function encoded(bytes, name) {
  const place = make("div", {}, make("p", { class: "quiet" }, `${sized(bytes.length)} of a picture`));
  pictureOf(new Blob([bytes])).then((picture) => {
    if (picture) place.append(preview(picture, `${name}, ${picture.width} × ${picture.height} pixels`));
  });
  return place;
}

function elements(output) {
  const all = output.values;
  const parts = all.slice(0, ROWS).map((bytes) => {
    if (isPicture(bytes)) return encoded(bytes, output.name);
    const text = textOf(bytes);
    if (text === null) return make("p", { class: "quiet" }, `${sized(bytes.length)} that are no text: ${hex(bytes)}`);
    const document = documentOf(text);
    return make("pre", {}, short(document === undefined ? text : JSON.stringify(document, null, 2)));
  });
  if (!all.length) parts.push(make("p", { class: "quiet" }, "no elements"));
  if (all.length > ROWS) parts.push(make("p", { class: "quiet" }, `and ${all.length - ROWS} more elements`));
  return parts;
}

function numbers({ name, shape, values }) {
  if (!values.length) return make("p", { class: "quiet" }, "no elements");
  const extents = shape.filter((extent, axis) => extent !== 1 || axis === shape.length - 1);
  const width = extents.length ? extents[extents.length - 1] : 1;
  const summary = summaryOf(values);
  if (extents.length <= 1) {
    const rows = values.slice(0, ROWS).map((value, at) => [at, number(value)]);
    const more = values.length > ROWS ? `the first ${ROWS} of ${values.length}` : null;
    return [summary, table(["index", "value"], rows, more)];
  }
  const height = countOf(extents.slice(0, -1));
  const rows = [];
  for (let row = 0; row < Math.min(height, ROWS); row += 1) {
    rows.push([row, ...values.slice(row * width, row * width + Math.min(width, COLUMNS)).map(number)]);
  }
  const heads = ["", ...Array.from({ length: Math.min(width, COLUMNS) }, (_, at) => String(at))];
  const cut = height > ROWS || width > COLUMNS;
  const caption = `${name}: ${cut ? "the first of " : ""}${height} rows of ${width}`;
  return [summary, table(heads, rows, caption)];
}

function summaryOf(values) {
  const plain = values.map(Number).filter(Number.isFinite);
  if (values.length < 3 || typeof values[0] === "boolean" || !plain.length) return null;
  const least = plain.reduce((a, b) => Math.min(a, b));
  const most = plain.reduce((a, b) => Math.max(a, b));
  const mean = plain.reduce((a, b) => a + b, 0) / plain.length;
  const odd = values.length - plain.length;
  const text = `${values.length} elements, ${number(least)} to ${number(most)}, mean ${number(mean)}`;
  return make("p", { class: "quiet" }, odd ? `${text}; ${odd} are not finite` : text);
}

function number(value) {
  if (typeof value !== "number") return String(value);
  return Number.isInteger(value) && Math.abs(value) < 1e15 ? String(value) : String(Number(value.toPrecision(6)));
}

// -- text -----------------------------------------------------------------------------------------

function textOf(bytes) {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    return null;
  }
}

/** The object or list that a text is as JSON; undefined: it is none. */
function documentOf(text) {
  if (!/^\s*[[{]/.test(text)) return undefined;
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function short(text) {
  return text.length > LONGEST ? `${text.slice(0, LONGEST)}\n… and ${text.length - LONGEST} more characters` : text;
}

function hex(bytes) {
  const start = Array.from(bytes.subarray(0, 16), (byte) => byte.toString(16).padStart(2, "0")).join(" ");
  return bytes.length > 16 ? `${start} …` : start;
}
