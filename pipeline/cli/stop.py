"""`pipeline stop`: have a run finish what it has, and wait until it has ended."""

from __future__ import annotations

import re
import signal
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.interrupts import EXIT_INTERRUPTED
from pipeline.client.status import ask_status
from pipeline.errors import PipelineError, Unavailable
from pipeline.streams import say
from pipeline.supervisor.run_log import ENDED, log_path
from pipeline.supervisor.supervision import ONE_REQUEST_S
from pipeline.watching.owner import Owner, owner_of
from pipeline.watching.tail import Tail
from pipeline.wire.run_dir import LOCK, READY, find_run, root_of, runs
from pipeline.wire.shards import front_of, is_shard
from shm.owner import Alive, probe

__all__ = ["end_of", "own_words", "register"]

_ASK_S = 2.0
_LOST = 1
_NOT_STOPPED = 3
_LOOK_S = 0.05
#: Between two signals: those that come within ONE_REQUEST_S are one request.
_BETWEEN_S = 2 * ONE_REQUEST_S

#: How a line of a supervisor's own begins, behind its time; those of its children begin with a title and "|".
_OWN = re.compile(r"\S+Z ((?:info|note|warning|error): .*)")


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command()(stop)


def stop(
    run: Annotated[
        str, typer.Argument(help="A pipeline's name, or a run's id (detect-29227) or folder.", show_default=False)
    ],
    timeout: Annotated[
        float | None,
        typer.Option(
            "--timeout", min=0.0, metavar="S", show_default=False,
            help="Wait so many seconds at most; the run goes on to stop. Default: until it has ended.",
        ),
    ] = None,
    now: Annotated[bool, typer.Option("--now", help="Do not finish what is under way.")] = False,
) -> None:
    """Stop a run: it finishes what is under way, as after SIGTERM, and this command waits until it has ended.

    Exit code 0: it has ended, and answered what it had. 1: it has ended, but not all requests were answered. 3: it was
    not stopped, or has not ended yet.
    """
    try:
        folder = _one_run(run)
        # Of a run that a reload has started, the first supervisor is told: it stops all versions, and ends last.
        root = root_of(folder)
        owner = owner_of(root)
        if owner is None:
            raise Unavailable(_why_unproven(root))
        with ExitStack() as stack:
            tails = [_tail(each, stack) for each in dict.fromkeys([root, folder])]
            code = _stop(folder, owner, tails, None if timeout is None else time.monotonic() + timeout, now=now)
    except (Unavailable, OSError) as error:
        say(f"error: {error}")
        sys.exit(_NOT_STOPPED)
    except KeyboardInterrupt:
        say("the run goes on to stop without this command; once more with --now to stop it at once")
        sys.exit(EXIT_INTERRUPTED)
    sys.exit(code)


def _one_run(named: str) -> Path:
    """The folder of the run that is meant.

    Raises:
        Unavailable: there is none; it is a shard; or several have this name, and the wrong one might be stopped.
    """
    found = find_run(named)
    others = [each for each in runs(named) if root_of(each) != root_of(found)]
    # First: the id of a shard, of which several have the name, would be refused as well.
    if is_shard(found):
        shard = f"{named} is a shard of {len(others) + 1} runs" if others else f"{found.name} is a shard"
        fronts = " or ".join(sorted(front_of(each).name for each in [found, *others]))
        raise Unavailable(f"{shard}, which is started again when it ends: stop {fronts}")
    if others:
        ids = ", ".join(sorted(each.name for each in [found, *others]))
        raise Unavailable(f"{len(others) + 1} runs of {named} are alive: name one by its id ({ids})")
    return found


def _why_unproven(folder: Path) -> str:
    if not isinstance(probe(folder / LOCK), Alive):
        return f"no run is alive in {folder}"
    return (
        f"{folder.name} was not stopped: it cannot be proven which process its supervisor is, as that of another "
        f"container or user; stop it there"
    )


def _tail(folder: Path, stack: ExitStack) -> Tail | None:
    """What the run says from now on; None: no log of it is kept."""
    path = log_path(folder.name)
    if path is None or not path.exists():
        return None
    tail = stack.enter_context(closing(Tail(path)))
    tail.skip()
    return tail


def _stop(folder: Path, owner: Owner, tails: list[Tail | None], end: float | None, *, now: bool) -> int:
    """Signal it, and wait; the exit code.

    Args:
        tails: of the root, and of the run that serves if that is another one.
        end: until when to wait: monotonic seconds.
    """
    # If it is not ready, perhaps it stops already: a second SIGTERM would cut short what is under way, and a SIGHUP is
    # never taken for a second one. Under nohup it takes none.
    gently = not now and not (folder / READY).exists() and owner.catches(signal.SIGHUP)
    owner.send(signal.SIGHUP if gently else signal.SIGTERM)
    if now:
        time.sleep(_BETWEEN_S)
        owner.send(signal.SIGTERM)
    said: list[list[str]] = [[] for _ in tails]
    while True:
        alive = owner.alive
        for tail, lines in zip(tails, said):
            for line in own_words(tail.read() if tail is not None else ()):
                lines.append(line)
                if not line.startswith(f"info: {ENDED}"):
                    print(line, flush=True)
        if not alive:
            break
        if end is not None and time.monotonic() >= end:
            print(f"{folder.name} has not ended yet{_left(folder)}", flush=True)
            return _NOT_STOPPED
        time.sleep(_LOOK_S)
    code = end_of(said[0])
    if tails[0] is None:
        print(f"{folder.name} has ended; it keeps no log, which would say whether all requests were answered")
        return 0
    if code == 0:
        print(f"{folder.name} has ended; it has answered what it had")
        return 0
    print(f"{folder.name} has ended{'; it was killed' if code is None else f' with exit code {code}'}")
    return _LOST


def _left(folder: Path) -> str:
    """What it still has, for people."""
    try:
        found = ask_status(folder, _ASK_S)
    except PipelineError:
        return ""
    waiting = ", ".join(f"{stage.waiting} wait for {stage.name}" for stage in found.stages if stage.waiting)
    return f": {found.inside} requests inside{f' ({waiting})' if waiting else ''}, {len(found.clients)} clients"


def own_words(lines: Iterable[str]) -> list[str]:
    """The lines of the supervisor's own among those of a log, without their times. Pure."""
    return [found[1] for line in lines if (found := _OWN.match(line)) is not None]


def end_of(said: Sequence[str]) -> int | None:
    """The exit code with which a run ended that has said this; None: it did not say, so it was killed. Pure."""
    for line in reversed(said):
        if line.startswith(f"info: {ENDED}"):
            return int(line.removeprefix(f"info: {ENDED}"))
    return None
