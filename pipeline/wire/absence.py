"""Absence: what a caller is told if no run is found under the name or in the folder that it has given."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pipeline.wire.home import runs_home
from stages.hints import did_you_mean

__all__ = ["no_run_in", "nothing_runs"]


def nothing_runs(pipeline: str | None, running: Iterable[str]) -> str:
    """No pipeline of this name is running, or none at all.

    Args:
        pipeline: the name that was given; None: any would have done.
        running: the names of those that run.
    """
    names = set(running)
    what = "pipeline" if pipeline is None else f"pipeline {pipeline!r}"
    hint = did_you_mean(pipeline or "", names, "here runs")
    return f"no {what} is running here (looked in {runs_home()}){hint}; start one with: pipeline run CONFIG --serve"


def no_run_in(folder: Path, why: object) -> str:
    """No run is alive in this folder.

    Args:
        why: what has failed there; told if the folder itself does not explain it.
    """
    reason = str(why)
    if folder.is_file():
        reason = "that is a file; give the name of the pipeline, which is the `name:` in its YAML"
    elif not folder.exists():
        reason = "there is no such folder; a run removes its folder when it ends"
    elif folder.absolute() == runs_home():
        reason = "the runs are in folders within it; give one of these, or the name of a pipeline"
    return f"no pipeline runs in {folder}: {reason}"
