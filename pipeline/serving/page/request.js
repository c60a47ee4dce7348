// A request: its body, and the curl line that sends the same one. No elements.
//
//   part      {name, datatype, shape} and one of   data    its elements as the text of JSON
//                                                  bytes   its elements as bytes, and `shell`, which prints them
import { HEADER } from "./server.js";

/** Characters of a line that is still to be read by people, and surely taken by a shell. */
const LONGEST = 6000;

/** The name of the file that a curl line reads, if a shell cannot make the body. */
export const SAVED = "request.bin";

/**
 * A request of these parts.
 * `binary` are the outputs that shall come as bytes; the others come as JSON.
 */
export function requestOf(address, parts, outputs, binary, token) {
  const inputs = parts.map((part) => {
    const head = JSON.stringify({ name: part.name, datatype: part.datatype, shape: part.shape }).slice(0, -1);
    const rest = part.bytes ? `"parameters":{"binary_data_size":${part.bytes.length}}` : `"data":${oneLine(part.data)}`;
    return `${head},${rest}}`;
  });
  const wanted = outputs.map((name) =>
    binary.includes(name) ? { name, parameters: { binary_data: true } } : { name },
  );
  // Without binary ones, all outputs come as they are: nothing needs to be said.
  const said = binary.length ? `,"outputs":${JSON.stringify(wanted)}` : "";
  const text = `{"inputs":[${inputs.join(",")}]${said}}`;
  const json = new TextEncoder().encode(text);
  const behind = parts.filter((part) => part.bytes);
  const headers = behind.length
    ? { "Content-Type": "application/octet-stream", [HEADER]: String(json.length) }
    : { "Content-Type": "application/json" };
  const body = joined([json, ...behind.map((part) => part.bytes)]);
  return { headers, body, ...curlOf(address, headers, text, behind, token) };
}

/** Lists over several lines as one: a string of JSON has no line break. */
function oneLine(text) {
  return text.trim().replace(/\s*\n\s*/g, " ");
}

function joined(pieces) {
  const found = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
  let at = 0;
  for (const piece of pieces) {
    found.set(piece, at);
    at += piece.length;
  }
  return found;
}

/** Text as one word of a shell. */
export function quoted(text) {
  return /^[\w./:@%+=,-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

/** Bytes as what `printf` prints. */
export function printed(bytes) {
  return `printf '${Array.from(bytes, (byte) => `\\${byte.toString(8).padStart(3, "0")}`).join("")}'`;
}

function curlOf(address, headers, text, behind, token) {
  const said = Object.entries(headers).map(([name, value]) => `-H ${quoted(`${name}: ${value}`)}`);
  // Not the token itself: lines are pasted into chats and files.
  if (token) said.push('-H "Authorization: Bearer $TOKEN"');
  const line = (data, before = "") => `${before}${[`curl ${quoted(address)}`, ...said, data].join(" \\\n  ")}`;
  const pieces = behind.map((part) => part.shell);
  if (text.length > LONGEST || pieces.some((piece) => !piece)) return { curl: line(`--data-binary @${SAVED}`), saved: true };
  if (!behind.length) return { curl: line(`-d ${quoted(text)}`), saved: false };
  const made = ["printf %s " + quoted(text), ...pieces].join("; ");
  return { curl: line("--data-binary @-", `{ ${made}; } |\n`), saved: false };
}
