"""Watched: the requests that have ended, for processes of a run that do something with each: access log and traces.

Such a process asks some times a second, and goes on only when it has done its work with the answer. So if that is slow,
it waits, and the scheduler, which waits for nothing, keeps what it has room for and counts the rest.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from pipeline.client.observing import Observer
from pipeline.wire.address import SCHEDULER, Address
from pipeline.wire.messages import Observed, Stop
from pipeline.wire.run_dir import lock_path
from shm.owner import Alive, probe

__all__ = ["watched"]

_EVERY_S = 0.1
_LAST_LOOK_S = 0.5
#: For the scheduler's last word, once the run ends; the supervisor waits for 5 s.
_LAST_S = 4.0


def watched(
    run_dir: Path, role: str, spans: Callable[[], tuple[int, ...]] = tuple
) -> Iterator[Observed | None]:
    """What has ended, as it is told, and None between, some times a second. Ends with the run, after its last word.

    Args:
        run_dir: its folder.
        role: of this process, which is told to stop under that name.
        spans: see `Observe`.

    Raises:
        Unavailable: the scheduler keeps nothing for this process, and says why.
    """
    stop_at = None
    with Observer(run_dir, [Address(role)], expected=True) as observer:
        while stop_at is None or time.monotonic() < stop_at:
            observer.ask(spans())
            # Asked first: what it has said is read after it has ended.
            over = stop_at is not None and not isinstance(probe(lock_path(run_dir, SCHEDULER)), Alive)
            answers, others = observer.take(_LAST_LOOK_S if over else _EVERY_S)
            for answer in answers:
                yield answer
                if answer.last:
                    return
            if stop_at is None and any(isinstance(other, Stop) for other in others):
                stop_at = time.monotonic() + _LAST_S
            if over and not answers:
                return
            if answers and not answers[-1].ended and stop_at is None:
                time.sleep(_EVERY_S)
            yield None
