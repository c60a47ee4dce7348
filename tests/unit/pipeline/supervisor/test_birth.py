"""What a child is given at its birth."""

from __future__ import annotations

import os
from pathlib import Path

from msgspec.structs import replace

from pipeline.graph.plan import CameraPlan, WorkerPlan
from pipeline.interpreter import NO_MATRICES
from pipeline.supervisor.birth import boot_of, environment_of
from pipeline.supervisor.instructions import Spawn
from pipeline.supervisor.roles import Place
from pipeline.wire.address import SCHEDULER
from tests.unit.pipeline.supervisor.test_supervision import PLAN, SEGV, running, said, stage


def test_a_child_is_told_its_own_plan_and_the_epoch_whose_segments_there_are() -> None:
    supervision = running()
    supervision.exited(SCHEDULER, SEGV, 1.0)
    worker = next(child for child in supervision.children.values() if child.posts)
    newer = replace(PLAN, name="newer")
    (spawn,) = said(supervision.beside(worker.role, Place(worker.title, worker.posts, worker.replica), newer, gates=True), Spawn)
    boot = boot_of(spawn.child, Path("/runs/x"), [], spawn.child.extra, "warning")
    assert (boot.plan.name, boot.epoch, boot.extra, boot.parent) == ("newer", 1, {"gates": True}, os.getpid())
    assert (boot.title, boot.posts, boot.log_level) == ("a/0", spawn.child.posts, "warning")


def test_a_worker_has_the_variables_of_its_place_and_the_stage_s_own_win() -> None:
    placed = (WorkerPlan("a", 0, threads=3), WorkerPlan("a", 1, threads=3, env={"OMP_NUM_THREADS": "1", "X": "y"}))
    plan = replace(PLAN, stages=(replace(stage("a", 2), workers=placed),))
    found = {child.title: environment_of(child) for child in running(plan).children.values()}
    assert found["scheduler"] == NO_MATRICES
    assert found["a/0"] == {"OMP_NUM_THREADS": "3", "OPENBLAS_NUM_THREADS": "3", "MKL_NUM_THREADS": "3"}
    assert found["a/1"] == {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "3", "MKL_NUM_THREADS": "3", "X": "y"}


def test_large_blocks_of_a_source_lie_apart_so_that_they_leave_no_holes_between_packets() -> None:
    plan = replace(PLAN, cameras=(CameraPlan("door", "synthetic:"),))
    (source,) = [child for child in running(plan).children.values() if child.role.title == "source"]
    assert environment_of(source) == {**NO_MATRICES, "MALLOC_MMAP_THRESHOLD_": "131072"}
