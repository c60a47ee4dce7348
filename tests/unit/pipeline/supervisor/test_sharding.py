"""Which shards run, which is started again, and when it is over: each event, and what follows."""

from __future__ import annotations

import pytest

from pipeline.supervisor.instructions import Log
from pipeline.supervisor.sharding import (
    HandOverShard,
    Instruction,
    KillShard,
    Lead,
    PassOnTo,
    PingShard,
    Sharding,
    StartShard,
    number_of,
    version_of,
)
from pipeline.supervisor.supervision import Phase
from pipeline.wire.messages import Milestone, ReloadStep

DRAIN_S = 10.0


def step(shard: int, milestone: str, text: str = "") -> ReloadStep:
    return ReloadStep(version_of(shard), milestone, text, f"/runs/detect.{shard}-7")


def become_ready(sharding: Sharding, *shards: int) -> None:
    for shard in shards:
        sharding.told(step(shard, Milestone.STARTED))
        sharding.told(step(shard, Milestone.READY))


def started() -> Sharding:
    sharding = Sharding(2, DRAIN_S)
    sharding.start()
    return sharding


def serving() -> Sharding:
    sharding = started()
    become_ready(sharding, 0, 1)
    assert sharding.phase is Phase.RUNNING
    return sharding


def acts(instructions: list[Instruction]) -> list[Instruction]:
    return [each for each in instructions if not isinstance(each, Log)]


def test_the_numbers_of_shards_are_those_of_no_version() -> None:
    assert [version_of(shard) for shard in (0, 63)] == [-1, -64]
    assert [number_of(version) for version in (-1, -64)] == [0, 63]
    assert number_of(0) < 0
    assert number_of(1) < 0


def test_it_is_ready_once_all_shards_are_and_leads_to_each_as_soon_as_that_is_there() -> None:
    sharding = Sharding(2, DRAIN_S)
    assert sharding.start() == [StartShard(0), StartShard(1)]
    assert sharding.told(step(0, Milestone.STARTED)) == [Lead(0, "/runs/detect.0-7")]
    assert sharding.told(step(0, Milestone.READY)) == []
    assert sharding.phase is Phase.STARTING
    sharding.told(step(1, Milestone.STARTED))
    assert sharding.told(step(1, Milestone.READY)) == [Log("info", "ready: 2 shards")]
    assert sharding.phase is Phase.RUNNING
    assert sharding.told(step(7, Milestone.READY)) == []


def test_if_a_shard_cannot_start_the_others_are_killed_and_its_own_words_say_why() -> None:
    sharding = started()
    become_ready(sharding, 0)
    sharding.told(step(1, Milestone.FAILED, "no such model"))
    assert sharding.exited(1, 3, "exit code 3", 5.0) == [KillShard(0)]
    assert sharding.exited(0, -9, "killed", 6.0) == []
    assert (sharding.phase, sharding.exit_code) == (Phase.STOPPED, 3)
    assert sharding.failure == "shard 1 could not start: no such model"


def test_a_shard_that_dies_is_started_again_and_no_other_one_is_touched() -> None:
    sharding = serving()
    (log,) = sharding.exited(1, -9, "killed by signal 9", 5.0)
    assert log == Log("error", "shard 1 died (killed by signal 9); started again in 0.1 s")
    assert sharding.phase is Phase.RUNNING
    assert sharding.answers
    assert sharding.wake_at == 5.1
    assert sharding.tick(5.05) == []
    assert sharding.tick(5.1) == [StartShard(1)]
    assert sharding.told(step(1, Milestone.STARTED)) == [Lead(1, "/runs/detect.1-7")]


def test_the_more_shards_have_died_the_later_the_next_is_started_and_at_last_the_run_ends() -> None:
    sharding = serving()
    delays = []
    for at in (1.0, 10.0, 20.0, 30.0, 40.0):
        sharding.exited(1, 1, "exit code 1", at)
        assert sharding.wake_at is not None
        delays.append(round(sharding.wake_at - at, 1))
        sharding.tick(sharding.wake_at)
        become_ready(sharding, 1)
    assert delays == [0.1, 0.1, 1.0, 2.0, 5.0]
    assert acts(sharding.exited(1, 1, "exit code 1", 50.0)) == [PassOnTo(0, False)]
    assert sharding.phase is Phase.DRAINING
    sharding.exited(0, 0, "exit code 0", 51.0)
    assert (sharding.phase, sharding.exit_code) == (Phase.STOPPED, 1)


def test_deaths_of_long_ago_do_not_count() -> None:
    sharding = serving()
    for at in range(0, 1000, 61):
        (log,) = sharding.exited(0, 1, "exit code 1", float(at))
        assert isinstance(log, Log)
        assert log.text.endswith("in 0.1 s")
        sharding.tick(at + 1.0)
        become_ready(sharding, 0)


def test_a_signal_drains_every_shard_and_kills_one_that_starts() -> None:
    sharding = serving()
    sharding.exited(1, -9, "killed", 5.0)
    sharding.tick(6.0)
    assert acts(sharding.interrupted(7.0)) == [PassOnTo(0, False), KillShard(1)]
    assert sharding.phase is Phase.DRAINING
    # Its end was meant.
    assert sharding.exited(1, -9, "killed", 7.1) == []
    assert sharding.exited(0, 0, "exit code 0", 8.0) == []
    assert (sharding.phase, sharding.exit_code) == (Phase.STOPPED, 0)


def test_a_shard_that_has_not_finished_all_makes_the_exit_code_1() -> None:
    sharding = serving()
    sharding.interrupted(7.0)
    (log,) = sharding.exited(0, 1, "exit code 1", 8.0)
    assert log == Log("warning", "shard 0 has not finished all that it had: exit code 1")
    sharding.exited(1, 0, "exit code 0", 8.0)
    assert sharding.exit_code == 1


def test_a_second_signal_stops_at_once_and_signals_that_come_together_are_one() -> None:
    sharding = serving()
    sharding.interrupted(7.0)
    assert sharding.interrupted(7.05) == []
    assert sharding.interrupted(7.2, hangup=True) == []
    assert acts(sharding.interrupted(7.5)) == [PassOnTo(0, True), PassOnTo(1, True)]
    assert sharding.phase is Phase.STOPPING
    assert sharding.interrupted(8.0) == []
    # Whichever does not end in time is killed.
    sharding.exited(0, 1, "exit code 1", 8.0)
    assert sharding.wake_at == 12.5
    assert acts(sharding.tick(12.5)) == [KillShard(1)]
    sharding.exited(1, -9, "killed", 13.0)
    assert (sharding.phase, sharding.exit_code, sharding.wake_at) == (Phase.STOPPED, 1, None)


def test_a_signal_while_it_starts_kills_what_was_started() -> None:
    sharding = started()
    become_ready(sharding, 0)
    assert acts(sharding.interrupted(1.0)) == [KillShard(0), KillShard(1)]
    sharding.exited(0, -9, "killed", 1.1)
    sharding.exited(1, -9, "killed", 1.1)
    assert (sharding.phase, sharding.exit_code, sharding.failure) == (Phase.STOPPED, 0, None)


def test_a_shard_that_does_not_drain_in_time_is_killed() -> None:
    sharding = serving()
    sharding.interrupted(7.0)
    assert sharding.wake_at == 7.0 + DRAIN_S + 10.0
    sharding.exited(0, 0, "exit code 0", 8.0)
    log, kill = sharding.tick(27.0)
    assert log == Log("warning", "killed, since it did not end: shard 1")
    assert kill == KillShard(1)
    sharding.exited(1, -9, "killed", 27.1)
    assert (sharding.phase, sharding.exit_code) == (Phase.STOPPED, 1)


def test_once_it_drains_no_dead_shard_is_started_again() -> None:
    sharding = serving()
    sharding.exited(1, -9, "killed", 5.0)
    sharding.interrupted(5.05)
    # Otherwise its loop would turn without a pause, for a time that is over.
    assert sharding.wake_at == 5.05 + DRAIN_S + 10
    assert sharding.tick(6.0) == []
    sharding.exited(0, 0, "exit code 0", 8.0)
    assert sharding.phase is Phase.STOPPED


def test_if_no_shard_lives_a_signal_ends_it_at_once() -> None:
    sharding = serving()
    sharding.exited(0, -9, "killed", 5.0)
    sharding.exited(1, -9, "killed", 5.0)
    assert not sharding.answers
    sharding.interrupted(5.05)
    assert sharding.phase is Phase.STOPPED


def test_when_it_was_replaced_all_shards_send_their_clients_away() -> None:
    sharding = serving()
    assert sharding.replaced("detect-1", 5.0) == [HandOverShard(0, "detect-1"), HandOverShard(1, "detect-1")]
    assert sharding.phase is Phase.DRAINING
    assert sharding.replaced("detect-1", 5.0) == []
    for shard in (0, 1):
        sharding.exited(shard, 0, "exit code 0", 6.0)
    assert (sharding.phase, sharding.exit_code) == (Phase.STOPPED, 0)


def test_without_its_program_it_ends_at_once() -> None:
    sharding = serving()
    assert sharding.abandoned() == [KillShard(0), KillShard(1)]
    for shard in (0, 1):
        sharding.exited(shard, -9, "killed", 6.0)
    assert (sharding.phase, sharding.exit_code) == (Phase.STOPPED, 1)
    assert sharding.abandoned() == []


def test_a_shard_that_could_not_be_born_counts_as_dead() -> None:
    sharding = serving()
    sharding.exited(1, -9, "killed", 5.0)
    sharding.tick(6.0)
    (log,) = sharding.unborn(1, "too many processes", 6.0)
    assert isinstance(log, Log)
    assert "too many processes" in log.text
    assert sharding.wake_at == 6.1
    early = started()
    early.unborn(0, "too many processes", 1.0)
    assert early.failure == "shard 0 could not start: it could not be started: too many processes"


def test_it_is_well_once_each_shard_that_lives_has_answered() -> None:
    sharding = serving()
    pings = [each for each in sharding.ask(5) if isinstance(each, PingShard)]
    assert [ping.number for ping in pings] == [0, 1]
    assert sharding.answered(pings[0].ping) is None
    assert sharding.answered(pings[0].ping) is None
    assert sharding.answered(pings[1].ping) == 5
    later = [each for each in sharding.ask(6) if isinstance(each, PingShard)]
    # Of an earlier question.
    assert sharding.answered(pings[1].ping) is None
    sharding.exited(1, -9, "killed", 5.0)
    assert sharding.answered(later[0].ping) == 6


@pytest.mark.parametrize("known", [True, False])
def test_a_shard_that_is_not_known_any_more_is_heard_no_more(known: bool) -> None:
    sharding = serving()
    if not known:
        sharding.exited(0, -9, "killed", 5.0)
        assert sharding.exited(0, -9, "killed", 5.0) == []
    assert bool(sharding.told(step(0, Milestone.STARTED))) is known
