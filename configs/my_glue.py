"""Glue of your own between two models: a plain function of arrays, which configs/ocr-glue.yaml uses.

It cuts upright rectangles only; stages.ocr.crops also straightens what lies aslant.
"""

import numpy as np
from PIL import Image

from stages.ocr.boxes import reading_order
from stages.ocr.regions import text_boxes

HEIGHT = 48


def crop(page, probability, out, step=32, max_width=1600):
    """page: uint8 (H, W, 3). probability: float32 (1, h, w). Fills the output `crops`, returns the output `boxes`."""
    height, width, _ = page.shape
    boxes, _ = text_boxes(probability[0])
    boxes = boxes[reading_order(boxes)]
    boxes *= (width / probability.shape[2], height / probability.shape[1])
    low = np.clip(np.floor(boxes.min(axis=1)), 0, (width, height)).astype(int)
    high = np.clip(np.ceil(boxes.max(axis=1)), 0, (width, height)).astype(int)

    widths = [min(HEIGHT * int(x) // int(y) + 1, max_width) for x, y in high - low]
    views = out.many("crops", [(3, HEIGHT, -(-width // step) * step) for width in widths])
    for view, width, (left, top), (right, bottom) in zip(views, widths, low, high):
        line = Image.fromarray(page[top:bottom, left:right]).resize((width, HEIGHT))
        # What the recogniser was trained on: blue first, -1 to 1, and zeros beside the text.
        view[:, :, :width] = np.asarray(line)[:, :, ::-1].transpose(2, 0, 1) / np.float32(127.5) - 1
        view[:, :, width:] = 0
    return {"boxes": [[[a, b], [c, b], [c, d], [a, d]] for (a, b), (c, d) in zip(low.tolist(), high.tolist())]}
