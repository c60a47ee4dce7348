"""Counts: what a model has done for the gateway's clients, as the statistics of KServe have it. Pure.

Durations are those of the answers' traces, and those that the gateway has measured. How many batches there were follows
from the traces too: a row that was in a batch of n counts as one nth of it. So rows of other clients that shared a
batch are not counted, and neither is their part of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from pipeline.kserve.documents import BatchCounts, ModelCounts, Total

__all__ = ["Counts", "Tally"]

Stages = Mapping[str, Mapping[str, float]]


class Counts(msgspec.Struct, array_like=True, frozen=True):
    """Counts of one model, of one gateway or of several. Durations are in ns."""

    last_ms: int = 0
    rows: int = 0
    success: tuple[int, int] = (0, 0)
    """How often, and how long in all; so are the next two."""
    fail: tuple[int, int] = (0, 0)
    queue: tuple[int, int] = (0, 0)
    input_ns: int = 0
    infer_ns: int = 0
    output_ns: int = 0
    batches: dict[int, tuple[float, float]] = {}
    """By size: executions, of which a row is a part, and how long they took."""

    def plus(self, other: Counts) -> Counts:
        """Those of both."""
        batches = dict(self.batches)
        for size, (executions, ns) in other.batches.items():
            there = batches.get(size, (0.0, 0.0))
            batches[size] = (there[0] + executions, there[1] + ns)
        return Counts(
            max(self.last_ms, other.last_ms), self.rows + other.rows, _both(self.success, other.success),
            _both(self.fail, other.fail), _both(self.queue, other.queue), self.input_ns + other.input_ns,
            self.infer_ns + other.infer_ns, self.output_ns + other.output_ns, batches,
        )  # fmt: skip

    def document(self, name: str, version: str) -> ModelCounts:
        """All of it, for `documents.statistics`."""
        batches = [
            BatchCounts(size, max(1, round(executions)), infer_ns=round(ns))
            for size, (executions, ns) in sorted(self.batches.items())
        ]
        return ModelCounts(
            name, version, self.last_ms, self.rows, sum([batch.executions for batch in batches]),
            Total(*self.success), Total(*self.fail), Total(*self.queue),
            self.input_ns, self.infer_ns, self.output_ns, tuple(batches),
        )  # fmt: skip


def _both(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    return one[0] + other[0], one[1] + other[1]


class Tally:
    """Counts one model's requests as they end."""

    def __init__(self) -> None:
        self.counts = Counts()

    def answered(
        self, rows: Sequence[Stages], *, ns: int, input_ns: int, output_ns: int, wall_ms: int
    ) -> None:
        """A request was answered.

        Args:
            rows: of each row, what its stages did (see `client.result.Result.stages`).
            ns: from its arrival to its answer.
            input_ns: of it, until the pipeline had it.
            output_ns: of it, from the pipeline's answer on.
            wall_ms: since 1970.
        """
        batches: dict[int, tuple[float, float]] = {}
        for stages in rows:
            # The first stage stands for all of them: those behind it may batch otherwise.
            first = next(iter(stages.values()), None)
            if first is not None and (size := int(first["batch"])) > 0:
                there = batches.get(size, (0.0, 0.0))
                batches[size] = (there[0] + 1 / size, there[1] + _ns_of(stages, "compute_ms") / size)
        self.counts = self.counts.plus(
            Counts(
                wall_ms, len(rows), (1, ns), (0, 0), (1, _longest(rows, "queue_ms")), input_ns,
                _longest(rows, "compute_ms"), output_ns, batches,
            )
        )  # fmt: skip

    def failed(self, ns: int) -> None:
        """A request has no answer."""
        self.counts = self.counts.plus(Counts(fail=(1, ns)))

    def document(self, name: str, version: str) -> ModelCounts:
        """All of it, for `documents.statistics`."""
        return self.counts.document(name, version)


def _ns_of(stages: Stages, field: str) -> int:
    return round(sum([stage[field] for stage in stages.values()]) * 1e6)


def _longest(rows: Sequence[Stages], field: str) -> int:
    return max([_ns_of(stages, field) for stages in rows], default=0)
