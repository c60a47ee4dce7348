"""Records: what messages are made of, field by field. On the wire each is the array of its fields (see `messages`).

A `Record` is made, copied and decoded faster than a named tuple. What is a key of dictionaries, or is taken apart into
its fields, is a named tuple all the same: msgspec writes both as arrays.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from shm.handle import TensorHandle

__all__ = [
    "CLOSE_REASONS",
    "MISSING",
    "NO_ORIGIN",
    "OK",
    "TOO_SMALL",
    "Answer",
    "Copied",
    "Ended",
    "Fence",
    "Hop",
    "Known",
    "Milestone",
    "Note",
    "Notice",
    "Order",
    "Origin",
    "Passed",
    "PoolAddress",
    "Record",
    "SlotRef",
    "Spread",
    "Step",
    "Submission",
    "Trace",
]

#: Why a batch closes (see `pipeline.worker.batcher`), in the order in which `WorkerReport` counts them.
CLOSE_REASONS = ("full", "delay", "drained", "deadline", "slots")

#: In place of an input that a skipped stage would have made.
MISSING = -1

#: The code of an answer or notice without an error; other codes are names of `pipeline.errors`.
OK = ""

#: The code of a notice whose outputs did not fit their slot. No answer has it: the request runs again with a larger
#: one.
TOO_SMALL = "TooSmall"


class Record(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True, gc=False):
    """A value that travels. No field of a record may refer back to it, since the garbage collector does not see it."""


class SlotRef(NamedTuple):
    """One loan of one slot."""

    segment: int
    slot: int
    generation: int


class Trace(NamedTuple):
    """What one stage did with one request."""

    stage: int
    """Index of the stage in the plan."""
    queue_us: int
    """From the order's arrival in the worker's batcher to the start of its batch."""
    compute_us: int
    """What `process` took, for the whole batch."""
    batch: int
    """How many requests the batch had."""
    copied: int
    """Bytes that were copied for the batch, divided by its requests."""
    age_us: int = 0
    """How old the request was at the end of its batch, from `Submission.started` on; 0: that is not known."""
    began: int = 0
    """When the batch began: monotonic nanoseconds."""


class Origin(NamedTuple):
    """What a client says of a request beside its inputs; the fields are those of `Submission`."""

    stream: int = 0
    sequence: int = 0
    started: int = 0
    traceparent: str = ""


NO_ORIGIN = Origin()
"""The client says nothing."""


class Known(NamedTuple):
    """A tensor that is there already."""

    tensor: int
    """Its number."""
    handle: TensorHandle


class Hop(Record, frozen=True):
    """One stage's part of an order."""

    stage: int
    worker: int
    """Number of the worker; never used twice in a run, so a restarted worker has another one."""
    segment: int
    """The slot to fill: segment, slot and generation; generation 0: the stage gives no bytes of its own."""
    slot: int
    generation: int
    awaited: bool
    """Whether the scheduler waits for this hop's notice even if the order goes on; else it may come late."""
    inputs: tuple[TensorHandle | int, ...]
    """In the order of the stage's inputs. MISSING: no stage makes it. Another int is the number of a tensor that is
    not there, and should be: the worker fails the request."""
    lengths: tuple[int, ...]
    """If the stage takes many: for each input how many of `inputs` are its, one after the other; -1 for an
    input that takes one. Empty: every input takes one. See `pipeline.wire.flattening`."""


class Order(Record, frozen=True):
    """Work for the worker of the first hop, and where it goes from there without asking the scheduler."""

    request: int
    attempt: int
    """Raised each time the request is ordered again; a message of an older attempt is dropped."""
    deadline: int
    """0: none."""
    group: int
    """0: batched freely. Else: batched only with orders of the same group (see quarantine)."""
    hop: Hop
    """The part of the worker that receives it."""
    trace: bytes
    """What the hops of this order did that are finished (see `traces`)."""
    label: str
    """How the request is called (see `stages.request`)."""
    stream: int = 0
    """The scheduler's number of the stream that the request is part of, never used twice in a run; 0: of none."""
    sequence: int = 0
    """As in `Submission`."""
    started: int = 0
    """As in `Submission`."""
    traceparent: str = ""
    """As in `Submission`."""
    route: bytes = b""
    """The hops behind `hop` (see `route`)."""
    known: tuple[Known, ...] = ()
    """Tensors that hops of `route` read, and the hop right before them does not make."""
    rows: int = 1
    """As in `Submission`: of all tensors that its hops read and make."""


class Passed(Record, frozen=True):
    """In place of a notice: a worker has finished its part of an order, and its outputs lie where the plan says."""

    request: int
    attempt: int
    trace: bytes
    """As in `Notice`."""


class Notice(Record, frozen=True):
    """A worker has finished its part of an order, or has made one more part of the answer to it."""

    request: int
    attempt: int
    code: str
    """OK, or what went wrong."""
    message: str
    outputs: tuple[TensorHandle, ...]
    """In the order of the stage's fields of one tensor; empty if it failed."""
    trace: bytes
    """Of every hop of the order so far, this one last; of this one alone if the scheduler does not wait for it."""
    children: tuple[tuple[TensorHandle, ...], ...]
    """For each of the stage's fields of many tensors: all of them, in order."""
    conditions: int
    """Bit i: the stage's field i holds, for stages whose `when:` asks (see `plan.When`)."""
    bytes_in: int
    """Of its inputs, if the stage's slots are of several sizes; otherwise 0."""
    bytes_out: int
    """What the outputs take of a slot, or would take as far as known if they did not fit; otherwise as `bytes_in`."""
    traceback: str
    """Of an exception that the stage did not mean to raise; else empty."""
    last: bool = True
    """False: the stage is still at it. `outputs` are one part of the answer, and another notice will follow."""
    parted: bool = False
    """The stage gives its outputs in parts: the last notice, of which no part is, has none."""


class Fence(NamedTuple):
    """One order that a worker must not run any more."""

    request: int
    attempt: int


class PoolAddress(NamedTuple):
    """Where a process finds the segment of one pool."""

    kind: str
    name: str
    pool: str


class Submission(Record, frozen=True):
    """One request."""

    tag: int
    """The client's own number for it; comes back in the answer."""
    slot: SlotRef
    """The granted slot that holds all of `inputs`."""
    inputs: tuple[TensorHandle, ...]
    """In the order of the pipeline's inputs."""
    deadline: int
    """0: none."""
    priority: int
    """0 is the highest, 9 the lowest."""
    name: str
    """What the client calls it; may be empty (see `labels.LONGEST_NAME`)."""
    stream: int = 0
    """The client's own number of the stream that the request is part of; 0: of none. The requests of a stream run one
    after the other, in each stage at one worker, until the client ends the stream by `Submit.ended`."""
    sequence: int = 0
    """Its number within the stream, above that of the request before it; numbers may be left out. 0: of no stream."""
    started: int = 0
    """When the client began with it, which may be long before it was sent; 0: the client does not say."""
    traceparent: str = ""
    """The trace that it is part of, as W3C Trace Context writes it (see `traceparent`); empty: of none."""
    rows: int = 1
    """How many rows it carries. Above 1, each tensor has one axis more than its spec, in front, of so many rows, and
    so has each tensor of the answer; `slot` is of the pool for such requests."""


class Answer(Record, frozen=True):
    """The answer to a request, or one part of it."""

    tag: int
    code: str
    message: str
    outputs: tuple[TensorHandle | int, ...]
    """In the order of the pipeline's outputs; MISSING if the stage that makes it was skipped. The slots are
    borrowed until `Submit.releases` names them."""
    trace: bytes
    """Of every stage that ran (see `traces`)."""
    traceback: str
    """As in `Notice`."""
    last: bool = True
    """False: a part, and more will follow. The last answer of a request that had parts brings no outputs."""
    part: int = 0
    """Of a part its number, from 0, or the child's, if each child is answered by itself: those come as they are done.
    Of the last answer how many parts there were."""


class Step(NamedTuple):
    """What one stage has done with a request, or with a child of it."""

    stage: int
    worker: int
    """Its number."""
    child: int
    """The position of the child; -1: the request itself."""
    at: int
    """When the scheduler was told: monotonic nanoseconds. It may be told late of a stage that another follows; 0: only
    after the request had ended."""


class Note(NamedTuple):
    """Something rare that has happened to a request: it runs again, for example, since its worker has died."""

    at: int
    """Monotonic nanoseconds."""
    text: str
    """For people."""
    child: int
    """As in `Step`."""
    again: int
    """When it was ordered again, the next time; 0: it was not."""


class Ended(Record, frozen=True):
    """A request that has been answered, for processes that watch (see `Observe`). Times are monotonic nanoseconds."""

    label: str
    client: str
    """The name of its client; empty: it has gone."""
    code: str
    """As in `Answer`."""
    message: str
    """Of an error, its beginning."""
    submitted: int
    """When the scheduler had it."""
    ended: int
    started: int
    """As in `Submission`."""
    attempt: int
    """How often it was ordered again."""
    traceparent: str
    """As in `Submission`."""
    traces: bytes
    """As `Answer.trace`; of a request with very many children a part."""
    steps: tuple[Step, ...]
    """In the order in which the scheduler was told; of a request with very many children a part."""
    rows: int = 1
    """As in `Submission`."""
    notes: tuple[Note, ...] = ()
    """In their order; of very many a part."""


class Spread(Record, frozen=True):
    """Durations of a worker, as a histogram (see `metrics.buckets.SECONDS`)."""

    buckets: tuple[int, ...]
    """How many fell into each bucket, and above all of them; empty: none fell into any."""
    sum_us: int


class Copied(Record, frozen=True):
    """What a worker has copied of one tensor for one reason (see `stages.copies`)."""

    side: str
    """Whether the tensor is an input or an output of the stage."""
    tensor: str
    reason: str
    nbytes: int
    batches: int


class Milestone:
    """How far a reload is, as `ReloadStep.step` has it; in this order. The last two are each the last of a reload."""

    BEGUN = "begun"
    STARTED = "started"
    READY = "ready"
    TOOK_OVER = "took over"
    GOES_BACK = "goes back"
    """Of a stage alone: workers that were replaced are replaced by those of the old version."""
    DRAINED = "drained"
    FAILED = "failed"
