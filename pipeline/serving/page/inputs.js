// The form of one input: where its tensor comes from, and the part of a request that it becomes.
//
//   UINT8 [-1]              a file as it lies on disk, such as a picture; or numbers
//   UINT8 [H, W, 1|3|4]     the pixels of a picture; a file of numpy or of raw bytes; numbers; zeros
//   BYTES                   text, or a file as the one element
//   any other               numbers as JSON; a file; zeros
import { freshId, make, shaped, sized } from "./elements.js";
import { pictureOf, pixelsOf, preview } from "./pictures.js";
import { printed, quoted } from "./request.js";
import {
  DATATYPES, NOT_IN_JSON, countOf, element, isNumpy, nestingOf, packed, readNumpy, withoutWords,
} from "./tensors.js";

/** Elements that are still written as numbers without being asked for. */
const FEW = 64;
const MANY = 4096;

/**
 * The form of an input.
 * `spec` is {name, datatype, shape} of the model's metadata; `batched` says that the first extent is the batch;
 * `most` has the largest extent of each axis, or null where it is not known.
 */
export function inputOf(spec, batched, most) {
  const dims = batched ? spec.shape.slice(1) : spec.shape;
  const input = { spec, dims, lead: batched ? [1] : [], most: batched ? most.slice(1) : most };
  const sources = sourcesOf(input);
  const group = make("fieldset", {});
  group.append(make("legend", {}, make("code", {}, spec.name), ` ${spec.datatype} ${shaped(spec.shape)}`));
  const place = make("div", {});
  let current = sources[0];
  const show = (source) => {
    current = source;
    place.replaceChildren(source.element);
  };
  if (sources.length > 1) {
    const name = freshId();
    const choices = sources.map((source, at) =>
      make("label", {}, make("input", { type: "radio", name, checked: at === 0, onchange: () => show(source) }), source.title),
    );
    group.append(make("div", { class: "choices", role: "group", "aria-label": `Where ${spec.name} comes from` }, choices));
  }
  group.append(place);
  show(current);
  return {
    element: group,
    /** The part, or an Error that says what is missing. */
    part: async () => ({ name: spec.name, datatype: spec.datatype, ...(await current.part()) }),
  };
}

function sourcesOf(input) {
  const { spec, dims } = input;
  if (spec.datatype === "BYTES") {
    return countOf(dims) === 1 || dims.every((extent) => Math.abs(extent) === 1)
      ? [textSource(input), elementSource(input)]
      : [textSource(input)];
  }
  if (spec.datatype === "UINT8" && dims.length === 1 && dims[0] === -1) return [fileBytesSource(input), numbersSource(input)];
  const common = [numbersSource(input), fileSource(input), zerosSource(input)];
  if (isPixels(input)) return [pixelSource(input), ...common];
  const count = dims.includes(-1) ? 0 : countOf(dims);
  return count > FEW ? [common[2], common[1], common[0]] : common;
}

function isPixels({ spec, dims }) {
  return spec.datatype === "UINT8" && dims.length === 3 && [1, 3, 4].includes(dims[2]);
}

function note(text) {
  return make("p", { class: "quiet" }, text);
}

function complain(input, what) {
  throw new Error(`${input.spec.name}: ${what}`);
}

// -- files ----------------------------------------------------------------------------------------

/** A place for one file: choose it, drop it, or take a photo on a phone. `file()` is the file, or undefined. */
function chooser(input, { pictures, hint }) {
  let file;
  const name = make("span", { class: "quiet" }, "nothing chosen");
  const shown = make("div", {});
  const take = async (found) => {
    if (!found) return;
    file = found;
    name.textContent = `${found.name}, ${sized(found.size)}`;
    shown.replaceChildren();
    const picture = await pictureOf(found);
    if (picture && file === found) {
      shown.replaceChildren(preview(picture, `${found.name}, ${picture.width} × ${picture.height} pixels`));
      name.textContent += `, ${picture.width} × ${picture.height} pixels`;
    }
  };
  const picker = (title, more, className) => {
    const id = freshId();
    const control = make("input", { type: "file", id, ...more, onchange: () => take(control.files[0]) });
    return [control, make("label", { for: id, class: `pick ${className}` }, title, make("span", { class: "hidden-text" }, ` for ${input.spec.name}`))];
  };
  const box = make(
    "div",
    { class: "drop" },
    make(
      "div",
      { class: "row" },
      picker("Choose a file", { accept: pictures ? "image/*" : null }, ""),
      picker("Take a photo", { accept: "image/*", capture: "environment" }, "camera"),
      name,
    ),
    shown,
    hint ? note(hint) : null,
  );
  box.addEventListener("dragover", (event) => {
    event.preventDefault();
    box.classList.add("over");
  });
  box.addEventListener("dragleave", () => box.classList.remove("over"));
  box.addEventListener("drop", (event) => {
    event.preventDefault();
    box.classList.remove("over");
    take(event.dataTransfer.files[0]);
  });
  return { element: box, file: () => file ?? complain(input, "expected a file; choose one, or drop it") };
}

async function bytesOf(file) {
  return new Uint8Array(await file.arrayBuffer());
}

/** The bytes of the file are the tensor. */
function fileBytesSource(input) {
  const most = input.most[0] ? `, at most ${sized(input.most[0])}` : "";
  const chosen = chooser(input, {
    pictures: false,
    hint: `A picture, or any file: its bytes are sent as they lie on disk${most}. Drop it here, or choose it.`,
  });
  return {
    title: "File",
    element: chosen.element,
    async part() {
      const file = chosen.file();
      const bytes = await bytesOf(file);
      return { shape: [...input.lead, bytes.length], bytes, shell: `cat ${quoted(file.name)}` };
    },
  };
}

/** The bytes of the file are the one element. */
function elementSource(input) {
  const chosen = chooser(input, { pictures: false, hint: "The bytes of the file are the one element." });
  return {
    title: "File",
    element: chosen.element,
    async part() {
      const file = chosen.file();
      const bytes = element(await bytesOf(file));
      const shell = `${printed(bytes.subarray(0, 4))}; cat ${quoted(file.name)}`;
      return { shape: [...input.lead, ...input.dims.map(Math.abs)], bytes, shell };
    },
  };
}

/** A file of numpy, or one of raw elements. */
function fileSource(input) {
  const chosen = chooser(input, {
    pictures: false,
    hint: "A file of numpy (.npy), or one with the bare elements, row-major and little endian.",
  });
  const shape = shapeField(input);
  return {
    title: "File (.npy or raw)",
    element: make("div", { class: "stack" }, chosen.element, shape.element),
    async part() {
      const file = chosen.file();
      const bytes = await bytesOf(file);
      if (!isNumpy(bytes)) {
        if (!/\.npy$/.test(file.name) && (await pictureOf(file))) {
          complain(
            input,
            `${file.name} is a picture, and how this model wants it as ${input.spec.datatype} the page cannot know; expected ` +
              "its tensor in a file of numpy (.npy)",
          );
        }
        return { shape: [...input.lead, ...shape.value()], bytes, shell: `cat ${quoted(file.name)}` };
      }
      const found = readNumpy(bytes);
      const lead = found.shape.length === input.dims.length ? input.lead : [];
      return {
        datatype: found.datatype, shape: [...lead, ...found.shape], bytes: found.bytes,
        shell: `tail -c ${found.bytes.length} ${quoted(file.name)}`,
      };
    },
  };
}

/** The pixels of a picture, as large as the model takes them. */
function pixelSource(input) {
  const [height, width, channels] = input.dims;
  const colours = { 1: "grey", 3: "RGB", 4: "RGBA" }[channels];
  const size = height === -1 || width === -1 ? "as it is" : `stretched to ${width} × ${height}`;
  const chosen = chooser(input, {
    pictures: true,
    hint: `Its pixels are sent, ${size}, as ${colours}. If the model was trained on another order of colours, send a .npy file.`,
  });
  return {
    title: "Picture",
    element: chosen.element,
    async part() {
      const picture = await pictureOf(chosen.file());
      if (!picture) complain(input, "this browser cannot read that file as a picture");
      // A free extent is the picture's own, scaled down to the largest that the model takes.
      const scale = Math.min(
        1,
        height === -1 && input.most[0] ? input.most[0] / picture.height : 1,
        width === -1 && input.most[1] ? input.most[1] / picture.width : 1,
      );
      const w = width === -1 ? Math.max(1, Math.floor(picture.width * scale)) : width;
      const h = height === -1 ? Math.max(1, Math.floor(picture.height * scale)) : height;
      return { shape: [...input.lead, h, w, channels], bytes: pixelsOf(picture, w, h, channels), shell: null };
    },
  };
}

// -- what is typed --------------------------------------------------------------------------------

function textSource(input) {
  const single = input.dims.every((extent) => extent === 1);
  const id = freshId();
  const area = make("textarea", { id, spellcheck: "false", rows: 4 });
  const label = single ? "Text" : "Text, one element a line";
  return {
    title: "Text",
    element: make("div", {}, make("label", { for: id }, label, make("span", { class: "hidden-text" }, ` of ${input.spec.name}`)), area),
    async part() {
      const elements = single ? [area.value] : area.value.split("\n");
      const fixed = input.dims.length === 1 ? [elements.length] : fitted(input, [elements.length]);
      return { shape: [...input.lead, ...(single ? input.dims : fixed)], data: JSON.stringify(elements) };
    },
  };
}

function numbersSource(input) {
  const id = freshId();
  const area = make("textarea", { id, spellcheck: "false", rows: 5 });
  const example = input.dims.map((extent) => (extent === -1 ? 1 : extent));
  const zero = input.spec.datatype === "BOOL" ? false : 0;
  if (countOf(example) <= MANY) area.value = written(example, zero);
  const free = input.dims.includes(-1);
  const hint = free ? "A list of numbers, nested as the shape is." : "A list of numbers, flat or nested as the shape is.";
  return {
    title: "Numbers",
    element: make("div", {}, make("label", { for: id }, "JSON", make("span", { class: "hidden-text" }, ` of ${input.spec.name}`)), area, note(hint)),
    async part() {
      let value;
      let nesting;
      try {
        value = JSON.parse(withoutWords(area.value));
        nesting = nestingOf(value);
      } catch (error) {
        complain(input, `expected a list of numbers as JSON: ${error.message}`);
      }
      // One row may be nested with its batch axis.
      const whole = input.lead.length && nesting.length === input.dims.length + 1;
      const shape = whole ? nesting : [...input.lead, ...fitted(input, nesting)];
      if (!NOT_IN_JSON.includes(input.spec.datatype)) return { shape, data: area.value };
      const bytes = packed(input.spec.datatype, [value].flat(Infinity));
      return { shape, bytes, shell: bytes.length > 512 ? null : printed(bytes) };
    },
  };
}

/** Zeros, nested as a shape is; the last axis on one line. */
function written(shape, zero) {
  if (!shape.length) return `[${zero}]`;
  const [extent, ...rest] = shape;
  const items = Array.from({ length: extent }, () => (rest.length ? written(rest, zero) : String(zero)));
  return rest.length ? `[${items.join(",\n")}]` : `[${items.join(",")}]`;
}

/** The shape of lists that are nested so, or flat. */
function fitted(input, nesting) {
  const { dims } = input;
  if (nesting.length === dims.length) return nesting;
  if (nesting.length > 1) return nesting;
  const free = dims.filter((extent) => extent === -1).length;
  if (free === 0) return dims;
  if (free > 1) complain(input, `expected lists nested as the shape ${shaped(dims)} is`);
  const others = countOf(dims.filter((extent) => extent !== -1));
  return dims.map((extent) => (extent === -1 ? Math.floor(nesting[0] / others) : extent));
}

/** Zeros of a shape. */
function zerosSource(input) {
  const shape = shapeField(input);
  const { size } = DATATYPES[input.spec.datatype];
  const hint = input.dims.includes(-1) ? "Zeros of this shape." : `${countOf(input.dims)} zeros: how long does it take?`;
  return {
    title: "Zeros",
    element: make("div", {}, shape.element, note(hint)),
    async part() {
      const extents = shape.value();
      const length = countOf(extents) * size;
      if (!(length <= 2 ** 30)) complain(input, "expected a shape of at most 1 GiB");
      return { shape: [...input.lead, ...extents], bytes: new Uint8Array(length), shell: `head -c ${length} /dev/zero` };
    },
  };
}

/** A field for the shape, if any of its extents is free. */
function shapeField(input) {
  if (!input.dims.includes(-1)) return { element: null, value: () => input.dims };
  const id = freshId();
  const field = make("input", { id, value: input.dims.map((extent) => (extent === -1 ? 1 : extent)).join(", "), spellcheck: "false" });
  return {
    element: make("div", {}, make("label", { for: id }, "Shape", make("span", { class: "hidden-text" }, ` of ${input.spec.name}`)), " ", field),
    value() {
      const extents = field.value.split(/[\s,]+/).filter(Boolean).map(Number);
      if (extents.some((extent) => !Number.isInteger(extent) || extent < 0)) {
        complain(input, "expected a shape of whole numbers, such as 1, 3");
      }
      return extents;
    },
  };
}
