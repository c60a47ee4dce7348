"""Run: a pipeline that this program has started, as a process of its own, and that ends with this program.

It is what a user starts, `pipeline run CONFIG --serve`, and it is looked at from outside only. So are
the gateways of a manager that serves (`pipeline.repository.server`):

    stdin     the lifeline (`pipeline.lifeline`): if this program dies, even by kill -9, the run stops at once
    stdout    one line, "serving NAME in FOLDER", once it is ready; its end is the end of the run
    stderr    what it prints for people (`pipeline.repository.log`)

    stop()                                              SIGTERM: what is under way is finished first
    end(), the object is dropped, the program exits     the lifeline is let go of: it stops at once

The run leads a session of its own, so that Ctrl-C in this program's terminal reaches this program alone. A fork of this
program has no part in it: it has no lifeline, and what it drops or exits stops nothing.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
import weakref
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from pipeline.errors import StartError
from pipeline.interpreter import python_command
from pipeline.lifeline import let_go, new_lifeline, write_to
from pipeline.repository.log import Log
from pipeline.wire.run_dir import remove_dead_runs

__all__ = ["StartedProcess", "StartedRun"]

_SERVING = "serving "
#: Seconds that a run may take to stop at once before it is killed.
_GRACE_S = 10.0
_LOOK_S = 0.01


class StartedProcess:
    """A process of ours that this program has started. It is spawned at once; `await_line` says when it is ready.

    Args:
        command: see `pipeline.interpreter`; it takes its stdin for a lifeline.
        what: it is, for errors.
        log: where it prints to; it is closed with the process.

    Raises:
        StartError: the system starts no process.
    """

    def __init__(self, command: Sequence[str], what: str, log: Log) -> None:
        self._what = what
        self._log = log
        self._printed = bytearray()
        reader, writer = new_lifeline()
        try:
            self._process = subprocess.Popen(
                command, stdin=reader, stdout=subprocess.PIPE, stderr=log.descriptor, start_new_session=True
            )
        except BaseException as error:
            let_go(writer)
            log.close()
            if isinstance(error, OSError):
                raise StartError(f"{what} could not be started: {error}") from error
            raise
        finally:
            os.close(reader)
        self._lifeline = writer
        # First, so that a fork forgets it from now on.
        _ours.add(self)
        #: Ends it when this object is dropped, and at the exit of this program.
        self._end = weakref.finalize(self, _end, self._process, writer, log)
        log.begin()

    # -- the start ------------------------------------------------------------------------------

    def await_line(self, timeout_s: float) -> str:
        """Wait until it has printed its one line, by which it is ready.

        Raises:
            StartError: it has ended, or is not ready within `timeout_s` seconds; nothing of it is left. The message has
                what it has printed.
        """
        end = time.monotonic() + timeout_s
        while not self._printed.endswith(b"\n"):
            if not self._wait_for_output(max(0.0, end - time.monotonic())):
                self.end()
                raise StartError(f"{self._what}: not ready within {timeout_s:g} s; it printed:\n{self._log.text()}")
            chunk = os.read(self._stdout, 4096)
            if not chunk:
                self.end()
                raise StartError(f"{self._what}: it did not start ({self.how}); it printed:\n{self._log.text()}")
            self._printed += chunk
        return self._printed.decode().strip()

    def tell(self, line: bytes) -> None:
        """Write a line to its stdin. If it has ended, or was let go of, the line is lost."""
        while line and (written := write_to(self._lifeline, line)) is not None:
            line = line[written:]
            if not written:
                # It does not read just now.
                time.sleep(_LOOK_S)

    def _wait_for_output(self, timeout_s: float) -> bool:
        poll = select.poll()  # select.select takes no descriptor from 1024 on
        poll.register(self._stdout, select.POLLIN)
        return bool(poll.poll(timeout_s * 1000))

    @property
    def _stdout(self) -> int:
        assert self._process.stdout is not None
        return self._process.stdout.fileno()

    @property
    def pid(self) -> int:
        """Its process id; of a run, the supervisor's."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it runs; of a run, its supervisor."""
        return self._process.poll() is None

    @property
    def how(self) -> str:
        """How it has ended, for people: "exit code 1", "killed by signal 9 (SIGKILL)"."""
        code = self._process.poll()
        if code is None:
            return "it runs"
        if code >= 0:
            return f"exit code {code}"
        with suppress(ValueError):
            return f"killed by signal {-code} ({signal.Signals(-code).name})"
        return f"killed by signal {-code}"

    def log(self) -> str:
        """What it has printed so far: all of it, or the last lines, as its log keeps it."""
        return self._log.text()

    # -- the end --------------------------------------------------------------------------------

    def wait(self, timeout_s: float | None = None) -> int:
        """Its exit code, negative for a signal.

        Raises:
            TimeoutError: it still runs after `timeout_s` seconds.
        """
        # It prints nothing more, and no other process has this pipe: it becomes readable when the process ends, which
        # is noticed at once. `Popen.wait` would look every 50 ms.
        end = None if timeout_s is None else time.monotonic() + timeout_s
        while self._process.poll() is None:
            left = 3600.0 if end is None else end - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"{self._what} still runs after {timeout_s:g} s; it printed:\n{self.log()}")
            with suppress(ValueError, subprocess.TimeoutExpired):  # ValueError: another thread has ended and closed it
                self._wait_for_output(left)
                self._process.wait(min(left, 0.1))
        return self._process.returncode

    def interrupt(self) -> None:
        """Ask it to finish what is under way and to end, as SIGTERM does; asked again later, it stops at once."""
        self._process.send_signal(signal.SIGTERM)

    def stop(self, timeout_s: float | None = None) -> int:
        """Let it finish what is under way, and end; the exit code. If it has ended already: its exit code.

        Raises:
            TimeoutError: it still runs after `timeout_s` seconds.
        """
        self.interrupt()
        return self.wait(timeout_s)

    def let_go(self) -> None:
        """Have it end at once, without waiting for that."""
        let_go(self._lifeline)

    def end(self) -> None:
        """End it at once, and leave nothing of it. May be called again, and by several threads."""
        self._end()
        # Another thread may be about it.
        self._process.wait()

    def forget(self) -> None:
        """This process is the child of a fork: the run is its parent's."""
        self._log.forget()
        assert self._process.stdout is not None
        self._process.stdout.close()
        # Otherwise Popen warns that a process runs which it was not waited for.
        self._process.returncode = 0


class StartedRun(StartedProcess):
    """A run of this program. It is spawned at once; `await_ready` says when it serves.

    Args:
        config: path of the YAML file.
        assignments: what `--set` takes: "inference.replicas=2".
        log: where it prints to; it is closed with the run.
        options: of `pipeline run`, besides.

    Raises:
        StartError: the system starts no process.
    """

    def __init__(
        self, config: str | os.PathLike[str], assignments: Sequence[str], log: Log, options: Sequence[str] = ()
    ) -> None:
        self.config = os.fspath(config)
        self.assignments = tuple(assignments)
        #: The run's folder, which clients connect to; None until it is ready.
        self._run_dir: Path | None = None
        command = [*python_command("pipeline.__main__"), "run", self.config, "--serve", "--lifeline", *options]
        for assignment in self.assignments:
            command += ["--set", assignment]
        super().__init__(command, self.config, log)

    def await_ready(self, timeout_s: float) -> Path:
        """Wait until it serves; its folder. Raises: as `await_line`."""
        where = self.await_line(timeout_s).removeprefix(_SERVING).partition(" in ")[2]
        self._run_dir = Path(where)
        return self._run_dir

    @property
    def serves(self) -> bool:
        """Whether it was ready, and its supervisor runs."""
        return self._run_dir is not None and self.alive

    @property
    def run_dir(self) -> Path:
        """The run's folder; there once it is ready."""
        assert self._run_dir is not None
        return self._run_dir


def _end(process: subprocess.Popen[bytes], lifeline: int, log: Log) -> None:
    # In the child of a fork all this was forgotten before, and nothing happens.
    let_go(lifeline)
    try:
        process.wait(_GRACE_S)
    except subprocess.TimeoutExpired:
        # Its children end by their lifelines.
        process.kill()
        process.wait()
    assert process.stdout is not None
    process.stdout.close()
    log.close()
    if process.returncode < 0:
        # It could not clean up. What lies there is proven to be a dead run's; another home's folder is no concern here.
        with suppress(StartError, OSError):
            remove_dead_runs()


_ours: weakref.WeakSet[StartedProcess] = weakref.WeakSet()


def _forget_all() -> None:
    for run in tuple(_ours):
        run.forget()


os.register_at_fork(after_in_child=_forget_all)
