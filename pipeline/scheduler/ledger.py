"""Ledger: which request is where, and which slot belongs to whom.

The records from which the scheduler decides; they decide nothing themselves.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from pipeline.graph.compiled import CompiledStage, Scope
from pipeline.scheduler.story import Event
from pipeline.wire.flattening import flatten
from pipeline.wire.labels import child_label
from pipeline.wire.messages import MISSING, SlotRef
from shm.handle import TensorHandle

if TYPE_CHECKING:
    from pipeline.scheduler.streams import Stream

__all__ = ["Request", "Step", "Value", "Worker"]

Value = TensorHandle | tuple[TensorHandle | int, ...] | None
"""A tensor; many of them, of which each may be MISSING; or None if it is not there (yet)."""


class Step(NamedTuple):
    """One stage of one request, as it was last ordered."""

    worker: int
    attempt: int
    lease: SlotRef | None
    """The slot it fills; None if the stage has none, or once the slot has been given back."""
    sender: int
    """The worker that forwards the order to it; negative: the scheduler sent it itself."""


class Request:
    """One request on its way, or a child of one: one of the many tensors that a stage has made of it.

    A child is a request with a number of its own, whose stages are those of its scope. The *root* is the request that
    the client has sent: the root has what concerns the client, and the fences on which the return of slots depends.

    `claimed`, `done` and `skipped` are masks of stages. A stage is
        waiting for its needs    in none
        queued or ordered        in claimed      (ordered: it has a step)
        finished                 in done
        not to be run            in skipped and in done
    Stages of an inner scope are done when all children have done them.
    """

    __slots__ = (
        "answered",
        "attempt",
        "bad_row",
        "children",
        "claimed",
        "client",
        "conditions",
        "deadline",
        "deaths",
        "done",
        "events",
        "fenced_slots",
        "fences",
        "group",
        "how",
        "id",
        "ingress",
        "label",
        "parent",
        "parted",
        "parts",
        "plain",
        "position",
        "priority",
        "promises",
        "readers",
        "rows",
        "running",
        "scope",
        "sequence",
        "sizes",
        "skipped",
        "started",
        "steps",
        "stream",
        "submitted",
        "suspected",
        "tag",
        "traceparent",
        "traces",
        "values",
    )

    def __init__(
        self,
        number: int,
        scope: Scope,
        *,
        client: int,
        tag: int,
        ingress: SlotRef | None,
        values: list[Value],
        stages: int,
        deadline: int,
        priority: int,
        submitted: int,
        label: str = "",
        parent: Request | None = None,
        position: int = 0,
        rows: int = 1,
    ) -> None:
        self.id = number
        self.scope = scope
        self.client = client
        self.tag = tag
        self.attempt = 0
        self.deadline = deadline
        self.priority = priority
        self.submitted = submitted
        #: How many rows it carries.
        self.rows = rows
        #: Whether it is of one row, no child and of no stream: then its steps are settled by the shorter way (see
        #: `notices`).
        self.plain = parent is None and rows == 1
        #: Of several, the one at which its worker has died last; -1: that is not known.
        self.bad_row = -1
        #: Its name for people (see `stages.request`).
        self.label = label
        #: The stream that it is part of, and its number there.
        self.stream: Stream | None = None
        self.sequence = 0
        #: When its client began with it, and the trace that it is part of; for the workers.
        self.started = 0
        self.traceparent = ""
        #: How many parts of its answer were sent, and the stage that gives its outputs in parts, if one does.
        self.parts = 0
        self.parted: int | None = None
        #: The slot that holds the inputs; None once it has been given back.
        self.ingress: SlotRef | None = ingress
        #: Every tensor that is valid, by tensor number.
        self.values = values
        self.steps: list[Step | None] = [None] * stages
        self.claimed = 0
        self.done = 0
        self.skipped = 0
        #: Mask of tensor numbers: the conditions that hold.
        self.conditions = 0
        #: Readers that have not finished, by producer (index + 1; 0 is the ingress).
        self.readers = list(scope.readers)
        #: What each stage did, packed, by stage; what it did for a child, by (stage, number of the child).
        self.traces: dict[int | tuple[int, int], bytes] = {}
        self.parent = parent
        self.position = position
        #: By scope: the requests that run in it; empty while it waits to be opened.
        self.children: dict[int, list[Request]] = {}
        #: By scope: how many of them are not finished.
        self.running: dict[int, int] = {}
        #: By producer of an inner scope: how many of its slots are promised to the children.
        self.promises: dict[int, int] = {}
        #: By stage: which of its classes of slots an earlier attempt found that it needs.
        self.sizes: dict[int, int] = {}
        #: Of a root: (worker, request, attempt) of the cancelled orders, its children's too, that their worker has
        #: not given up yet. While there are any, no slot of the family is given to another request: a worker could
        #: still read or write it.
        self.fences: set[tuple[int, int, int]] = set()
        #: Of a root: what comes back once `fences` is empty.
        self.fenced_slots: list[SlotRef] = []
        #: Its client was answered, or it is a child that is done: the scheduler ignores later notices of it.
        self.answered = False
        #: How much it is suspected: the weights of the deaths of workers that ran it alone (see `recovery`).
        self.deaths = 0
        #: How the last worker that computed it died.
        self.how = ""
        #: Nonzero: it runs only together with requests of the same group.
        self.group = 0
        #: The stage whose worker it is suspected of having killed.
        self.suspected = -1
        #: What has happened to it (see `story`).
        self.events: list[Event] = []

    @property
    def root(self) -> Request:
        """The request that the client has sent."""
        # Not kept in the request: only the garbage collector frees an object that refers to itself. The scheduler
        # seldom runs it, since it then has to pause.
        request = self
        while request.parent is not None:
            request = request.parent
        return request

    def child(self, number: int, scope: Scope, position: int, values: list[Value]) -> Request:
        """A request for one of the many tensors that a stage has made of this one."""
        child = Request(
            number,
            scope,
            client=self.client,
            tag=self.tag,
            ingress=None,
            values=values,
            stages=len(self.steps),
            deadline=self.deadline,
            priority=self.priority,
            submitted=self.submitted,
            label=child_label(self.label, position),
            parent=self,
            position=position,
        )
        child.done, child.skipped, child.conditions = self.done, self.skipped, self.conditions
        child.stream, child.sequence = self.stream, self.sequence
        child.started, child.traceparent = self.started, self.traceparent
        return child

    def family(self) -> Iterator[Request]:
        """This request and all its children and their children, outermost first."""
        yield self
        for children in self.children.values():
            for child in children:
                yield from child.family()

    def is_open(self, stage: CompiledStage) -> bool:
        """Whether this request must run a stage, and it is neither queued, ordered nor finished."""
        return bool(stage.bit & self.scope.stages & ~(self.claimed | self.done))

    def holds(self, stage: CompiledStage) -> bool:
        """Whether a stage whose needs are done must run at all, or is skipped."""
        if self.skipped & stage.required:
            return False
        return stage.when is None or bool(self.conditions >> stage.when[0] & 1) is not stage.when[1]

    def step_of(self, stage: CompiledStage, worker: int, attempt: int) -> Step | None:
        """What a worker was ordered of a stage in that attempt; None if the stage runs elsewhere, or not at all."""
        step = self.steps[stage.index]
        return None if step is None or step.worker != worker or step.attempt != attempt else step

    def missing_of(self, stage: CompiledStage) -> int:
        """Mask of the inputs of a stage that no stage makes, since one was skipped."""
        return sum([1 << at for at, optional in enumerate(stage.optional) if self.skipped & optional])

    def known_of(self, stage: CompiledStage) -> list[tuple[int, TensorHandle]]:
        """The inputs of a stage that takes one of each which are there already, with their tensor numbers."""
        values = self.values
        return [(t, v) for t in stage.sources if (v := values[t]) is not None]  # type: ignore[misc]

    def inputs_of(self, stage: CompiledStage) -> tuple[tuple[TensorHandle | int, ...], tuple[int, ...]]:
        """`Hop.inputs` and `Hop.lengths` of a stage; a tensor's number stands for one that is not made yet."""
        values = self.values
        if not stage.lists and not self.skipped:
            return tuple([t if (v := values[t]) is None else v for t in stage.sources]), ()  # type: ignore[misc]
        inputs: list[TensorHandle | int | list[TensorHandle | int]] = []
        for tensor, up, optional in zip(stage.sources, stage.lists or (-1,) * len(stage.sources), stage.optional):
            missing = bool(self.skipped & optional)
            if up < 0:
                one = values[tensor]
                inputs.append(MISSING if missing else tensor if one is None else one)  # type: ignore[arg-type]
                continue
            holder = self
            for _ in range(up):
                assert holder.parent is not None
                holder = holder.parent
            many = () if missing else holder.values[tensor]
            assert isinstance(many, tuple)
            inputs.append(list(many))  # type: ignore[arg-type]
        return flatten(inputs, takes_many=bool(stage.lists))

    def __repr__(self) -> str:
        return (
            f"<request {self.id}{'' if self.parent is None else f' child {self.position} of {self.parent.id}'} "
            f"attempt {self.attempt} done {self.done:b} claimed {self.claimed:b}"
            f"{' answered' if self.answered else ''}{f' fences {sorted(self.fences)}' if self.fences else ''}>"
        )


class Worker:
    """One living worker process."""

    __slots__ = ("credits", "number", "orders", "pid", "replica", "stage")

    def __init__(self, number: int, stage: int, replica: int, pid: int, credits: int) -> None:
        self.number = number
        self.stage = stage
        self.replica = replica
        self.pid = pid
        self.credits = credits
        #: (request, attempt) of every order that it has not finished or given up, and its rows, each of which takes a
        #: credit. An order of several goes out as long as there is one, so credits may be below 0.
        self.orders: dict[tuple[int, int], int] = {}

    def close(self, request: int, attempt: int) -> bool:
        """One order less, and its credits back; False if it was not ordered, or is closed already."""
        key = (request, attempt)
        if key not in self.orders:
            return False
        self.credits += self.orders.pop(key)
        return True
