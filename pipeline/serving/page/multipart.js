// Multipart: the parts of an answer that does not end, out of the bytes as they come.

const HEAD_END = [13, 10, 13, 10];

/** The parts of a stream: {type, location, bytes} each. */
export class Parts {
  constructor() {
    this.rest = new Uint8Array(0);
  }

  /** The parts that are whole once these bytes have come. */
  take(bytes) {
    const all = new Uint8Array(this.rest.length + bytes.length);
    all.set(this.rest);
    all.set(bytes, this.rest.length);
    const found = [];
    let at = 0;
    for (;;) {
      const end = endOfHead(all, at);
      if (end < 0) break;
      const head = headOf(all.subarray(at, end));
      const size = Number(head.get("content-length"));
      if (all.length < end + size) break;
      found.push({ type: head.get("content-type"), location: head.get("content-location"), bytes: all.slice(end, end + size) });
      at = end + size;
    }
    this.rest = all.slice(at);
    return found;
  }
}

function endOfHead(bytes, from) {
  for (let at = from; at + 4 <= bytes.length; at += 1) {
    if (HEAD_END.every((value, index) => bytes[at + index] === value)) return at + 4;
  }
  return -1;
}

function headOf(bytes) {
  const lines = new TextDecoder("latin1").decode(bytes).split("\r\n");
  return new Map(lines.filter((line) => line.includes(":")).map((line) => [line.slice(0, line.indexOf(":")).toLowerCase(), line.slice(line.indexOf(":") + 1).trim()]));
}
