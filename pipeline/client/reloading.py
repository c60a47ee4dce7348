"""Reloading: asks the supervisor of a running pipeline to replace it by a new version, and waits for what comes of it.

`pipeline reload` does, and so does whatever manages pipelines from Python. See docs/reload.md.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from pipeline.errors import ReloadFailed, Unavailable
from pipeline.wire.address import SUPERVISOR, Address
from pipeline.wire.group import taking_place
from pipeline.wire.links import Inbox, connect, listen
from pipeline.wire.messages import Milestone, Reload, ReloadStep
from pipeline.wire.run_dir import LOCK, find_run, lock_path, root_of, serving
from shm.owner import OwnerLock, OwnerWatch

__all__ = ["START_S", "reload"]

START_S = 600.0
"""How long a new version may take by default until it is ready: a large model is loaded for minutes."""

_LOOK_MS = 250
_PLEASE_ANSWER_S = 10.0


def reload(
    run: str | Path | None = None,
    config: str | Path | None = None,
    assignments: Sequence[str] = (),
    *,
    stage: str | None = None,
    limit_s: float = START_S,
    on_step: Callable[[str, str], None] | None = None,
) -> Path:
    """Replace a running pipeline by a new version, without losing a request; the run folder of that.

    The new version is started beside the one that serves, and takes over when every stage is ready and its canary, if
    it has one, was answered. The call returns when the old version has answered everything that it had. If it is
    interrupted, the reload goes on.

    Args:
        run: the pipeline's name, a run's id or the path of its folder, or None for the only one running.
        config: the YAML file of the new version; None: the same as before, read anew.
        assignments: what `--set` takes: "inference.replicas=2". Without `config`, those of the version that serves stay
            in force.
        stage: replace the workers of this stage only, one after the other, in the run that serves. They get the
            stage's code, its `use`, its `with` and its model as they are now; whatever else has changed is told, or
            refused. None: the whole pipeline.
        limit_s: seconds after which a new version, or a new worker of a stage, that is not ready is given up.
        on_step: called with (step, text) for each step: "begun", "started", "ready", "took over", "drained"; for the
            workers of a stage the middle ones come once for each.

    Raises:
        ReloadFailed: the new version did not start, with the reason; the old one serves on, and noticed nothing. Of a
            stage, workers that were replaced before have gone back to the old version, if the message says nothing
            else.
        ValueError: `limit_s` is no positive number.
        Unavailable: no such pipeline is running, or it has ended in the middle of it.
    """
    if not limit_s > 0:
        raise ValueError(f"limit_s={limit_s}: expected a number of seconds above 0")
    found = find_run(run)
    root = root_of(found)
    number = int.from_bytes(os.urandom(8), "little") >> 1
    path = "" if config is None else str(Path(config).absolute())
    asked = Reload(number, path, tuple(assignments), float(limit_s), stage or "")
    with ExitStack() as opened:
        with taking_place(root):
            owner = OwnerWatch(root / LOCK)
            opened.callback(owner.close)
            opened.callback(OwnerLock.acquire(lock_path(root, Address.client(number))).release)
            inbox = listen(root, Address.client(number))
            opened.callback(inbox.close)
        supervisor = connect(root, SUPERVISOR)
        opened.callback(supervisor.close)
        supervisor.send(asked)
        folder = _await(root, inbox, owner, on_step)
        return serving(found) if stage else folder


def _await(root: Path, inbox: Inbox, owner: OwnerWatch, on_step: Callable[[str, str], None] | None) -> Path:
    folder = Path()
    heard = False
    end = time.monotonic() + _PLEASE_ANSWER_S
    while True:
        messages = inbox.receive(_LOOK_MS)
        for message in messages:
            if not isinstance(message, ReloadStep):
                continue
            heard = True
            if message.step == Milestone.FAILED:
                failed = ReloadFailed(message.text)
                failed.outcome = message.outcome or failed.outcome
                raise failed
            if message.version:
                folder = Path(message.folder)
            if on_step is not None:
                on_step(message.step, message.text)
            if message.step == Milestone.DRAINED:
                return folder
        if messages:
            continue
        if not owner.alive:
            raise Unavailable(f"the supervisor in {root} has ended in the middle of the reload")
        if not heard and time.monotonic() >= end:
            raise Unavailable(f"the supervisor in {root} does not answer")
