"""What batches across requesters are worth: one `pipeline detector` for all, against a process with a model for each.

    python -m bench.detector [--engine onnxruntime|tensorrt] [--requesters 8 16 32] [--doors 1] [--seconds 10]

    alone       a process for each requester, with the stages of configs/detector.yaml in a loop, in batches of one
    together    `pipeline detector configs/detector.yaml`, with batches; each requester is a REQ in a process of its own
                with one frame under way, as Frigate's detectors are. With more doors, that many `pipeline detector`
                are clients of this one run, each for its share of the requesters

They take turns, `--rounds` times. Of each it prints the frames answered in time each second, the latency as a requester
sees it (p50, p99), and the share of frames that were refused, or answered later than 200 ms, when Frigate has stopped
waiting. Frames are 416x416, as docs/frigate.md says, so nothing is scaled. What `alone` has in its favour: there is no
socket between a requester and its model.

On a GPU, build the plans first: `pipeline build models/nanodet.onnx --batch 1,8 --precision fp16`.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import zmq
from PIL import Image

from bench.machine import describe_machine
from bench.signals import end_on_sigterm
from bench.versus.process import free_ports
from pipeline.config.loader import load_config
from pipeline.detecting.messages import TABLE_BYTES
from pipeline.inprocess.client import LocalClient
from pipeline.inprocess.running import local_pipeline
from pipeline.interpreter import python_command

__all__ = ["Found", "found_of", "main"]

_ROOT = Path(__file__).resolve().parents[1]
_CONFIG = _ROOT / "configs" / "detector.yaml"
_SIDE = 416
_LATE_S = 0.2
_START_S = 300.0
_WARM_UP_S = 1.0
_HEADER = json.dumps({"shape": [1, _SIDE, _SIDE, 3], "dtype": "uint8", "model_type": "yolonas"}).encode()
_QUESTION = json.dumps({"model_request": True, "model_name": "any.onnx"}).encode()

_Ask = Callable[[], bool]
"""Have one frame answered; whether there was an answer."""


class Found(NamedTuple):
    """What the requesters of one turn have seen."""

    rate: float
    """Frames each second that were answered in time, of all together."""
    p50_ms: float
    p99_ms: float
    late: float
    """The share of frames that were answered later than 200 ms, or refused."""


def found_of(looks: Sequence[tuple[float, bool]], seconds: float) -> Found:
    """Sum up.

    Args:
        looks: of each frame of all requesters, how many seconds it took, and whether it was answered.
        seconds: for how long they asked.
    """
    took = [look for look, _ in looks]
    in_time = sum(answered and look <= _LATE_S for look, answered in looks)
    p50, p99 = (1000 * float(value) for value in np.percentile(took, [50, 99]))
    return Found(in_time / seconds, p50, p99, 1 - in_time / len(looks))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", default="onnxruntime", help="of stages.infer, such as tensorrt")
    parser.add_argument("--requesters", type=int, nargs="+", default=[8])
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--doors", type=int, default=1, help="processes that listen, for `together`")
    parser.add_argument("--batch", type=int, default=8, help="of `together`, at most")
    parser.add_argument("--delay-ms", type=float, default=2.0, help="of `together`: how long a batch waits for more")
    parser.add_argument("--precision", default="auto", help="of stages.infer, such as fp16")
    parser.add_argument("--set", dest="assignments", action="append", default=[], help="more for `together`")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args(arguments)
    end_on_sigterm()
    for name, value in describe_machine().items():
        print(f"{name:18} {value}")
    common = [f"detect.with.engine={asked.engine}", f"detect.with.precision={asked.precision}", "detect.threads=1"]
    result: dict[str, Any] = {"machine": describe_machine(), "asked": {**vars(asked), "json": None}, "found": []}
    batches = [f"detect.batch.max_size={asked.batch}", f"detect.batch.max_delay_ms={asked.delay_ms}"]
    for count in asked.requesters:
        ratios = []
        for number in range(asked.rounds):
            of_each = [*common, "detect.batch.max_size=1"]
            with _requesters(_asker_alone, [of_each] * count) as ask:
                alone = _tell("alone", count, number, ask(asked.seconds), result)
            with (
                _doors(asked.doors, [*common, *batches, *asked.assignments]) as endpoints,
                _requesters(_asker_together, [endpoints[n % asked.doors] for n in range(count)]) as ask,
            ):
                together = _tell("together", count, number, ask(asked.seconds), result)
            ratios.append(together.rate / alone.rate if alone.rate else float("inf"))
        print(f"  {count} requesters: together {median(ratios):.2f} of alone, the median of {asked.rounds}", flush=True)
    if asked.json:
        asked.json.write_text(json.dumps(result, indent=1) + "\n")


def _tell(name: str, count: int, number: int, found: Found, result: dict[str, Any]) -> Found:
    print(
        f"  {count:3} requesters, {name:8}  {found.rate:8.1f} frames/s   p50 {found.p50_ms:7.1f} ms   "
        f"p99 {found.p99_ms:7.1f} ms   late {100 * found.late:5.1f} %",
        flush=True,
    )
    result["found"].append({"requesters": count, "round": number, "name": name, **found._asdict()})
    return found


# -- those that ask ---------------------------------------------------------------------------------


@contextmanager
def _requesters(made: Callable[[Any], Any], of: Sequence[Any]) -> Iterator[Callable[[float], Found]]:
    """A process for each of `of`; the value has all of them ask for so many seconds, at the same time."""
    # Not forked: CUDA and ONNX Runtime do not outlive it.
    context = multiprocessing.get_context("spawn")
    pipes = [context.Pipe() for _ in of]
    processes = [
        context.Process(target=_requester, args=(theirs, made, one), daemon=True)
        for (_, theirs), one in zip(pipes, of)
    ]
    try:
        for process in processes:
            process.start()
        for _, theirs in pipes:
            # So that the death of a requester is the end of its pipe.
            theirs.close()
        ours = [mine for mine, _ in pipes]
        for mine in ours:
            if not mine.poll(_START_S):
                raise RuntimeError(f"a requester was not ready within {_START_S:g} s")
            mine.recv()

        def ask(seconds: float) -> Found:
            for mine in ours:
                mine.send(seconds)
            return found_of([look for mine in ours for look in mine.recv()], seconds)

        yield ask
    finally:
        for process in processes:
            process.kill()
            process.join()


def _requester(pipe: Connection, made: Callable[[Any], Any], of: Any) -> None:
    """Entry point of a requester's process."""
    with made(of) as ask:
        ask()
        pipe.send(None)
        seconds = pipe.recv()
        looks: list[tuple[float, bool]] = []
        began = time.monotonic()
        counted, end = began + _WARM_UP_S, began + _WARM_UP_S + seconds
        while (now := time.monotonic()) < end:
            answered = ask()
            if now >= counted:
                looks.append((time.monotonic() - now, answered))
        pipe.send(looks)


@contextmanager
def _asker_alone(assignments: list[str]) -> Iterator[_Ask]:
    pixels = _picture()
    with local_pipeline(load_config(_CONFIG, assignments), _raise) as pipeline:
        client = LocalClient(pipeline)

        def ask() -> bool:
            draft = client.draft(timeout_s=0.0, image=pixels.shape)
            draft.inputs["image"][...] = pixels
            future = draft.submit()
            client.pump()
            with future.get() as result:
                np.array(result["detections"])
            return True

        yield ask


@contextmanager
def _asker_together(endpoint: str) -> Iterator[_Ask]:
    frame = _picture().tobytes()
    with _connected(endpoint) as requester:

        def ask() -> bool:
            requester.send_multipart([_HEADER, frame])
            said = requester.recv_multipart()
            return len(said) == 2 and len(said[1]) == TABLE_BYTES

        yield ask


def _raise(stage: str, error: Exception) -> None:
    raise error


def _picture() -> np.ndarray[Any, np.dtype[np.uint8]]:
    with Image.open(_ROOT / "photos" / "astronaut.jpg") as photo:
        return np.asarray(photo.convert("RGB").resize((_SIDE, _SIDE)))


@contextmanager
def _connected(endpoint: str) -> Iterator[Any]:
    with zmq.Context() as context, context.socket(zmq.REQ) as requester:
        requester.setsockopt(zmq.LINGER, 0)
        requester.setsockopt(zmq.RCVTIMEO, 60_000)
        requester.connect(endpoint)
        yield requester


# -- what they ask ----------------------------------------------------------------------------------


@contextmanager
def _doors(count: int, assignments: list[str]) -> Iterator[list[str]]:
    """So many `pipeline detector` before one run, which are ready; the value is where they listen."""
    with ExitStack() as stack:
        first = stack.enter_context(_door(str(_CONFIG), assignments))
        name = load_config(_CONFIG).config.name
        yield [first, *(stack.enter_context(_door(name)) for _ in range(count - 1))]


@contextmanager
def _door(target: str, assignments: Sequence[str] = ()) -> Iterator[str]:
    """A `pipeline detector` of a config, or of a run by its name."""
    (port,) = free_ports(1)
    endpoint = f"tcp://127.0.0.1:{port}"
    command = [*python_command("pipeline.__main__"), "detector", target, "--zmq", endpoint]
    command += [part for assignment in assignments for part in ("--set", assignment)]
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, stdout=said, stderr=said, stdin=subprocess.DEVNULL)
        try:
            end = time.monotonic() + _START_S
            while not _is_ready(endpoint):
                if process.poll() is not None or time.monotonic() > end:
                    said.seek(0)
                    raise RuntimeError(f"the detector does not start: {said.read().decode(errors='replace')}")
            yield endpoint
        finally:
            process.terminate()
            process.wait()


def _is_ready(endpoint: str) -> bool:
    with _connected(endpoint) as requester:
        requester.setsockopt(zmq.RCVTIMEO, 2000)
        requester.send(_QUESTION)
        try:
            return bool(json.loads(requester.recv())["model_loaded"])
        except zmq.Again:
            return False


if __name__ == "__main__":
    main()
