"""A status as JSON has it."""

from __future__ import annotations

import json

from pipeline.wire.status import (
    HistogramStatus,
    PipelineStatus,
    PoolStatus,
    StageStatus,
    UnfinishedStatus,
    WorkerStatus,
    plain,
)

STATUS = PipelineStatus(
    pipeline="demo", epoch=3, ready=False, reasons={"a": "no worker is ready"}, inside=1, counts={"requests": 2},
    answers={"OK": 1},
    stages=(
        StageStatus(
            name="a", replicas=2, waiting=0, given_up=None, deaths=1, batches=4, rows=9, closed={"full": 4}, refused=0,
            last_ok_s=0.5, workers=(WorkerStatus(7, "a/1", 1, 100, 2, 14, 1, 3),), failures=(),
            sizes=HistogramStatus((2, 1), 9.0),
        ),
    ),
    pools=(PoolStatus("a", 4, 3),), clients=(), copies=(), unfinished=(UnfinishedStatus(1, "app", ("a", "b")),),
    drain_s=10.0,
)  # fmt: skip


def test_a_status_as_plain_values_has_the_names_of_its_fields_and_is_what_json_gives_back() -> None:
    found = plain(STATUS)
    assert list(found) == [
        "pipeline", "epoch", "ready", "reasons", "inside", "counts", "answers", "stages", "pools", "clients", "copies",
        "unfinished", "drain_s", "link", "request_s", "load_ratio", "cameras", "reloads",
    ]  # fmt: skip
    assert found["stages"] == [
        {
            "name": "a", "replicas": 2, "waiting": 0, "given_up": None, "deaths": 1, "batches": 4, "rows": 9,
            "closed": {"full": 4}, "refused": 0, "last_ok_s": 0.5,
            "workers": [
                {
                    "worker": 7, "process": "a/1", "replica": 1, "pid": 100, "ordered": 2, "credits": 14, "batches": 1,
                    "rows": 3,
                }
            ],
            "failures": [],
            "queue_s": {"buckets": [], "sum": 0.0}, "compute_s": {"buckets": [], "sum": 0.0},
            "sizes": {"buckets": [2, 1], "sum": 9.0},
        }
    ]  # fmt: skip
    assert found["unfinished"] == [{"request": 1, "client": "app", "stages": ["a", "b"]}]
    assert json.loads(json.dumps(found)) == found
