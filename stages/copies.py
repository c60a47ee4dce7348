"""Copies: the reasons for which the runtime copies a tensor's bytes, and how to avoid each.

Between stages nothing is copied: a stage reads its inputs from the place where the stage before has written
them. Copies remain at the two ends of a stage, where a batch is put together or taken apart:

    slots ──▶ gathered, gaps, padded, decoded ──▶ stage ──▶ scattered, gaps, padded, returned, encoded,  ──▶ slots
                       input                                          shape unknown      output

`stages.stage.Batch` counts them by side, tensor and reason, in bytes that were written. It does not
count what is not a copy of a tensor: JSON documents, which are encoded into their slot, and what a stage's own code
does, such as transfers of rows between their slots and a device.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = [
    "DECODED",
    "ENCODED",
    "GAPS",
    "GATHERED",
    "INPUT",
    "OUTPUT",
    "PADDED",
    "REASONS",
    "RETURNED",
    "SCATTERED",
    "SHAPE_UNKNOWN",
    "Reason",
]

INPUT = "input"
OUTPUT = "output"

#: The rows of an input did not lie side by side in memory, and were put into one array.
GATHERED = "gathered"
#: Rows lay side by side with other bytes between them, and the stage takes only arrays without gaps.
GAPS = "gaps"
#: The rows of an input were padded to one shape, or a batch to the one size that a model takes.
PADDED = "padded"
#: The rows of an output did not lie side by side: the stage filled one array, which was divided among them.
SCATTERED = "scattered"
#: The stage returned or wrote a value instead of filling the output's memory.
RETURNED = "returned"
#: Only the model knows the shape of its output, so it wrote into memory of its own.
SHAPE_UNKNOWN = "shape unknown"
#: Elements of dtype "bytes" are of any length, so no array is a view of them: the stage got them as objects.
DECODED = "decoded"
#: The same on the way out.
ENCODED = "encoded"


class Reason(NamedTuple):
    """The explanation of a reason, for people."""

    why: str
    remedy: str


REASONS: dict[str, Reason] = {
    GATHERED: Reason(
        "rows of a batch did not lie side by side",
        "batch.gather: false makes batches only of rows that do; batch.max_size: 1; or read them with rows()",
    ),
    GAPS: Reason(
        "rows do not fill their slots, and the stage takes no gaps",
        "there are no gaps if the tensor has a fixed shape, is alone in its slot, and has a multiple of 64 bytes; "
        "otherwise batch.max_size: 1, or a stage that takes rows with gaps",
    ),
    PADDED: Reason(
        "rows were padded to one shape, or a batch to the size that the model takes",
        "inputs of one shape; a pad of 1; a model that takes batches of any size, or of batch.max_size: 1",
    ),
    SCATTERED: Reason(
        "output rows of a batch did not lie side by side",
        "batch.gather: false makes batches only of rows that do; batch.max_size: 1; or fill them with out()",
    ),
    RETURNED: Reason(
        "the stage gave a value instead of filling its output",
        "fill batch.out(row, name) or batch.stack_out(name); in a function, the arrays of the parameter out",
    ),
    SHAPE_UNKNOWN: Reason(
        "only the model knows its output's shape",
        "a model whose output shapes are fixed, or follow from its inputs' shapes",
    ),
    DECODED: Reason(
        "elements of dtype bytes are of any length, so no array is a view of them",
        "for one run of bytes, such as a file, dtype uint8 with shape [bytes]",
    ),
    ENCODED: Reason(
        "elements of dtype bytes are of any length, so they are encoded into the slot",
        "for one run of bytes, such as a file, dtype uint8 with shape [bytes]",
    ),
}
"""Every reason that `Batch.count_copy` knows."""
