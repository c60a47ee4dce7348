"""Which files are read as capsules, and that others are refused with a word of what they are."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import ConfigError
from pipeline.supervisor.capsule import read_capsule


def zipped(path: Path, **files: Any) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, document in files.items():
            archive.writestr(f"{name}.json", json.dumps(document))
    return path


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (None, "it cannot be read: No such file or directory"),
        (b"", "found an empty file"),
        (b"\xff\xd8\xff no zip file", "found another kind of file, or one that was cut off"),
    ],
)
def test_a_file_that_is_no_capsule_is_told_with_what_it_is(tmp_path: Path, content: bytes | None, found: str) -> None:
    path = tmp_path / "some.cap"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=rf"some\.cap: expected a capsule, a \.cap file .*; {found}$"):
        read_capsule(path)


def test_a_folder_is_no_capsule(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"expected a capsule, .* it cannot be read: Is a directory"):
        read_capsule(tmp_path)


def test_another_zip_file_is_told_by_what_is_in_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"found a zip file without capsule\.json; it has other\.json$"):
        read_capsule(zipped(tmp_path / "some.cap", other={}))


def test_a_capsule_with_parts_missing_is_damaged(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="found a damaged one: KeyError: 'inputs'"):
        read_capsule(zipped(tmp_path / "some.cap", capsule={"format": 2}))


def test_a_capsule_of_another_format_names_the_version_that_wrote_it(tmp_path: Path) -> None:
    path = zipped(tmp_path / "some.cap", capsule={"format": 1, "versions": {"trtlab": "0.0.9"}})
    with pytest.raises(ConfigError, match=r"expected a capsule of format 2, found format 1: replay it with .* 0\.0\.9$"):
        read_capsule(path)
