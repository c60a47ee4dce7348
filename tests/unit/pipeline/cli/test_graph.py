"""`pipeline graph` prints the graph of a config, or draws it into a file."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from pipeline.cli.main import main

ROOT = Path(__file__).parents[4]

CONFIG = """\
inputs:
  - {name: tensor, dtype: uint8, shape: [4]}
stages:
  - {name: one, use: "stages.relay:Relay", with: {shape: [4]}}
  - {name: two, use: "stages.relay:Relay", with: {shape: [4]}}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "relay.yaml"
    path.write_text(CONFIG)
    return path


def graph(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(["graph", *map(str, arguments)])
    captured = capsys.readouterr()
    return int(ended.value.code or 0), captured.out, captured.err


def test_it_prints_mermaid(capsys: pytest.CaptureFixture[str], config: Path) -> None:
    code, out, err = graph(capsys, config, "--set", "two.replicas=3")
    assert (code, err) == (0, "")
    assert out.startswith("flowchart TB\n")
    assert 's2_two["two<br/>stages.relay:Relay<br/>3 replicas"]' in out


def test_a_picture_goes_into_a_file_or_to_stdout(capsys: pytest.CaptureFixture[str], config: Path) -> None:
    file = config.with_suffix(".svg")
    assert graph(capsys, config, "--svg", file) == (0, "", "")
    code, out, err = graph(capsys, config, "--svg", "-")
    assert (code, err) == (0, "")
    assert out == file.read_text(encoding="utf-8")
    ElementTree.fromstring(out)


def test_a_file_that_cannot_be_written_ends_with_2(capsys: pytest.CaptureFixture[str], config: Path) -> None:
    target = config.parent / "no" / "graph.svg"
    assert graph(capsys, config, "--svg", target) == (
        2, "", f"--svg {target}: cannot be written: No such file or directory\n"
    )  # fmt: skip


def test_the_readme_shows_what_it_prints(capsys: pytest.CaptureFixture[str], pulled: Callable[[str], Path]) -> None:
    pulled("open-nsfw")
    code, out, _ = graph(capsys, ROOT / "configs/resnet.yaml")
    assert code == 0
    # How many replicas there are is the machine's; the page shows those of two cores.
    shown, printed = (
        re.sub(r"<br/>\d+ replicas", "", text) for text in ((ROOT / "docs/tour.md").read_text(encoding="utf-8"), out)
    )
    assert f"```mermaid\n{printed}```\n" in shown
