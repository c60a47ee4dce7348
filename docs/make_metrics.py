"""Writes docs/metrics.md from the catalogue of metrics: `python docs/make_metrics.py`. A test compares the two."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pipeline.metrics.buckets import LOAD_RATIO, ROWS, SECONDS
from pipeline.metrics.catalogue import (
    DETECTOR_METRICS,
    GATEWAY_METRICS,
    HOST_METRICS,
    METRICS,
    PROCESS_METRICS,
    Metric,
)

__all__ = ["render"]

PAGE = Path(__file__).with_name("metrics.md")

_INTRODUCTION = """\
# Metrics

<!-- Written by docs/make_metrics.py from pipeline/metrics/catalogue.py. -->

A pipeline tells Prometheus how it is in three ways, with the same names:

* `metrics: {port: 9090}` in its YAML: while it serves, a process of its own answers `GET http://127.0.0.1:9090/metrics`
  (`host: 0.0.0.0` in a pod). It has no TLS and no token: leave it on an address that only Prometheus reaches.
* [`pipeline serve`](serving.md#metrics-and-statistics) answers on its metrics port, for all of its pipelines and for
  itself, with its TLS and its token.
* `pipeline status NAME --prometheus` prints the metrics of the pipeline once, for a textfile collector; those of
  processes and of the machine are not among them.

If the scheduler does not answer within five seconds, as after its death, the answer is 503 with the reason, and
Prometheus sets `up` to 0; `pipeline serve` leaves that pipeline out. If the port is taken, the log says so, the
pipeline runs all the same, and the port is tried again. Of a pipeline that is reloaded, the version that serves has the
port; in the second in which it changes none has.

## What to look at

* **Is it slow?** `trtlab_request_duration_seconds`. It begins when the scheduler has the request: what a client has
  waited for a slot before is the client's to know, and what the network took the gateway's
  (`trtlab_gateway_inference_seconds`). Requests of the canary count too.
* **Does it wait or compute?** `trtlab_load_ratio` is the time of a request divided by the time of its computation. 1:
  it never waited. Above 2 it waits longer than it runs: add replicas. It depends neither on the model nor on the
  machine, so it can be averaged over pipelines and drive autoscaling. Of stages that run side by side the times are
  added, so it may be below 1; of the children of a stage the slowest counts.
* **Where?** `trtlab_stage_queue_duration_seconds` and `trtlab_stage_compute_duration_seconds` of each stage, counted by
  its workers. A request that ran again counts again. What a request waits in the scheduler, before a worker is chosen,
  is in neither: `trtlab_requests_waiting` shows it.
* **Why are batches small?** `trtlab_batch_rows`, and `trtlab_batches_total` by the reason for which they closed.
* **What is scarce?** `trtlab_slots_free`, `trtlab_shm_free_bytes`, memory and power of GPUs, and
  [copies](design.md) in `trtlab_copied_bytes_total`.
* **What is wrong?** [The runbook](runbook.md) has, for each fault, the metric and the line of the log that show it.

Workers report a few times a second. Counters and histograms begin at 0 with a scheduler, those of a worker with the
worker, as `rate()` and `increase()` expect. `deploy/prometheus/rules.yaml` has recording and alert rules,
`deploy/grafana/dashboard.json` a dashboard.
"""

_BUCKETS = """\
## Buckets

The same in every version and process, so that histograms of several pipelines can be added:

"""


def render() -> str:
    """The page."""
    buckets = [
        f"* {what}: {', '.join(f'{bound:g}' for bound in bounds)}"
        for what, bounds in (
            ("durations, in seconds", SECONDS),
            ("`trtlab_load_ratio`", LOAD_RATIO),
            ("rows of a batch", ROWS),
        )
    ]
    return "\n".join(
        [
            _INTRODUCTION,
            *_table("Of each pipeline", "Each has the label `pipeline`, too.", METRICS),
            *_table(
                "Of the processes of a run",
                "Each has the label `pipeline`, too. `process` is its title in `ps`: `scheduler`, `exporter`, a\n"
                "worker such as `detect/0`; the first process of the run is `supervisor`. Programs that a stage has\n"
                "started do not count. Memory that several processes share counts in each of them. They are missing\n"
                "if the run is in another PID namespace than the process that tells them, or has no worker.",
                PROCESS_METRICS,
            ),
            *_table(
                "Of the machine",
                "They have no label `pipeline`, since several may use the same. Of a container, what it was given.\n"
                "`gpu` is the GPU's UUID, `model` its name. GPUs are missing without the extra `gpu`, or without a\n"
                "driver, and each value that NVML does not know of a model.",
                HOST_METRICS,
            ),
            *_table("Of the gateways", "Sums over all gateways of one `pipeline serve`.", GATEWAY_METRICS),
            *_table(
                "Of a detector for Frigate",
                "`pipeline detector --metrics FILE` writes them every 5 s, for a textfile collector\n"
                "([frigate.md](frigate.md)). Each has the label `pipeline`, too.",
                DETECTOR_METRICS,
            ),
            _BUCKETS + "\n".join(buckets),
            "",
        ]
    )


def _table(title: str, says: str, metrics: Iterable[Metric[Any]]) -> list[str]:
    rows = [
        f"| `{metric.name}{'_total' if metric.kind == 'counter' else ''}` | {metric.kind} | "
        f"{', '.join(f'`{label}`' for label in metric.labels) or '-'} | {metric.help} |"
        for metric in metrics
    ]
    return [f"## {title}", "", says, "", "| metric | kind | labels | what |", "| --- | --- | --- | --- |", *rows, ""]


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
