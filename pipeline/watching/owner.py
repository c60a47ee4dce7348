"""Owner: the process that holds a run's lock, proven, so that it alone is signalled. `pipeline stop` and `ps` use it.

A pid in a file proves nothing: it comes again, and another container has other numbers. So all of these must be so:

    the lock is held                                     some process is the run's supervisor
    the file's pid is of a process that started when the file says
    that process has the lock's file open for writing    which owners alone do

What cannot be proven, as of a supervisor in another pid namespace, is never signalled.
"""

from __future__ import annotations

import os
import re
import signal
from contextlib import suppress
from pathlib import Path

import psutil

from pipeline.wire.run_dir import LOCK
from shm.owner import Alive, probe, start_ticks, written_in

__all__ = ["Owner", "owner_of"]

class Owner:
    """A supervisor that was alive when this was made. Made by `owner_of`.

    Args:
        pid: its process id.
        started: when it started, in clock ticks since boot.
        lock: its lock's file.
    """

    def __init__(self, pid: int, started: int, lock: Path) -> None:
        self.pid = pid
        self._started = started
        self._lock = lock

    def send(self, number: int) -> bool:
        """Signal it; False: it has ended, and no process was signalled.

        Raises:
            OSError: the system does not let this user do so.
        """
        try:
            # From here on the descriptor means this process, even if its pid is given to another one.
            fd = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return False
        except OSError:
            fd = -1  # a kernel or a sandbox without them
        try:
            if not self._is_it():
                return False
            if fd >= 0:
                signal.pidfd_send_signal(fd, number)
            else:
                os.kill(self.pid, number)
            return True
        except ProcessLookupError:
            return False
        finally:
            if fd >= 0:
                os.close(fd)

    def catches(self, number: int) -> bool:
        """Whether it has a handler for a signal, and neither ignores it nor dies of it; False if that is not known."""
        with suppress(OSError):
            status = Path(f"/proc/{self.pid}/status").read_text()
            if caught := re.search(r"^SigCgt:\s*([0-9a-f]+)$", status, re.MULTILINE):
                return bool(int(caught[1], 16) >> (number - 1) & 1)
        return False

    @property
    def alive(self) -> bool:
        """Whether it still runs; a process that has ended, and that its parent has not collected, does not."""
        with suppress(OSError, psutil.Error):
            same = start_ticks(self.pid) == self._started
            return same and psutil.Process(self.pid).status() != psutil.STATUS_ZOMBIE
        return False

    def _is_it(self) -> bool:
        with suppress(OSError, ValueError):
            return start_ticks(self.pid) == self._started and _has_open(self.pid, self._lock)
        return False


def owner_of(folder: Path) -> Owner | None:
    """The supervisor of the run in this folder; None: there is none, or it cannot be proven which process it is."""
    lock = folder / LOCK
    if not isinstance(probe(lock), Alive):
        return None
    if (written := written_in(lock)) is None:
        return None
    found = Owner(*written, lock)
    return found if found._is_it() else None


def _has_open(pid: int, path: Path) -> bool:
    """Whether a process has this file open for writing.

    Raises:
        OSError: that cannot be told.
    """
    wanted = path.stat()
    for name in os.listdir(f"/proc/{pid}/fd"):
        with suppress(OSError):
            if os.path.samestat(os.stat(f"/proc/{pid}/fd/{name}"), wanted):
                flags = re.search(r"^flags:\s*([0-7]+)", Path(f"/proc/{pid}/fdinfo/{name}").read_text(), re.MULTILINE)
                if flags is not None and int(flags[1], 8) & os.O_ACCMODE == os.O_RDWR:
                    return True
    return False
