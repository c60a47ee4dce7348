"""What `pipeline status` says of a run with shards."""

from __future__ import annotations

import json

import pytest

from pipeline.cli.shards import Answers, answer_of, document_of
from pipeline.wire.status import PipelineStatus


def status(shard: int, **reasons: str) -> PipelineStatus:
    return PipelineStatus(f"detect.{shard}", 1, not reasons, reasons, 0, {}, {}, (), (), (), (), (), 10.0)


READY, OTHER = status(0), status(1)
WITHOUT = status(1, crop="no worker")


@pytest.mark.parametrize(
    ("answers", "ready", "line"),
    [
        ({"detect.0": READY, "detect.1": OTHER}, True, "detect: ready"),
        ({"detect.0": READY, "detect.1": WITHOUT}, True, "detect: ready: detect.1: crop: no worker"),
        ({"detect.0": READY, "detect.1": "it is dead"}, True, "detect: ready: detect.1: it is dead"),
        ({"detect.0": "it is dead"}, False, "detect: not ready: detect.0: it is dead"),
    ],
)
def test_it_is_ready_if_one_shard_is(answers: Answers, ready: bool, line: str) -> None:
    assert answer_of("detect", answers, lambda found: {}, alive=False) == (ready, line)


def test_it_is_alive_if_all_shards_are() -> None:
    def given_up(found: PipelineStatus) -> dict[str, str]:
        return dict(found.reasons)

    answers: Answers = {"detect.0": READY, "detect.1": WITHOUT}
    assert answer_of("detect", answers, given_up, alive=True) == (False, "detect: not alive: detect.1: crop: no worker")
    assert answer_of("detect", {"detect.0": READY}, given_up, alive=True) == (True, "detect: alive")
    assert answer_of("detect", {"detect.0": "it hangs"}, given_up, alive=True)[0] is False


def test_as_json_each_shard_is_there_by_its_name() -> None:
    found = json.loads(document_of("detect", True, {"detect.0": READY, "detect.1": "it is dead"}))
    assert (found["pipeline"], found["ready"]) == ("detect", True)
    assert found["shards"]["detect.0"]["pipeline"] == "detect.0"
    assert found["shards"]["detect.1"] == {"ready": False, "why": "it is dead"}
