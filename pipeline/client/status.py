"""Status: asks a running pipeline how it is, without being one of its clients, and also while it is not ready."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TypeVar

from pipeline.errors import Unavailable
from pipeline.wire.address import SCHEDULER, Address
from pipeline.wire.group import hold_lock, taking_place
from pipeline.wire.links import connect, listen
from pipeline.wire.messages import AskStatus, AskStory, Status, Story
from pipeline.wire.run_dir import lock_path
from pipeline.wire.status import PipelineStatus
from shm.owner import Alive, probe

__all__ = ["ANSWER_S", "ask_status", "ask_story"]

ANSWER_S = 10.0
"""How long a person waits by default: on a busy machine it takes seconds until every process had its turn."""

_ASK_AGAIN_S = 0.3

_Answer = TypeVar("_Answer", Status, Story)


def ask_status(run_dir: Path, timeout_s: float = ANSWER_S) -> PipelineStatus:
    """The scheduler's state.

    Raises:
        Unavailable: the scheduler is dead, or does not answer within `timeout_s` seconds.
    """
    number = int.from_bytes(os.urandom(8), "little") >> 1
    return _ask(run_dir, number, AskStatus(number), Status, timeout_s).status


def ask_story(run_dir: Path, request: str, timeout_s: float = ANSWER_S) -> list[str] | None:
    """What has happened to a request by its id, in lines; None if the scheduler does not know it, or not any more.

    Raises:
        Unavailable: as `ask_status`.
    """
    number = int.from_bytes(os.urandom(8), "little") >> 1
    lines = _ask(run_dir, number, AskStory(number, request), Story, timeout_s).lines
    return None if lines is None else list(lines)


def _ask(
    run_dir: Path, number: int, question: AskStatus | AskStory, answer: type[_Answer], timeout_s: float
) -> _Answer:
    with taking_place(run_dir):
        lock = hold_lock(run_dir, Address.client(number))
    inbox = scheduler = None
    try:
        with taking_place(run_dir):
            inbox = listen(run_dir, Address.client(number))
        scheduler = connect(run_dir, SCHEDULER)
        end = time.monotonic() + timeout_s
        asked_at = 0.0
        while (now := time.monotonic()) < end:
            if now - asked_at > _ASK_AGAIN_S:
                # If very many processes ask at once, the scheduler answers some.
                asked_at = now
                scheduler.send(question)
            for message in inbox.receive(50):
                if isinstance(message, answer):
                    return message
            if not isinstance(probe(lock_path(run_dir, SCHEDULER)), Alive):
                raise Unavailable(f"the scheduler of {run_dir.name} is dead; its supervisor starts another one")
        why = "the machine is too busy, or it is stopped, or hangs"
        raise Unavailable(
            f"the scheduler of {run_dir.name} does not answer within {timeout_s:g} s: {why}; give it longer, or see "
            f"what it said last: pipeline logs {run_dir.name}"
        )
    finally:
        if scheduler is not None:
            scheduler.close()
        if inbox is not None:
            inbox.close()
        lock.release()
