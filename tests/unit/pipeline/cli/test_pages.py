"""--pages shows where shared memory really is, of a plan and of a living run, and leaves nothing."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from pipeline.cli.main import main
from pipeline.cli.pages import PoolPages, pages_table
from pipeline.cli.tables import make_console
from pipeline.testing.running import running
from shm import leftovers

CONFIG = """\
inputs:
  - {name: tensor, dtype: uint8, shape: [602112]}
segments: KIND
stages:
  - {name: one, use: "stages.relay:Relay"}
"""


@pytest.fixture(params=["posix", "sysv"])
def config(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "relay.yaml"
    path.write_text(CONFIG.replace("KIND", request.param))
    return path


def pipeline(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, list[str]]:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    lines = [re.sub(r"\s+", " ", line).strip() for line in capsys.readouterr().out.splitlines()]
    return int(ended.value.code or 0), lines


def test_check_makes_the_segments_for_a_moment(capsys: pytest.CaptureFixture[str], config: Path) -> None:
    code, lines = pipeline(capsys, "check", config, "--pages", "--set", "ingress.slots=4")
    assert code == 0
    (row,) = [line for line in lines[lines.index("pages") :] if line.startswith("ingress/0 ")]
    # Every page of the segment, header included, is on the nodes that are named.
    assert re.fullmatch(r"ingress/0 2\.3 MiB \d: 2\.3 MiB any (0 B|2\.0 MiB)", row)
    assert [leftover.name for leftover in leftovers.scan() if leftover.run == f"relay-{os.getpid()}"] == []


def test_without_the_option_check_makes_none(capsys: pytest.CaptureFixture[str], config: Path) -> None:
    assert "pages" not in pipeline(capsys, "check", config)[1]


def test_status_shows_those_of_a_living_run(capsys: pytest.CaptureFixture[str], config: Path) -> None:
    with running(config) as started:
        code, lines = pipeline(capsys, "status", started.run_dir, "--pages")
    assert code == 0
    rows = lines[lines.index("pages") + 2 :]
    assert {row.split(" ")[0] for row in rows} == {"ingress-0", "recorder"}
    assert all(re.search(r" \d: [\d.]+ [KM]iB any ", row) for row in rows)


def test_status_has_one_format_at_a_time(capsys: pytest.CaptureFixture[str]) -> None:
    assert pipeline(capsys, "status", "--pages", "--json")[0] == 2


def test_what_lies_on_another_node_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    console = make_console()
    console.print(pages_table([
        PoolPages("near", 8192, {1: 8192}, 0, wanted=1),
        PoolPages("far", 8192, {0: 4096, 1: 4096}, 0, wanted=1),
        PoolPages("unknown", 8192, {}, 0, wanted=1, reason="the kernel was built without NUMA"),
    ], console))  # fmt: skip
    rows = [re.sub(r"\s+", " ", line).strip() for line in capsys.readouterr().out.splitlines()][2:]
    assert rows == [
        "near 8.0 KiB 1: 8.0 KiB 1 0 B",
        "far 8.0 KiB 0: 4.0 KiB, 1: 4.0 KiB 1 0 B 4.0 KiB on another node",
        "unknown 8.0 KiB - 1 0 B the kernel was built without NUMA",
    ]
