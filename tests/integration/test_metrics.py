"""GET /metrics of a pipeline that serves without a gateway."""

from __future__ import annotations

import http.client
import os
import subprocess
import time
from collections.abc import Callable
from typing import Any

import psutil
from prometheus_client.parser import text_string_to_metric_families

from pipeline.interpreter import python_command
from pipeline.testing import running
from pipeline.wire.run_dir import serving
from tests.integration.conftest import Folder

#: Below the ports that the kernel gives to those who ask for any, so that no other test has it.
PORT = 20_000 + os.getpid() % 10_000


def scrape() -> dict[tuple[str, ...], float]:
    """(name, label values but the pipeline's) -> value; empty: there is no answer, or it is an error."""
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=200)
    try:
        connection.request("GET", "/metrics")
        answer = connection.getresponse()
        text = answer.read().decode()
    except OSError:
        return {}
    finally:
        connection.close()
    found: dict[tuple[str, ...], float] = {}
    for family in text_string_to_metric_families(text) if answer.status == 200 else ():
        for sample in family.samples:
            labels = dict(sample.labels)
            # What is the host's has none.
            assert labels.pop("pipeline", "sample") == "sample"
            found[(sample.name, *labels.values())] = sample.value
    return found


def until(found: Callable[[dict[tuple[str, ...], float]], object]) -> dict[tuple[str, ...], float]:
    """What the first scrape that is as it should be has."""
    end = time.monotonic() + 200
    while not found(scraped := scrape()):
        assert time.monotonic() < end, scraped
        time.sleep(0.05)
    return scraped


def test_a_run_tells_what_its_requests_took_and_its_processes_use_also_after_a_death_and_a_reload(
    folder: Folder, children_of: Callable[[int], dict[str, psutil.Process]]
) -> None:
    stages: list[dict[str, Any]] = [{"with": {"seconds": 0.03}}, {}]
    config = folder.config(*stages, metrics={"port": PORT})
    with running(config) as pipeline:
        assert until(bool)["trtlab_ready",] == 1
        with pipeline.client() as client:
            for _ in range(3):
                with client.submit(data=b"x").get(200) as result:
                    assert result["data"].tobytes() == b"x"
        # Each worker reports in its own time.
        found = until(lambda found: all(found.get(("trtlab_rows_total", stage)) == 3 for stage in ("s0", "s1")))
        assert found["trtlab_answers_total", "OK"] == found["trtlab_request_duration_seconds_count",] == 3
        assert found["trtlab_request_duration_seconds_bucket", "0.025"] == 0
        assert found["trtlab_stage_compute_duration_seconds_bucket", "0.025", "s0"] == 0
        for stage in ("s0", "s1"):
            assert found["trtlab_stage_queue_duration_seconds_count", stage] == 3
            assert found["trtlab_stage_compute_duration_seconds_count", stage] == 3
            assert found["trtlab_batch_rows_sum", stage] == 3
        assert found["trtlab_load_ratio_count",] == 3
        assert found["trtlab_load_ratio_sum",] >= 3
        processes = {"supervisor", "scheduler", "exporter", "s0/0", "s1/0"}
        assert {key[1] for key in found if key[0] == "trtlab_process_cpu_seconds_total"} == processes
        assert min(found["trtlab_process_resident_memory_bytes", name] for name in processes) > 1_000_000

        exporter = children_of(pipeline.pid)["pipeline[sample] exporter"]
        exporter.kill()
        exporter.wait(200)
        assert until(bool)["trtlab_answers_total", "OK"] == 3

        folder.config(*stages, {}, metrics={"port": PORT})
        command = [*python_command("pipeline.__main__"), "reload", str(pipeline.run_dir)]
        subprocess.run(command, capture_output=True, check=True)
        assert serving(pipeline.run_dir) != pipeline.run_dir
        assert ("trtlab_workers", "s2") in until(lambda found: ("trtlab_workers", "s2") in found)
        # Two lives of the first version's exporter, and the later version's: none found the port taken.
        assert pipeline.log().count(f"exporter | metrics on http://127.0.0.1:{PORT}/metrics") == 3
        assert "no metrics" not in pipeline.log()
    assert scrape() == {}
