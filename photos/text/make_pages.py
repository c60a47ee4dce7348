"""Make the pages of this folder: `pip install pillow && python photos/text/make_pages.py`.

invoice.png is drawn here, with the font that Pillow brings. page.png is scikit-image's scanned page (BSD-3-Clause),
fetched out of its wheel; it is not in the repository.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parents[1]))

from pipeline.models.pull import fetch_member  # noqa: E402 - the repository need not be installed

PAGE_SHA256 = "341a6f0a61557662b02734a9b6e56ec33a915b2c41886b97509dedf2a43b47a3"

HEAD = ["Northern Lights Trading Ltd.", "14 Harbour Street, Bergen"]
FACTS = ["Invoice No. 48213", "Date: 23 November 2026", "Customer: Blue Whale Museum"]
ITEMS = [
    ("Description", "Quantity", "Price", "Amount"),
    ("Telescope 70/900", "2", "449.00", "898.00"),
    ("Star map, laminated", "10", "17.95", "179.50"),
    ("Red torch", "4", "12.25", "49.00"),
    ("Delivery", "1", "153.00", "153.00"),
]
TOTAL = ("TOTAL", "1,279.50 EUR")
STAMP = "PAID IN FULL"
COLUMNS = (90, 480, 650, 800)


def invoice() -> Image.Image:
    """A page of 1000 x 700 pixels with text of 24 and a stamp that lies aslant."""
    page = Image.new("RGB", (1000, 700), "white")
    draw = ImageDraw.Draw(page)
    font, large = ImageFont.load_default(24), ImageFont.load_default(36)
    draw.text((90, 40), HEAD[0], "black", large)
    draw.text((90, 90), HEAD[1], "black", font)
    for number, fact in enumerate(FACTS):
        draw.text((90, 160 + 40 * number), fact, "black", font)
    for number, item in enumerate(ITEMS):
        for x, text in zip(COLUMNS, item):
            draw.text((x, 320 + 44 * number), text, "black", font)
    draw.line((90, 358, 930, 358), "gray", 2)
    draw.line((90, 548, 930, 548), "gray", 2)
    draw.text((90, 570), TOTAL[0], "black", font)
    draw.text((740, 570), TOTAL[1], "black", font)
    page.paste(_stamp(large), (620, 130))
    return page


def _stamp(font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> Image.Image:
    stamp = Image.new("RGB", (250, 44), "white")
    ImageDraw.Draw(stamp).text((4, 0), STAMP, "darkred", font)
    return stamp.rotate(15, Image.Resampling.BICUBIC, expand=True, fillcolor="white")


def main() -> None:
    invoice().save(FOLDER / "invoice.png", optimize=True)
    # The last version with wheels for every Python from 3.10 on.
    page = fetch_member("scikit-image==0.25.2", "skimage/data/page.png")
    if hashlib.sha256(page).hexdigest() != PAGE_SHA256:
        raise SystemExit("page.png is not the one that is expected; it was not kept")
    (FOLDER / "page.png").write_bytes(page)


if __name__ == "__main__":
    main()
