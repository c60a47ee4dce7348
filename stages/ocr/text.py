"""DecodeText: from a recogniser's probabilities to a line of text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stages import catalogue
from stages.engines.onnxruntime import metadata
from stages.errors import ModelError
from stages.ocr.documents import text_spec
from stages.spec import TensorSpec
from stages.stage import Array, Batch

__all__ = ["DecodeText", "alphabet_of", "greedy"]


class DecodeText:
    """Finds the most probable text, position by position.

    Input `probabilities`: float32 of shape (T, classes). Class 0 is the blank of CTC (Graves et al. 2006), then
    the alphabet's characters follow, then a space.
    Output `text`: JSON, {"text": "Total", "score": 0.98}; the score is the mean over the characters other than
    spaces, 0 if there are none.

    Args:
        space: between characters, a space counts from this probability on. The model is unsure of spaces in text
            that is not Chinese: of 160 rendered lines of six words, 130 have all their spaces if only the most
            probable class counts (0.5), and 158 at 0.05.
        model: the recogniser, a name of the catalogue or a file: its alphabet is in the file.
        max_length: the most positions (T) of a crop: an eighth of its width, for PP-OCR.
        base_dir: folder to which `model` is relative.

    Raises:
        ModelError: the model is missing, or has no alphabet.
    """

    def __init__(
        self, model: str = "ppocr-v4-rec", space: float = 0.05, max_length: int = 200, base_dir: str | Path = "."
    ) -> None:
        self._classes = ["", *alphabet_of(catalogue.find(model, Path(base_dir))), " "]
        self._space = space
        self.ragged = True
        self.inputs = (TensorSpec("probabilities", "float32", ("T", len(self._classes)), {"T": max_length}),)
        self.outputs = (text_spec("text", max_length),)

    def process(self, batch: Batch) -> None:
        for row, probabilities in enumerate(batch.rows("probabilities")):
            if not np.isfinite(probabilities.sum(dtype=np.float64)):
                # argmax takes NaN for the largest.
                batch.fail(row, "the recogniser's probabilities are not finite")
                continue
            text, score = greedy(probabilities, self._classes, self._space)
            batch.write(row, "text", {"text": text, "score": round(score, 4)})


def alphabet_of(path: Path) -> list[str]:
    """The characters in a recogniser's file: under the key `character` of its metadata, one a line.

    Raises:
        ModelError: it has none.
    """
    written = metadata(path).get("character")
    if not written:
        raise ModelError(f"{path}: expected an alphabet under the metadata key 'character', found none")
    # Not splitlines, which splits at more characters than the line feed.
    return written.split("\n")


def greedy(probabilities: Array, classes: Sequence[str], space: float = 0.5) -> tuple[str, float]:
    """The text of the most probable class at each position, repeats and blanks left out, and its score.

    Args:
        probabilities: float32 of shape (T, len(classes)).
        classes: the first is the blank, the last the space.
        space: if the blank is the most probable class, a space is taken from this probability on.

    Returns:
        The text, with single spaces inside it and none around it; and the mean probability of its characters
        other than spaces.
    """
    best = probabilities.argmax(axis=1)
    best[(best == 0) & (probabilities[:, -1] >= space)] = len(classes) - 1
    kept = best != 0
    kept[1:] &= best[1:] != best[:-1]
    text = " ".join("".join([classes[index] for index in best[kept]]).split())
    kept &= best != len(classes) - 1
    score = probabilities[kept, best[kept]].mean(dtype=np.float64) if text else 0.0
    return text, float(score)
