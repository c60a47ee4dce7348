from __future__ import annotations

import json
from typing import Any

import pytest

from pipeline.logs.entry import Entry
from pipeline.logs.forms import json_of, text_of, time_of

NOW = 1_790_000_000.0125
FAILED = Entry(
    "error", "request a-1 (cat.jpg) failed", "detect/0", "detect", ("a-1 cat.jpg",), traceback="Traceback\nValueError"
)


@pytest.mark.parametrize(
    ("entry", "lines"),
    [
        (Entry("info", "ready", "supervisor"), ["info: ready"]),
        (Entry("error", "one\ntwo", "serve", traceback="three"), ["error: one\ntwo\nthree"]),
        (FAILED, ["detect/0 | error: request a-1 (cat.jpg) failed", "detect/0 | Traceback", "detect/0 | ValueError"]),
        (Entry("info", "metrics on http://a", "exporter"), ["exporter | metrics on http://a"]),
        (Entry("info", "a print", "detect/0", printed=True), ["detect/0 | a print"]),
        (
            Entry("warning", "no face", "detect/0", "detect", ("a-1 cat.jpg",), "faces"),
            ["detect/0 | WARNING faces [detect a-1 (cat.jpg)]: no face"],
        ),
        (Entry("info", "loading", "detect/0", logger="faces"), ["detect/0 | INFO faces: loading"]),
    ],
)
def test_an_entry_as_text(entry: Entry, lines: list[str]) -> None:
    assert text_of(entry) == lines


def as_json(entry: Entry, **more: Any) -> dict[str, Any]:
    line = json_of(entry, NOW, "detect", **more)
    assert "\n" not in line
    found: dict[str, Any] = json.loads(line)
    return found


def test_an_entry_as_json_has_all_that_is_known_and_nothing_else() -> None:
    assert as_json(Entry("info", "ready", "supervisor")) == {
        "time": "2026-09-21T14:13:20.012Z", "level": "info", "pipeline": "detect", "process": "supervisor",
        "message": "ready",
    }  # fmt: skip
    assert as_json(FAILED._replace(total=3), run="detect-7") == {
        "time": "2026-09-21T14:13:20.012Z", "level": "error", "pipeline": "detect", "run": "detect-7",
        "process": "detect/0", "stage": "detect", "requests": ["a-1"], "request_count": 3,
        "message": "request a-1 (cat.jpg) failed", "traceback": "Traceback\nValueError",
    }  # fmt: skip
    logged = as_json(Entry("debug", "x", "detect/0", logger="faces"))
    assert (logged["level"], logged["logger"]) == ("debug", "faces")
    assert as_json(Entry("info", "x", "detect/0", printed=True))["printed"] is True


def test_a_name_that_is_no_unicode_is_still_json() -> None:
    line = json_of(Entry("info", "caf\udce9.jpg", "detect/0"), NOW, "")
    found = json.loads(line.encode(errors="backslashreplace"))
    assert (found["message"], "pipeline" in found) == ("caf\udce9.jpg", False)


def test_a_time_is_in_utc_to_the_millisecond() -> None:
    assert time_of(0.0) == "1970-01-01T00:00:00.000Z"
