"""The versions of a pipeline that replace each other: which starts, which serves, which drain."""

from __future__ import annotations

from collections.abc import Sequence
from signal import SIGHUP, SIGINT, SIGKILL, SIGTERM
from typing import Any

import pytest

from pipeline.supervisor.instructions import Log
from pipeline.supervisor.succession import (
    OWN,
    Begin,
    HandOverTo,
    Instruction,
    Launch,
    LetGo,
    LookHere,
    PassOn,
    ReportStep,
    Signal,
    State,
    Succession,
)
from pipeline.wire.messages import Milestone, Reload, ReloadStep

FIRST = Launch("/home/demo.yaml", ("a.replicas=2",))
ASKER, OTHER = 11, 12


def asked(config: str = "", *assignments: str, client: int = ASKER, limit_s: float = 60.0) -> Reload:
    return Reload(client, config, assignments, limit_s)


def folder(version: int) -> str:
    return f"/runs/demo-{1000 + version}"


def steps(instructions: Sequence[Instruction]) -> list[tuple[int, str]]:
    return [(one.client, one.step.step) for one in instructions if isinstance(one, ReportStep)]


def acts(instructions: Sequence[Instruction]) -> list[Any]:
    return [one for one in instructions if not isinstance(one, (ReportStep, Log))]


def why(instructions: Sequence[Instruction]) -> str:
    (text,) = [one.step.text for one in instructions if isinstance(one, ReportStep) and one.step.step == Milestone.FAILED]
    return text


def begun(succession: Succession, reload: Reload, now: float = 0.0) -> int:
    """Begin a version; its number."""
    (begin,) = acts(succession.reload(reload, able=True, now=now))
    assert isinstance(begin, Begin)
    return begin.version.number


def ready(succession: Succession, version: int) -> list[Instruction]:
    succession.told(ReloadStep(version, Milestone.STARTED, "", folder(version)))
    return succession.told(ReloadStep(version, Milestone.READY, "", folder(version)))


def taken_over(versions: int = 1) -> Succession:
    """One in which so many later versions have taken over, one after the other, and the earlier ones have ended."""
    succession = Succession(FIRST)
    for number in range(1, versions + 1):
        assert begun(succession, asked()) == number
        ready(succession, number)
        if number == 1:
            succession.own_run_ended(0)
        else:
            succession.exited(number - 1, 0, "exit code 0")
    return succession


# -- what is asked for ------------------------------------------------------------------------------


def test_a_version_is_started_as_the_one_that_serves_with_what_is_set_behind() -> None:
    succession = Succession(FIRST)
    (begin,) = acts(succession.reload(asked("", "b.replicas=3"), able=True, now=0.0))
    assert begin.version.launch == Launch("/home/demo.yaml", ("a.replicas=2", "b.replicas=3"))
    ready(succession, 1)
    (begin,) = acts(succession.reload(asked("/home/other.yaml", "c=1"), able=True, now=0.0))
    assert begin.version.launch == Launch("/home/other.yaml", ("c=1",))
    succession.exited(2, 2, "exit code 2")
    # It never served.
    (begin,) = acts(succession.reload(asked(), able=True, now=0.0))
    assert begin.version.launch == Launch("/home/demo.yaml", ("a.replicas=2", "b.replicas=3"))


def test_the_one_that_has_asked_is_told_each_step() -> None:
    succession = Succession(FIRST)
    assert steps(succession.reload(asked(), able=True, now=0.0)) == [(ASKER, Milestone.BEGUN)]
    assert steps(succession.told(ReloadStep(1, Milestone.STARTED, "", folder(1)))) == [(ASKER, Milestone.STARTED)]
    assert steps(succession.told(ReloadStep(1, Milestone.READY, "", folder(1)))) == [
        (ASKER, Milestone.READY),
        (ASKER, Milestone.TOOK_OVER),
    ]
    assert steps(succession.own_run_ended(0)) == [(ASKER, Milestone.DRAINED)]


def test_the_root_s_own_run_is_no_run_any_more_before_it_is_told_that_it_has_ended() -> None:
    succession = Succession(FIRST)
    begun(succession, asked())
    ready(succession, 1)
    let_go, *_, told = succession.own_run_ended(0)
    assert isinstance(let_go, LetGo)
    assert isinstance(told, ReportStep)


def test_without_another_version_the_end_of_the_own_run_is_the_end_of_the_process() -> None:
    assert acts(Succession(FIRST).own_run_ended(0)) == []


def test_what_cannot_be_reloaded_says_why() -> None:
    assert why(Succession(None, "it runs files").reload(asked(), able=True, now=0.0)) == "it runs files"
    assert "not ready yet" in why(Succession(FIRST).reload(asked(), able=False, now=0.0))
    stopping = Succession(FIRST)
    stopping.interrupted(SIGTERM, 10.0)
    assert "stopping" in why(stopping.reload(asked(), able=True, now=0.0))
    busy = Succession(FIRST)
    begun(busy, asked())
    refused = busy.reload(asked("/home/other.yaml", client=OTHER), able=True, now=0.0)
    assert "another reload is under way, of /home/demo.yaml" in why(refused)
    assert acts(refused) == []


# -- the hand-over ----------------------------------------------------------------------------------


def test_the_new_version_can_be_found_before_the_clients_of_the_old_one_are_sent_away() -> None:
    succession = Succession(FIRST)
    begun(succession, asked())
    assert acts(ready(succession, 1)) == [LookHere(folder(1)), HandOverTo(OWN)]
    assert (succession.serving, succession.versions[1].state) == (1, State.SERVING)
    assert not succession.over


def test_a_later_version_replaces_the_one_that_serves_and_the_root_stays() -> None:
    succession = taken_over()
    assert begun(succession, asked(client=OTHER)) == 2
    assert acts(ready(succession, 2)) == [LookHere(folder(2)), HandOverTo(1)]
    assert succession.versions[1].state is State.DRAINING
    assert steps(succession.exited(1, 0, "exit code 0")) == [(OTHER, Milestone.DRAINED)]
    assert [*succession.versions] == [2]


def test_one_may_drain_while_the_next_takes_over() -> None:
    succession = taken_over()
    begun(succession, asked())
    ready(succession, 2)
    begun(succession, asked(client=OTHER))
    ready(succession, 3)
    assert [version.state for version in succession.versions.values()] == [
        State.DRAINING, State.DRAINING, State.SERVING,
    ]  # fmt: skip
    assert steps(succession.exited(1, 1, "exit code 1")) == [(ASKER, Milestone.DRAINED)]
    assert steps(succession.exited(2, 0, "exit code 0")) == [(OTHER, Milestone.DRAINED)]


def test_what_an_old_version_has_left_unfinished_is_told() -> None:
    succession = taken_over()
    begun(succession, asked())
    ready(succession, 2)
    (drained,) = [one.step for one in succession.exited(1, 1, "exit code 1") if isinstance(one, ReportStep)]
    assert "not all that it had was answered" in drained.text


# -- one that does not start ------------------------------------------------------------------------


def test_a_version_that_fails_changes_nothing_and_its_own_words_say_why() -> None:
    succession = Succession(FIRST)
    begun(succession, asked())
    assert succession.told(ReloadStep(1, Milestone.FAILED, "no room for both")) == []
    failed = succession.exited(1, 3, "exit code 3")
    assert why(failed) == "no room for both"
    assert acts(failed) == []
    assert (succession.serving, succession.versions) == (OWN, {})


@pytest.mark.parametrize("unborn", [False, True])
def test_a_version_that_dies_without_a_word_is_told_by_how_it_ended(unborn: bool) -> None:
    succession = Succession(FIRST)
    begun(succession, asked())
    if unborn:
        assert "no process is left" in why(succession.unborn(1, "no process is left"))
    else:
        assert "killed by signal 9" in why(succession.exited(1, -9, "killed by signal 9 (SIGKILL)"))
    assert begun(succession, asked()) == 2


def test_a_version_that_takes_too_long_is_told_to_stop_and_then_killed() -> None:
    succession = Succession(FIRST)
    begun(succession, asked(limit_s=60.0), now=100.0)
    assert succession.wake_at == 160.0
    assert succession.tick(159.9) == []
    assert succession.tick(160.0) == [Signal(1, SIGTERM)]
    assert succession.tick(161.0) == []
    assert succession.tick(succession.wake_at) == [Signal(1, SIGKILL)]
    assert why(succession.exited(1, 0, "exit code 0")) == "it was not ready within 60 s"
    assert succession.wake_at is None


def test_the_first_reason_of_a_version_that_is_given_up_is_the_one_that_is_told() -> None:
    succession = Succession(FIRST)
    begun(succession, asked(limit_s=60.0))
    succession.tick(60.0)
    succession.told(ReloadStep(1, Milestone.FAILED, "it was told to stop", ""))
    assert why(succession.exited(1, 3, "exit code 3")) == "it was not ready within 60 s"


def test_a_version_that_was_given_up_does_not_take_over_if_it_gets_ready_at_that_moment() -> None:
    succession = Succession(FIRST)
    begun(succession, asked(limit_s=60.0))
    succession.tick(60.0)
    assert ready(succession, 1) == []
    assert succession.serving == OWN
    assert why(succession.exited(1, 0, "exit code 0")) == "it was not ready within 60 s"


def test_what_a_version_says_that_does_not_start_is_ignored() -> None:
    succession = taken_over()
    for step in (Milestone.READY, Milestone.FAILED, Milestone.STARTED):
        assert succession.told(ReloadStep(1, step, "", "/elsewhere")) == []
        assert succession.told(ReloadStep(9, step, "", "/elsewhere")) == []
    assert succession.versions[1].folder == folder(1)


# -- the end ----------------------------------------------------------------------------------------


def test_signals_are_for_all_versions_and_none_takes_over_any_more() -> None:
    succession = taken_over()
    begun(succession, asked())
    # By a message, since that version may have got the same signal itself; one that starts takes none yet.
    assert succession.interrupted(SIGINT, 10.0) == [PassOn(1, False), Signal(2, SIGINT)]
    assert acts(ready(succession, 2)) == []
    assert succession.serving == 1
    succession.exited(2, 0, "exit code 0")
    succession.exited(1, 0, "exit code 0")
    assert succession.over
    assert succession.exit_code == 0


def test_the_second_signal_is_told_as_such_but_for_those_that_only_repeat_the_first() -> None:
    succession = taken_over()
    assert succession.interrupted(SIGHUP, 9.0) == [PassOn(1, False)]
    assert succession.interrupted(SIGTERM, 10.0) == [PassOn(1, False)]
    assert succession.interrupted(SIGTERM, 10.09) == [PassOn(1, False)]
    assert succession.interrupted(SIGHUP, 11.0) == [PassOn(1, False)]
    assert succession.interrupted(SIGTERM, 11.0) == [PassOn(1, True)]


def test_a_version_that_starts_and_does_not_end_by_a_signal_is_killed_with_the_second_one_or_in_time() -> None:
    for second in (True, False):
        succession = Succession(FIRST)
        begun(succession, asked(limit_s=600.0))
        assert succession.interrupted(SIGTERM, 10.0) == [Signal(1, SIGTERM)]
        if second:
            assert succession.interrupted(SIGTERM, 10.05) == [Signal(1, SIGTERM)]
            assert succession.interrupted(SIGINT, 11.0) == [Signal(1, SIGKILL)]
        assert succession.wake_at == 15.0
        assert succession.tick(14.9) == []
        assert succession.tick(15.0) == [Signal(1, SIGKILL)]
        assert why(succession.exited(1, -9, "killed")) == "the pipeline is stopping"


def test_nothing_is_left_running_by_a_root_that_was_abandoned() -> None:
    succession = taken_over()
    begun(succession, asked())
    assert succession.abandoned() == [Signal(1, SIGKILL), Signal(2, SIGKILL)]
    # It had said so before the signal reached it.
    assert acts(ready(succession, 2)) == []
    assert "stopping" in why(succession.reload(asked(), able=True, now=0.0))


@pytest.mark.parametrize("code", [1, -9])
def test_an_old_version_that_did_not_end_well_is_told_of(code: int) -> None:
    succession = taken_over()
    begun(succession, asked())
    ready(succession, 2)
    (step,) = [one.step for one in succession.exited(1, code, "how") if isinstance(one, ReportStep)]
    assert step.step == Milestone.DRAINED
    assert "not all that it had was answered" in step.text


def test_the_end_of_the_version_that_serves_is_news_unless_it_was_asked_for() -> None:
    for asked_for in (False, True):
        succession = taken_over()
        if asked_for:
            succession.interrupted(SIGTERM, 10.0)
        logs = [one for one in succession.exited(1, 1, "exit code 1") if isinstance(one, Log)]
        assert bool(logs) is not asked_for


def test_no_reload_begins_while_none_serves_and_an_old_one_still_drains() -> None:
    succession = Succession(FIRST)
    begun(succession, asked())
    ready(succession, 1)
    succession.exited(1, -9, "killed")
    assert not succession.over
    assert "not ready yet, or ends" in why(succession.reload(asked(), able=True, now=0.0))


@pytest.mark.parametrize(("code", "own"), [(0, 0), (1, 1), (3, 3), (-9, 1)])
def test_the_root_ends_with_the_version_that_serves_and_its_exit_code(code: int, own: int) -> None:
    succession = taken_over(3)
    succession.exited(3, code, "how")
    assert succession.over
    assert succession.exit_code == own


def test_without_a_reload_the_root_ends_with_its_own_run() -> None:
    succession = Succession(FIRST)
    assert not succession.over
    succession.own_run_ended(1)
    assert succession.over
    assert succession.exit_code is None


def test_the_root_waits_for_versions_that_drain() -> None:
    succession = taken_over()
    begun(succession, asked())
    ready(succession, 2)
    succession.exited(2, 1, "exit code 1")
    assert not succession.over
    succession.exited(1, 0, "exit code 0")
    assert succession.over
    assert succession.exit_code == 1


def test_if_the_version_that_serves_ends_the_one_that_starts_takes_its_place() -> None:
    succession = taken_over()
    begun(succession, asked())
    succession.exited(1, -9, "killed by signal 9 (SIGKILL)")
    assert not succession.over
    assert succession.serving is None
    instructions = ready(succession, 2)
    assert acts(instructions) == [LookHere(folder(2))]
    assert steps(instructions)[-1] == (ASKER, Milestone.DRAINED)
    succession.exited(2, 0, "exit code 0")
    assert succession.exit_code == 0
    own = Succession(FIRST)
    begun(own, asked())
    own.own_run_ended(1)
    assert acts(ready(own, 1)) == [LookHere(folder(1))]
