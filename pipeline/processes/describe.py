"""The process that imports the stages' classes to ask what they declare, and ends.

`pipeline.prepare.describing` starts it, so that code of the user's that crashes, prints or exits does so here. It reads
one JSON object from stdin and answers with one line of JSON for each stage, in order, as soon as it knows: if it dies,
the first missing line says at which stage.

    stdin    {"base_dir": "...", "parent": 4711, "stages": [{"use": "module:Class", "options": {...}}, ...]}
    stdout   {"inputs": [spec, ...], "outputs": [spec, ...], "classes": ["module:Class", "module:Base", ...],
              "attributes": {"device": "cpu", "concurrency": 1, ...}}          as in `stages.declared.Attributes`
             {"error": "BadOption", "message": "...", "traceback": "..."}
"""

from __future__ import annotations

import gc
import json
import os
import sys
from pathlib import Path
from typing import Any

from pipeline.processes.child import die_with_parent
from pipeline.worker.failures import start_failure
from stages.declared import declared
from stages.errors import StageError, text_of
from stages.loading import load_stage
from stages.stage import Stage

__all__ = ["description_of", "main", "refusal_of"]


def main() -> None:
    """Answer the request on stdin."""
    # No person answers a debugger here. Where the stage is made to run, a breakpoint stops, or says where it would.
    sys.breakpointhook = lambda *arguments, **options: None
    request = json.load(sys.stdin)
    # Otherwise it might import for minutes after its caller has ended.
    die_with_parent(request["parent"])
    # What stages print, also from C, goes to stderr: stdout is the answer's alone.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)
        for stage in request["stages"]:
            answer = _describe(stage["use"], stage["options"], Path(request["base_dir"]))
            answers.write(json.dumps(answer) + "\n")
            answers.flush()
    # The caller waits for the end: what has been imported is not searched for garbage once more.
    gc.freeze()


def _describe(use: str, options: dict[str, Any], base_dir: Path) -> dict[str, Any]:
    try:
        return description_of(load_stage(use, options, base_dir))
    except BaseException as error:  # SystemExit too: the error must name a module that exits when it is imported
        return refusal_of(error)


def refusal_of(error: BaseException) -> dict[str, Any]:
    """The answer for a stage that could not be made."""
    # Our own errors say everything; the traceback is for exceptions that a stage did not mean to raise.
    root = error.__cause__ or error
    told = isinstance(root, StageError)
    return {
        "error": type(error).__name__,
        "message": text_of(error),
        "traceback": "" if told else start_failure(root)[1],
    }


def description_of(stage: Stage) -> dict[str, Any]:
    """The answer for a stage."""
    return {
        "inputs": [spec.to_dict() for spec in stage.inputs],
        "outputs": [spec.to_dict() for spec in stage.outputs],
        "classes": [f"{cls.__module__}:{cls.__qualname__}" for cls in type(stage).__mro__],
        "attributes": declared(stage).attributes(),
    }


if __name__ == "__main__":
    main()
