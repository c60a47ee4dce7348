"""How many CPUs are busy."""

from __future__ import annotations

import os
from pathlib import Path

from pipeline.topology.load import busy_seconds

STAT = """\
cpu  1 1 1 1 1 1 1 1 0 0
cpu0 100 10 20 5000 70 3 4 5 50 0
cpu1 200 0 0 5000 0 0 0 0 0 0
cpu11 900 0 0 0 0 0 0 0 0 0
intr 1
"""


def test_idle_and_waiting_for_a_disk_is_not_busy_and_only_the_cpus_that_are_meant_count(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/stat").write_text(STAT)
    ticks = os.sysconf("SC_CLK_TCK")
    assert busy_seconds([0], tmp_path) == 142 / ticks
    assert busy_seconds([0, 1], tmp_path) == 342 / ticks


def test_without_proc_it_is_not_known(tmp_path: Path) -> None:
    assert busy_seconds([0], tmp_path) is None
