"""JoinLines: the texts of a page's boxes, in one list."""

from __future__ import annotations

from stages.spec import TensorSpec
from stages.stage import Batch

__all__ = ["JoinLines"]


class JoinLines:
    """Puts each text to its box.

    Input `texts`: many, JSON {"text": ..., "score": ...}. Input `boxes`: JSON, a box for each of them, in their order.
    Output `lines`: JSON, [{"text": ..., "score": ..., "box": [[x, y], [x, y], [x, y], [x, y]]}, ...] in that order,
    without those that are empty, or less sure than `score`.

    Args:
        score: least score of what is kept.
        max_boxes: most boxes of a page.
        max_bytes: longest JSON document of a text; `text` of stages.ocr.text.
    """

    def __init__(self, score: float = 0.5, max_boxes: int = 500, max_bytes: int = 1024) -> None:
        self._score = score
        self.ragged = True
        self.inputs = (
            TensorSpec.json("texts", max_bytes=max_bytes, many=max_boxes),
            TensorSpec.json("boxes", max_bytes=2 + 70 * max_boxes),
        )
        self.outputs = (TensorSpec.json("lines", max_bytes=(max_bytes + 80) * max_boxes),)

    def process(self, batch: Batch) -> None:
        for row in range(len(batch)):
            found = zip(batch.document(row, "texts"), batch.document(row, "boxes"))
            batch.write(
                row,
                "lines",
                [{**text, "box": box} for text, box in found if text["text"] and text["score"] >= self._score],
            )
