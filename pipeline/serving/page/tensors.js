// Tensors as bytes and as values: the datatypes of KServe v2, files of numpy, and the bodies of responses. No elements.

const little = (get, size) => (bytes, count) => {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return Array.from({ length: count }, (_, at) => get(view, at * size));
};

/** By name: bytes of an element, and how its elements are read. */
export const DATATYPES = {
  BOOL: { size: 1, read: little((view, at) => view.getUint8(at) !== 0, 1) },
  UINT8: { size: 1, read: little((view, at) => view.getUint8(at), 1) },
  UINT16: { size: 2, read: little((view, at) => view.getUint16(at, true), 2) },
  UINT32: { size: 4, read: little((view, at) => view.getUint32(at, true), 4) },
  UINT64: { size: 8, read: little((view, at) => view.getBigUint64(at, true), 8) },
  INT8: { size: 1, read: little((view, at) => view.getInt8(at), 1) },
  INT16: { size: 2, read: little((view, at) => view.getInt16(at, true), 2) },
  INT32: { size: 4, read: little((view, at) => view.getInt32(at, true), 4) },
  INT64: { size: 8, read: little((view, at) => view.getBigInt64(at, true), 8) },
  FP16: { size: 2, read: little((view, at) => halfToNumber(view.getUint16(at, true)), 2) },
  BF16: { size: 2, read: little((view, at) => bfloatToNumber(view.getUint16(at, true)), 2) },
  FP32: { size: 4, read: little((view, at) => view.getFloat32(at, true), 4) },
  FP64: { size: 8, read: little((view, at) => view.getFloat64(at, true), 8) },
  BYTES: { size: 0, read: readElements },
};

/** Those whose elements JSON does not carry, so that they travel as bytes. */
export const NOT_IN_JSON = ["FP16", "BF16"];
/** Those whose numbers JavaScript rounds if it reads them as JSON. */
export const ROUNDED = ["INT64", "UINT64"];

const SCRATCH = new DataView(new ArrayBuffer(8));

export function halfToNumber(bits) {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

/** To the nearest, of two to the even one. */
export function numberToHalf(value) {
  if (Number.isNaN(value)) return 0x7e00;
  const sign = value < 0 || Object.is(value, -0) ? 0x8000 : 0;
  const size = Math.abs(value);
  if (size >= 65520) return sign | 0x7c00;
  const exponent = size < 2 ** -14 ? -14 : Math.floor(Math.log2(size));
  const steps = size / 2 ** (exponent - 10);
  let rounded = Math.round(steps);
  if (Math.abs(steps - Math.trunc(steps)) === 0.5 && rounded % 2) rounded -= 1;
  // A subnormal has no leading one; and rounding up to the next power of two carries into the exponent by itself.
  return sign | (size < 2 ** -14 ? rounded : ((exponent + 15) << 10) + rounded - 1024);
}

export function bfloatToNumber(bits) {
  SCRATCH.setUint32(0, bits << 16);
  return SCRATCH.getFloat32(0);
}

/** To the nearest, of two to the even one. */
export function numberToBfloat(value) {
  if (Number.isNaN(value)) return 0x7fc0;
  SCRATCH.setFloat32(0, value);
  const bits = SCRATCH.getUint32(0);
  return ((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16) & 0xffff;
}

/** The bytes of numbers, of a datatype that JSON does not carry. */
export function packed(datatype, values) {
  const bytes = new Uint8Array(values.length * 2);
  const view = new DataView(bytes.buffer);
  const bits = datatype === "FP16" ? numberToHalf : numberToBfloat;
  values.forEach((value, at) => view.setUint16(at * 2, bits(Number(value)), true));
  return bytes;
}

/** Elements of BYTES: each has its length before it. */
function readElements(bytes, count) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const found = [];
  let at = 0;
  for (let number = 0; number < count; number += 1) {
    const length = view.getUint32(at, true);
    found.push(bytes.subarray(at + 4, at + 4 + length));
    at += 4 + length;
  }
  return found;
}

/** One element of BYTES, with its length before it. */
export function element(bytes) {
  const found = new Uint8Array(4 + bytes.length);
  new DataView(found.buffer).setUint32(0, bytes.length, true);
  found.set(bytes, 4);
  return found;
}

/** How many elements a shape has. */
export function countOf(shape) {
  return shape.reduce((product, extent) => product * extent, 1);
}

/** The shape of nested lists; throws if they are uneven. */
export function nestingOf(value) {
  if (!Array.isArray(value)) return [];
  const inner = value.map(nestingOf);
  const first = inner[0] ?? [];
  if (inner.some((shape) => shape.length !== first.length || shape.some((extent, axis) => extent !== first[axis]))) {
    throw new Error("lists within lists must all be of one length");
  }
  return [value.length, ...first];
}

const NUMPY = {
  "|b1": "BOOL", "|u1": "UINT8", "<u2": "UINT16", "<u4": "UINT32", "<u8": "UINT64", "|i1": "INT8", "<i2": "INT16",
  "<i4": "INT32", "<i8": "INT64", "<f2": "FP16", "<f4": "FP32", "<f8": "FP64",
};

/** Whether these bytes are a file of numpy's. */
export function isNumpy(bytes) {
  return bytes.length > 10 && bytes[0] === 0x93 && String.fromCharCode(...bytes.subarray(1, 6)) === "NUMPY";
}

/** A file of numpy's (https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html), or an Error. */
export function readNumpy(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const wide = bytes[6] > 1;
  const start = wide ? 12 : 10;
  const length = wide ? view.getUint32(8, true) : view.getUint16(8, true);
  const head = new TextDecoder("latin1").decode(bytes.subarray(start, start + length));
  const code = /'descr':\s*'([^']+)'/.exec(head)?.[1];
  const shape = /'shape':\s*\(([^)]*)\)/.exec(head)?.[1];
  if (NUMPY[code] === undefined || shape === undefined) {
    throw new Error(`the file has elements of ${code ?? "an unknown dtype"}; expected one of ${Object.keys(NUMPY).join(" ")}`);
  }
  if (/'fortran_order':\s*True/.test(head)) throw new Error("the file is in Fortran order; expected C order");
  const extents = shape.split(",").map((text) => text.trim()).filter(Boolean).map(Number);
  return { datatype: NUMPY[code], shape: extents, bytes: bytes.subarray(start + length) };
}

/**
 * The outputs of a response: name, datatype, shape, values.
 * Elements of BYTES are Uint8Array, whether they came as JSON or behind it.
 */
export function readResponse(body, headerLength) {
  const bytes = new Uint8Array(body);
  const end = headerLength === null ? bytes.length : Number(headerLength);
  const text = new TextDecoder().decode(bytes.subarray(0, end));
  const parsed = JSON.parse(withoutWords(text));
  let at = end;
  const outputs = (parsed.outputs ?? []).map((output) => {
    const { name, datatype, shape } = output;
    const size = output.parameters?.binary_data_size;
    let values;
    if (size === undefined) {
      values = (output.data ?? []).flat(Infinity);
      if (datatype === "BYTES") values = values.map((each) => new TextEncoder().encode(each));
      else if (datatype.startsWith("FP")) values = values.map((each) => (typeof each === "string" ? Number(each) : each));
    } else {
      values = DATATYPES[datatype].read(bytes.subarray(at, at + size), countOf(shape));
      at += size;
    }
    return { name, datatype, shape, values };
  });
  return { parsed, outputs };
}

/** JSON in which NaN and Infinity, which the server writes as bare words, are strings. */
export function withoutWords(text) {
  return text.replace(/"(?:[^"\\]|\\.)*"|-?\b(?:NaN|Infinity)\b/g, (found) => (found[0] === '"' ? found : `"${found}"`));
}
