"""What `--append` finds in a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import ConfigError
from pipeline.feeding.earlier import read_earlier, refuse_foreign
from pipeline.feeding.record import Record


def lines(*records: Record) -> bytes:
    return b"".join(record.to_json() + b"\n" for record in records)


OK, FAILED = Record("a.png", outputs=b'{"x": [1, 2]}'), Record("b.png", ("BadInput", "no"))


def test_what_was_answered_is_counted_and_what_failed_is_not(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_bytes(lines(OK, FAILED, OK, Record("c \\xe9")))
    earlier = read_earlier(path)
    assert earlier.done == {"a.png": 2, "c \\xe9": 1}
    assert earlier.whole_bytes == path.stat().st_size
    assert read_earlier(tmp_path / "none").done == {}


@pytest.mark.parametrize("torn", [OK.to_json(), OK.to_json()[:20], b"{", b'{"input": "\xc3'])
def test_a_last_line_that_was_torn_does_not_count(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "out.jsonl"
    path.write_bytes(lines(FAILED) + torn)
    assert read_earlier(path).done == {}
    assert read_earlier(path).whole_bytes == len(lines(FAILED))
    refuse_foreign(path)
    path.write_bytes(torn)
    refuse_foreign(path)
    assert read_earlier(path).whole_bytes == 0


def test_a_line_that_makes_no_sense_is_no_answer(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_bytes(lines(OK) + b'nonsense\n{"input": 3, "status": "ok"}\n"ok"\n\xff\n' + lines(OK))
    assert read_earlier(path).done == {"a.png": 2}


@pytest.mark.parametrize("data", [b"name: resnet\n", b"[1]\n", b'{"a": 1}\n', b'{"input": 3}\n', b"\x89PNG", b"\n"])
def test_a_file_of_something_else_is_never_appended_to(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(data)
    with pytest.raises(ConfigError, match="expected records of `pipeline run --output`"):
        refuse_foreign(path)


def test_a_file_with_a_very_long_first_record_is_one_of_ours(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_bytes(lines(Record("a", outputs=b'{"x": [' + b"1,\n".replace(b"\n", b"") * 100_000 + b"1]}")))
    refuse_foreign(path)
    assert read_earlier(path).done == {"a": 1}
