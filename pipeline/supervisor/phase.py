"""Phase: where a run is in its life."""

from __future__ import annotations

from enum import Enum

__all__ = ["Phase"]


class Phase(Enum):
    """Where a run is in its life; see the drawing in `supervision`."""

    STARTING = "starting"
    RUNNING = "running"
    DRAINING = "draining"
    STOPPING = "stopping"
    STOPPED = "stopped"

    @property
    def ends(self) -> bool:
        """Whether it is on its way to its end."""
        return self in (Phase.DRAINING, Phase.STOPPING)
