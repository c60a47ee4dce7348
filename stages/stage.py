"""Stage: the contract between a user's computation and the process that runs it.

A stage is a plain class; nothing has to be inherited. The runtime constructs it with the options
of the YAML's `with:`, reads its specs, and calls the three hooks:

    class Invert:
        inputs = (TensorSpec("image", "uint8", (224, 224, 3)),)
        outputs = (TensorSpec("image", "uint8", (224, 224, 3)),)

        def process(self, batch):
            np.subtract(255, batch.stack("image"), out=batch.stack_out("image"))

`inputs` and `outputs` may be set in `__init__` if they depend on options or on a model file;
`__init__` must stay cheap, for `pipeline check` constructs the stage too. Heavy things (loading a
model, opening a device) belong in `setup`. `setup` and `teardown` may be left out.

Two attributes, which may be left out as well, are for `pipeline check`:

    max_batch = 1            the largest batch that the stage takes; `batch.max_size` may not be above it
    notes = ("...",)         what a person should know of it beside its specs

Rows of one batch have inputs of equal shapes, JSON and inputs of many tensors apart, unless the stage has one of
these attributes:

    ragged = True            rows of any shapes: for stages that compute row by row, or put them together themselves
    pad = {"W": 32}          rows of shapes that are equal once W is rounded up to a multiple of 32 (see
                             `TensorSpec.padded`): for stages that bring rows to one shape themselves

With

    scales_with_cores = True     `replicas: auto` is as many as there are cores for light stages, instead of one

a stage says that each of its requests takes a core for a while, as decoding a picture does, and that it minds no twin.

Three more hooks are for stages over a device that computes beside the CPU, and may be left out too:

    attach_memory(buffers)   after `setup`, and again when the runtime has other memory: the segments that
                             all views will lie in, as memoryviews, for stages that pin them
    concurrency              attribute: batches that the stage can have under way; above 1 it needs
    start(batch) -> token    instead of `process`: begin, having asked for every output (`out`, `out_rows`), and return
    done(token) -> bool      is it over? Called until it returns True, in any order of the tokens. Only then
                             are the batch's views given back. It may raise what `process` may raise

`process` is still needed: after an error the rows of a batch run alone through it.

`process` of a stage whose outputs only the answer takes may be a generator. Then the answer comes in parts, each as
soon as it is yielded:

    def process(self, batch):
        for word in self.model.words(batch.document(0, "question")):
            yield {"word": [word]}

A part has what was written to a row since the last `yield`, or what is yielded: a mapping as `process` returns it, in
which None says that a row has nothing this time. All parts of a request lie in one slot, one after the other, each at a
multiple of 64 bytes: the `max` of an output is for all of them together. What was yielded is read from then on, so it
must not be written again. Rows that have parts are not run again if the batch fails: they fail with it.

Inputs and outputs of dtype "bytes" are arrays of objects, each of them a `bytes`:

    def process(self, batch):
        return {"upper": [np.array([name.upper() for name in row], object) for row in batch.rows("names")]}

A stage never sees a process, a socket or the name of a segment.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from stages.batch import Array, Batch
from stages.spec import TensorSpec

__all__ = ["Array", "Batch", "Stage", "StageContext"]


@dataclass(frozen=True, slots=True)
class StageContext:
    """What a stage learns in `setup` about the place it runs in."""

    stage: str = "stage"
    """Name of the stage in the YAML."""
    replica: int = 0
    """Which replica of the stage this process is, from 0."""
    threads: int = 1
    """How many threads the stage may keep busy; from the placement."""
    device: str = "cpu"
    """"cpu" or "cuda:N"."""
    max_batch: int = 1
    """The largest batch that `process` will be given."""
    cpus: tuple[int, ...] = ()
    """CPUs that this process may run on; empty if it is not bound."""


@runtime_checkable
class Stage(Protocol):
    """What the runtime needs of a stage. `setup(context)` and `teardown()` are optional hooks."""

    inputs: Sequence[TensorSpec]
    outputs: Sequence[TensorSpec]

    def process(self, batch: Batch) -> Mapping[str, Any] | Iterator[Mapping[str, Any] | None] | None:
        """Compute one batch.

        Either fill `batch`'s outputs and return None, or return a mapping from output name to an
        array of shape (len(batch), ...) or a list of one value a row, which is then copied. A generator yields
        the same, once for each part of the answer.

        Raises:
            BadInput: one of the requests cannot be computed. If the batch holds several, the
                rows run again one at a time and only the guilty one fails; `batch.fail(row, ...)`
                says it without running again.
            StageBroken: the process must be restarted.
        """
        ...
