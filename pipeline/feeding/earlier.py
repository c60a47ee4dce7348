"""Earlier: what a file of `--output` holds already, for `--append`."""

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
    """What matters of a record; the rest of a line is passed over."""

    input: str
    status: str


@dataclass(frozen=True, slots=True)
class Earlier:
    """The records of an earlier run."""

    done: Counter[str] = field(default_factory=Counter)
    """How often each input was answered. One that failed is not among them: it runs again."""
    whole_bytes: int = 0
    """Up to the end of the last whole line: what comes after it was torn off by the end of that run."""


def refuse_foreign(path: Path) -> None:
    """See to it that a file has records in it, or nothing.

    Raises:
        ConfigError: it holds something else, which must not be appended to.
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        start = file.read(1 << 16)
        first, ended, _ = start.partition(b"\n")
        if len(start) == 1 << 16 and not ended:
            first += file.readline()
    # The start of a first record that was torn is one too.
    expected = b'{"input": '
    if first[: len(expected)] != expected[: len(first)] or (ended and _record_in(first) is None):
        raise ConfigError(f"--append {path}: {_EXPECTED}; found {first[:40].decode(errors='replace')!r}")


def read_earlier(path: Path) -> Earlier:
    """The records of an earlier run; none where there is no such file.

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
