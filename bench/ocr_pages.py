"""Pages whose text is known: rendered here with Pillow's own font."""

from __future__ import annotations

import io
import random
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

__all__ = ["SIZE", "page_of", "words"]

#: Pixels of the font.
SIZE = 24

#: No word begins with a capital of the same form as its small letter (C, O, S, W): the recogniser cannot always tell
#: which of the two it sees if the letter is alone.
_VOCABULARY = (
    *("about", "after", "again", "Amount", "answer", "Berlin", "Bridge", "Delivery", "Description", "Discount"),
    *("every", "first", "found", "Garden", "great", "house", "Invoice", "large", "later", "learn", "letter"),
    *("light", "might", "mother", "Museum", "name", "never", "number", "other", "Paris", "Payment", "people"),
    *("place", "point", "Quantity", "Reference", "right", "Road", "said", "should", "small", "sound", "spell"),
    *("still", "study", "their", "there", "these", "thing", "think", "three", "Total", "under", "water", "where"),
    *("which", "word", "would", "write", "years", "2026", "48213", "17.95", "1,279.50", "EUR"),
)


def words(lines: int, a_line: int, seed: int = 0) -> list[str]:
    """Lines of English words, prices and years."""
    chosen = random.Random(seed)
    return [" ".join(chosen.choices(_VOCABULARY, k=a_line)) for _ in range(lines)]


def page_of(lines: Sequence[str], width: int = 900, size: int = SIZE, pitch: int = 40, margin: int = 24) -> bytes:
    """A white page as a PNG file: each of `lines` black, `pitch` pixels below the one before."""
    page = Image.new("RGB", (width, 2 * margin + pitch * max(1, len(lines))), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(size)
    for number, line in enumerate(lines):
        draw.text((margin, margin + pitch * number), line, "black", font)
    file = io.BytesIO()
    page.save(file, "PNG")
    return file.getvalue()
