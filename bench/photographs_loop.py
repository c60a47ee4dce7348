"""Loops over photographs that a person would write by hand, beside configs/resnet.yaml: the same stages and model.

    PhotoLoop        one process: decode `BATCH` files, run the model once over them, take the best labels of each
    Ahead            the same, with threads that decode while the model runs
    Processes        as many processes as there are cores, each a `PhotoLoop` of one thread, which share the files out

No queue between processes, no slot, no handle: it is fast, and it ends altogether when one photograph crashes it.
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from bench.direct import call, call_rows
from bench.measure import SubjectDied
from stages.batch import Array
from stages.loading import load_stage
from stages.stage import Stage, StageContext

__all__ = ["BATCH", "CONFIG", "Ahead", "PhotoLoop", "Processes"]

CONFIG = Path(__file__).resolve().parents[1] / "configs" / "resnet.yaml"
BATCH = 4
"""The `max_size` of the config's model."""
_DECODERS = 2
#: The number of a batch's first file, and how many there are; none: the end of a call.
_TOKEN = struct.Struct("qq")


class PhotoLoop:
    """The stages of configs/resnet.yaml, set up in this process.

    Args:
        threads: of the model.
    """

    def __init__(self, threads: int) -> None:
        self._decode, self._infer, self._best = _stages(threads)

    def classify(self, files: Sequence[Array]) -> list[Array]:
        """The scores of each file, highest first, in the order of the files."""
        scores: list[Array] = []
        for start in range(0, len(files), BATCH):
            scores += self.some(files[start : start + BATCH])
        return scores

    def some(self, files: Sequence[Array]) -> list[Array]:
        """The scores of at most `BATCH` files."""
        return self._rest(call_rows(self._decode, image=files)["image"])

    def _rest(self, pictures: Array | Sequence[Array]) -> list[Array]:
        made = call_rows(self._infer, **{self._infer.inputs[0].name: pictures})
        best = call_rows(self._best, scores=made[self._infer.outputs[0].name])
        return list(best["scores"])

    def close(self) -> None:
        """Nothing is left to end."""


class Ahead(PhotoLoop):
    """A loop whose photographs are decoded by threads, two batches ahead."""

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        self._pool = ThreadPoolExecutor(_DECODERS)

    def classify(self, files: Sequence[Array]) -> list[Array]:
        scores: list[Array] = []
        waiting: deque[Future[dict[str, Any]]] = deque()
        rest: Iterator[Array] = iter(files)
        while True:
            while len(waiting) < 3 * BATCH and (file := next(rest, None)) is not None:
                waiting.append(self._pool.submit(call, self._decode, image=file))
            if not waiting:
                return scores
            taken = [waiting.popleft().result()["image"] for _ in range(min(BATCH, len(waiting)))]
            scores += self._rest(np.stack(taken))

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown()


class Processes:
    """Processes that each run a `PhotoLoop` of one thread; the next that is free takes the next `BATCH` files.

        tokens    a pipe that all of them read: where the next batch begins, and an end for each of them

    Args:
        count: of the processes.
        paths: the files that there are; number n of a call is the file n modulo their count.
    """

    def __init__(self, count: int, paths: Sequence[Path]) -> None:
        reader, self._tokens = os.pipe()
        command = [sys.executable, "-m", "bench.photographs_loop", str(reader), *map(str, paths)]
        self._children = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=[reader])
            for _ in range(count)
        ]
        os.close(reader)
        for child in self._children:
            _line_of(child)

    @property
    def pids(self) -> list[int]:
        """Their process ids."""
        return [child.pid for child in self._children]

    def classify(self, files: Sequence[Array]) -> list[Array]:
        """The scores of the first `len(files)` files."""
        batches = [(start, min(BATCH, len(files) - start)) for start in range(0, len(files), BATCH)]
        for child in self._children:
            assert child.stdin is not None
            child.stdin.write(b"\n")
            child.stdin.flush()
        for start, size in [*batches, *[(0, 0)] * len(self._children)]:
            os.write(self._tokens, _TOKEN.pack(start, size))
        found: dict[int, Array] = {}
        for child in self._children:
            found.update({number: np.array(scores) for number, scores in json.loads(_line_of(child))})
        return [found[number] for number in range(len(files))]

    def close(self) -> None:
        """End them."""
        os.close(self._tokens)
        for child in self._children:
            assert child.stdin is not None
            assert child.stdout is not None
            child.stdin.close()
            child.wait()
            child.stdout.close()


def _line_of(child: subprocess.Popen[bytes]) -> bytes:
    assert child.stdout is not None
    line = child.stdout.readline()
    if not line:
        raise SubjectDied(f"process {child.pid} of the loop ended")
    return line


def _stages(threads: int) -> tuple[Stage, Stage, Stage]:
    made = []
    for stage in yaml.safe_load(CONFIG.read_text(encoding="utf-8"))["stages"]:
        one = load_stage(stage["use"], stage["with"], CONFIG.parent)
        if hasattr(one, "setup"):
            one.setup(StageContext(threads=threads, max_batch=BATCH))
        made.append(one)
    decode, infer, best = made
    return decode, infer, best


def main() -> None:
    """The body of a process of `Processes`; it ends with its stdin."""
    tokens, *paths = sys.argv[1:]
    files = [np.fromfile(path, np.uint8) for path in paths]
    loop = PhotoLoop(threads=1)
    loop.some(files[:BATCH])
    print("ready", flush=True)
    # A line for each call: one that is through must not take the end of another one.
    for _ in sys.stdin:
        found: list[tuple[int, list[float]]] = []
        while (token := _TOKEN.unpack(os.read(int(tokens), _TOKEN.size)))[1]:
            start, size = token
            numbers = range(start, start + size)
            scores = loop.some([files[number % len(files)] for number in numbers])
            found += [(number, row.tolist()) for number, row in zip(numbers, scores)]
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
