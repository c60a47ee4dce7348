"""What the metrics say of the GPUs of this machine is what NVML says of them now."""

from __future__ import annotations

import pytest

from pipeline.metrics.catalogue import HOST_METRICS
from pipeline.metrics.host import host_usage
from pipeline.metrics.rendering import render_host
from pipeline.topology.machine import read_machine

GPUS = read_machine().gpus

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not GPUS, reason="needs a GPU")]


def test_each_gpu_tells_its_memory_its_power_and_how_busy_it_is() -> None:
    usage = host_usage()
    assert {gpu.uuid for gpu in GPUS} <= {gpu.uuid for gpu in usage.gpus}
    for gpu in usage.gpus:
        assert gpu.memory_bytes is not None
        assert gpu.memory_used_bytes is not None
        assert 0 <= gpu.memory_used_bytes <= gpu.memory_bytes
        assert gpu.memory_bytes > 1 << 30
        assert gpu.busy is None or 0 <= gpu.busy <= 1
        assert gpu.power_w is None or gpu.power_w > 1
    text = render_host(usage)
    assert all(f"\n{metric.name}" in f"\n{text}" for metric in HOST_METRICS)
