"""Child: what every child process does first, whatever its role.

The supervisor spawns a child with a pipe as its stdin. The first line is the boot document, as long as it may be; after
it the pipe stays open and silent for as long as the supervisor lives. Its end is the child's end:

    supervisor ──boot document──▶ child
    supervisor dies, even by kill -9 ──▶ the kernel closes the pipe ──▶ end of file ──▶ child exits

The kernel is asked to send SIGKILL to the child's process group at that end (F_SETSIG): a child that is deep in a C
call can do nothing itself, and what a stage has started goes with it. If the kernel refuses, it is asked to kill the
child alone when its parent dies (PR_SET_PDEATHSIG). Not both: the main thread of a parent that is killed may be gone,
which PR_SET_PDEATHSIG is about, before its files are closed, and then no process was left to have the group killed.
A thread waits for the end as well, for sandboxes that support neither.
"""

from __future__ import annotations

import atexit
import ctypes
import faulthandler
import fcntl
import gc
import json
import os
import signal
import sys
import threading
from collections.abc import Set
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec
import setproctitle

from pipeline.graph.plan import Plan, Post
from pipeline.logs.telling import set_least
from pipeline.streams import prepare_streams
from pipeline.wire.links import leave
from shm.segment import SegmentAddress

__all__ = [
    "DONE_WITH_FAILURES", "SHARED_SIGNALS", "Boot", "boot", "boot_line", "collect_garbage", "die_with_parent",
    "freeze_heap", "hold_lifeline", "take_no_notice",
]  # fmt: skip

DONE_WITH_FAILURES = 4
"""Exit code of a child that has done all that it had to, though some of it failed; 1 is that of any exception."""

#: Signals that may reach all processes of a run at once (Ctrl-C, a closed terminal, `timeout`, systemd). Only the
#: supervisor decides what they mean: children are born with them blocked, and take no notice of them.
SHARED_SIGNALS = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1})

_PR_SET_PDEATHSIG = 1

#: The collector looks for garbage once this many objects have come that did not go by themselves.
_UNCOLLECTED = 50_000


class Boot(msgspec.Struct, frozen=True):
    """What the supervisor tells a child at birth: its boot document."""

    plan: Plan
    run_dir: Path
    epoch: int
    segments: tuple[SegmentAddress, ...]
    """One for each pool of the plan, and the recorder's as the last."""
    title: str
    """The process's name for `ps`: "scheduler", "detect/0"."""
    own_terminal: bool
    """It prints to the user's terminal, and SIGTERM is its own to handle."""
    posts: tuple[Post, ...]
    """The workers in this process, in the plan's order of their stages; none for other roles."""
    replica: int
    extra: dict[str, Any]
    """Values that only this role needs."""
    parent: int
    """The pid of the supervisor."""
    log_level: str = "info"
    """The least level of what it says (see `pipeline.logs`)."""

    def line(self) -> bytes:
        """The line that `read` reads."""
        # Not the JSON of msgspec: it has neither NaN, which may be an option of a stage, nor text that is not Unicode.
        return json.dumps(msgspec.to_builtins(self, enc_hook=str)).encode() + b"\n"

    @staticmethod
    def read(line: bytes | bytearray) -> Boot:
        """The reverse of `line`.

        Raises:
            msgspec.ValidationError: it is no boot document of this version; with the path of what does not fit.
        """
        return msgspec.convert(json.loads(line), Boot, dec_hook=lambda kind, value: kind(value))


def boot(*, own_sigterm: bool = False) -> Boot:
    """Read the boot document, bind this process's life to its parent's, and name it for `ps`.

    Args:
        own_sigterm: the child handles SIGTERM, which is blocked until it unblocks it; otherwise it does nothing.
    """
    made = Boot.read(boot_line())
    # The supervisor reads what all other children print.
    prepare_streams(None if made.own_terminal else "utf-8")
    set_least(made.log_level)
    # A crash in C leaves the Python line that led there among the last lines printed, which its request fails with.
    faulthandler.enable(all_threads=False)
    hold_lifeline(made.parent)
    # A SIGTERM that the child handles itself waits until it does.
    own_sigterm = own_sigterm or made.own_terminal
    take_no_notice(SHARED_SIGNALS - {signal.SIGTERM} if own_sigterm else SHARED_SIGNALS)
    setproctitle.setproctitle(f"pipeline[{made.plan.name}] {made.title}")
    # The last answers of a scheduler, for example, are on their way when it ends.
    atexit.register(leave)
    return made


def boot_line() -> bytearray:
    """The first line of stdin, and nothing behind it."""
    line = bytearray()
    # Unbuffered, so that nothing but this line is taken from the pipe.
    while not line.endswith(b"\n"):
        chunk = os.read(0, 65536)
        if not chunk:
            sys.exit(3)
        line += chunk
    return line


def hold_lifeline(parent: int) -> None:
    """Bind this process's life to the other end of its stdin, which is the process `parent`; stdin is empty then."""
    lifeline = os.dup(0)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    if not _end_with_lifeline(lifeline):
        die_with_parent(parent)
    threading.Thread(target=_watch, args=(lifeline,), name="lifeline", daemon=True).start()


def freeze_heap() -> None:
    """Keep the collector away from what start-up has made, and off the hot path.

    A collection over a large heap stops a worker for milliseconds in the middle of a batch; the
    process's loop collects when it has nothing else to do, and calls `collect_garbage` when it has.
    """
    gc.collect()
    gc.freeze()
    gc.disable()


def collect_garbage() -> bool:
    """Collect if there may be much garbage, and say so; takes 0.1 us if there is not.

    A busy process would otherwise never free reference cycles, such as an exception that a user's stage has kept.
    Some 50,000 objects take the collector 10 ms.
    """
    if gc.get_count()[0] < _UNCOLLECTED:
        return False
    gc.collect()
    return True


def take_no_notice(numbers: Set[signal.Signals]) -> None:
    """From now on these signals do nothing here; those that came while they were blocked neither."""
    # Not SIG_IGN, nor blocked for good: both are inherited by the programs that a stage starts, which then could not
    # be ended by a SIGTERM of the stage. A handler is not.
    for number in numbers:
        signal.signal(number, _nothing)
        # Library calls must not fail with EINTR because of it.
        signal.siginterrupt(number, False)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)


def _nothing(number: int, frame: FrameType | None) -> None:
    pass


def _end_with_lifeline(lifeline: int) -> bool:
    """Have the kernel kill this process's group when the pipe ends; whether it will."""
    if not _leads_group():
        return False
    try:
        fcntl.fcntl(lifeline, fcntl.F_SETOWN, -os.getpid())
        fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)
    except OSError:
        return False
    return bool(fcntl.fcntl(lifeline, fcntl.F_GETFL) & os.O_ASYNC)


def _leads_group() -> bool:
    return os.getpgrp() == os.getpid()


def _watch(lifeline: int) -> None:
    while os.read(lifeline, 4096):
        pass
    if _leads_group():
        os.killpg(0, signal.SIGKILL)
    # Not sys.exit: nothing is left that must be torn down, and the main thread may hang.
    os._exit(3)


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when the process `parent`, which has started it, dies."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    # It may have died between our birth and the call; then no signal comes.
    if os.getppid() != parent:
        sys.exit(3)
