// Pictures: what a browser can read of a file, as a preview and as pixels.

const WIDEST = 320;

/** The picture of a file, or null if this browser can read none from it. */
export async function pictureOf(file) {
  try {
    return await createImageBitmap(file, { imageOrientation: "from-image" });
  } catch {
    return null;
  }
}

/** A canvas that shows a picture, small. */
export function preview(picture, label) {
  const scale = Math.min(1, WIDEST / Math.max(picture.width, picture.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(picture.width * scale));
  canvas.height = Math.max(1, Math.round(picture.height * scale));
  canvas.getContext("2d").drawImage(picture, 0, 0, canvas.width, canvas.height);
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", label);
  return canvas;
}

/** Pixels of a picture, row by row, with 1 (grey), 3 (RGB) or 4 (RGBA) bytes each. */
export function pixelsOf(picture, width, height, channels) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.drawImage(picture, 0, 0, width, height);
  const { data } = context.getImageData(0, 0, width, height);
  if (channels === 4) return new Uint8Array(data.buffer);
  const found = new Uint8Array(width * height * channels);
  for (let at = 0, to = 0; at < data.length; at += 4) {
    if (channels === 1) {
      // ITU-R BT.601, as Pillow's convert("L").
      found[to++] = Math.round(0.299 * data[at] + 0.587 * data[at + 1] + 0.114 * data[at + 2]);
    } else {
      found[to++] = data[at];
      found[to++] = data[at + 1];
      found[to++] = data[at + 2];
    }
  }
  return found;
}

/** A canvas of pixels as `pixelsOf` has them. */
export function painted(pixels, width, height, channels, label) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const image = new ImageData(width, height);
  for (let pixel = 0; pixel < width * height; pixel += 1) {
    for (let channel = 0; channel < 3; channel += 1) {
      image.data[pixel * 4 + channel] = pixels[pixel * channels + (channels === 1 ? 0 : channel)];
    }
    image.data[pixel * 4 + 3] = channels === 4 ? pixels[pixel * channels + 3] : 255;
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", label);
  return canvas;
}

/** Whether bytes begin as JPEG, PNG, GIF or WebP do. */
export function isPicture(bytes) {
  const starts = [[0xff, 0xd8, 0xff], [0x89, 0x50, 0x4e, 0x47], [0x47, 0x49, 0x46, 0x38], [0x52, 0x49, 0x46, 0x46]];
  return bytes.length > 12 && starts.some((start) => start.every((byte, at) => bytes[at] === byte));
}
