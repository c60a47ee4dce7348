"""Every message that passes between processes, field by field. No tensor is ever among them.

    client ──Hello, Loan, Submit, Cancel, Again, AskStatus, AskStory, Observe, CameraReport, Bye──▶ scheduler
    scheduler ──Welcome, Refused, Answers, Status, Story, Observed, Gone──▶ client
    worker ──Ready, Notices, Fenced, WorkerReport──▶ scheduler
    scheduler ──Orders, Fences, PeerGone, Retire──▶ worker ──Orders──▶ worker
    supervisor ──WorkerGone, StageBroken, Kept, Trial, Retire, SupervisorReport, Drain, Stop──▶ scheduler
    scheduler ──Ready, Keep, Drained──▶ supervisor
    supervisor ──Ping──▶ scheduler, or supervisor of a later version ──Pong──▶ supervisor
    supervisor ──Reset, Stop──▶ worker ──Ready, Failed──▶ supervisor
    `pipeline reload` ──Reload──▶ supervisor ──ReloadStep──▶ `pipeline reload`
    supervisor ──HandOver, Interrupted, Reload, Reloads──▶ supervisor of a later version ──ReloadStep──▶ supervisor
    planner ──Planned──▶ supervisor

On the wire a message is one MessagePack array: [tag, field, field, ...], where the tag is PROTOCOL * 256 + kind; a
record inside a message (`records`) is the array of its fields. All fields are written. If the last ones of an array are
missing and have defaults, they are the defaults. `codec` encodes and decodes; adding, removing or reordering a
field means raising PROTOCOL, since both ends must then be of one version.

The form of a hello and of its refusal is the same in every version, so that two ends of different versions can say so:

    [PROTOCOL, 1, client, name, ...]           Hello     what follows is each version's own
    [PROTOCOL, 11, PROTOCOL, reason, ...]      Refused

Times are nanoseconds of CLOCK_MONOTONIC, which all processes of a host share.
"""

from __future__ import annotations

from pipeline.wire.camera import CameraCounts
from pipeline.wire.columns import Columns, PassedColumns
from pipeline.wire.interface import Interface
from pipeline.wire.message import PROTOCOL, Message, tag_of
from pipeline.wire.records import (
    MISSING,
    OK,
    TOO_SMALL,
    Answer,
    Copied,
    Ended,
    Fence,
    Hop,
    Known,
    Milestone,
    Note,
    Notice,
    Order,
    Passed,
    PoolAddress,
    SlotRef,
    Spread,
    Step,
    Submission,
    Trace,
)
from pipeline.wire.reloads import HandOver, Interrupted, Planned, Reload, Reloads, ReloadStep, StageChange, Trial
from pipeline.wire.status import PipelineStatus, ReloadsStatus
from shm.handle import TensorHandle

__all__ = [
    "HELLO", "MESSAGES", "MISSING", "OK", "PROTOCOL", "TOO_SMALL", "Again", "Answer", "Answers", "AskStatus",
    "AskStory", "Bye", "CameraReport", "Cancel", "Copied", "Drain", "Drained", "Ended", "Failed", "Fence", "Fenced",
    "Fences", "Gone", "HandOver", "Hello", "Hop", "Interface", "Interrupted", "Keep", "Kept", "Known", "Loan",
    "Message", "Milestone", "Note", "Notice", "Notices", "Observe", "Observed", "Order", "Orders", "Passed", "PeerGone",
    "Ping", "Planned", "Pong", "PoolAddress", "Ready", "Refused", "Reload", "ReloadStep", "Reloads", "Reset", "Retire",
    "SlotRef", "StageBroken", "StageChange", "Status", "Step", "Stop", "Story", "Submission", "Submit",
    "SupervisorReport", "Trace", "Trial", "Welcome", "WorkerGone", "WorkerReport",
]  # fmt: skip

#: In place of an ask's number, in the refusal of a hello, which goes another way than the welcome and may come later.
HELLO = -1


# -- client <-> scheduler -----------------------------------------------------------------------


class Hello(Message, frozen=True, tag=tag_of(1)):
    """The first message of a client, whose inbox is `clients/<client>.sock`, in hexadecimal.

    Its death is seen by `clients/<client>.lock`, which it holds for as long as it lives.
    """

    client: int
    """Random, of 63 bits: no process speaks for another client by accident or by guessing."""
    name: str


class Refused(Message, frozen=True, tag=tag_of(11)):
    """The scheduler does not do what a client has asked for, and says why."""

    protocol: int
    """The version that the scheduler speaks. If the client speaks another one, it is not let in."""
    reason: str
    """For people."""
    ask: int
    """The number of the `Loan` that is refused; `HELLO`: its hello; 0: another message of the client's."""


class Welcome(Message, frozen=True, tag=tag_of(2)):
    """What a client needs to know: what goes in and out, and the segments that it may touch."""

    epoch: int
    interface: Interface
    ingress: tuple[PoolAddress, ...]
    """Those whose slots it may fill, once one is granted."""
    answers: tuple[PoolAddress, ...]
    """Those that answers may lie in, beside `ingress`."""


class Loan(Message, frozen=True, tag=tag_of(3)):
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


class Submit(Message, frozen=True, tag=tag_of(4)):
    """Requests, and slots that the client has finished with: outputs, or grants it does not need. If a submission's tag
    is not above those that came before, it was sent before, and is not let in again."""

    client: int
    seen: int
    """The number of the last `Answers` that the client has taken in; the scheduler keeps later ones for `Again`."""
    submissions: tuple[Submission, ...]
    releases: tuple[SlotRef, ...]
    ended: tuple[int, ...] = ()
    """The client's own numbers of streams that it sends no more requests of."""


class Cancel(Message, frozen=True, tag=tag_of(13)):
    """The client does not want the answers to these requests any more. Each is answered with the error `Cancelled`,
    unless its answer is on its way already; what is under way of it is dropped before the next stage."""

    client: int
    tags: tuple[int, ...]


class CameraReport(Message, frozen=True, tag=tag_of(15)):
    """How a client's camera is: now and then, and when its state changes."""

    client: int
    counts: CameraCounts


class Again(Message, frozen=True, tag=tag_of(10)):
    """The client has lost what it was receiving, for example by an exception that a signal's handler raises: every
    `Answers` after number `seen` is sent once more."""

    client: int
    seen: int


class Answers(Message, frozen=True, tag=tag_of(5)):
    """Answers and fresh grants."""

    number: int
    """1, 2, ... for each client, so that it takes in each of them once and misses none."""
    answers: tuple[Answer, ...]
    grants: tuple[SlotRef, ...]
    settled: int
    """The latest ask that did not wait and is decided by now; 0: there was none yet."""
    successor: str = ""
    """The run has been replaced: the name of the folder, beside this run's own, that leads to the run which has taken
    over. The scheduler still does what the client asks for, but a client that has nothing under way goes there."""


class Bye(Message, frozen=True, tag=tag_of(6)):
    """The client leaves; whatever it still holds comes back, but for `kept`.

    Those are slots of answers that arrays of its process still read, and slots that it was granted and that a thread of
    it may still write. The client names each in a `Submit` when no array is on it any more, and says goodbye once more
    after the last of them.
    """

    client: int
    kept: tuple[SlotRef, ...]


class Gone(Message, frozen=True, tag=tag_of(9)):
    """The scheduler does not know this client: it is another one than the one that welcomed it, or it ends, or it has
    let go of the client."""

    epoch: int
    reason: str = ""
    """For people: why the scheduler has let go of the client; empty if it has not."""


class AskStatus(Message, frozen=True, tag=tag_of(7)):
    """Anybody with an inbox in the run's folder of clients asks how things are."""

    client: int


class AskStory(Message, frozen=True, tag=tag_of(12)):
    """As `AskStatus`: what has happened to a request."""

    client: int
    """Who asks, which need not be the client of that request."""
    request: str
    """The id of the request, as logs and errors have it (see `labels`)."""


class Status(Message, frozen=True, tag=tag_of(8)):
    """The scheduler's state."""

    status: PipelineStatus


class Story(Message, frozen=True, tag=tag_of(14)):
    """What has happened to a request (see `Scheduler.story`)."""

    request: str
    """Its id."""
    lines: tuple[str, ...] | None
    """None: the request is not known, or not any more."""


class Observe(Message, frozen=True, tag=tag_of(16)):
    """As `AskStatus`: which requests have ended since the same number asked last. The scheduler keeps them from the
    first such message on, until there was none for three seconds."""

    client: int
    seen: int
    """The number of the last `Observed` that it has taken in, which is sent again otherwise; 0: there was none."""
    spans: tuple[int, ...] = ()
    """Of an observer that exports traces: how many spans it has had, by what became of them (SPAN_OUTCOMES)."""
    expected: bool = False
    """The observer is a process of the run, for which the scheduler keeps what ends from its start on."""


class Observed(Message, frozen=True, tag=tag_of(17)):
    """The answer to `Observe`; what is left may fill another one."""

    number: int
    """1, 2, ... for each observer."""
    ended: tuple[Ended, ...]
    lost: int
    """Requests that have ended too, and were not kept: the observer was too slow."""
    refused: str = ""
    """For people: why nothing is kept for this observer; empty: it is."""
    last: bool = False
    """The scheduler ends; it sends this unasked."""


# -- scheduler and workers ----------------------------------------------------------------------


class Orders(Message, frozen=True, tag=tag_of(20)):
    """From the scheduler, or forwarded by the worker of the hop before."""

    epoch: int
    """Which life of the scheduler they are from; workers drop those of an earlier one."""
    orders: tuple[Order, ...]
    columns: tuple[Columns, ...] = ()
    settled: int = 0
    """Every request of a lower number is over: the scheduler waits for no notice of it, so those that were held back
    need not be sent."""


class Notices(Message, frozen=True, tag=tag_of(21)):
    """From a worker to the scheduler, after each batch."""

    epoch: int
    worker: int
    notices: tuple[Notice, ...]
    passed: tuple[Passed, ...] = ()
    """What went as the plan says; taken in before `notices`."""
    columns: tuple[PassedColumns, ...] = ()


class Fences(Message, frozen=True, tag=tag_of(22)):
    """Orders to forget. The worker answers `Fenced` once none of them runs here or ever will."""

    epoch: int
    worker: int
    """Whose orders: several workers may share a process."""
    fences: tuple[Fence, ...]


class Fenced(Message, frozen=True, tag=tag_of(23)):
    """The worker's answer to `Fences`."""

    epoch: int
    worker: int
    fences: tuple[Fence, ...]


class PeerGone(Message, frozen=True, tag=tag_of(24)):
    """A worker has died; the workers that are connected to it disconnect."""

    worker: int


class Retire(Message, frozen=True, tag=tag_of(26)):
    """The worker must leave. From the supervisor to the scheduler: order nothing from it any more. From the scheduler
    to the worker, once it has finished all that it was ordered: a process whose workers are all retired exits 0."""

    worker: int


class WorkerReport(Message, frozen=True, tag=tag_of(25)):
    """A worker's counters since it started, now and then and when it stops."""

    worker: int
    stage: int
    batches: int
    rows: int
    closed: tuple[int, ...]
    """Batches by the reason they closed, in the order of `records.CLOSE_REASONS`."""
    refused: int
    """Frames and handles that were refused."""
    copies: tuple[Copied, ...]
    sizes: tuple[int, ...] = ()
    """Batches by their size (see `metrics.buckets.ROWS`); below: what rows waited for theirs, and what those took."""
    queue: Spread = Spread((), 0)
    compute: Spread = Spread((), 0)


# -- supervisor and its children ----------------------------------------------------------------


class Ready(Message, frozen=True, tag=tag_of(40)):
    """A worker has set its stage up and waits for orders (to supervisor and scheduler);
    or the scheduler has bound its sockets (worker -1, to the supervisor)."""

    worker: int
    stage: int
    replica: int
    pid: int
    epoch: int
    """Which life of the scheduler it is ready for."""


class Failed(Message, frozen=True, tag=tag_of(41)):
    """A child could not start; it exits right after."""

    worker: int
    error: str
    """One line."""
    traceback: str


class WorkerGone(Message, frozen=True, tag=tag_of(42)):
    """A worker is dead for certain: its exit status has been collected."""

    worker: int
    how: str
    """For people: `killed by signal 11 (SIGSEGV)`, with its last lines of stderr."""
    running: tuple[int, ...]
    """The requests of the batch that it was computing, or else of its last one, read from its flight recorder."""
    outside: bool
    """A SIGKILL of another process of the host, as far as can be told: not a sign of what it was computing."""
    beside: bool
    """Other workers of the same process were computing too, who may as well be to blame."""
    row: int = -1
    """Of the one request in `running` the row that it was computing alone, as a suspect's are; -1: none is known."""


class StageBroken(Message, frozen=True, tag=tag_of(43)):
    """A stage will not be restarted any more."""

    stage: int
    reason: str


class Drain(Message, frozen=True, tag=tag_of(44)):
    """Refuse new requests, finish those that are inside, then say `Drained`."""

    until: int
    """Whatever is not finished by then fails."""
    successor: str = ""
    """The run has been replaced, see `Answers.successor`: clients are sent there, and until they have gone, or `until`
    has come, nothing is refused."""


class Drained(Message, frozen=True, tag=tag_of(45)):
    """Nothing is inside any more."""

    status: PipelineStatus
    """The last one."""


class Reset(Message, frozen=True, tag=tag_of(47)):
    """The scheduler has died: forget its orders, attach the segments of the new one, say `Ready` to it."""

    epoch: int
    pools: tuple[PoolAddress, ...]
    """Every pool of the plan, in its order."""


class Keep(Message, frozen=True, tag=tag_of(48)):
    """A request has killed its workers: keep its inputs, so that it can be looked into. Answered by `Kept`."""

    request: int
    label: str
    stage: int
    how: str
    inputs: tuple[TensorHandle | int, ...]
    """As in `Hop`; their slots wait for `Kept`."""
    lengths: tuple[int, ...]
    """As in `Hop`."""
    rows: int = 1  # Of `inputs`; 1: they have no axis of rows.


class Kept(Message, frozen=True, tag=tag_of(49)):
    """The supervisor has done what `Keep` asks."""

    request: int
    path: str
    """The capsule; empty if none was written."""


class SupervisorReport(Message, frozen=True, tag=tag_of(54)):
    """What the supervisor knows and people and metrics ask for: told to each scheduler, and again when it changes."""

    lost_lines: int
    """Of the log, which could not be written, since the supervisor started."""
    reloads: ReloadsStatus


class Ping(Message, frozen=True, tag=tag_of(55)):
    """Is the receiver well? The scheduler answers `Pong`. The supervisor of a later version, which the root asks,
    passes both on; it answers itself if it has no scheduler just now."""

    number: int


class Pong(Message, frozen=True, tag=tag_of(56)):
    """The answer to the `Ping` with that number."""

    number: int


class Stop(Message, frozen=True, tag=tag_of(46)):
    """Finish what runs, tear the stage down, exit 0."""


#: Every message by its kind.
MESSAGES: dict[int, type[Message]] = {}
for _cls in Message.__subclasses__():
    MESSAGES[int(_cls.__struct_config__.tag or 0) % 256] = _cls
