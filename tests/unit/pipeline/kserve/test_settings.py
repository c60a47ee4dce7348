from __future__ import annotations

from typing import Any

import pytest

from pipeline.errors import KserveError
from pipeline.kserve.messages import filled, message
from pipeline.kserve.settings import (
    LOG_SETTINGS,
    TRACE_SETTINGS,
    RegionEntry,
    changed_log,
    changed_trace,
    log_change,
    log_message,
    region_list,
    region_message,
    trace_change,
    trace_message,
)


def test_the_defaults_are_tritons() -> None:
    assert TRACE_SETTINGS == {
        "trace_level": ["OFF"],
        "trace_rate": "1000",
        "trace_count": "-1",
        "log_frequency": "0",
        "trace_file": "",
        "trace_mode": "triton",
    }
    assert LOG_SETTINGS == {
        "log_file": "",
        "log_info": True,
        "log_warning": True,
        "log_error": True,
        "log_verbose_level": 0,
        "log_format": "default",
    }


def test_a_change_leaves_the_others_and_no_value_is_the_default() -> None:
    changed = changed_trace(TRACE_SETTINGS, {"trace_level": ["TIMESTAMPS", "TENSORS"], "trace_rate": "5"})
    assert changed == {**TRACE_SETTINGS, "trace_level": ["TIMESTAMPS", "TENSORS"], "trace_rate": "5"}
    assert changed_trace(changed, {"trace_level": None, "trace_rate": []}) == TRACE_SETTINGS
    assert changed_trace(changed, {"trace_level": "OFF"})["trace_level"] == ["OFF"]
    assert changed_trace(changed, {"trace_count": "-1", "trace_mode": ["opentelemetry"]})["trace_mode"] == "opentelemetry"
    assert changed_log(LOG_SETTINGS, {"log_verbose_level": 2, "log_info": False}) == {
        **LOG_SETTINGS,
        "log_verbose_level": 2,
        "log_info": False,
    }
    assert changed_log(LOG_SETTINGS, {"log_format": "ISO8601"})["log_format"] == "ISO8601"


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"x": "1"}, "unknown setting 'x': expected one of trace_level"),
        ({"trace_file": "/etc/passwd"}, "'trace_file' cannot be set over the network"),
        ({"trace_rate": 5}, "expected a string or a list of strings"),
        ({"trace_rate": [5]}, "expected a string or a list of strings"),
        ({"trace_rate": ["1", "2"]}, "expected one string, found 2"),
        ({"trace_rate": "fast"}, "expected a whole number as a string"),
        ({"trace_count": "9" * 5000}, "expected a whole number as a string"),
        ({"trace_level": ["OFF", "ALL"]}, "expected one of OFF, TIMESTAMPS, TENSORS, found 'ALL'"),
        ({"trace_mode": "x"}, "expected one of triton, opentelemetry"),
    ],
)
def test_a_trace_setting_that_cannot_be_is_refused(change: Any, part: str) -> None:
    with pytest.raises(KserveError, match=part):
        changed_trace(TRACE_SETTINGS, change)


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"x": 1}, "unknown setting 'x'"),
        ({"log_file": "/etc/passwd"}, "'log_file' cannot be set over the network"),
        ({"log_info": 1}, "'log_info': expected a value of type bool"),
        ({"log_verbose_level": True}, "'log_verbose_level': expected a value of type int"),
        ({"log_verbose_level": -1}, "expected a number from 0"),
        ({"log_verbose_level": 2**32}, "expected a number from 0 to 4294967295"),
        ({"log_format": "xml"}, "expected one of default, ISO8601, found 'xml'"),
        ({"log_error": None}, "'log_error': expected a value of type bool"),
    ],
)
def test_a_log_setting_that_cannot_be_is_refused(change: Any, part: str) -> None:
    with pytest.raises(KserveError, match=part):
        changed_log(LOG_SETTINGS, change)


def test_over_grpc_each_value_is_a_message() -> None:
    sent = filled("TraceSettingResponse", trace_message(TRACE_SETTINGS))
    assert list(sent.settings["trace_level"].value) == ["OFF"]
    assert trace_change(sent) == {name: [v] if isinstance(v, str) else v for name, v in TRACE_SETTINGS.items()}
    assert log_change(filled("LogSettingsResponse", log_message(LOG_SETTINGS))) == LOG_SETTINGS
    request = message("LogSettingsRequest")()
    request.settings["log_info"].SetInParent()
    assert log_change(request) == {"log_info": None}


def test_regions_are_a_list_over_http_and_a_map_over_grpc() -> None:
    regions = [RegionEntry("in", "/conf_in", 8, 128)]
    assert region_list(regions) == [{"name": "in", "key": "/conf_in", "offset": 8, "byte_size": 128}]
    sent = filled("SystemSharedMemoryStatusResponse", region_message(regions))
    found = sent.regions["in"]
    assert (found.name, found.key, found.offset, found.byte_size) == ("in", "/conf_in", 8, 128)
