"""JoinLines: the texts of a page's boxes in one list."""

from __future__ import annotations

from stages.ocr.documents import boxes_spec, lines_spec, text_spec
from stages.stage import Batch

__all__ = ["JoinLines"]


class JoinLines:
    """Puts each text beside its box.

    Input `texts`: many, JSON {"text": ..., "score": ...}. Input `boxes`: JSON, a box for each text, in the same order.
    Output `lines`: JSON, [{"text": ..., "score": ..., "box": [[x, y], [x, y], [x, y], [x, y]]}, ...] in that order,
    without texts that are empty or have a lower score than `score`.

    Args:
        score: texts with a lower score are dropped.
        max_boxes: the most boxes of a page.
        max_length: the most characters of a text; `max_length` of stages.ocr.text.
    """

    def __init__(self, score: float = 0.5, max_boxes: int = 500, max_length: int = 200) -> None:
        self._score = score
        self.ragged = True
        self.inputs = (
            text_spec("texts", max_length, many=max_boxes),
            boxes_spec("boxes", max_boxes),
        )
        self.outputs = (lines_spec("lines", max_boxes, max_length),)

    def process(self, batch: Batch) -> None:
        for row in range(len(batch)):
            texts, boxes = batch.document(row, "texts"), batch.document(row, "boxes")
            if len(texts) != len(boxes):
                # zip would give every text after a missing one the box of another text.
                batch.fail(row, f"expected a text for each of {len(boxes)} boxes, found {len(texts)}")
                continue
            found = zip(texts, boxes)
            batch.write(
                row,
                "lines",
                [{**text, "box": box} for text, box in found if text["text"] and text["score"] >= self._score],
            )
