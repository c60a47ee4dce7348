"""A config whose zones are written: tried first, kept as it was before, with its mode, and never half."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
import yaml

from pipeline.errors import KserveError
from pipeline.serving.cameras.zone_file import read_config, tag_of_text, write_zones

CORNERS = [[0.1, 0.1], [0.5, 0.1], [0.5, 0.5]]
TEXT = """\
name: edge  # of the house
inputs:
  - {name: detections, dtype: float32, shape: [20, 6]}
  - {name: count, dtype: int32, shape: []}
stages:
  - name: track
    use: stages.video.track:Track
    with:
      labels: [car, person]
      cameras:
        door:
          zones:
            porch: [[0, 0], [1, 0], [1, 1]]  # measured
            road: [[0, 0], [1, 0], [1, 1]]
          rules: [{rule: enter, zone: porch}]
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "edge.yaml"
    path.write_text(TEXT)
    path.chmod(0o600)
    return path


def write(path: Path, tag: str = "", **zones: list[list[float]]) -> str:
    return write_zones(path, "track", "door", zones, tag or tag_of_text(path.read_text()))


def files(path: Path) -> set[str]:
    return {each.name for each in path.parent.iterdir()}


def test_the_text_before_is_kept_and_both_have_the_mode_of_the_config(config: Path) -> None:
    assert write(config, porch=CORNERS, road=CORNERS) == "edge.yaml.1"
    assert (config.parent / "edge.yaml.1").read_text() == TEXT
    made = config.read_text()
    assert "# of the house" in made
    assert "# measured" in made
    assert yaml.safe_load(made)["stages"][0]["with"]["cameras"]["door"]["zones"] == {"porch": CORNERS, "road": CORNERS}
    assert files(config) == {"edge.yaml", "edge.yaml.1"}
    assert {stat.S_IMODE((config.parent / name).stat().st_mode) for name in files(config)} == {0o600}


def test_a_second_change_keeps_the_first(config: Path) -> None:
    write(config, porch=CORNERS, road=CORNERS)
    first = config.read_text()
    write(config, porch=CORNERS)
    assert (config.parent / "edge.yaml.1").read_text() == first


def test_a_config_that_was_changed_meanwhile_is_not_written(config: Path) -> None:
    tag = tag_of_text(config.read_text())
    config.write_text(TEXT + "# more\n")
    with pytest.raises(KserveError, match="changed meanwhile"):
        write(config, tag, porch=CORNERS)
    assert config.read_text() == TEXT + "# more\n"


def test_what_the_stage_refuses_is_not_written(config: Path) -> None:
    # The rule is about the porch.
    with pytest.raises(KserveError, match="no zone 'porch'") as refused:
        write(config, road=CORNERS)
    assert refused.value.code == "INVALID_ARGUMENT"
    assert config.read_text() == TEXT
    assert files(config) == {"edge.yaml"}


def test_a_config_that_is_wrong_elsewhere_is_not_written_and_says_where(config: Path) -> None:
    config.write_text(TEXT.replace("dtype: int32", "dtype: int33"))
    with pytest.raises(KserveError, match=r"edge\.yaml:4") as refused:
        write(config, porch=CORNERS)
    assert ".part" not in str(refused.value)
    assert files(config) == {"edge.yaml"}


def test_a_link_is_not_replaced(config: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.yaml"
    link.symlink_to(config)
    with pytest.raises(KserveError, match="is a link"):
        write(link, porch=CORNERS)
    assert link.is_symlink()


def test_a_folder_that_may_not_be_written_to_says_so(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Root may write anywhere; and a file that is gone.
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(KserveError, match="may not be written"):
        read_config(config)
    monkeypatch.undo()
    tag = tag_of_text(TEXT)
    config.unlink()
    with pytest.raises(KserveError, match="No such file") as refused:
        write(config, tag, porch=CORNERS)
    assert refused.value.code == "PERMISSION_DENIED"


def test_a_config_keeps_the_ends_of_its_lines(config: Path) -> None:
    config.write_bytes(TEXT.replace("\n", "\r\n").encode())
    write(config, tag_of_text(read_config(config)), porch=CORNERS, road=CORNERS, gate=CORNERS)
    assert (config.parent / "edge.yaml.1").read_bytes() == TEXT.replace("\n", "\r\n").encode()
    made = config.read_bytes()
    assert made.count(b"\n") == made.count(b"\r\n") == TEXT.count("\n") + 1
