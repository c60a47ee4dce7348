"""What a command makes goes to stdout or into the file that an option names, and otherwise the option is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.cli.printed import expect_place, put
from pipeline.errors import ConfigError


def test_without_a_file_it_is_printed_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    put("äöü\n", None, "--output")
    assert capsys.readouterr() == ("äöü\n", "")


def test_a_file_is_overwritten_and_nothing_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "made.yaml"
    file.write_text("of before, and longer\n")
    put("äöü\n", file, "--output")
    assert file.read_bytes() == "äöü\n".encode()
    assert capsys.readouterr() == ("", "")


def test_a_file_that_cannot_be_written_is_named_with_its_option(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"^--svg {tmp_path}: cannot be written: Is a directory$"):
        put("text\n", tmp_path, "--svg")


def test_a_place_that_is_none_is_found_before_the_work(tmp_path: Path) -> None:
    expect_place(tmp_path / "made.svg", "--plot")
    with pytest.raises(ConfigError, match=rf"^--plot {tmp_path}: expected a file, found a folder; name a file in it$"):
        expect_place(tmp_path, "--plot")
    with pytest.raises(ConfigError, match=rf"^--plot {tmp_path}/no/x.svg: there is no folder {tmp_path}/no$"):
        expect_place(tmp_path / "no" / "x.svg", "--plot")
