"""What all gateways must show alike, and which of them runs: events in, instructions out."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from pipeline.errors import KserveError
from pipeline.kserve.settings import RegionEntry
from pipeline.metrics.traffic import Traffic
from pipeline.serving.counts import Counts
from pipeline.serving.frames import (
    VERSION,
    Complete,
    Drain,
    Frame,
    LogTold,
    ModelGone,
    ModelTold,
    RegionGone,
    RegionTold,
    Report,
    TraceTold,
)
from pipeline.serving.truth import (
    CONFIRM_S,
    Fail,
    Instruction,
    Kill,
    Say,
    Serving,
    Settle,
    Start,
    Tell,
    Truth,
    checked_trace,
)

MODEL = ModelTold(0, "m", "/run/m", 1)
REGION = RegionEntry("r", "/key", 1, 2)


def of_two() -> Truth:
    """Two gateways, both ready."""
    truth = Truth(2)
    assert truth.start(0.0) == [Start(0), Start(1)]
    for number in (0, 1):
        truth.hello(number, VERSION)
        truth.ready(number, 0.0)
    return truth


def told(instructions: Sequence[Instruction], gateway: int) -> list[Frame]:
    return [each.frame for each in instructions if isinstance(each, Tell) and each.gateway == gateway]


def starts(instructions: Sequence[Instruction]) -> list[int]:
    return [each.gateway for each in instructions if isinstance(each, Start)]


def test_serving_begins_once_all_gateways_are_ready() -> None:
    truth = Truth(2)
    truth.start(0.0)
    truth.hello(0, VERSION)
    assert truth.ready(0, 1.0) == []
    truth.hello(1, VERSION)
    assert truth.ready(1, 1.0) == [Serving()]


def test_a_gateway_that_becomes_ready_while_all_of_them_end_begins_nothing() -> None:
    truth = Truth(1)
    truth.start(0.0)
    truth.hello(0, VERSION)
    truth.drain(1.0)
    assert truth.ready(0, 1.0) == []


def test_a_gateway_that_dies_before_all_were_ready_ends_the_start() -> None:
    truth = Truth(2)
    truth.start(0.0)
    truth.failed(0, "127.0.0.1:80 cannot be had")
    assert truth.died(0, "exit code 0", 1.0) == [Fail("gateway/0 did not start: 127.0.0.1:80 cannot be had")]


def test_a_new_gateway_is_told_everything_before_it_may_open_its_ports() -> None:
    truth = of_two()
    truth.change_log({"log_verbose_level": 3}, 1.0)
    truth.change_trace({"trace_rate": "7"}, 1.0)
    truth.register(REGION, 1.0)
    truth.model(MODEL, 1.0)
    truth.died(1, "killed", 2.0)
    frames = told(truth.hello(1, VERSION), 1)
    log, trace, region, model, last = frames
    assert isinstance(log, LogTold)
    assert log.settings["log_verbose_level"] == 3
    assert isinstance(trace, TraceTold)
    assert trace.settings["trace_rate"] == "7"
    assert (region, model, last) == (RegionTold(0, *REGION), MODEL, Complete())
    truth.unregister("r", 3.0)
    truth.forget("m", 3.0)
    truth.died(1, "killed", 4.0)
    assert not any(isinstance(frame, (RegionTold, ModelTold)) for frame in told(truth.hello(1, VERSION), 1))


def test_a_change_is_settled_once_every_gateway_has_confirmed_it() -> None:
    truth = of_two()
    revision, instructions = truth.register(REGION, 0.0)
    assert instructions == [Tell(0, RegionTold(revision, *REGION)), Tell(1, RegionTold(revision, *REGION))]
    assert truth.confirmed(1, revision) == []
    assert truth.confirmed(1, revision) == []
    assert truth.confirmed(0, revision) == [Settle(revision)]
    assert truth.confirmed(0, revision) == []


def test_changes_are_settled_each_by_itself() -> None:
    truth = of_two()
    first, _ = truth.change_log({"log_verbose_level": 1}, 0.0)
    second, _ = truth.unregister("r", 0.0)
    truth.confirmed(0, second)
    assert truth.confirmed(1, second) == [Settle(second)]
    truth.confirmed(0, first)
    assert truth.confirmed(1, first) == [Settle(first)]


def test_the_death_of_a_gateway_confirms_for_it() -> None:
    truth = of_two()
    revision, _ = truth.model(MODEL, 0.0)
    assert truth.confirmed(0, revision) == []
    assert Settle(revision) in truth.died(1, "killed", 1.0)


def test_a_change_is_settled_at_once_if_no_gateway_knows_anything() -> None:
    truth = Truth(1)
    assert truth.model(MODEL, 0.0) == (1, [Settle(1)])
    truth.start(0.0)
    # It is told once it says hello, before it serves.
    assert truth.register(REGION, 0.0) == (2, [Settle(2)])
    assert [type(frame) for frame in told(truth.hello(0, VERSION), 0)] == [
        LogTold, TraceTold, RegionTold, ModelTold, Complete
    ]  # fmt: skip


def test_one_that_starts_and_knows_everything_must_confirm_too() -> None:
    truth = of_two()
    truth.died(1, "killed", 0.0)
    truth.hello(1, VERSION)
    revision, _ = truth.change_log({"log_verbose_level": 1}, 1.0)
    assert truth.confirmed(0, revision) == []
    assert truth.confirmed(1, revision) == [Settle(revision)]


def test_a_gateway_that_does_not_confirm_in_time_is_killed_once() -> None:
    truth = of_two()
    revision, _ = truth.change_log({"log_verbose_level": 1}, 10.0)
    truth.confirmed(0, revision)
    assert truth.next_due() == 10.0 + CONFIRM_S
    assert truth.due(9.0 + CONFIRM_S) == []
    assert truth.due(10.0 + CONFIRM_S) == [Kill(1)]
    assert truth.due(11.0 + CONFIRM_S) == []
    died = truth.died(1, "killed by signal 9", 30.0)
    assert died[0] == Settle(revision)
    assert any(isinstance(each, Say) and "did not answer the keeper" in each.text for each in died)


def test_what_is_under_way_at_a_model_that_is_unloaded_has_its_time_before_that() -> None:
    truth = of_two()
    truth.model(ModelTold(0, "m", state="UNLOADING", drain_s=30.0), 0.0)
    assert truth.due(29.0 + CONFIRM_S) == []
    assert truth.due(30.0 + CONFIRM_S) == [Kill(0), Kill(1)]


def test_a_gateway_that_does_not_get_ready_is_killed() -> None:
    truth = Truth(1)
    truth.start(0.0)
    assert truth.next_due() == 60.0
    assert truth.due(60.0) == [Kill(0)]


def test_one_that_dies_again_and_again_is_started_later_and_later_but_always() -> None:
    truth = of_two()
    now, waits = 100.0, []
    for _ in range(12):
        instructions = truth.died(0, "killed", now)
        began = now
        while not starts(instructions):
            due = truth.next_due()
            assert due is not None
            now = due
            instructions = truth.due(now)
        waits.append(round(now - began, 3))
        truth.hello(0, VERSION)
        truth.ready(0, now)
    # The first time it had served for long.
    assert waits[:5] == [0.0, 0.2, 0.4, 0.8, 1.6]
    assert waits[-1] == 10.0
    # The other one has never stopped.
    assert 1 in truth.running
    now += 6.0
    assert starts(truth.died(0, "killed", now)) == [0]


def test_a_restart_is_told_to_the_operator() -> None:
    truth = of_two()
    died = truth.died(1, "killed by signal 9 (SIGKILL)", 10.0)
    assert Say("gateway/1 died (killed by signal 9 (SIGKILL)); it is started again", "warning") in died
    truth.hello(1, VERSION)
    assert truth.ready(1, 11.0) == [Say("gateway/1 serves again")]


def test_a_gateway_of_another_version_is_not_told_anything() -> None:
    truth = of_two()
    truth.died(0, "killed", 10.0)
    assert truth.hello(0, VERSION + 1) == [Kill(0)]
    assert any(isinstance(each, Say) and "package was replaced" in each.text for each in truth.died(0, "killed", 11.0))


def test_a_drain_tells_those_that_know_anything_and_starts_none_again() -> None:
    truth = of_two()
    truth.died(0, "killed", 10.0)
    assert truth.drain(3.0) == [Kill(0), Tell(1, Drain(3.0))]
    assert truth.running == [0, 1]
    assert truth.died(0, "killed", 11.0) == []
    assert truth.died(1, "exit code 0", 11.0) == []
    assert truth.running == []
    assert truth.next_due() is None


def test_a_change_that_is_refused_changes_nothing_and_is_told_to_none() -> None:
    truth = of_two()
    with pytest.raises(KserveError):
        truth.change_log({"log_file": "/etc/passwd"}, 0.0)
    with pytest.raises(KserveError):
        truth.change_trace({"trace_level": ["TENSORS"]}, 0.0)
    assert truth.next_due() is None
    assert truth.log["log_file"] == ""


def test_every_region_is_forgotten_at_once() -> None:
    truth = of_two()
    truth.register(REGION, 0.0)
    revision, instructions = truth.unregister("", 0.0)
    assert told(instructions, 0) == [RegionGone(revision, "")]
    truth.died(0, "killed", 1.0)
    assert not any(isinstance(frame, RegionTold) for frame in told(truth.hello(0, VERSION), 0))


def counted(rows: int, load: int = 1) -> dict[str, tuple[int, Counts]]:
    return {"m": (load, Counts(rows=rows))}


def test_counts_are_those_of_all_gateways_also_of_dead_ones_as_they_last_said() -> None:
    truth = of_two()
    truth.model(MODEL, 0.0)
    revision, instructions = truth.report(0.0)
    assert told(instructions, 0) == [Report(revision)]
    assert truth.counted(0, revision, counted(3), Traffic()) == []
    assert truth.counted(1, revision, counted(4), Traffic()) == [Settle(revision)]
    assert truth.counts() == {"m": Counts(rows=7)}
    truth.died(0, "killed", 1.0)
    assert truth.counts() == {"m": Counts(rows=7)}
    truth.hello(0, VERSION)
    truth.counted(0, 0, counted(1), Traffic())
    assert truth.counts() == {"m": Counts(rows=8)}
    truth.died(0, "killed", 2.0)
    truth.died(1, "killed", 2.0)
    assert truth.counts() == {"m": Counts(rows=8)}


def test_traffic_is_that_of_all_gateways_also_of_dead_ones_and_of_all_models() -> None:
    def some(copied: int) -> Traffic:
        return Traffic({"http": {"OK": 1}}, {}, {"x": copied})

    truth = of_two()
    truth.counted(0, 0, {}, some(3))
    truth.counted(1, 0, {}, some(4))
    truth.died(0, "killed", 1.0)
    truth.hello(0, VERSION)
    assert truth.traffic() == Traffic({"http": {"OK": 2}}, {}, {"x": 7}, deaths=1)
    truth.counted(0, 0, {}, some(1))
    assert truth.traffic() == Traffic({"http": {"OK": 3}}, {}, {"x": 8}, deaths=1)


def test_counts_begin_again_with_each_load_of_a_model() -> None:
    truth = of_two()
    truth.model(MODEL, 0.0)
    truth.counted(0, 0, counted(3), Traffic())
    truth.died(0, "killed", 1.0)
    truth.counted(1, 0, counted(4), Traffic())
    truth.model(ModelTold(0, "m", state="UNAVAILABLE", why="unloaded"), 2.0)
    assert truth.counts() == {}
    truth.model(ModelTold(0, "m", "/run/m2", 2), 3.0)
    # It has not said anything newer yet.
    assert truth.counts() == {"m": Counts()}
    truth.counted(1, 0, counted(1, load=2), Traffic())
    assert truth.counts() == {"m": Counts(rows=1)}


def test_a_model_that_is_gone_is_forgotten() -> None:
    truth = of_two()
    truth.model(MODEL, 0.0)
    revision, instructions = truth.forget("m", 1.0)
    assert told(instructions, 1) == [ModelGone(revision, "m")]
    assert truth.models == {}


def test_tracing_is_refused() -> None:
    with pytest.raises(KserveError) as refused:
        checked_trace({"trace_level": ["OFF"]}, {"trace_level": ["TIMESTAMPS"]})
    assert refused.value.code == "UNIMPLEMENTED"
