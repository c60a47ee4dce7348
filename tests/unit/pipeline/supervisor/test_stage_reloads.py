"""The root, when one stage of the version that serves is reloaded: it passes that on, and lets nothing else begin."""

from __future__ import annotations

from pipeline.supervisor.succession import OWN, Launch, ReportStep, RollIn, Succession
from pipeline.wire.messages import Milestone, Reload, ReloadStep
from tests.unit.pipeline.supervisor.test_succession import FIRST, acts, asked, begun, folder, ready, steps, why

STAGE = Reload(21, "", ("a.x=1",), 9.0, "a")


def rolled(version: int, step: str) -> ReloadStep:
    return ReloadStep(version, step, "so it is", folder(version))


def test_it_is_passed_on_to_the_run_that_serves_with_its_config_and_all_assignments() -> None:
    succession = Succession(FIRST)
    (roll,) = acts(succession.reload(STAGE, able=True, now=0.0))
    assert roll == RollIn(OWN, Reload(21, FIRST.config, (*FIRST.assignments, "a.x=1"), 9.0, "a"))
    assert succession.told(rolled(OWN, Milestone.READY)) == [ReportStep(21, rolled(OWN, Milestone.READY))]
    succession.told(rolled(OWN, Milestone.DRAINED))
    # The next version has it too.
    (begin,) = acts(succession.reload(asked(), able=True, now=1.0))
    assert begin.version.launch == Launch(FIRST.config, (*FIRST.assignments, "a.x=1"))


def test_a_later_version_that_serves_gets_it_and_its_steps_go_to_whom_has_asked() -> None:
    succession = Succession(FIRST)
    number = begun(succession, asked("/new.yaml"))
    ready(succession, number)
    (roll,) = acts(succession.reload(STAGE, able=False, now=0.0))
    assert roll == RollIn(number, Reload(21, "/new.yaml", ("a.x=1",), 9.0, "a"))
    assert succession.told(rolled(OWN, Milestone.READY)) == []
    assert steps(succession.told(rolled(number, Milestone.FAILED))) == [(21, "failed")]
    (begin,) = acts(succession.reload(asked(), able=True, now=1.0))
    assert begin.version.launch == Launch("/new.yaml", ())


def test_meanwhile_no_other_reload_begins_and_none_of_a_stage_while_a_version_starts() -> None:
    succession = Succession(FIRST)
    succession.reload(STAGE, able=True, now=0.0)
    for other in (asked(), STAGE):
        assert "another reload is under way, of stage a" in why(succession.reload(other, able=True, now=1.0))
    succession.told(rolled(OWN, Milestone.FAILED))
    begun(succession, asked())
    assert "another reload is under way, of /home/demo.yaml" in why(succession.reload(STAGE, able=True, now=2.0))


def test_if_the_version_that_serves_ends_meanwhile_the_one_that_has_asked_is_told() -> None:
    succession = Succession(FIRST)
    number = begun(succession, asked("/new.yaml"))
    ready(succession, number)
    succession.reload(STAGE, able=True, now=0.0)
    assert (21, "failed") in steps(succession.exited(number, -9, "killed by signal 9 (SIGKILL)"))


def test_a_run_that_cannot_be_reloaded_refuses_a_stage_too() -> None:
    assert why(Succession(None, "it runs files").reload(STAGE, able=True, now=0.0)) == "it runs files"
