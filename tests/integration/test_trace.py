"""`pipeline trace`: what a run did with its requests for a moment, as Perfetto takes it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.testing import running
from tests.integration.conftest import Folder


def test_each_process_is_a_track_and_each_request_flows_through_the_batches_that_it_was_in(
    folder: Folder, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    over = threading.Event()

    def ask() -> None:
        with pipeline.client("app.py") as client:
            while not over.is_set():
                for future in [client.submit(data=np.zeros(4, np.uint8), name=f"{at}.jpg") for at in range(4)]:
                    future.get()

    with running(folder.config({"batch": {"max_size": 4}}, {"with": {"seconds": 0.002}}, name="traced")) as pipeline:
        asking = threading.Thread(target=ask)
        asking.start()
        done = cli("trace", "traced", "--seconds", 1, "--output", tmp_path / "trace.json", "--most", 100)
        over.set()
        asking.join()
        scheduler = pipeline.status()
    assert done.code == 0, done.err
    assert scheduler["inside"] == 0
    document = json.loads((tmp_path / "trace.json").read_text())
    events = document["traceEvents"]
    assert 0 < document["otherData"]["requests"] <= 100
    assert f"{document['otherData']['requests']} requests of {pipeline.run_dir.name}" in done.out
    tracks = {event["pid"]: event["args"]["name"] for event in events if event["name"] == "process_name"}
    assert set(tracks.values()) == {"requests", "s0/0", "s1/0"}
    batches = [event for event in events if event["ph"] == "X" and event["cat"] == "batch"]
    # A worker computes one batch after the other, so the times are right.
    for process in ("s0/0", "s1/0"):
        mine = sorted((each["ts"], each["dur"]) for each in batches if tracks[each["pid"]] == process)
        # 1: what is cut off of a microsecond.
        assert all(begin + took <= later + 1 for (begin, took), (later, _) in pairwise(mine))
        assert len({each["tid"] for each in batches if tracks[each["pid"]] == process}) == 1
    flowing = {event["id"] for event in events if event["ph"] == "t"}
    assert flowing == set(range(1, document["otherData"]["requests"] + 1))
    assert list(tmp_path.glob(".trace*")) == []


def test_without_a_run_it_says_so_and_writes_nothing(tmp_path: Path, cli_here: Callable[..., Any]) -> None:
    done = cli_here("trace", "nothing", "--output", tmp_path / "trace.json")
    assert (done.code, "no pipeline 'nothing' is running here" in done.err) == (1, True)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_written_is_a_wrong_command_line_and_no_traceback(
    tmp_path: Path, cli_here: Callable[..., Any]
) -> None:
    for output, says in (
        (tmp_path, f"--output {tmp_path}: expected a file, found a folder"),
        (tmp_path / "no" / "trace.json", f"there is no folder {tmp_path}/no"),
    ):
        done = cli_here("trace", "nothing", "--output", output)
        assert (done.code, says in done.err, "Traceback" in done.err) == (2, True, False), done.err
