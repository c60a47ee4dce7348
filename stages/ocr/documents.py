"""Documents: the JSON that these stages pass on, and its largest length.

    text     {"text": "Total", "score": 0.98}
    boxes    [[[x, y], [x, y], [x, y], [x, y]], ...]     clockwise from the upper left corner, whole pixels
    lines    [{"text": ..., "score": ..., "box": [[x, y], [x, y], [x, y], [x, y]]}, ...]
"""

from __future__ import annotations

from stages.spec import TensorSpec

__all__ = ["boxes_spec", "lines_spec", "text_spec"]

#: Bytes of one box: eight numbers of at most six digits, brackets and commas.
_BOX = 8 * 6 + 10 + 8
#: Bytes of a text without its characters: names, brackets, a score of four digits.
_TEXT = 32
#: Bytes of a character in JSON: outside of the BMP, or escaped as \u001f.
_CHARACTER = 6


def boxes_spec(name: str, max_boxes: int) -> TensorSpec:
    """Spec of all boxes of a page."""
    return TensorSpec.json(name, max_bytes=2 + _BOX * max_boxes)


def text_spec(name: str, max_length: int, many: int | None = None) -> TensorSpec:
    """Spec of the text of one box, of at most `max_length` characters; or of `many` boxes."""
    return TensorSpec.json(name, max_bytes=_TEXT + _CHARACTER * max_length, many=many)


def lines_spec(name: str, max_boxes: int, max_length: int) -> TensorSpec:
    """Spec of all texts of a page with their boxes."""
    each = text_spec(name, max_length).max_nbytes + len(',"box":,') + _BOX
    return TensorSpec.json(name, max_bytes=2 + each * max_boxes)
