// Shapes of zones: corners in fractions of the picture, and the YAML of them. Nothing of the page.

const NAME = /^[A-Za-z][A-Za-z0-9_-]{0,39}$/;
const WORDS = ["null", "true", "false"];

/** Why a zone cannot be called so; empty: it can. */
export function whyNoName(name, taken) {
  if (!NAME.test(name) || WORDS.includes(name.toLowerCase())) return "A name is a letter, then up to 39 letters, digits, _ or -.";
  return taken.includes(name) ? `There is a zone ${name} already.` : "";
}

/** Within the picture, to a thousandth of it. */
export function placed(value) {
  return Math.round(1000 * Math.min(1, Math.max(0, value))) / 1000;
}

/** The corner at which a zone's name stands: the lowest one, and of several the one furthest to the left. */
export function lowest(corners) {
  return corners.reduce((found, corner) => (corner[1] > found[1] || (corner[1] === found[1] && corner[0] < found[0]) ? corner : found));
}

/** Where a corner is put in: between the two corners of the edge that is nearest to it. */
export function indexFor(corners, [x, y], ratio) {
  if (corners.length < 3) return corners.length;
  let best = [Infinity, corners.length];
  corners.forEach((from, index) => {
    const to = corners[(index + 1) % corners.length];
    const distance = toEdge([x * ratio, y], [from[0] * ratio, from[1]], [to[0] * ratio, to[1]]);
    if (distance < best[0]) best = [distance, index + 1];
  });
  return best[1];
}

function toEdge([x, y], [x1, y1], [x2, y2]) {
  const [dx, dy] = [x2 - x1, y2 - y1];
  const length = dx * dx + dy * dy;
  const along = length ? Math.min(1, Math.max(0, ((x - x1) * dx + (y - y1) * dy) / length)) : 0;
  return Math.hypot(x - x1 - along * dx, y - y1 - along * dy);
}

const FIRST = [[0.3, 0.3], [0.7, 0.3], [0.7, 0.7]];

/** A further corner for those who do not point: one of the first three, or in the middle of the longest edge. */
export function nextCorner(corners, ratio) {
  if (corners.length < 3) return { index: corners.length, corner: [...FIRST[corners.length]] };
  let best = [-1, 0];
  corners.forEach(([x, y], index) => {
    const [x2, y2] = corners[(index + 1) % corners.length];
    const length = Math.hypot((x2 - x) * ratio, y2 - y);
    if (length > best[0]) best = [length, index];
  });
  const [x, y] = corners[best[1]];
  const [x2, y2] = corners[(best[1] + 1) % corners.length];
  return { index: best[1] + 1, corner: [placed((x + x2) / 2), placed((y + y2) / 2)] };
}

/** The zones as the YAML of a stage has them. */
export function yamlOf(stage, camera, zones) {
  const lines = Object.entries(zones).map(([name, corners]) => `          ${name}: [${corners.map(([x, y]) => `[${placed(x)}, ${placed(y)}]`).join(", ")}]`);
  const all = lines.length ? `        zones:\n${lines.join("\n")}` : "        zones: {}";
  return `# with: of the stage ${stage}\n    cameras:\n      ${camera}:\n${all}\n`;
}
