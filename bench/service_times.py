"""Service times: how long one request takes that waits for no other, as a sample for `bench.scale`.

    pipeline models pull open-nsfw
    python -m bench.service_times configs/resnet.yaml photos/*.jpg --json bench/results/NAME.json

One request after the other goes through a pipeline of its own, so that none waits; what it takes in all is what a pod
with this pipeline, which computes one request after the other, is busy with it.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

from bench.machine import describe_machine
from bench.signals import end_on_sigterm
from pipeline import InferenceManager

__all__ = ["main", "measure"]

_WARM_UP = 20


def measure(config: Path, files: Sequence[Path], count: int) -> list[float]:
    """Milliseconds of `count` requests, which carry these files in turn, to the pipeline's only input."""
    contents = [path.read_bytes() for path in files]
    found = []
    with InferenceManager(str(config)) as manager:
        runner = manager.infer_runner(next(iter(manager.get_models())))
        (name,) = runner.input_specs()
        for number in range(_WARM_UP + count):
            begun = time.perf_counter()
            runner.infer({name: contents[number % len(contents)]}).get(timeout=60)
            found.append(round((time.perf_counter() - begun) * 1e3, 3))
    return found[_WARM_UP:]


def main() -> None:
    """Measure, and write the file."""
    parser = argparse.ArgumentParser(prog="python -m bench.service_times", description="service times of one pipeline")
    parser.add_argument("config", type=Path)
    parser.add_argument("files", type=Path, nargs="+", help="what the requests carry, in turn")
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--json", type=Path, required=True, help="the result")
    given = parser.parse_args()
    end_on_sigterm()
    found = measure(given.config, given.files, given.count)
    document = {"config": given.config.name, "machine": describe_machine(), "service_ms": found}
    given.json.write_text(json.dumps(document) + "\n")


if __name__ == "__main__":
    main()
