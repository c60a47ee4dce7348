"""TopK: a classifier's scores to its k best labels."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stages import catalogue
from stages.errors import BadOption
from stages.spec import TensorSpec
from stages.stage import Array, Batch

__all__ = ["TopK"]


class TopK:
    """The k highest scores of each request with their labels, highest first.

    Input `scores`: float32 of shape (classes,).
    Output `labels`: JSON, a list of k strings. Output `scores`: float32 of shape (k,), descending.

    If scores are equal, the lower class comes first.

    Args:
        labels: the classes' names in order, as many as there are scores; or the name of a label set of the catalogue;
            or a file with one label a line, in which an empty line is a class without a name; or a .json file with a
            list, or an object {"0": label, ...}. `stages.catalogue.labels` says how files are read.
        k: how many; all, if there are fewer classes.
        softmax: the input has logits; turn them into probabilities first.
        base_dir: folder to which a labels file is relative.

    Raises:
        BadOption: k is below 1, or `labels` has no labels.
        ModelError: the labels file cannot be found or read.
    """

    def __init__(
        self, labels: Sequence[str] | str, k: int = 5, softmax: bool = False, base_dir: str | Path = "."
    ) -> None:
        names = catalogue.labels(labels, Path(base_dir)) if isinstance(labels, str) else list(labels)
        if not names or not all(isinstance(name, str) for name in names):
            raise BadOption(f"labels {labels!r}: expected a list of strings, a label set of the catalogue, or a file")
        if k < 1:
            raise BadOption(f"k {k}: expected at least 1")
        self._labels, self._softmax = names, softmax
        self._k = min(k, len(names))
        # The k longest labels as JSON, with brackets and commas: no answer can be longer.
        written = sorted((len(json.dumps(name, ensure_ascii=False).encode()) for name in names), reverse=True)
        self.inputs = (TensorSpec("scores", "float32", (len(names),)),)
        self.outputs = (
            TensorSpec.json("labels", max_bytes=sum(written[: self._k]) + self._k + 1),
            TensorSpec("scores", "float32", (self._k,)),
        )

    def process(self, batch: Batch) -> None:
        for row, scores in enumerate(batch.rows("scores")):
            if not np.isfinite(scores).all():
                guilty = int(np.argmin(np.isfinite(scores)))
                batch.fail(row, f"the model's scores are not finite: {scores[guilty]} for {self._labels[guilty]!r}")
                continue
            best = np.argsort(-scores, kind="stable")[: self._k]
            batch.write(row, "labels", [self._labels[i] for i in best])
            values = _softmax(scores) if self._softmax else scores
            # Any other mode than "clip" uses a buffer; the indices are valid.
            values.take(best, out=batch.out(row, "scores"), mode="clip")


def _softmax(scores: Array) -> Array:
    # The largest is subtracted first: e^x of a large logit would overflow.
    powers: Array = np.exp(scores - scores.max())
    powers /= powers.sum()
    return powers
