"""The steps of a tuning, over pipelines that are only simulated: a clock, rates by their changes, starts that fail."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pipeline.config.loader import load_config
from pipeline.errors import StartError
from pipeline.graph.description import INFERENCE_CLASS, StageDescription
from pipeline.topology.memory import MemoryLimits
from pipeline.tuning import search as module
from pipeline.tuning.candidate import UNTUNED, Candidate, Goal
from pipeline.tuning.halving import Measured
from pipeline.tuning.report import Report
from pipeline.tuning.search import search
from pipeline.tuning.trials import RequestsFail
from stages.spec import TensorSpec
from tests.unit.pipeline.tuning.conftest import machine

_X = (TensorSpec("x", "int8", (1,)),)
Rate = Callable[[dict[str, Any]], float]


@dataclass
class Simulated:
    """Stands for `Trials`: a start takes a second, and a turn as long as it says."""

    rate: Rate
    now: float = 0.0
    running: list[Candidate] = field(default_factory=list)
    most: int = 0
    turns: int = 0
    interrupt_at: int = -1
    started: list[Candidate] = field(default_factory=list)

    def start(self, candidates: Sequence[Candidate], tell: Callable[[str], None]) -> dict[Candidate, str]:
        failed = {}
        for candidate in candidates:
            self.now += 1.0
            self.started.append(candidate)
            if self.rate(dict(candidate.changes)) < 0:
                failed[candidate] = "ImportError: no such thing"
            else:
                self.running.append(candidate)
        self.most = max(self.most, len(self.running))
        return failed

    def stop(self, candidates: Sequence[Candidate]) -> None:
        self.running = [one for one in self.running if one not in candidates]

    def costs(self, candidate: Candidate) -> dict[str, float]:
        return {"pre": 4.0, "infer": 6.0, "post": 0.1}

    def turn(self, candidate: Candidate, seconds: float, show: object) -> Measured:
        assert candidate in self.running
        self.turns += 1
        if self.turns == self.interrupt_at:
            raise KeyboardInterrupt
        self.now += seconds
        rate = self.rate(dict(candidate.changes))
        if rate == 0:
            raise RequestsFail("3 x StageFailed: no")
        return Measured(rate, 1 / rate, 2 / rate)


Tune = Callable[..., tuple[Report, Simulated]]


@pytest.fixture
def tune(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tune:
    """Tune three stages whose pipelines answer at the rates that a function of their changes gives."""
    path = tmp_path / "demo.yaml"
    path.write_text(
        "inputs: [{name: x, dtype: int8, shape: [1]}]\nstages:\n"
        "- {name: pre, use: 'm:C'}\n- {name: infer, use: 'm:C', batch: {max_size: 4, max_delay_ms: 2}}\n"
        "- {name: post, use: 'm:C'}\n"
    )

    def tune(rate: Rate, minutes: float = 2.0, shm: int = 1 << 30, **more: Any) -> tuple[Report, Simulated]:
        trials = Simulated(rate, **more)
        monkeypatch.setattr(module.time, "monotonic", lambda: trials.now)
        descriptions = {name: StageDescription(_X, _X, ("m:C",)) for name in ("pre", "post")}
        descriptions["infer"] = StageDescription(_X, _X, (INFERENCE_CLASS,))
        cores = machine(2)
        on = type(cores)(cores.cpus, cores.nodes, MemoryLimits(shm_free=shm))
        before = Report(path.name, Goal.THROUGHPUT, "x", 32, 0.0, "2 CPUs")
        found = search(load_config(path), descriptions, on, trials, before, minutes, lambda line: None)  # type: ignore[arg-type]
        return found, trials

    return tune


def one_process(changes: dict[str, Any]) -> float:
    """Better in one process; better still in larger batches."""
    rate = 100.0
    if changes.get("infer.colocate"):
        rate *= 1.2
    return rate * (1.1 if changes.get("infer.batch.max_size") == 8 else 1.0)


def test_the_best_arrangement_is_the_base_of_the_batches_and_the_best_of_all_has_a_duel(tune: Tune) -> None:
    report, _trials = tune(one_process)
    assert [step.title for step in report.steps] == ["arrangements", "batches", "duel"]
    assert report.steps[0].won.changes[:1] == (("pre.replicas", 2),)
    won = dict(report.steps[2].won.changes)
    assert (won["infer.colocate"], won["infer.batch.max_size"]) == (True, 8)
    assert report.winner is not None
    assert report.winner.ratio == pytest.approx(1.32)
    assert report.beats
    assert report.costs == {"pre": 4.0, "infer": 6.0, "post": 0.1}


def test_it_takes_about_the_time_that_it_may_take(tune: Tune) -> None:
    for minutes in (1.0, 2.0, 5.0):
        _, trials = tune(one_process, minutes=minutes)
        assert 0.8 * 60 * minutes <= trials.now <= 1.2 * 60 * minutes


def test_with_little_time_the_most_promising_are_tried_and_the_others_say_why_not(tune: Tune) -> None:
    report, trials = tune(one_process, minutes=0.3)
    assert trials.now <= 30
    why = {one.candidate.label: one.why_not for one in report.steps[0].standings}
    assert why["2 x all stages in one process, batches of 4 for all"] == ""
    assert why["a model has all cores"] == "no time for it: more --minutes"
    assert "a model has all cores" not in [candidate.label for candidate in trials.started]


def test_a_config_that_nothing_beats_stays_and_has_no_duel(tune: Tune) -> None:
    report, trials = tune(lambda changes: 50.0 if changes else 100.0)
    assert [(step.title, step.won) for step in report.steps] == [("arrangements", UNTUNED), ("batches", UNTUNED)]
    assert not report.beats
    assert trials.running == [UNTUNED]


def test_less_than_two_per_cent_is_not_worth_a_change(tune: Tune) -> None:
    report, _ = tune(lambda changes: 101.0 if changes else 100.0)
    assert report.steps[0].won == UNTUNED


def test_candidates_that_do_not_start_or_do_not_answer_are_told_and_not_fatal(tune: Tune) -> None:
    def rate(changes: dict[str, Any]) -> float:
        if changes.get("pre.replicas") == 3:
            return -1.0
        if changes.get("post.colocate") and not changes.get("infer.colocate"):
            return 0.0
        return one_process(changes)

    report, _trials = tune(rate)
    why = {one.candidate.label: one.why_not for one in report.steps[0].standings}
    assert why["3 x all stages in one process, batches of 4 for all"] == "ImportError: no such thing"
    assert why["light stages in others' workers, the rest by cost"] == "3 x StageFailed: no"
    assert report.beats


def test_what_has_no_room_beside_the_others_is_not_started(tune: Tune) -> None:
    report, trials = tune(one_process, shm=200_000)
    left_out = [one.why_not for one in report.steps[0].standings if one.why_not]
    assert "no room beside the others: free in /dev/shm" in left_out
    assert trials.most < len(report.steps[0].standings)


def test_those_that_are_given_up_are_ended_at_once(tune: Tune) -> None:
    _, trials = tune(one_process)
    assert len(trials.running) == 2  # the untuned config, and the one that has won
    assert len(set(trials.started)) == len(trials.started)


@pytest.mark.parametrize("at", [1, 12, 60])
def test_an_interruption_ends_it_with_the_best_so_far(tune: Tune, at: int) -> None:
    report, _ = tune(one_process, interrupt_at=at)
    assert report.interrupted
    if at == 1:
        assert report.winner is None
    else:
        assert report.winner is not None
        assert dict(report.winner.candidate.changes)["infer.colocate"] is True


def test_a_config_that_does_not_start_as_it_is_ends_it(tune: Tune) -> None:
    with pytest.raises(StartError, match="does not run with these samples: ImportError"):
        tune(lambda changes: -1.0)


def test_a_config_whose_own_samples_fail_ends_it(tune: Tune) -> None:
    with pytest.raises(StartError, match="fails its samples: 3 x StageFailed"):
        tune(lambda changes: 100.0 if changes else 0.0)
