"""LocalPipeline: a whole pipeline in the caller's thread, with one client, and one request at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pipeline.graph.interface import interface_of
from pipeline.graph.plan import Plan
from pipeline.inprocess.workers import LocalWorkers
from pipeline.scheduler.door import Decided
from pipeline.wire.messages import Answer, Answers, Hello, Loan, SlotRef, Submission, Submit
from pipeline.wire.status import plain
from stages.stage import Stage

__all__ = ["CLIENT", "LocalPipeline"]

CLIENT = 1
"""The number of the one client."""


class LocalPipeline(LocalWorkers):
    """The scheduler, the workers and the one client's side of one plan.

    Args:
        plan: what to run; of its workers only the first of each stage counts.
        stages: the users' objects in the plan's order, set up.
        raised: told of each exception that a stage's failure is about to become: (stage, exception).
    """

    def __init__(self, plan: Plan, stages: Sequence[Stage], raised: Callable[[str, Exception], None]) -> None:
        super().__init__(plan, stages, raised)
        #: What a client is told of it.
        self.interface = interface_of(plan)
        self._granted: dict[int, list[SlotRef]] = {
            self.numbers[at]: [] for at in self.scheduler.compiled.ingress_pools
        }
        self._answers: list[Answer] = []
        self._asks = self._seen = 0
        self.handle(Hello(CLIENT, "in this process"))

    def slot_for(self, nbytes: int) -> SlotRef | None:
        """A slot to fill with a request's inputs, of the smallest pool whose slots hold this many bytes; None: no slot
        does."""
        number = next((number for number in self._granted if nbytes <= self.table.slot_bytes(number)), None)
        if number is None:
            return None
        if not self._granted[number]:
            self._asks += 1
            self.handle(Loan(CLIENT, number, self._asks, True))
            self.work(self._take)
        return self._granted[number].pop()

    def keep(self, slot: SlotRef) -> None:
        """Take back a slot that was not sent, for the next request."""
        self._granted[slot.segment].append(slot)

    def run(self, submission: Submission) -> Answer:
        """Compute one request from its first stage to its answer."""
        self.handle(Submit(CLIENT, self._seen, (submission,), ()))
        self.work(self._take)
        (*parts, answer), self._answers = self._answers, []
        assert not any(part.last for part in parts), f"request {submission.tag} has {len(parts) + 1} answers"
        # No part of an answer is shown here. Several may lie in one slot.
        given = [handle for part in parts for handle in part.outputs if not isinstance(handle, int)]
        self.release(list({SlotRef(*handle[:3]): None for handle in given}))
        return answer

    def release(self, slots: Sequence[SlotRef]) -> None:
        """Take back slots of answers that are not read any more."""
        self.handle(Submit(CLIENT, self._seen, (), tuple(slots)))

    def status(self) -> dict[str, Any]:
        """As `pipeline status` has it."""
        self.report()
        document: dict[str, Any] = plain(self.scheduler.status())
        return document

    def _take(self, decided: Decided) -> None:
        _, message = decided
        if isinstance(message, Answers):
            self._seen = message.number
            self._answers += message.answers
            for slot in message.grants:
                self._granted[slot.segment].append(slot)
