"""What a command makes goes to stdout or into the file that an option names, and otherwise the option is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.cli.printed import put
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
