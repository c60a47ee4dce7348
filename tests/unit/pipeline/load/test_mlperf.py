"""What LoadGen is told, and what is read of its answer. `tests/integration/test_bench.py` runs it."""

from __future__ import annotations

import sys
from collections import Counter

import pytest

from pipeline.errors import ConfigError
from pipeline.load.mlperf import Outcome, Scenario, Wanted, load_loadgen, verdict_of

SUMMARY = """\
================================================
MLPerf Results Summary
================================================
SUT name : PySUT
Scenario : Server
Result is : %s
  Performance constraints satisfied : Yes
"""


def test_the_verdict_is_loadgens() -> None:
    assert [verdict_of(SUMMARY % word) for word in ("VALID", "INVALID")] == ["VALID", "INVALID"]
    assert verdict_of("SUT name : PySUT\n") == ""


def test_a_verdict_counts_only_if_no_sample_has_failed() -> None:
    assert Outcome("", "VALID").ok
    assert not Outcome("", "VALID", Counter(BadInput=1)).ok
    assert not Outcome("", "INVALID").ok
    assert not Outcome().ok


def test_without_loadgen_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlperf_loadgen", None)
    with pytest.raises(ConfigError, match=r'pip install "trtlab\[bench\]"'):
        load_loadgen()


@pytest.mark.parametrize("scenario", list(Scenario))
def test_the_settings_are_of_performance_mode_and_of_the_scenario(scenario: Scenario) -> None:
    loadgen = pytest.importorskip("mlperf_loadgen", reason="LoadGen is not installed: make test-foreign does it")
    made = Wanted(scenario, 123.0, 7.5, 2.5, 42).settings(loadgen)
    assert made.scenario == getattr(loadgen.TestScenario, scenario.name_there)
    assert made.mode == loadgen.TestMode.PerformanceOnly
    assert (made.min_duration_ms, made.min_query_count) == (2500, 42)
    if scenario is Scenario.SERVER:
        assert (made.server_target_qps, made.server_target_latency_ns) == (123.0, 7_500_000)
        assert made.server_target_latency_percentile == 0.99
    if scenario is Scenario.OFFLINE:
        assert made.offline_expected_qps == 123.0
