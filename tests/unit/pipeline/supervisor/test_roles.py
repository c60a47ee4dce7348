"""A kind of child is one row: what it says is all that supervision and the supervisor know of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace

from pipeline.graph.plan import CanaryPlan, MetricsPlan, Post
from pipeline.supervisor.instructions import Interrupt, Kill, Log, Spawn, Tell
from pipeline.supervisor.roles import ROLES, Place, Restart, Role
from pipeline.supervisor.supervision import Exit, Phase, Supervision
from pipeline.wire.address import SCHEDULER, Address
from pipeline.wire.messages import Drain, Stop
from tests.unit.pipeline.supervisor.test_supervision import (
    CHAIN,
    CLEAN,
    NOTHING_LEFT,
    PLAN,
    SEGV,
    W,
    running,
    said,
    told,
)

ROOT = Path(__file__).resolve().parents[4]
CAMERAS = [Address("camera", number) for number in range(2)]


def camera(restart: Restart = Restart.SOON, *, gates_ready: bool = False, ends_run: bool = False, listens: bool = False) -> Role:
    places = [Place(f"camera/{number}", replica=number) for number in range(2)]
    return Role("camera", "camera", restart, gates_ready, ends_run, lambda plan, fed: places, listens)


def started(role: Role) -> Supervision:
    supervision = Supervision(PLAN, feeder=False, roles=(*ROLES, role))
    supervision.start()
    return supervision


def ready(role: Role) -> Supervision:
    supervision = started(role)
    for child in list(supervision.children):
        supervision.ready(child)
    assert supervision.phase is Phase.RUNNING
    return supervision


def test_the_rows_say_which_children_a_plan_has() -> None:
    found = {role.title: role.places(replace(CHAIN, canary=CanaryPlan("x")), False) for role in ROLES}
    assert [place.title for place in found["worker"]] == ["a+c/0", "a+c/1", "b/0"]
    assert found["worker"][1] == Place("a+c/1", (Post(0, 0, 2), Post(1, 2, 3)), 1)
    assert (found["scheduler"], found["feeder"], found["canary"]) == ([Place("scheduler")], [], [Place("canary")])
    assert found["exporter"] == []
    exported = replace(PLAN, metrics=MetricsPlan(0))
    assert [[place.title for role in ROLES if role.title == "exporter" for place in role.places(exported, fed)] for fed in (False, True)] == [["exporter"], []]
    fed = {role.title: role.places(replace(PLAN, canary=CanaryPlan("x")), True) for role in ROLES}
    assert (fed["feeder"], fed["canary"]) == ([Place("feeder")], [])


def test_each_row_names_a_module_with_a_main() -> None:
    for role in ROLES:
        path = ROOT.joinpath(*role.module.split(".")).with_suffix(".py")
        assert "def main() -> None:" in path.read_text()
    assert len({role.title for role in ROLES}) == len(ROLES)


def test_children_of_a_new_kind_are_started_with_all_others() -> None:
    children = [spawn.child for spawn in Supervision(PLAN, feeder=False, roles=(*ROLES, camera())).start() if isinstance(spawn, Spawn)]
    assert [child.address for child in children] == [SCHEDULER, *W[:3], *CAMERAS]
    assert [child.title for child in children[-2:]] == ["camera/0", "camera/1"]


def test_only_a_kind_that_gates_the_start_is_waited_for() -> None:
    waits, does_not = started(camera(gates_ready=True)), started(camera())
    for supervision in (waits, does_not):
        for child in (SCHEDULER, *W[:3]):
            supervision.ready(child)
    assert does_not.phase is Phase.RUNNING
    assert waits.phase is Phase.STARTING
    waits.ready(CAMERAS[0])
    assert waits.ready(CAMERAS[1]) == [Log("info", "ready")]


def test_a_child_that_is_started_again_soon_keeps_its_address_and_costs_the_run_nothing() -> None:
    supervision = ready(camera())
    for now in range(1, 20):
        assert supervision.exited(CAMERAS[1], SEGV, float(now)) == [Log("warning", f"the camera/1 died ({SEGV.how}); started again")]
        assert supervision.tick(now + 0.05) == []
        (spawn,) = said(supervision.tick(now + 0.15), Spawn)
        assert (spawn.child.address, spawn.child.title, spawn.child.ready) == (CAMERAS[1], "camera/1", False)
    assert supervision.phase is Phase.RUNNING


def test_a_child_that_is_never_started_again_costs_the_run_a_line_in_the_log() -> None:
    supervision = ready(camera(Restart.NEVER))
    assert supervision.exited(CAMERAS[0], SEGV, 1.0) == [Log("error", f"the camera/0 died: {SEGV.how}")]
    assert supervision.wake_at is None
    assert supervision.phase is Phase.RUNNING


def test_a_run_ends_with_the_last_of_its_children_that_end_it_and_the_worst_code() -> None:
    supervision = ready(camera(Restart.NEVER, ends_run=True))
    assert supervision.exited(CAMERAS[0], Exit("exit code 2", 2), 1.0) == []
    assert supervision.phase is Phase.RUNNING
    assert told(supervision.exited(CAMERAS[1], CLEAN, 2.0)) == [(SCHEDULER, Drain)]
    supervision.drained(NOTHING_LEFT, 3.0)
    assert supervision.exit_code == 2


def test_a_signal_lets_all_children_finish_that_end_the_run() -> None:
    supervision = ready(camera(Restart.NEVER, ends_run=True))
    assert said(supervision.interrupted(1.0), Interrupt) == [Interrupt(child) for child in CAMERAS]
    assert supervision.exited(CAMERAS[0], CLEAN, 2.0) == []
    assert told(supervision.exited(CAMERAS[1], CLEAN, 2.0)) == [(SCHEDULER, Drain)]


@pytest.mark.parametrize("listens", [True, False])
def test_a_child_that_listens_is_told_to_stop_and_another_one_is_killed(listens: bool) -> None:
    supervision = ready(camera(listens=listens))
    supervision.interrupted(1.0)
    stopped = supervision.drained(NOTHING_LEFT, 2.0)
    of_cameras = [Tell(child, Stop()) if listens else Kill(child) for child in CAMERAS]
    assert stopped == [*(Tell(child, Stop()) for child in (SCHEDULER, *W[:3])), *of_cameras]


def test_without_more_rows_nothing_is_different() -> None:
    assert [*running().children] == [SCHEDULER, *W[:3]]


CAMERA = '''
import os
import numpy as np
from pathlib import Path
from pipeline.client.client import Client
from pipeline.processes.child import boot
from pipeline.wire.messages import Ready
from pipeline.wire.links import connect
from pipeline.wire.address import SUPERVISOR

def main() -> None:
    booted = boot()
    supervisor = connect(booted.run_dir, SUPERVISOR)
    supervisor.send(Ready(-1, -1, booted.replica, os.getpid(), booted.epoch))
    with Client.connect(booted.run_dir, name="camera") as client:
        seen = [int(client.submit(tensor=np.full(602112, value, np.uint8)).get()["tensor"][0]) for value in (1, 2, 3)]
    Path("seen.txt").write_text(str(seen))
    supervisor.close()
'''

RUN = '''
from pathlib import Path
from pipeline.prepare.preparation import prepare
from pipeline.supervisor.roles import ROLES, Place, Restart, Role
from pipeline.logs.log import OperatorLog
from pipeline.supervisor.supervisor import supervise

camera = Role("camera", "camera", Restart.NEVER, True, True, lambda plan, fed: [Place("camera")])
raise SystemExit(supervise(prepare("relay.yaml").plan, log=OperatorLog(), on_ready=lambda path: print("on_ready"), roles=(*ROLES, camera)))
'''

CONFIG = """\
inputs:
  - {name: tensor, dtype: uint8, shape: [602112]}
stages:
  - {name: one, use: "stages.relay:Relay"}
"""


def test_a_row_and_a_file_are_all_that_a_new_kind_of_process_needs(tmp_path: Path) -> None:
    (tmp_path / "camera.py").write_text(CAMERA)
    (tmp_path / "relay.yaml").write_text(CONFIG)
    done = subprocess.run(
        [sys.executable, "-c", RUN], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=100,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert (done.returncode, "error" in done.stderr) == (0, False), done.stderr
    assert "on_ready" in done.stdout
    assert (tmp_path / "seen.txt").read_text() == "[1, 2, 3]"
