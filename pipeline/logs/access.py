"""Access: one line for each request that has ended, as text or JSON. Pure.

    access | 3fa9c-17 (cat.jpg) of app.py: OK in 12.34 ms; resize 120+340 us of 4, detect 80+9000 us of 8
                                                           ^ waited + computed, in a batch of so many requests

The lines are made by the process `access` (`pipeline.processes.access`), which watches the scheduler; the supervisor
writes them where all the others are.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from pipeline.logs.forms import time_of
from pipeline.wire.records import Ended, Trace
from pipeline.wire.traces import traces_in
from stages.request import RequestInfo

__all__ = ["access_json", "access_text"]


def _of_stages(ended: Ended, stages: Sequence[str]) -> dict[str, Trace]:
    """By the stages' names what they did; of the children that a stage has run, the one with the slowest batch."""
    found: dict[str, Trace] = {}
    for trace in traces_in(ended.traces):
        name = stages[trace.stage]
        if name not in found or found[name].compute_us < trace.compute_us:
            found[name] = trace
    return found


def access_text(ended: Ended, stages: Sequence[str]) -> str:
    """A line for people, without the time.

    Args:
        ended: the request.
        stages: the names of the stages, in the plan's order.
    """
    text = f"access | {RequestInfo.parse(ended.label)} of {ended.client or 'a client that has gone'}: "
    text += f"{ended.code or 'OK'} in {(ended.ended - ended.submitted) / 1e6:.2f} ms"
    told = [
        f"{name} {trace.queue_us}+{trace.compute_us} us of {trace.batch}"
        for name, trace in _of_stages(ended, stages).items()
    ]
    if told:
        text += f"; {', '.join(told)}"
    if ended.rows > 1:
        text += f"; rows: {ended.rows}"
    if ended.attempt > 1:
        text += f"; attempts: {ended.attempt}"
    if ended.traceparent:
        text += f"; {ended.traceparent}"
    if ended.message:
        text += f"; {' '.join(ended.message.split())}"
    return text


def access_json(ended: Ended, stages: Sequence[str], now: float, pipeline: str, run: str) -> str:
    """A JSON object in one line. The fields are those of docs/operating.md.

    Args:
        ended, stages: as above.
        now: when it ended, in seconds since 1970.
        pipeline: its name.
        run: the id of the run.
    """
    label, _, name = ended.label.partition(" ")
    found: dict[str, object] = {
        "time": time_of(now), "level": "info", "pipeline": pipeline, "run": run, "process": "access",
        "request": label,
    }  # fmt: skip
    if name:
        found["name"] = name
    found["client"] = ended.client
    found["code"] = ended.code or "OK"
    found["total_ms"] = round((ended.ended - ended.submitted) / 1e6, 3)
    found["stages"] = {
        stage: {"queue_us": trace.queue_us, "compute_us": trace.compute_us, "batch": trace.batch}
        for stage, trace in _of_stages(ended, stages).items()
    }
    if ended.rows > 1:
        found["rows"] = ended.rows
    if ended.attempt > 1:
        found["attempts"] = ended.attempt
    if ended.traceparent:
        found["traceparent"] = ended.traceparent
    if ended.message:
        found["message"] = ended.message
    return json.dumps(found, ensure_ascii=False)
