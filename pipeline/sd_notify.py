"""The socket of sd_notify(3), by which a service tells the service manager that it is ready, well, or about to end.

The protocol, as that page has it: NOTIFY_SOCKET names a datagram socket of Unix, by its path, or by its abstract name
behind an `@`. A datagram is text, with one assignment a line. WATCHDOG_USEC is there if the manager wants to hear
WATCHDOG=1 within each such time; WATCHDOG_PID, if it is there too, is the process that should say so.
"""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import MutableMapping

from pipeline.errors import StartError

__all__ = ["NotifySocket"]

_SOCKET, _WATCHDOG_US, _WATCHDOG_PID = "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"

_MOST = 64
"""Datagrams that wait for a manager which takes none for now, as when it is executed anew; the oldest are let go of."""


class NotifySocket:
    """Where the service manager listens.

    Args:
        address: the value of NOTIFY_SOCKET.
        watchdog_s: within how many seconds it wants to hear that the service is well; None: it does not.
    """

    def __init__(self, address: str, watchdog_s: float | None = None) -> None:
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.watchdog_s = watchdog_s
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        self._waiting: deque[bytes] = deque(maxlen=_MOST)

    @classmethod
    def take(cls, environ: MutableMapping[str, str], *, own: bool = True) -> NotifySocket | None:
        """The one that the environment names, whose variables are removed, so that no child takes itself for the
        service; None: it names none.

        Args:
            own: this process is the service; otherwise another one, which has started this, and the answer is None.

        Raises:
            StartError: a variable makes no sense.
        """
        address = environ.pop(_SOCKET, "")
        interval, process = environ.pop(_WATCHDOG_US, ""), environ.pop(_WATCHDOG_PID, "")
        if not address or not own:
            return None
        if address[0] not in "/@" or len(address) < 2:
            raise StartError(
                f"{_SOCKET}: expected the path of a socket, or @ and its abstract name, found {address!r}; it is set "
                f"by the service manager: unset it to start without one"
            )
        if process and process != str(os.getpid()):
            interval = ""
        if interval and not (interval.isdecimal() and int(interval)):
            raise StartError(f"{_WATCHDOG_US}: expected microseconds above 0, found {interval!r}")
        return cls(address, int(interval) / 1e6 if interval else None)

    def send(self, text: str) -> None:
        """Send a datagram, now or, if the manager takes none, by a later call of `flush`."""
        self._waiting.append(text.encode())
        self.flush()

    def flush(self) -> None:
        """Send what waits."""
        while self._waiting:
            try:
                self._socket.sendto(self._waiting[0], self._address)
            except OSError:
                # Its queue is full, or it is not there just now; a service goes on without it.
                return
            self._waiting.popleft()

    def close(self) -> None:
        """What still waits is lost."""
        self._socket.close()
