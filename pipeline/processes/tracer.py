"""The tracer process: gives the spans of the requests that have ended to a collector (`tracing:` in the YAML).

    scheduler ──what has ended, when it is asked──▶ which of them, spans, links ──▶ waiting ──▶ collector
                                                                    a thread ──────┘

No request knows of it. A collector that is slow or away costs this process a bounded part of its memory, then spans,
which are counted (`trtlab_spans`). If this process is killed, what it had not exported yet is lost, and the next one
goes on with what ends from then on.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress

from pipeline.client.status import ask_status
from pipeline.errors import Unavailable
from pipeline.graph.plan import Plan
from pipeline.logs.telling import tell
from pipeline.processes.child import boot
from pipeline.processes.watched import watched
from pipeline.tracing.batches import Batches
from pipeline.tracing.collector import Collector, resource_of
from pipeline.tracing.spans import Names, spans_of
from pipeline.tracing.waiting import Waiting
from pipeline.wire.messages import Observed
from pipeline.wire.span_ids import SpanIds
from pipeline.wire.status import processes_in

__all__ = ["Tracer", "main"]

_ASK_S = 2.0
_LAST_EXPORT_S = 2.0
_ASK_AGAIN_S = 5.0


class Tracer:
    """Makes the spans of what has ended.

    Args:
        plan: of the pipeline; it has `tracing`.
        waiting: where they go.
    """

    def __init__(self, plan: Plan, waiting: Waiting) -> None:
        assert plan.tracing is not None
        self._waiting = waiting
        self._ids = SpanIds(plan.tracing.seed, plan.tracing.sample)
        self._batches = Batches()
        self._processes: dict[int, str] = {}
        self._names = Names(plan.name, [stage.name for stage in plan.stages], self._processes)

    def is_new(self, found: Observed) -> bool:
        """Whether what has ended names a worker that is not known."""
        return any(0 <= step.worker not in self._processes for ended in found.ended for step in ended.steps)

    def learn(self, processes: dict[int, str]) -> None:
        """These are the titles of processes, by the numbers of their workers."""
        self._processes |= processes

    def take(self, found: Observed, now: int) -> None:
        """Take in what has ended.

        Args:
            now: monotonic nanoseconds.
        """
        self._waiting.missed += found.lost
        for ended in found.ended:
            if self._ids.context(ended.label, ended.traceparent).sampled:
                self._batches.hold(spans_of(ended, self._ids, self._names), now)

    def pass_on(self, now: int, *, everything: bool = False) -> None:
        """Give on what was held for long enough."""
        for spans in self._batches.rest() if everything else self._batches.due(now):
            self._waiting.put(spans)


def _export(collector: Collector, waiting: Waiting) -> None:
    """The thread's work: until no more will come. That an export fails is said once, until one succeeds."""
    complained = False
    while spans := waiting.take():
        why = collector.export(spans)
        if why is None:
            waiting.exported += len(spans)
            if complained:
                tell("info", "the collector takes spans again")
        else:
            waiting.failed += len(spans)
            if not complained and not waiting.ended:
                tell("warning", f"the collector does not take spans, which are lost: {why}")
        complained = why is not None


def main() -> None:
    """Entry point of the process."""
    boot_ = boot()
    plan = boot_.plan.tracing
    assert plan is not None
    collector = Collector(plan, resource_of(plan, boot_.plan.name, boot_.run_dir.name))
    waiting = Waiting(plan.queue)
    tracer = Tracer(boot_.plan, waiting)
    thread = threading.Thread(target=_export, args=(collector, waiting), name="export", daemon=True)
    thread.start()
    ask_at, complained = 0.0, False
    for found in watched(boot_.run_dir, "tracer", lambda: waiting.counts):
        if found is not None:
            if tracer.is_new(found) and time.monotonic() >= ask_at:
                ask_at = time.monotonic() + _ASK_AGAIN_S
                with suppress(Unavailable):
                    tracer.learn(processes_in(ask_status(boot_.run_dir, _ASK_S)))
            tracer.take(found, time.monotonic_ns())
        tracer.pass_on(time.monotonic_ns())
        if not complained and (waiting.dropped or waiting.missed):
            complained = True
            tell("warning", "spans are dropped, since more come than the collector takes: lower tracing.sample")
    tracer.pass_on(0, everything=True)
    waiting.end()
    thread.join(_LAST_EXPORT_S)
    collector.close()
    if waiting.left:
        tell("warning", f"{waiting.left} spans are lost: the collector has not taken them before the run's end")


if __name__ == "__main__":
    main()
