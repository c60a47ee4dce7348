"""GPU: inference of the engine alone in a loop (the ceiling), beside whole pipelines over the same plans.

    python -m bench.gpu                                        # about five minutes; docs/gpu.md says what it needs
    python -m bench.gpu --uint8 open-nsfw-uint8.onnx --json bench/results/NAME.json
    python -m bench.gpu --batches 8 --contexts 8               # some of it

    raw       one process, no pipeline: slots of one pinned segment -> engine -> slots, with as many batches
              in flight as the engine takes: one more than contexts
    decoded   clients write decoded pictures into slots -> scheduler -> inference worker -> clients
    jpeg      clients write JPEG files -> DecodeResize -> inference -> clients
    scaling   decoded, with a worker on each of 1 and of --gpus GPUs by turns, and the ratio of each turn; only if
              --only names it
    cache     how long plans take to build, with and without a timing cache; only if --only names it

Compare only ratios within one run: the host's clocks and its other users change.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from bench.machine import describe_machine
from bench.signals import end_on_sigterm
from pipeline.client.client import Client
from pipeline.scheduler import scheduler
from pipeline.testing.running import running
from shm import segments
from shm.handle import TensorHandle
from shm.pool import SlotPool
from shm.segment import SegmentSpec
from shm.view import SegmentTable
from stages import catalogue
from stages.engines.cuda import device_name
from stages.engines.engine import EngineOptions
from stages.engines.plans import EnginePlan, file_sha256
from stages.engines.tensorrt.build import BuildOptions, build_plan, target
from stages.engines.tensorrt.engine import TensorRt

__all__ = ["client", "main", "pipeline_rate", "raw_rate"]

ROOT = Path(__file__).resolve().parents[1]
_WARM_UP_S = 0.5

_DECODED = """\
name: decoded
inputs:
  - {{name: image, dtype: {dtype}, shape: [224, 224, 3]}}
ingress: {{slots: {slots}}}
stages:
  - name: inference
    use: stages.infer:Infer
    with: {{model: {model}, engine: tensorrt, contexts: {contexts}, inputs: {{image: "input:0"}}}}
    batch: {{max_size: {batch}, max_delay_ms: {delay}}}
    replicas: {gpus}
"""

_JPEG = """\
name: jpeg
inputs:
  - {{name: image, dtype: uint8, shape: [bytes], max: {{bytes: 256KiB}}}}
ingress: {{slots: {slots}}}
stages:
  - name: preprocess
    use: stages.image:DecodeResize
    with: {{resize: 256, size: 224, mode: stretch, color: bgr, dtype: uint8, layout: hwc, draft: true}}
    replicas: {decoders}
  - name: inference
    use: stages.infer:Infer
    with: {{model: {model}, engine: tensorrt, contexts: {contexts}, inputs: {{image: "input:0"}}}}
    batch: {{max_size: {batch}, max_delay_ms: {delay}}}
"""


def raw_rate(model: Path, batch: int, contexts: int, graphs: bool, pinned: bool, seconds: float) -> float:
    """Inferences a second by the engine alone."""
    engine = TensorRt(model, {}, EngineOptions(contexts=contexts, cuda_graphs=graphs))
    engine.load(1, "cuda:0", batch)
    engine.warm_up([batch])
    (takes,), (gives,) = engine.specs.inputs, engine.specs.outputs
    count = 2 * batch * engine.concurrency
    made = [
        segments.create("posix", SegmentSpec(f"bench-{os.getpid()}", pool, spec.max_nbytes, count))
        for pool, spec in (("in", takes), ("out", gives))
    ]
    try:
        # Views like those of a worker: the engine knows their addresses.
        table = SegmentTable()
        for segment in made:
            table.add(segment)
        rows, outs = (
            [
                table.view(TensorHandle(segment.number, *pool.loan(), 0, spec.dtype, spec.max_shape), writable=True)
                for pool in [SlotPool(segment)]
                for _ in range(count)
            ]
            for segment, spec in zip(made, (takes, gives))
        )
        for row in rows:
            row[...] = 1
        if pinned:
            engine.attach_memory([segment.buffer for segment in made])
        batches = [
            ({takes.name: rows[first : first + batch]}, {gives.name: outs[first : first + batch]})
            for first in range(0, count, batch)
        ]
        flying: deque[Any] = deque()
        done = turn = 0
        began = time.perf_counter()
        measured_from = 0.0
        while True:
            while len(flying) < engine.concurrency:
                flying.append(engine.start(*batches[turn % len(batches)]))
                turn += 1
            if engine.done(flying[0]):
                flying.popleft()
                done += 1
                now = time.perf_counter()
                if not measured_from:
                    if now - began > _WARM_UP_S:
                        measured_from, done = now, 0
                elif now - measured_from > seconds:
                    break
        rate = done * batch / (now - measured_from)
        while flying:
            if engine.done(flying[0]):
                flying.popleft()
    finally:
        engine.close()
        table.close()
        del rows, outs, batches, table
        for segment in made:
            segment.close()
            segment.unlink()
    return rate


def client(run_dir: Path, window: int, begin: float, seconds: float, source: str) -> int:
    """Keep `window` requests in flight; the number of answers within `seconds` from `begin` (monotonic)."""
    files = [np.fromfile(path, np.uint8) for path in sorted((ROOT / "photos").glob("*.jpg"))]
    files = [file for file in files if file.nbytes <= 256 << 10]
    with Client.connect(run_dir, name=f"bench-{os.getpid()}") as connection:
        if source == "jpeg":
            inputs = files
        else:
            inputs = [np.full((224, 224, 3), n, source) for n in range(4)]
        flying: deque[Any] = deque()
        answered = turn = 0
        most = max(1, window // 4)
        clock = time.monotonic
        while (now := clock()) < begin + seconds:
            kept = 0
            while len(flying) < window:
                value = inputs[turn % len(inputs)]
                draft = connection.draft_nowait(image=value.shape)
                if draft is None:
                    break
                draft.inputs["image"][...] = value
                flying.append(draft.submit(flush=False))
                turn += 1
                kept += 1
                if kept == most:
                    connection.flush()
                    kept = 0
            connection.pump(1.0)
            while flying and flying[0].done():
                flying.popleft().get().release()
                answered += now >= begin
        while flying:
            flying.popleft().get(30).release()
    return answered


def pipeline_rate(config: str, clients: int, window: int, seconds: float, source: str) -> tuple[float, dict[str, Any]]:
    """Inferences a second by a whole pipeline, and its log and status."""
    with tempfile.TemporaryDirectory(prefix="trtlab-bench-") as folder:
        path = Path(folder) / "bench.yaml"
        path.write_text(config)
        with running(path, timeout_s=120) as pipeline:
            begin = time.monotonic() + 3.0
            arguments = ["--client", str(pipeline.run_dir), str(window), str(begin), str(seconds), source]
            started = [
                subprocess.Popen([sys.executable, "-m", "bench.gpu", *arguments], stdout=subprocess.PIPE, text=True)
                for _ in range(clients)
            ]
            time.sleep(max(0.0, begin - time.monotonic()))
            before = _cpu(pipeline.pid)
            time.sleep(seconds)
            after = _cpu(pipeline.pid)
            answered = sum(int(process.communicate(timeout=120)[0] or 0) for process in started)
            stages = pipeline.status()["stages"]
            log = pipeline.log()
    busy = {name: round((after[name] - used) / seconds, 2) for name, used in before.items() if name in after}
    return answered / seconds, {"cores": busy, "stages": stages, "log": log}


def _cpu(pid: int) -> dict[str, float]:
    """CPU seconds so far of the busiest thread of each of the supervisor's children, by the name in `ps`.

    A child is at its limit if one thread is: ZeroMQ has a thread of its own, which does not help the others.
    """
    used: dict[str, float] = {}
    tick = os.sysconf("SC_CLK_TCK")
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if int(_fields(entry / "stat")[1]) == pid:
                title = (entry / "cmdline").read_text().strip("\0 ").split("\0")[0]
                threads = [_fields(thread) for thread in (entry / "task").glob("*/stat")]
                used[title] = max((int(fields[11]) + int(fields[12])) / tick for fields in threads)
        except (OSError, ValueError):
            continue
    return used


def _fields(stat: Path) -> list[str]:
    """Fields of /proc/.../stat, from the state on: [1] the parent, [11] and [12] the clock ticks in user and kernel."""
    return stat.read_text().rpartition(")")[2].split()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark, or one of its clients."""
    if arguments is None and sys.argv[1:2] == ["--client"]:
        run_dir, window, begin, seconds, source = sys.argv[2:]
        print(client(Path(run_dir), int(window), float(begin), float(seconds), source))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="open-nsfw", help="float32 (N, 224, 224, 3), with plans for 1 and 8")
    parser.add_argument("--uint8", type=Path, help="the same model with normalisation inside, with plans for 1 and 8")
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", default="raw,decoded,jpeg")
    parser.add_argument("--slots", default="float32,uint8", help="which of the models")
    parser.add_argument("--batches", type=_numbers, default=(1, 8))
    parser.add_argument("--contexts", type=_numbers, default=(1, 2, 4, 8))
    parser.add_argument("--gpus", type=int, default=2, help="of scaling")
    parser.add_argument("--rounds", type=int, default=3, help="of scaling")
    args = parser.parse_args(arguments)
    end_on_sigterm()
    import tensorrt

    code = "compiled" if scheduler.__file__.endswith(".so") else "Python"
    library = {"TensorRT": tensorrt.__version__, "pycuda": version("pycuda")}
    machine = {"GPU": device_name() or "none", **library, "scheduler": code}
    result: dict[str, Any] = {"machine": {**machine, **describe_machine()}, "raw": [], "pipeline": []}
    for key, value in result["machine"].items():
        print(f"{key:18} {value}")
    models = {"float32": catalogue.find(args.model, Path())}
    if args.uint8:
        models["uint8"] = args.uint8.resolve()
    models = {dtype: path for dtype, path in models.items() if dtype in args.slots}
    ceiling: dict[tuple[str, int, int], float] = {}
    if "raw" in args.only:
        _raw(args, models, ceiling, result)
    if "decoded" in args.only:
        _decoded(args, models, ceiling, result)
    if "jpeg" in args.only and "uint8" in models:
        for contexts in sorted({args.contexts[0], args.contexts[-1]}):
            decoders = max(1, len(os.sched_getaffinity(0)) - 3)
            config = _JPEG.format(
                model=models["uint8"], contexts=contexts, batch=8, delay=2, slots=256, decoders=decoders
            )
            _pipeline("jpeg", "jpeg", config, 8, contexts, ceiling.get(("uint8", 8, contexts)), 2, args, result)
    if "scaling" in args.only:
        _scaling(args, models, result)
    if "cache" in args.only:
        _timing_cache(models["float32"], result)
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def _raw(args: Any, models: dict[str, Path], ceiling: dict[tuple[str, int, int], float], result: Any) -> None:
    print("\nraw       slots    batch  contexts  launched by   pinned   inferences/s")
    for dtype, model in models.items():
        most = max(args.contexts)
        cases = [(batch, n, graphs, True) for batch in args.batches for graphs in (False, True) for n in args.contexts]
        for batch, contexts, graphs, pinned in [*cases, *((batch, most, True, False) for batch in args.batches)]:
            rate = raw_rate(model, batch, contexts, graphs, pinned, args.seconds)
            launched = "graph" if graphs else "calls"
            told = f"{dtype:8} {batch:5} {contexts:9}  {launched:11}  {'yes' if pinned else 'no':6} {rate:14,.0f}"
            print(f"          {told}", flush=True)
            case = {"slots": dtype, "batch": batch, "contexts": contexts, "graphs": graphs, "pinned": pinned}
            result["raw"].append({**case, "rate": rate})
            if graphs and pinned:
                ceiling[dtype, batch, contexts] = rate


def _decoded(args: Any, models: dict[str, Path], ceiling: dict[tuple[str, int, int], float], result: Any) -> None:
    print("\npipeline  slots    batch  contexts   inferences/s   of raw   cores of the busiest thread")
    for dtype, model in models.items():
        for batch, contexts in product(args.batches, args.contexts):
            config = _DECODED.format(
                dtype=dtype, model=model, contexts=contexts, batch=batch, delay=2 if batch > 1 else 0, slots=512, gpus=1
            )
            raw = ceiling.get((dtype, batch, contexts))
            _pipeline("decoded", dtype, config, batch, contexts, raw, args.clients, args, result)


def _scaling(args: Any, models: dict[str, Path], result: dict[str, Any]) -> None:
    """As many clients for each GPU; ratios of rates of one turn, since cores and clocks of a host change."""
    result["scaling"] = []
    print("\nscaling   slots    batch  contexts   one GPU/s   several/s   ratio   cores of the busiest with several")
    for dtype, model in models.items():
        for batch, contexts in product(args.batches, args.contexts):
            turns = []
            for _ in range(args.rounds):
                rates = []
                shape = {"dtype": dtype, "model": model, "contexts": contexts, "batch": batch}
                for gpus in (1, args.gpus):
                    config = _DECODED.format(**shape, delay=2 if batch > 1 else 0, slots=512 * gpus, gpus=gpus)
                    window = max(64, 4 * batch)
                    rate, seen = pipeline_rate(config, gpus * args.clients, window, args.seconds, dtype)
                    rates.append(rate)
                cores = ", ".join(f"{name} {used}" for name, used in seen["cores"].items() if used >= 0.05)
                ratio = rates[1] / rates[0]
                numbers = f"{rates[0]:11,.0f} {rates[1]:11,.0f} {ratio:7.2f}"
                print(f"          {dtype:8} {batch:5} {contexts:9} {numbers}   {cores}", flush=True)
                turns.append({"one": rates[0], "several": rates[1], "ratio": ratio, "cores": seen["cores"]})
            middle = statistics.median(turn["ratio"] for turn in turns)
            print(f"          {dtype:8} {batch:5} {contexts:9}   median of the ratios {middle:.2f}", flush=True)
            case = {"slots": dtype, "batch": batch, "contexts": contexts, "gpus": args.gpus, "clients": args.clients}
            result["scaling"].append({**case, "turns": turns, "ratio": middle})


def _timing_cache(model: Path, result: dict[str, Any]) -> None:
    """Build the same plans without a timing cache, with an empty one, and with the filled one."""
    gpu, built_by = target()
    result["timing_cache"] = []
    print("\ncache     batch  timing cache         seconds   of the first")
    with tempfile.TemporaryDirectory(prefix="trtlab-bench-") as folder:
        kept = Path(folder) / "timing.cache"
        first: dict[int, float] = {}
        for batch, cache in (
            (1, "none"), (1, "empty"), (1, "of this plan"), (8, "none"), (8, "of another batch"), (8, "of this plan")
        ):  # fmt: skip
            plan = EnginePlan(model.stem, file_sha256(model), gpu, built_by, "fp16", batch, (), ())
            began = time.monotonic()
            build_plan(model, plan, BuildOptions(timing_cache=None if cache == "none" else kept))
            took = time.monotonic() - began
            first.setdefault(batch, took)
            nbytes = kept.stat().st_size if kept.exists() else 0
            print(f"          {batch:5}  {cache:18} {took:9.1f}   {took / first[batch]:7.0%}", flush=True)
            result["timing_cache"].append({"batch": batch, "cache": cache, "seconds": took, "cache_bytes": nbytes})


def _pipeline(
    kind: str,
    source: str,
    config: str,
    batch: int,
    contexts: int,
    raw: float | None,
    clients: int,
    args: Any,
    result: Any,
) -> None:
    rate, seen = pipeline_rate(config, clients, 64 if batch > 1 else 16, args.seconds, source)
    share = f"{rate / raw:7.0%}" if raw else "      -"
    cores = ", ".join(f"{name} {used}" for name, used in seen["cores"].items() if used >= 0.05)
    print(f"{kind:9} {source:8} {batch:5} {contexts:9} {rate:14,.0f}  {share}   {cores}", flush=True)
    case = {"kind": kind, "source": source, "batch": batch, "contexts": contexts, "clients": clients}
    result["pipeline"].append({**case, "rate": rate, "of_raw": rate / raw if raw else None, "cores": seen["cores"]})


if __name__ == "__main__":
    main()
