"""What `pipeline status` says of a run that has shards."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from msgspec.structs import replace

from pipeline.client.status import ask_status, ask_story
from pipeline.errors import Unavailable
from pipeline.wire.run_dir import pipeline_of
from pipeline.wire.shards import shards_of
from pipeline.wire.status import PipelineStatus, plain

__all__ = ["Answers", "answer_of", "answers_of", "document_of", "story_of"]

Answers = Mapping[str, PipelineStatus | str]
"""By the name of each shard ("detect.0"): its status, under that name; or why there is none."""


def answers_of(front: Path, patience_s: float) -> Answers:
    """Ask all shards of a front that are alive.

    Args:
        front: its run folder.
        patience_s: how long each may take.

    Raises:
        Unavailable: none is.
    """
    found: dict[str, PipelineStatus | str] = {}
    for folder in shards_of(front):
        name = pipeline_of(folder)
        try:
            found[name] = replace(ask_status(folder, patience_s), pipeline=name)
        except Unavailable as error:
            found[name] = str(error)
    if not found:
        raise Unavailable(f"no shard of {front.name} is alive; its supervisor starts them again")
    return found


def answer_of(
    pipeline: str, answers: Answers, given_up: Callable[[PipelineStatus], Mapping[str, str]], *, alive: bool
) -> tuple[bool, str]:
    """Whether the pipeline is ready, or alive, and the line that says so. Pure.

    It is ready if a shard is, since that takes its clients. It is alive only if all are: of a shard that has given a
    stage up only another start would help.

    Args:
        given_up: the stages of a shard without a worker that get none any more, and why.
        alive: it is asked whether it is alive, and not whether it is ready.
    """
    holds, reasons = [], []
    for name, status in answers.items():
        if isinstance(status, str):
            why: Mapping[str, str] = {"": status}
        elif alive:
            why = given_up(status)
        else:
            why = {} if status.ready else status.reasons or {"": "not ready"}
        holds.append(not why)
        reasons += [f"{name}: {stage + ': ' if stage else ''}{reason}" for stage, reason in why.items()]
    held = all(holds) if alive else any(holds)
    text = f"{pipeline}: {'' if held else 'not '}{'alive' if alive else 'ready'}"
    return held, text + (f": {'; '.join(reasons)}" if reasons else "")


def document_of(pipeline: str, ready: bool, answers: Answers) -> str:
    """All of it as JSON. Pure."""
    shards = {
        name: {"ready": False, "why": found} if isinstance(found, str) else plain(found)
        for name, found in answers.items()
    }
    return json.dumps({"pipeline": pipeline, "ready": ready, "shards": shards}, indent=1)


def story_of(front: Path, request: str, patience_s: float) -> list[str] | None:
    """As `ask_story`, of the shard that knows the request."""
    for folder in shards_of(front):
        if (story := ask_story(folder, request, patience_s)) is not None:
            return [f"in {pipeline_of(folder)}", *story]
    return None
