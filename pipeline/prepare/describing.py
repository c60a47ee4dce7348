"""Asks a child process what the stages of a config declare.

The calling process never imports a user's code: see `pipeline.processes.describe`, the child.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import textwrap
from typing import Any

from pipeline.config.findings import Findings, NodePath
from pipeline.config.loader import LoadedConfig
from pipeline.config.schema import StageConfig
from pipeline.errors import StartError
from pipeline.graph.description import StageDescription
from pipeline.interpreter import NO_MATRICES, python_command
from stages.hints import nearest

__all__ = ["describe_stages", "refuse_wrong"]

TIMEOUT_S = 120.0
"""For all stages together: imports of large frameworks from a cold disk take tens of seconds."""
_STDERR_LINES = 20


def describe_stages(loaded: LoadedConfig, timeout_s: float = TIMEOUT_S) -> dict[str, StageDescription]:
    """What each stage of the config declares, by the stage's name.

    Raises:
        ConfigError: a class does not exist, refuses its options, or contradicts itself; or an option names a model that
            is neither a file nor in the catalogue.
        StartError: a stage needs a model that was not pulled or cannot be read, or ended the process that asked it.
    """
    stages = loaded.config.stages
    request = {
        "base_dir": str(loaded.base_dir),
        "parent": os.getpid(),
        "stages": [{"use": stage.use, "options": stage.options} for stage in stages],
    }
    try:
        child = subprocess.run(
            python_command("pipeline.processes.describe", folders=[str(loaded.base_dir)]),
            input=json.dumps(request).encode(),
            capture_output=True,
            timeout=timeout_s,
            env={**os.environ, **NO_MATRICES},
            check=False,
        )
        output, errors, ending = child.stdout, child.stderr, _ending(child.returncode)
    except subprocess.TimeoutExpired as expired:
        output, errors = expired.stdout or b"", expired.stderr or b""
        ending = f"did not end within {timeout_s:g} s"
    # A line without its end was cut off by the child's death.
    answers = [json.loads(line) for line in output.splitlines(keepends=True) if line.endswith(b"\n")]
    refuse_wrong(loaded, answers)
    if len(answers) < len(stages):
        stage = stages[len(answers)]
        place = loaded.locations.value(("stages", len(answers), "use"))
        raise StartError(
            f"{place}: stage {stage.name}: importing or constructing {stage.use} {ending}{_tail(errors)}"
        )
    return {stage.name: StageDescription.from_dict(answer) for stage, answer in zip(stages, answers)}


def refuse_wrong(loaded: LoadedConfig, answers: list[dict[str, Any]]) -> None:
    """Say what is wrong with the stages that `answers` (see `pipeline.processes.describe`), in their order, refuse.

    Raises:
        ConfigError, StartError: as `describe_stages`.
    """
    findings = loaded.findings()
    missing: list[str] = []
    for index, (stage, answer) in enumerate(zip(loaded.config.stages, answers)):
        if "error" not in answer:
            continue
        if answer["error"] == "ModelError":
            missing.append(f"{loaded.locations.value(('stages', index))}: stage {stage.name}: {answer['message']}")
        else:
            _add(findings, index, stage, answer)
    findings.refuse()
    if missing:
        raise StartError("\n".join(missing))


def _add(findings: Findings, index: int, stage: StageConfig, answer: dict[str, Any]) -> None:
    message: str = answer["message"]
    path: NodePath = ("stages", index, "use")
    if answer["error"] not in ("BadOption", "SpecMismatch", "UnknownModel"):
        message = f"{stage.use}: importing or constructing it raised {answer['error']}: {message}".rstrip(": ")
    for option, value in stage.options.items():
        if answer["error"] == "UnknownModel" and repr(value) in message:
            path = ("stages", index, "with", option)
        elif f"option {option!r}" in message:
            path = ("stages", index, "with", option)
            # One that the stage has, with a wrong value, was meant: a function has options `inputs` and `outputs`.
            if f"unknown option {option!r}" in message and (field := nearest(option, StageConfig.model_fields)):
                message += f"; or is the stage's own field {field} meant?"
    if answer["traceback"]:
        message += "\n" + textwrap.indent(answer["traceback"].rstrip(), "    ")
    findings.add(path, message, at_key=path[2] == "with" and answer["error"] != "UnknownModel")


def _ending(returncode: int) -> str:
    if returncode < 0:
        return f"ended the process with {signal.Signals(-returncode).name}"
    return f"ended the process with exit code {returncode}"


def _tail(errors: bytes) -> str:
    lines = errors.decode(errors="replace").splitlines()[-_STDERR_LINES:]
    return "".join(f"\n    {line}" for line in lines)
