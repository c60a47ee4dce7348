from __future__ import annotations

import msgspec

from pipeline.logs.settings import LogSettings


def test_settings_travel_as_plain_values() -> None:
    settings = LogSettings("json", "debug", "/a", access=True)
    assert LogSettings(**msgspec.to_builtins(settings)) == settings
