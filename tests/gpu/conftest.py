"""What tests on a GPU share: they are skipped, with the reason, where there is none."""

from __future__ import annotations

import ctypes
import io
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.interpreter import python_command
from pipeline.supervisor.process import describe_exit
from shm import segments
from shm.segment import Segment, SegmentSpec
from stages import catalogue
from stages.engines.cuda import device_name
from stages.engines.onnxruntime import OnnxRuntime
from stages.errors import ModelError
from stages.image import DecodeResize
from stages.testing import run

MODEL = "open-nsfw"
SIZES = (1, 8)


def why_not() -> str | None:
    if device_name() is None:
        return "no NVIDIA GPU, or no driver for it"
    for library in ("tensorrt", "pycuda"):
        try:
            __import__(library)
        except ImportError as error:
            return f"{library} is not installed: {error}"
    return None


@pytest.fixture(autouse=True)
def _needs_gpu() -> None:
    if (reason := why_not()) is not None:
        pytest.skip(reason)


@pytest.fixture(autouse=True)
def _nothing_is_left_behind() -> None:
    """Not looked at here: the driver keeps descriptors and threads for as long as the process lives."""


@pytest.fixture(scope="session")
def model() -> Path:
    """The model, with plans of every kind that the tests use; those that are missing are built: 40 s each."""
    if (reason := why_not()) is not None:
        pytest.skip(reason)
    try:
        path = catalogue.find(MODEL, Path())
    except ModelError as error:
        pytest.skip(str(error))
    import subprocess

    sizes = ",".join(map(str, SIZES))
    command = [*python_command("pipeline.cli.main"), "build", MODEL, "--batch", sizes, "--precision", "fp32,fp16"]
    done = subprocess.run(command, stdout=sys.stderr, check=False)
    assert done.returncode == 0, describe_exit(done.returncode)
    return path


@pytest.fixture(scope="session")
def pictures(photos: Path) -> np.ndarray:
    """Photographs as the model takes them: float32 (24, 224, 224, 3), every one different."""
    decode = DecodeResize(resize=256, mode="stretch", color="bgr", mean=[104, 117, 123], layout="hwc")
    files = sorted(photos.glob("*.jpg"))[:8]
    made = []
    for turn in range(3):
        encoded = []
        for file in files:
            buffer = io.BytesIO()
            Image.open(file).rotate(90 * turn, expand=True).save(buffer, "PNG")
            encoded.append(np.frombuffer(buffer.getvalue(), np.uint8))
        batch = run(decode, image=encoded)
        made += [batch.result(row, "image") for row in range(len(files))]
    return np.stack(made)


@pytest.fixture(scope="session")
def expected(model: Path, pictures: np.ndarray) -> np.ndarray:
    """What onnxruntime says of the pictures."""
    engine = OnnxRuntime(model, {})
    engine.load(os.cpu_count() or 1, "cpu")
    (spec,), (out,) = engine.specs.inputs, engine.specs.outputs
    return engine.run({spec.name: pictures}, {})[out.name]


@pytest.fixture
def slots() -> Iterator[Callable[[int, int], tuple[Segment, list[memoryview]]]]:
    """Makes POSIX segments: (bytes of a slot, slots) -> the segment and its slots."""
    made: list[Segment] = []

    def slots(nbytes: int, count: int) -> tuple[Segment, list[memoryview]]:
        spec = SegmentSpec(f"gpu-{os.getpid()}", f"pool{len(made)}", nbytes, count)
        segment = segments.create("posix", spec)
        made.append(segment)
        return segment, [segment.slot(number) for number in range(count)]

    yield slots
    for segment in made:
        segment.close()
        segment.unlink()
    ctypes.CDLL(None).malloc_trim(0)
