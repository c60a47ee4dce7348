"""What `pipeline ps` says of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from pipeline.cli.ps import state_text
from pipeline.watching.overview import RunRow, front_row, row_of
from pipeline.wire.status import PipelineStatus, ReloadsStatus, ReloadStatus

READY = PipelineStatus("detect", 1, True, {}, 3, {}, {"OK": 8, "Overloaded": 2}, (), (), (), (), (), 10.0)
WITHOUT = PipelineStatus("detect", 1, False, {"a": "no worker"}, 0, {}, {}, (), (), (), (), (), 10.0)
BEGINS = PipelineStatus("detect", 1, False, {}, 0, {}, {}, (), (), (), (), (), 10.0)

STOPS = PipelineStatus("detect", 1, False, {"": "stopping"}, 0, {}, {}, (), (), (), (), (), 10.0)


def row(status: PipelineStatus | None, *, marked: bool = True, successor: str = "", **fields: Any) -> RunRow:
    given = {"pid": 7, "why": "", "age_s": 5.0, "memory": 9, "stopping": False, **fields}
    return row_of(Path("/runs/de-tect-7"), status=status, marked=marked, successor=successor, **given)


@pytest.mark.parametrize(
    ("status", "marked", "successor", "state", "reasons"),
    [
        (READY, True, "", "ready", {}),
        (WITHOUT, True, "", "not ready", {"a": "no worker"}),
        (WITHOUT, False, "", "not ready", {"a": "no worker"}),
        (READY, False, "", "starting", {}),
        (BEGINS, False, "", "starting", {}),
        (None, False, "", "starting", {"": "it hangs"}),
        (None, True, "", "no answer", {"": "it hangs"}),
        (READY, False, "de-tect-9", "replaced", {"": "by de-tect-9; it finishes what it has"}),
    ],
)
def test_the_state_of_a_run(
    status: PipelineStatus | None, marked: bool, successor: str, state: str, reasons: dict[str, str]
) -> None:
    found = row(status, marked=marked, successor=successor, why="it hangs")
    assert (found.state, found.reasons) == (state, reasons)


@pytest.mark.parametrize("status", [READY, BEGINS, STOPS, None])
@pytest.mark.parametrize("marked", [True, False])
def test_a_run_that_ends_is_not_one_that_starts(status: PipelineStatus | None, *, marked: bool) -> None:
    found = row(status, marked=marked, stopping=True, why="nothing runs there")
    assert (found.state, found.reasons) == ("stopping", {})
    shards = [row(READY, marked=marked), found]
    whole = front_row(row(None, marked=marked, stopping=True, why="nothing runs there"), shards)
    assert (whole.state, whole.reasons) == ("stopping", {})


def test_a_run_that_ends_tells_which_of_its_stages_has_no_worker() -> None:
    assert row(WITHOUT, stopping=True).reasons == {"a": "no worker"}


def test_a_run_that_was_replaced_says_so_while_it_ends() -> None:
    assert row(READY, stopping=True, successor="de-tect-9").state == "replaced"


def test_answers_with_an_error_are_counted_apart() -> None:
    found = row(READY)
    assert (found.id, found.pipeline, found.answered, found.failed, found.inside) == ("de-tect-7", "de-tect", 8, 2, 3)


def test_what_is_not_known_is_not_zero() -> None:
    found = row(None, pid=None, age_s=None, memory=None)
    assert [found.pid, found.age_s, found.answered, found.failed, found.inside, found.clients, found.memory] == [None] * 7


def test_a_run_with_shards_is_the_sum_of_them() -> None:
    own = row(None, memory=5)
    shards = [row(READY), row(WITHOUT), row(None)]
    found = front_row(own, shards)
    assert (found.state, found.answered, found.failed, found.inside) == ("ready", 8, 2, 3)
    assert found.memory == 5 + 27
    assert set(found.reasons.values()) == {"no answer"}
    assert front_row(own, [shards[1]]).state == "starting"
    assert front_row(own, []).answered is None
    replaced = front_row(row(None, successor="de-tect-9"), [shards[0]])
    assert replaced.state == "replaced"


def test_a_reload_of_a_run_with_shards_stands_in_the_line_of_its_front() -> None:
    failed = ReloadStatus("", "detect.yaml", "de-tect-7", 100.0, ended_s=110.0, outcome="failed")
    knows = row(replace(READY, reloads=ReloadsStatus(None, failed, {"failed": 1})))
    # One that was started again has not been told yet.
    found = front_row(row(None), [row(READY), knows])
    assert state_text(found, 130.0) == "ready; the last reload failed 20 s ago"
    assert front_row(row(None, successor="de-tect-9"), [knows]).reloads is None
    assert front_row(row(None), [row(READY)]).reloads is None
