"""Every message that passes between processes, field by field. No tensor is ever among them.

    client ──Hello, Loan, Submit, Again, AskStatus, Bye──▶ scheduler ──Orders, Fences, PeerGone──▶ worker
    client ◀──Welcome, Answers, Status, Gone─────── scheduler ◀──Ready, Notices, Fenced, WorkerReport── worker
                                                    worker ──Orders──▶ worker
    supervisor ──WorkerGone, StageBroken, Kept, Drain, Stop──▶ scheduler ──Ready, Relic, Drained──▶ supervisor
    supervisor ──Reset, Stop──▶ worker ──Ready, Failed──▶ supervisor

On the wire a message is one MessagePack array: [PROTOCOL, kind, field, field, ...]; a record inside
a message is the array of its fields. `codec` encodes and decodes; adding, removing or reordering a
field means raising PROTOCOL, since both ends must then be of one version.

Times are nanoseconds of CLOCK_MONOTONIC, which all processes of a host share.
"""

from __future__ import annotations

from typing import NamedTuple

from shm.handle import TensorHandle

__all__ = [
    "MESSAGES",
    "MISSING",
    "OK",
    "PROTOCOL",
    "TOO_SMALL",
    "Again",
    "Answer",
    "Answers",
    "AskStatus",
    "Bye",
    "Copied",
    "Drain",
    "Drained",
    "Failed",
    "Fence",
    "Fenced",
    "Fences",
    "Gone",
    "Hello",
    "Hop",
    "Kept",
    "Loan",
    "Message",
    "Notice",
    "Notices",
    "Order",
    "Orders",
    "PeerGone",
    "PoolAddress",
    "Ready",
    "Relic",
    "Reset",
    "SlotRef",
    "StageBroken",
    "Status",
    "Stop",
    "Submission",
    "Submit",
    "Trace",
    "Welcome",
    "WorkerGone",
    "WorkerReport",
]

PROTOCOL = 5

#: In place of an input that a skipped stage would have made.
MISSING = -1

#: The code of an answer or notice without an error; other codes are names of `pipeline.errors`.
OK = ""

#: The code of a notice whose outputs did not fit their slot. No answer has it: the request runs again with a larger
#: one.
TOO_SMALL = "TooSmall"


# -- records ------------------------------------------------------------------------------------


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
    """From the order's arrival in the worker's inbox to the start of its batch."""
    compute_us: int
    """What `process` took, for the whole batch."""
    batch: int
    """How many requests the batch had."""
    copied: int
    """Bytes that were copied for the batch, divided by its requests."""


class Hop(NamedTuple):
    """One stage's part of an order."""

    stage: int
    worker: int
    """Number of the worker; never used twice in a run, so a restarted worker has another one."""
    segment: int
    """The slot to fill: segment, slot and generation; generation 0: the stage gives no bytes of its own."""
    slot: int
    generation: int
    prompt: bool
    """Whether the scheduler waits for this hop's notice though the order goes on; else it may come late."""
    inputs: tuple[TensorHandle | int, ...]
    """In the order of the stage's inputs. An int is the number of a tensor that an earlier hop of
    this order makes, and puts here before it forwards the order; MISSING: nobody makes it."""
    lengths: tuple[int, ...]
    """Where the stage takes many: for each input how many of `inputs` are its, one after the other; -1 for an
    input that takes one. Empty: every input takes one."""


class Order(NamedTuple):
    """Work for the worker of the first hop, and where it goes from there without asking anybody."""

    request: int
    attempt: int
    """Raised each time the request is ordered again; a message of an older attempt is dropped."""
    deadline: int
    """0: none."""
    group: int
    """0: batched freely. Else: batched only with orders of the same group (see quarantine)."""
    hops: tuple[Hop, ...]
    trace: tuple[Trace, ...]
    """What the hops of this order did that are finished."""
    label: str
    """How the request is called (see `stages.request`)."""


class Notice(NamedTuple):
    """A worker has finished its part of an order."""

    request: int
    attempt: int
    code: str
    """OK, or what went wrong."""
    message: str
    outputs: tuple[TensorHandle, ...]
    """In the order of the stage's fields of one tensor; empty where it failed."""
    trace: tuple[Trace, ...]
    """Of every hop of the order so far, this one last."""
    children: tuple[tuple[TensorHandle, ...], ...]
    """For each of the stage's fields of many tensors: all of them, in order."""
    truths: int
    """Bit i: the stage's field i holds, for stages whose `when:` asks (see `plan.When`)."""
    bytes_in: int
    """Of its inputs, where the stage's slots are of several sizes; else 0."""
    bytes_out: int
    """What the outputs take of a slot, or would take as far as known where they did not fit; else as `bytes_in`."""
    traceback: str
    """Of an exception that the stage did not mean to raise; else empty."""


class Fence(NamedTuple):
    """One order that a worker must not run any more."""

    request: int
    attempt: int


class PoolAddress(NamedTuple):
    """Where a client finds one segment."""

    kind: str
    name: str
    pool: str


class Submission(NamedTuple):
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


class Answer(NamedTuple):
    """The one answer to a request."""

    tag: int
    code: str
    message: str
    outputs: tuple[TensorHandle | int, ...]
    """In the order of the pipeline's outputs; MISSING where the stage was skipped that makes it. The slots are
    borrowed until `Submit.releases` names them."""
    trace: tuple[Trace, ...]
    traceback: str
    """As in `Notice`."""


# -- client <-> scheduler -----------------------------------------------------------------------


class Hello(NamedTuple):
    """The first message of a client, whose inbox is `clients/<client>.sock`, in hexadecimal.

    Its death is seen by `clients/<client>.lock`, which it holds for as long as it lives.
    """

    client: int
    """Random, of 63 bits: nobody speaks for another client by accident or by guessing."""
    name: str


class Welcome(NamedTuple):
    """What a client needs to know: where the segments are and what goes in and out."""

    epoch: int
    plan: str
    """The plan as JSON."""
    pools: tuple[PoolAddress, ...]


class Loan(NamedTuple):
    """The client asks for a slot of an ingress segment.

    An ask that waits is answered by a grant, and may be answered by several. One that does not is answered at once by
    `Answers.settled`, with a grant or without one, and ends the wait of an earlier ask for the same segment: after
    that answer no grant for it is on its way.
    """

    client: int
    segment: int
    ask: int
    """The client's own number for it, above that of its asks before."""
    wait: bool


class Submit(NamedTuple):
    """Requests, and slots that the client has finished with: outputs, or grants it does not need.

    A submission whose tag is not above those that came before was sent before, and is not let in again.
    """

    client: int
    seen: int
    """The number of the last `Answers` that the client has taken in; the scheduler keeps later ones for `Again`."""
    submissions: tuple[Submission, ...]
    releases: tuple[SlotRef, ...]


class Again(NamedTuple):
    """The client has lost what it was receiving, by an exception in a signal's handler say: every `Answers` after
    number `seen` is sent once more."""

    client: int
    seen: int


class Answers(NamedTuple):
    """Answers and fresh grants."""

    number: int
    """1, 2, ... for each client, so that it takes in each of them once and misses none."""
    answers: tuple[Answer, ...]
    grants: tuple[SlotRef, ...]
    settled: int
    """The latest ask that did not wait and is decided by now; 0: there was none yet."""


class Bye(NamedTuple):
    """The client leaves; whatever it still holds comes back, but for `kept`.

    Those are slots of answers that arrays of its process still read. The client names each in a `Submit` when it is
    no longer read, and says goodbye once more after the last of them.
    """

    client: int
    kept: tuple[SlotRef, ...]


class Gone(NamedTuple):
    """The scheduler does not know this client: it is another one than the one that welcomed it."""

    epoch: int


class AskStatus(NamedTuple):
    """Anybody with an inbox in the run's folder of clients asks how things are."""

    client: int


class Status(NamedTuple):
    """The scheduler's state, as a JSON document (see `Scheduler.status`)."""

    document: str


# -- scheduler and workers ----------------------------------------------------------------------


class Orders(NamedTuple):
    """From the scheduler, or forwarded by the worker of the hop before."""

    epoch: int
    """Which life of the scheduler they are from; workers drop those of an earlier one."""
    orders: tuple[Order, ...]


class Notices(NamedTuple):
    """From a worker to the scheduler, after each batch."""

    epoch: int
    worker: int
    notices: tuple[Notice, ...]


class Fences(NamedTuple):
    """Orders to forget. The worker answers `Fenced` once none of them runs here or ever will."""

    epoch: int
    worker: int
    """Whose orders: several workers may share a process."""
    fences: tuple[Fence, ...]


class Fenced(NamedTuple):
    """The worker's answer to `Fences`."""

    epoch: int
    worker: int
    fences: tuple[Fence, ...]


class PeerGone(NamedTuple):
    """A worker has died; whoever is connected to it disconnects."""

    worker: int


class Copied(NamedTuple):
    """What a worker has copied of one tensor for one reason (see `stages.copies`)."""

    side: str
    """Whether the tensor is an input or an output of the stage."""
    tensor: str
    reason: str
    nbytes: int
    batches: int


class WorkerReport(NamedTuple):
    """A worker's counters since it started, now and then and when it stops."""

    worker: int
    stage: int
    batches: int
    rows: int
    closed: tuple[int, ...]
    """Batches by the reason they closed, in the order of `inbox.CLOSE_REASONS`."""
    refused: int
    """Frames and handles that were refused."""
    copies: tuple[Copied, ...]


# -- supervisor and its children ----------------------------------------------------------------


class Ready(NamedTuple):
    """A worker has set its stage up and waits for orders (to supervisor and scheduler);
    or the scheduler has bound its sockets (worker -1, to the supervisor)."""

    worker: int
    stage: int
    replica: int
    pid: int
    epoch: int
    """Which life of the scheduler it is ready for."""


class Failed(NamedTuple):
    """A child could not start; it exits right after."""

    worker: int
    error: str
    """One line."""
    traceback: str


class WorkerGone(NamedTuple):
    """A worker is dead for certain: its exit status has been collected."""

    worker: int
    how: str
    """For people: `killed by signal 11 (SIGSEGV)`, with its last lines of stderr."""
    running: tuple[int, ...]
    """The requests of the batch that it was computing, read from its flight recorder."""
    outside: bool
    """Somebody else's SIGKILL, as far as can be told: not a sign of what it was computing."""
    beside: bool
    """Other workers of the same process were computing too, who may as well be to blame."""


class StageBroken(NamedTuple):
    """A stage will not be restarted any more."""

    stage: int
    reason: str


class Drain(NamedTuple):
    """Refuse new requests, finish those that are inside, then say `Drained`."""

    until: int
    """Whatever is not finished by then fails."""


class Drained(NamedTuple):
    """Nothing is inside any more. Carries the scheduler's last status document."""

    document: str


class Reset(NamedTuple):
    """The scheduler has died: forget its orders, attach the segments of the new one, say `Ready` to it."""

    epoch: int
    pools: tuple[PoolAddress, ...]
    """As in `Welcome`."""


class Relic(NamedTuple):
    """A request has killed its workers: keep its inputs, so that it can be looked into. Answered by `Kept`."""

    request: int
    label: str
    stage: int
    how: str
    inputs: tuple[TensorHandle | int, ...]
    """As in `Hop`; their slots wait for `Kept`."""
    lengths: tuple[int, ...]
    """As in `Hop`."""


class Kept(NamedTuple):
    """The supervisor has done what `Relic` asks."""

    request: int
    path: str
    """The capsule; empty where none was written."""


class Stop(NamedTuple):
    """Finish what runs, tear the stage down, exit 0."""


Message = (
    Again
    | Answers
    | AskStatus
    | Bye
    | Drain
    | Drained
    | Failed
    | Fenced
    | Fences
    | Gone
    | Hello
    | Kept
    | Loan
    | Notices
    | Orders
    | PeerGone
    | Ready
    | Relic
    | Reset
    | StageBroken
    | Status
    | Stop
    | Submit
    | Welcome
    | WorkerGone
    | WorkerReport
)

#: The number of each kind on the wire. Numbers are never used again for something else.
MESSAGES: dict[int, type[Message]] = {
    1: Hello,
    2: Welcome,
    3: Loan,
    4: Submit,
    5: Answers,
    6: Bye,
    7: AskStatus,
    8: Status,
    9: Gone,
    10: Again,
    20: Orders,
    21: Notices,
    22: Fences,
    23: Fenced,
    24: PeerGone,
    25: WorkerReport,
    40: Ready,
    41: Failed,
    42: WorkerGone,
    43: StageBroken,
    44: Drain,
    45: Drained,
    46: Stop,
    47: Reset,
    48: Relic,
    49: Kept,
}
