"""Where a run answers GET /metrics, as the YAML says it."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from pipeline.config.exporter import MetricsConfig


def test_without_a_host_only_this_machine_is_answered() -> None:
    assert MetricsConfig.model_validate({"port": 9090}).host == "127.0.0.1"


@pytest.mark.parametrize("wrong", [{}, {"port": -1}, {"port": 65_536}, {"port": "9090"}, {"port": 1, "path": "/metrics"}])
def test_what_is_no_port_or_an_unknown_field_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        MetricsConfig.model_validate(wrong)
