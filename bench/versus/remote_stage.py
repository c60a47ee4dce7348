"""`python -m bench.versus.remote_stage`: a stage whose model runs on Triton, beside a plain loop that asks that Triton.

    loop        decode ──▶ tritonclient ──▶ the best labels: one process, one picture after the other
    pipeline    the same as three stages: DecodeResize ──▶ RemoteInfer ──▶ TopK, through a manager

They take turns over the same photographs. Every answer of the pipeline is compared with the loop's; if one differs, the
run ends with status 1. The ratio is that of a round's rates, as a median over the rounds with the lowest and highest.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import yaml

import pipeline
from bench.machine import describe_machine
from bench.signals import end_on_sigterm
from bench.versus import repository
from bench.versus.environments import TRITON_CLIENT, MissingEnvironment, python_of
from bench.versus.leash import leashed
from bench.versus.photographs import MODEL, config_of
from bench.versus.repository import Model, Tensor
from bench.versus.triton import Triton

__all__ = ["main", "ratios"]

_HERE = Path(__file__).resolve().parent
_PHOTOS = _HERE.parents[1] / "photos"
_PATIENCE_S = 300.0


def ratios(seconds: dict[str, list[float]]) -> list[float]:
    """How many times as fast as the loop the pipeline was, by rounds."""
    return [loop / pipeline for loop, pipeline in zip(seconds["loop"], seconds["pipeline"])]


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; 1 if an answer differs from the loop's, 2 if Triton or its client is not there."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.versus.remote_stage",
        description="decode, a model on Triton, the best labels: as a pipeline, and as a plain loop with tritonclient.",
    )
    parser.add_argument("--photographs", type=int, default=500, help="how many in a round: those of photos/, in turn")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--in-flight", type=int, default=4, help="batches under way at Triton at one time")
    parser.add_argument("--json", type=Path, metavar="bench/results/NAME.json")
    given = parser.parse_args(arguments)
    end_on_sigterm()
    machine = describe_machine()
    print("\n".join(f"{key}: {value}" for key, value in machine.items()))
    load = os.getloadavg()[0]
    pictures = list(itertools.islice(itertools.cycle(sorted(_PHOTOS.glob("*.jpg"))), given.photographs))
    try:
        seconds, wrong = _measured(pictures, given.rounds, given.in_flight)
    except MissingEnvironment as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if wrong:
        print(f"FAILED: {wrong} answers of the pipeline differ from those of the loop", file=sys.stderr)
        return 1
    rates = {name: [len(pictures) / each for each in taken] for name, taken in seconds.items()}
    print(f"\n{len(pictures)} photographs, {given.rounds} rounds; load of the machine before: {load:.1f}\n")
    for name, values in {**rates, "ratio": ratios(seconds)}.items():
        unit = "" if name == "ratio" else "/s"
        print(f"{name:<9} {median(values):7.2f}{unit}  ({min(values):.2f} to {max(values):.2f})")
    if given.json is not None:
        report = {
            "format": 1, "machine": machine, "load": load, "photographs": len(pictures), "in_flight": given.in_flight,
            "seconds": seconds, "ratios": ratios(seconds),
        }  # fmt: skip
        given.json.write_text(json.dumps(report, indent=1) + "\n")
    return 0


def _measured(pictures: Sequence[Path], rounds: int, in_flight: int) -> tuple[dict[str, list[float]], int]:
    """The seconds of each subject in each round, and how many answers of the pipeline are not the loop's."""
    seconds: dict[str, list[float]] = {"loop": [], "pipeline": []}
    wrong = 0
    with tempfile.TemporaryDirectory(prefix="trt-versus-") as name:
        folder = Path(name)
        server = Triton(repository.write(folder / "models", [_model()]), folder / "log")
        try:
            config = folder / "far.yaml"
            config.write_text(yaml.safe_dump(config_of(f"grpc://{server.grpc}", in_flight), sort_keys=False))
            with _loop(server.grpc, pictures) as loop, pipeline.InferenceManager(config) as manager:
                runner = manager.infer_runner("remote-stage")
                files = {path: path.read_bytes() for path in set(pictures)}
                requests = [{"image": files[path]} for path in pictures]
                # What is done the first time, by either, is not what is measured.
                for future in runner.infer_many(requests[:20]):
                    future.get(_PATIENCE_S)
                next(loop)
                for number in range(rounds):
                    labels: dict[str, list[Any]] = {}
                    for each in ("loop", "pipeline") if number % 2 == 0 else ("pipeline", "loop"):
                        if each == "loop":
                            taken, labels[each] = next(loop)
                        else:
                            begin = time.perf_counter()
                            futures = runner.infer_many(requests)
                            labels[each] = [future.get(_PATIENCE_S)["labels"] for future in futures]
                            taken = time.perf_counter() - begin
                        seconds[each].append(taken)
                    wrong += sum(ours != theirs for ours, theirs in zip(labels["pipeline"], labels["loop"]))
        finally:
            server.close()
    return seconds, wrong


def _model() -> Model:
    source = _HERE / "foreign/triton_pooled.py"
    image, scores = Tensor("image", "FP32", (224, 224, 3)), Tensor("scores", "FP32", (10,))
    return Model(MODEL, (image,), (scores,), source, max_batch_size=8)


@contextmanager
def _loop(where: str, pictures: Sequence[Path]) -> Iterator[Iterator[tuple[float, list[Any]]]]:
    """The loop's process: each step is once through the pictures, with its seconds and labels.

    Raises:
        MissingEnvironment: tritonclient is not there.
    """
    script, site = _HERE / "foreign/triton_loop.py", sysconfig.get_paths()["purelib"]
    command = [python_of(TRITON_CLIENT), str(script), where, site, *map(str, pictures)]
    process = subprocess.Popen(leashed(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    stdin, stdout = process.stdin, process.stdout

    def steps() -> Iterator[tuple[float, list[Any]]]:
        while True:
            stdin.write("\n")
            stdin.flush()
            found = json.loads(stdout.readline())
            yield found["seconds"], found["labels"]

    try:
        yield steps()
    finally:
        stdin.close()
        process.wait()
        stdout.close()


if __name__ == "__main__":
    sys.exit(main())
