"""Why the runtime copies a tensor's bytes: the reasons, and what would save each copy.

Between stages nothing is copied: a stage reads its inputs where the stage before has written them. What is
left are the copies at the two ends of a stage, when a batch is put together or taken apart:

    slots ──▶ gathered, gaps, padded ──▶ stage ──▶ scattered, gaps, padded, returned, shape unknown ──▶ slots
                     input                                          output

`stages.stage.Batch` counts them by side, tensor and reason, in bytes that were written. Not counted, since they
are no copies of a tensor: JSON documents, which are encoded into their slot, and what a stage's own code does, such as
bringing rows from their slots to a device and back, by whatever way.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = [
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

#: The rows of an input were not side by side in memory, and were put into one array.
GATHERED = "gathered"
#: Rows were side by side, but with other bytes between them, and the stage takes arrays without gaps only.
GAPS = "gaps"
#: The rows of an input were brought to one shape; or a batch to the one size that a model takes.
PADDED = "padded"
#: The rows of an output were not side by side: the stage filled one array, which was parted among them.
SCATTERED = "scattered"
#: The stage gave a value, instead of filling the output's memory.
RETURNED = "returned"
#: Only the model knows the shape of its output: it wrote into memory of its own.
SHAPE_UNKNOWN = "shape unknown"


class Reason(NamedTuple):
    """What a person is told about a reason."""

    why: str
    remedy: str


REASONS: dict[str, Reason] = {
    GATHERED: Reason(
        "rows of a batch did not lie side by side",
        "batch.gather: false makes batches of rows that do, only; batch.max_size: 1; or read them with rows()",
    ),
    GAPS: Reason(
        "rows do not fill their slots, and the stage takes no gaps",
        "a tensor is dense beside its neighbours where it is of a fixed shape, alone in its slot, and a multiple "
        "of 64 bytes large; else batch.max_size: 1, or a stage that takes rows with gaps",
    ),
    PADDED: Reason(
        "rows were brought to one shape, or a batch to the size that the model takes",
        "inputs of one shape; a pad of 1; a model that takes batches of any size, or of batch.max_size: 1",
    ),
    SCATTERED: Reason(
        "output rows of a batch did not lie side by side",
        "batch.gather: false makes batches of rows that do, only; batch.max_size: 1; or fill them with out()",
    ),
    RETURNED: Reason(
        "the stage gave a value instead of filling its output",
        "fill batch.out(row, name) or batch.stack_out(name); in a function, the arrays of the parameter out",
    ),
    SHAPE_UNKNOWN: Reason(
        "only the model knows its output's shape",
        "a model whose output shapes are fixed, or follow from its inputs' shapes",
    ),
}
"""Every reason that `Batch.count_copy` is given."""
