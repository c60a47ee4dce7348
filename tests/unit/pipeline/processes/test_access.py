from __future__ import annotations

import json
from pathlib import Path

from pipeline.logs.settings import LogSettings
from pipeline.processes.access import lines_of
from pipeline.processes.child import Boot
from pipeline.wire.messages import Observed
from tests.unit.pipeline.logs.test_access import ended
from tests.unit.pipeline.scheduler.graphs import make_plan

BOOT = Boot(make_plan("chain", slots=3), Path("/runs/demo-7"), 0, (), "access", False, (), 0, {}, 1)


def test_a_line_has_the_time_at_which_the_request_ended_and_the_form_of_the_log() -> None:
    found = Observed(1, (ended(),), 0)
    now_ns = 12_000_000 + 500_000_000  # half a second after it ended
    (line,) = lines_of(found, BOOT, LogSettings(), 10.5, now_ns)
    assert line.startswith("access | 3fa9c-17 (cat.jpg) of app.py: OK")
    for settings in (LogSettings("text"), LogSettings(file="/a")):
        assert lines_of(found, BOOT, settings, 10.5, now_ns) == [f"1970-01-01T00:00:10.000Z {line}"]
    (line,) = lines_of(found, BOOT, LogSettings("json"), 10.5, now_ns)
    assert (json.loads(line)["time"], json.loads(line)["run"]) == ("1970-01-01T00:00:10.000Z", "demo-7")
