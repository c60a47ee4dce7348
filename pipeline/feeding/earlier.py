"""Earlier: the records that a file of `--output` has already, for `--append`."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from pipeline.errors import ConfigError

__all__ = ["Earlier", "read_earlier", "refuse_foreign"]

_EXPECTED = "expected records of `pipeline run --output`, one a line"


class _Line(msgspec.Struct):
    """The fields of a record that matter here; the rest of a line is ignored."""

    input: str
    status: str


@dataclass(frozen=True, slots=True)
class Earlier:
    """The records of an earlier run."""

    done: Counter[str] = field(default_factory=Counter)
    """How often each input was answered. An input that failed is not counted: it runs again."""
    whole_bytes: int = 0
    """Bytes up to the end of the last whole line; what follows was not finished when that run ended."""


def refuse_foreign(path: Path) -> None:
    """Check that a file is empty or contains records.

    Raises:
        ConfigError: the file has other content, to which nothing must be appended.
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        start = file.read(1 << 16)
        first, ended, _ = start.partition(b"\n")
        if len(start) == 1 << 16 and not ended:
            first += file.readline()
    # A file with only the beginning of a first record is accepted too.
    expected = b'{"input": '
    if first[: len(expected)] != expected[: len(first)] or (ended and _record_in(first) is None):
        raise ConfigError(f"--append {path}: {_EXPECTED}; found {first[:40].decode(errors='replace')!r}")


def read_earlier(path: Path) -> Earlier:
    """The records of an earlier run; none if there is no such file.

    Raises:
        OSError: it cannot be read.
    """
    done: Counter[str] = Counter()
    whole = 0
    if os.path.exists(path):
        with open(path, "rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break
                whole += len(line)
                if (record := _record_in(line)) is not None and record.status == "ok":
                    done[record.input] += 1
    return Earlier(done, whole)


def _record_in(line: bytes) -> _Line | None:
    try:
        return msgspec.json.decode(line, type=_Line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
