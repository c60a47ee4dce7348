"""A slice of the soak: processes are killed, stopped and sent garbage at random; no answer is lost, doubled or wrong, and nothing is left."""

from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from bench.chaos.events import GATEWAY, SCHEDULER, draw, draw_gateways
from bench.chaos.requests import Rates, expected, request
from bench.chaos.soak import Soak, soak
from bench.chaos.tally import count
from pipeline.wire.run_dir import runs
from tests.faults.load import until
from tests.links import LINK

ROOT = Path(__file__).parents[2]


@pytest.mark.foreign
@pytest.mark.slow
def test_nothing_is_lost_when_processes_die() -> None:
    wanted = Soak(requests=500, kills=12, seconds=8.0, seed=360, rates=Rates(deadly=0.006), gateway_kills=2)
    tally = soak(replace(wanted, **LINK), print)
    print(tally.table())
    assert tally.faults() == []
    assert sum(tally.ends.values()) == 500
    assert sum(tally.kills.values()) == 14
    assert tally.ends["StageCrashed"] > 0
    assert tally.deaths["scheduler SIGKILL"] > 0
    assert tally.counts["retries"] > 0


def test_a_soak_that_is_told_to_end_stops_the_pipeline_that_it_has_started() -> None:
    command = [sys.executable, "-m", "bench.chaos", "--requests", "100000", "--kills", "0", "--seconds", "600", "--quiet"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until(lambda: runs())
        (folder,) = runs()
        process.terminate()
        assert process.wait() == 128 + signal.SIGTERM
        assert not folder.exists()
    finally:
        process.kill()
        process.wait()


def test_a_seed_gives_the_same_events_and_requests_again() -> None:
    events = draw(3, 60.0, 40)
    assert events == draw(3, 60.0, 40) != draw(4, 60.0, 40)
    assert sum(event.kind == "kill" for event in events) == 40
    schedulers = [event.at_s for event in events if event.victim == SCHEDULER and event.kind == "kill"]
    assert all(later - earlier > 12 for earlier, later in pairwise(schedulers))
    gateways = draw_gateways(3, 60.0, 4)
    assert gateways == draw_gateways(3, 60.0, 4) == sorted(gateways)
    assert [event.victim for event in gateways] == [GATEWAY] * 4
    first, again = (request(3, 17, Rates(), 3) for _ in range(2))
    assert first.deed == again.deed
    assert (first.values == again.values).all()


def test_what_must_not_happen_is_counted() -> None:
    deeds = {1: "innocent", 2: "innocent", 3: "innocent", 4: "segfault", 5: "hurried", 6: "innocent"}
    journal = ["s 1", "s 1", "a 1 ok", "s 2", "a 2 StageCrashed", "s 3", "a 3 wrong", "s 4", "a 4 ok", "s 5",
               "a 5 DeadlineExceeded", "a 1 ok", "t 1"]  # fmt: skip
    tally = count(deeds, journal)
    assert (tally.sent, tally.resent, tally.twice) == (6, 1, 2)
    assert (tally.lost, tally.wrong, tally.misjudged) == ([2, 6], [3], ["4 (segfault: ok)"])
    assert tally.faults() == [
        "innocent requests lost: 2", "answered twice: 2", "wrong answers: 1", "ended as they should not: 1",
    ]  # fmt: skip
    assert "innocent requests lost         2: 2, 6" in tally.table()
    through = count({1: "innocent"}, ["s 1", "b 1", "s 1", "u 1", "s 1", "a 1 ok"])
    assert (through.broken, through.unavailable, through.resent, through.faults()) == (1, 1, 2, [])
    through.gateway_code, through.gateway_left = 1, 2
    assert through.faults() == ["exit code of pipeline serve: 1", "processes of pipeline serve left: 2"]
    assert count({1: "innocent"}, ["s 1", "a 1 ok", "t 0"]).faults() == []
    values = request(3, 17, Rates(), 3).values
    assert (expected(values)[3:] == 3 * values[3:] - 4).all()
