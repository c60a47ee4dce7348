"""Failures: the last distinct ones of each stage, for `pipeline status`. Pure.

Two failures are of one kind if they have the same type and come from the same lines of code, whatever else their
messages say. Memory is bounded: a few kinds for each stage, and tracebacks for a few of all kinds.
"""

from __future__ import annotations

from pipeline.wire.status import FailureStatus

__all__ = ["Failures"]

_KINDS = 5
"""Kept for each stage."""

_TRACEBACKS = 32
"""Kept for all stages together: the status is one message."""

_FRAME = '  File "'


class _Kind:
    """Failures of one kind."""

    __slots__ = ("count", "label", "last", "message", "stage", "traceback")

    def __init__(self, stage: int) -> None:
        self.stage = stage
        self.count = 0
        #: All of the last failure; `last` is its time in monotonic nanoseconds.
        self.last = 0
        self.message = ""
        self.traceback = ""
        self.label = ""


class Failures:
    """The unexpected failures of stages.

    Args:
        stages: how many stages the pipeline has.
    """

    def __init__(self, stages: int) -> None:
        #: For each stage its kinds, the most recent one last.
        self._kinds: list[dict[str, _Kind]] = [{} for _ in range(stages)]
        #: Those with a traceback, in the same order.
        self._told: dict[str, _Kind] = {}

    def add(self, stage: int, message: str, traceback: str, label: str, now: int) -> None:
        """A request has failed in a stage.

        Args:
            message: of the answer to its client.
            traceback: of the exception; "" if there is none.
            label: of the request.
            now: monotonic nanoseconds.
        """
        kinds = self._kinds[stage]
        key = _key(message, traceback)
        kind = kinds.pop(key, None)
        if kind is None:
            kind = _Kind(stage)
            if len(kinds) >= _KINDS:
                oldest = next(iter(kinds))
                del kinds[oldest]
                self._told.pop(f"{stage} {oldest}", None)
        kinds[key] = kind
        kind.count += 1
        kind.last, kind.message, kind.traceback, kind.label = now, message, traceback, label
        if not traceback:
            return
        told = f"{stage} {key}"
        self._told.pop(told, None)
        self._told[told] = kind
        if len(self._told) > _TRACEBACKS:
            self._told.pop(next(iter(self._told))).traceback = ""

    def of(self, stage: int, now: int) -> list[FailureStatus]:
        """A stage's kinds, the one that was seen last first."""
        return [
            FailureStatus(kind.message, kind.traceback, kind.label, kind.count, (now - kind.last) / 1e9)
            for kind in reversed(self._kinds[stage].values())
        ]


def _key(message: str, traceback: str) -> str:
    """What failures of one kind have in common."""
    frames = [line for line in traceback.splitlines() if line.startswith(_FRAME)]
    if not frames:
        return message
    # A message begins "stage NAME: TYPE: ".
    return "\n".join([*message.split(": ")[1:2], *frames])
