"""Classification: the largest values of an output, as text that Triton's clients take apart. Pure.

0.917000:281          value:index, the largest first; a whole number without a point
"""

from __future__ import annotations

import math

import numpy as np

from pipeline.kserve.datatypes import DATATYPES, joined
from pipeline.kserve.values import InferTensor

__all__ = ["classified"]


def classified(output: InferTensor, classes: int, batched: bool) -> InferTensor:
    """The output as its `classes` largest values, or all if it has fewer: BYTES [classes], for each row if `batched`.

    Args:
        output: of a datatype that `admission` lets through, with its bytes.
    """
    assert output.data is not None
    kind = DATATYPES[output.datatype]
    rows = output.shape[0] if batched else 1
    width = math.prod(output.shape[1:] if batched else output.shape)
    most = min(classes, width)
    table = np.frombuffer(output.data, np.dtype(kind.dtype).newbyteorder("<")).reshape(rows, width)
    texts = []
    for row in table:
        # Of equal values the first comes first; NaN comes last.
        keys = np.nan_to_num(row, nan=-np.inf) if row.dtype.kind == "f" else row
        order = np.argsort(keys[::-1], kind="stable")[::-1][:most]
        for place in order:
            index = width - 1 - int(place)
            value = f"{float(row[index]):f}" if row.dtype.kind == "f" else str(int(row[index]))
            texts.append(f"{value}:{index}".encode())
    data = memoryview(joined(texts))
    shape = (rows, most) if batched else (most,)
    return InferTensor(output.name, "BYTES", shape, data, None, output.parameters, data.nbytes)
