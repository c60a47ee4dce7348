"""The reloads of a pipeline: which is under way, how far it is, and how the last one ended."""

from __future__ import annotations

import pytest

from pipeline.supervisor.history import History
from pipeline.wire.messages import Milestone, ReloadStep
from pipeline.wire.status import OUTCOMES, ReloadStatus

ASKER, OTHER = 11, 12
NONE = dict.fromkeys(OUTCOMES, 0)


def of_stage() -> History:
    history = History()
    history.begins(ASKER, "/a.yaml", "detect", "pets-7", 100.0)
    return history


def whole() -> History:
    history = History()
    history.begins(ASKER, "/a.yaml", "", "pets-7", 100.0)
    return history


def step(milestone: str, text: str = "so it is", **more: object) -> ReloadStep:
    return ReloadStep(1, milestone, text, **more)  # type: ignore[arg-type]


def test_at_first_there_is_none_and_every_outcome_has_a_count() -> None:
    status = History().status
    assert (status.under_way, status.last, status.counts) == (None, None, NONE)


def test_one_of_a_stage_is_under_way_with_its_progress_until_its_last_step() -> None:
    history = of_stage()
    assert history.status.under_way == ReloadStatus("detect", "/a.yaml", "pets-7", 100.0, step="begun")
    for milestone in (Milestone.BEGUN, Milestone.STARTED, Milestone.READY, Milestone.TOOK_OVER):
        assert history.take(ASKER, step(milestone, replaced=1, workers=2), 101.0)
        going = history.status.under_way
        assert going is not None
        assert (going.step, going.text, going.replaced, going.workers, going.after) == (milestone, "so it is", 1, 2, "")
    assert history.take(ASKER, step(Milestone.DRAINED, replaced=2, workers=2), 107.5)
    assert (history.status.under_way, history.status.counts) == (None, {**NONE, "succeeded": 1})
    last = history.status.last
    assert last is not None
    assert (last.outcome, last.ended_s, last.replaced, last.reason) == ("succeeded", 107.5, 2, "")


@pytest.mark.parametrize("outcome", ["failed", "rolled_back", "mixed"])
def test_one_that_fails_has_the_outcome_that_its_last_step_says_and_the_reason(outcome: str) -> None:
    history = of_stage()
    history.take(ASKER, step(Milestone.GOES_BACK, replaced=1, workers=2), 101.0)
    assert history.status.under_way is not None
    history.take(ASKER, step(Milestone.FAILED, "no weights", outcome=outcome), 102.0)
    last = history.status.last
    assert last is not None
    assert (last.outcome, last.reason, history.status.counts) == (outcome, "no weights", {**NONE, outcome: 1})


def test_a_whole_one_has_succeeded_once_the_new_version_serves_and_names_both_runs() -> None:
    history = whole()
    assert history.take(ASKER, step(Milestone.STARTED, folder="/runs/pets-9"), 101.0)
    going = history.status.under_way
    assert going is not None
    assert (going.before, going.after) == ("pets-7", "pets-9")
    history.take(ASKER, step(Milestone.READY, folder="/runs/pets-9"), 102.0)
    assert history.status.under_way is not None
    history.take(ASKER, step(Milestone.TOOK_OVER, folder="/runs/pets-9"), 103.0)
    last = history.status.last
    assert last is not None
    assert (last.outcome, last.after, last.ended_s) == ("succeeded", "pets-9", 103.0)
    # That the old version has finished what it had is no second end.
    assert not history.take(ASKER, step(Milestone.DRAINED), 109.0)
    assert history.status.counts == {**NONE, "succeeded": 1}


def test_a_whole_one_that_fails_has_changed_nothing() -> None:
    history = whole()
    history.take(ASKER, step(Milestone.FAILED, "no room for both"), 101.0)
    last = history.status.last
    assert last is not None
    assert (last.outcome, last.reason) == ("failed", "no room for both")


def test_what_another_process_is_told_changes_nothing() -> None:
    history = of_stage()
    before = history.status
    # Refused, since another reload is under way; or the end of an older version.
    assert not history.take(OTHER, step(Milestone.FAILED), 101.0)
    assert not history.take(OTHER, step(Milestone.DRAINED), 101.0)
    assert history.status == before
    assert not History().take(ASKER, step(Milestone.FAILED), 1.0)


def test_the_last_one_stays_until_the_next_one_ends() -> None:
    history = of_stage()
    history.take(ASKER, step(Milestone.FAILED, "no weights"), 101.0)
    history.begins(OTHER, "/a.yaml", "detect", "pets-7", 200.0)
    assert history.status.last is not None
    assert history.status.last.reason == "no weights"
    history.take(OTHER, step(Milestone.DRAINED), 201.0)
    assert history.status.last is not None
    assert (history.status.last.outcome, history.status.counts["failed"]) == ("succeeded", 1)
