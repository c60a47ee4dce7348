"""What a shard's supervisor is told at its birth, and how its log tells it from others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.graph.plan import Plan
from pipeline.logs.entry import Entry
from pipeline.logs.settings import LogSettings
from pipeline.supervisor.shard import ShardLog, ShardOrigin
from tests.unit.pipeline.supervisor.test_supervision import PLAN


def test_the_boot_document_is_read_as_it_was_written() -> None:
    origin = ShardOrigin(PLAN, 3, "/runs/detect-7", 7, True, LogSettings("json", "debug"))
    line = origin.line()
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    read = ShardOrigin.read(line)
    assert read == origin
    assert isinstance(read.plan, Plan)


@pytest.mark.parametrize(
    ("entry", "line"),
    [
        (Entry("info", "ready", "supervisor"), "shard 1 | ready"),
        (Entry("warning", "slow", "supervisor"), "shard 1 | warning: slow"),
        (Entry("info", "hello", "detect/0", printed=True), "shard 1 detect/0 | hello"),
    ],
)
def test_each_line_says_which_shard_it_is_of(tmp_path: Path, entry: Entry, line: str) -> None:
    log = ShardLog(1, LogSettings(file=str(tmp_path / "log")), "detect")
    log.take(entry)
    log.close()
    assert (tmp_path / "log").read_text().rstrip("\n").partition(" ")[2] == line


def test_in_json_the_process_has_the_shard(tmp_path: Path) -> None:
    log = ShardLog(1, LogSettings("json", file=str(tmp_path / "log")), "detect")
    log.take(Entry("info", "ready", "supervisor"))
    log.take(Entry("info", "{}", "access", raw=True))
    log.close()
    first, second = (tmp_path / "log").read_text().splitlines()
    found: dict[str, Any] = json.loads(first)
    assert (found["pipeline"], found["process"]) == ("detect", "shard 1")
    assert second == "{}"
