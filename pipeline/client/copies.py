"""Copies: how many bytes a client has copied within its process, by reason. Inputs that are written into slots, which
every request needs, are not among them."""

from __future__ import annotations

import threading
from typing import Final

__all__ = ["KEPT", "RETRIES", "SHARED", "SMALL", "STACKED", "UNREAD", "WAITING", "Copies"]

SMALL: Final = "small outputs"
"""Outputs of a few hundred bytes, and JSON: a copy takes less time than a view that holds its slot."""
SHARED: Final = "shared memory"
"""Of a server's answers: outputs that it has written into a region, which the next request may have."""
UNREAD: Final = "unread answers"
"""Answers that had not been read when a request of this client needed a slot."""
KEPT: Final = "kept results"
"""Outputs of results that were made while the client's earlier results held an eighth of the slots."""
WAITING: Final = "waiting inputs"
"""Inputs of requests that had to wait for a slot, since the caller may change its arrays meanwhile."""
RETRIES: Final = "retries"
"""Inputs of requests that may be sent again."""
STACKED: Final = "batches"
"""Answers to the requests of a batch, as one array for each output."""


class Copies:
    """Bytes by reason. Any thread may add to it."""

    def __init__(self) -> None:
        self._bytes = dict.fromkeys((SMALL, UNREAD, KEPT, WAITING, RETRIES, STACKED, SHARED), 0)
        # Reentrant: a signal's handler may run in the middle of an addition.
        self._mutex = threading.RLock()

    def add(self, reason: str, nbytes: int) -> None:
        """So many bytes more were copied."""
        if nbytes:
            with self._mutex:
                self._bytes[reason] += nbytes

    def by_reason(self) -> dict[str, int]:
        """The bytes that were copied so far, by reason, without the reasons that there were none for."""
        return {reason: nbytes for reason, nbytes in tuple(self._bytes.items()) if nbytes}

    def __repr__(self) -> str:
        return f"<Copies {self.by_reason()}>"
