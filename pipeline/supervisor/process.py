"""Process: one child of the supervisor, as the operating system sees it.

Spawned, never forked: a fresh interpreter, so that no lock, thread or CUDA context is inherited.
Its stdin is its boot document and then its lifeline (see `pipeline.processes.child`); what it
prints is passed on line by line, and the last lines are kept for the day it dies.

It leads a session of its own, and with that a process group: what a stage starts is in there, and is killed once
the child is dead. Ctrl-C and the end of the terminal reach the supervisor alone. The feeder stays in the group of the
terminal that it prints to.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections import deque
from collections.abc import Iterator, Mapping, Sequence

from pipeline.errors import PRINTED_LAST
from pipeline.logs.entry import MARK, RAW_MARK, Entry, entries_in
from pipeline.processes.child import SHARED_SIGNALS

__all__ = ["ChildProcess", "describe_exit"]

_KEPT_LINES = 24
_LONGEST_LINE = 2000
_MOST_LINES = 4096
_LONGEST_ENTRY = 1 << 19
"""Bytes of the line of an entry: of its text and its traceback each character may take twelve. Of a line of the access
log, too, which has all stages of a request and would be no JSON without its end."""

_MOST_CHUNKS, _MOST_LAST_CHUNKS = 16, 1024
"""In one go: a child that prints without end must not keep the supervisor from its other work."""


def describe_exit(returncode: int, *, out_of_memory: bool = False) -> str:
    """An exit status for people: "exit code 1", "killed by signal 11 (SIGSEGV)".

    Args:
        out_of_memory: the kernel has killed a process just now, because memory was short.
    """
    if returncode >= 0:
        return f"exit code {returncode}"
    try:
        name = signal.Signals(-returncode).name
    except ValueError:
        name = "unknown"
    if out_of_memory and returncode == -signal.SIGKILL:
        name += ": the kernel's out-of-memory killer; give it more memory, or use fewer replicas or smaller batches"
    return f"killed by signal {-returncode} ({name})"


def _longest(line: bytes) -> int:
    """How many bytes of a line are taken."""
    return _LONGEST_ENTRY if MARK.encode() in line or line.startswith(RAW_MARK.encode()) else _LONGEST_LINE


class ChildProcess:
    """A running child.

    Args:
        command: the command line; see `pipeline.interpreter`.
        boot: the first line of its stdin.
        env: variables to add to this process's.
        own_terminal: whether it prints to our stdout and stderr itself (the feeder does).
        own_session: whether it leads a session of its own; None: unless it prints to our terminal.
        kept: descriptors of this process that it gets too, under the same numbers.
    """

    def __init__(
        self,
        command: Sequence[str],
        boot: bytes,
        env: Mapping[str, str],
        *,
        own_terminal: bool = False,
        own_session: bool | None = None,
        kept: Sequence[int] = (),
    ) -> None:
        self._leads_group = not own_terminal if own_session is None else own_session
        # Ctrl-C reaches the whole foreground group, SIGTERM of systemd the whole cgroup. A child is born with
        # them blocked, until its `boot` takes no notice of them: one that still imports would die of it. A signal for
        # this process that comes meanwhile is handled afterwards.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, SHARED_SIGNALS)
        try:
            self._popen = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=None if own_terminal else subprocess.PIPE,
                stderr=None if own_terminal else subprocess.STDOUT,
                env={**os.environ, **env},
                start_new_session=self._leads_group,
                pass_fds=kept,
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        self.pid = self._popen.pid
        self._lines: deque[str] = deque(maxlen=_KEPT_LINES)
        self._partial = b""
        assert self._popen.stdin is not None
        try:
            self._popen.stdin.write(boot)
            self._popen.stdin.flush()
        except BrokenPipeError:
            pass  # It is dead already; its exit status will say why.
        #: What it prints can be read from here; None if it has its own terminal.
        self.output: int | None = None
        if self._popen.stdout is not None:
            self.output = self._popen.stdout.fileno()
            os.set_blocking(self.output, False)

    def read(self, title: str, *, dead: bool = False) -> Iterator[Entry]:
        """What it has said and printed since the last call, or a large part of it, as entries.

        Args:
            title: what it is called in them.
            dead: it prints no more; what has escaped from its process group still may.
        """
        chunks = count = 0
        most = _MOST_LAST_CHUNKS if dead else _MOST_CHUNKS
        # Lines cost time, however short they are.
        while self.output is not None and chunks < most and (dead or count < _MOST_LINES):
            chunks += 1
            try:
                chunk = os.read(self.output, 65536)
            except BlockingIOError:
                return
            if not chunk:
                self.output = None
                if self._partial:
                    chunk = b"\n"
                else:
                    return
            *lines, self._partial = (self._partial + chunk).split(b"\n")
            if len(self._partial) > _longest(self._partial):
                lines.append(self._partial)
                self._partial = b""
            count += len(lines)
            for line in lines:
                for entry in entries_in(line[: _longest(line)].decode(errors="replace").rstrip("\r"), title):
                    # What the runtime says itself stands in the log already, and says nothing of how this one ends.
                    if entry.printed or entry.last or entry.logger or entry.traceback:
                        text = f"{entry.text}\n{entry.traceback}" if entry.traceback else entry.text
                        self._lines.extend(text.split("\n"))
                    yield entry

    def exit_status(self) -> int | None:
        """Its return code, negative for a signal; None while it lives. What it has started goes with it."""
        if self._popen.returncode is None and self._leads_group:
            with contextlib.suppress(ChildProcessError):
                if os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                    return None
            # Before its status is collected: until then no other process and no other group can get its number.
            with contextlib.suppress(OSError):
                os.killpg(self.pid, signal.SIGKILL)
        return self._popen.poll()

    def story(self, out_of_memory: bool = False) -> str:
        """How it ended, with the last lines that it printed; see `describe_exit`."""
        how = describe_exit(self._popen.returncode, out_of_memory=out_of_memory)
        tail = [line for line in self._lines if line.strip()]
        return how if not tail else how + PRINTED_LAST + "\n".join(f"    {line}" for line in tail)

    def send_signal(self, number: int) -> None:
        """Signal it, if it is still there."""
        if self.exit_status() is None:
            os.kill(self.pid, number)

    def wait(self) -> None:
        """Wait until it is dead, 10 s at most: it was killed."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._popen.wait(10)

    def close(self) -> None:
        """Close our ends of its pipes. Once it is dead: its lifeline ends here too."""
        for stream in (self._popen.stdin, self._popen.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
        self.output = None
