"""A deadly request leaves a file of its exact inputs, which kills the process that replays it."""

from __future__ import annotations

import signal
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.errors import StageCrashed
from pipeline.supervisor.capsule import read_capsule
from pipeline.testing import RunningPipeline, running
from shm.handle import numpy_dtype
from tests.faults.load import until


def crash(pipeline: RunningPipeline, deed: bytes) -> StageCrashed:
    with pipeline.client() as client:
        future = client.submit(data=deed)
        assert future.wait(200)
        error = future.error()
        assert isinstance(error, StageCrashed)
        # A stage that computes other requests now and then is not given up because of its deadly requests.
        with client.submit(data=b"innocent").get(200) as result:
            assert result["data"].tobytes() == b"innocent"
        return error


def test_a_capsule_is_private_and_replay_dies_the_same_death_showing_the_line(
    folder: Any, cli: Callable[..., Any]
) -> None:
    with running(folder.config({}, {"with.deadly": True})) as pipeline:
        error = crash(pipeline, b"segfault")
        (path,) = folder.capsules.iterdir()
        assert f"pipeline replay {path}" in str(error)
        until(lambda: f"kept in {path}" in pipeline.log())
        assert pipeline.stop() == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.capsules.stat().st_mode) == 0o700
    capsule = read_capsule(path)
    assert (capsule.pipeline, capsule.stage) == ("faulty", "s1")
    assert capsule.inputs["data"].tobytes() == b"segfault"
    assert "numpy" in capsule.versions
    replayed = cli("replay", path)
    assert replayed.code == -signal.SIGSEGV
    assert "input data: uint8 [8], 8 bytes" in replayed.out
    assert "Segmentation fault" in replayed.err
    assert "deadly_stages.py" in replayed.err


def test_the_newest_capsules_are_kept_and_large_inputs_are_not(folder: Any) -> None:
    limits = {"folder": str(folder.capsules), "max_count": 2, "max_bytes": 6}
    with running(folder.config({"with.deadly": True}, capsules=limits)) as pipeline:
        found: list[set[Path]] = []
        for _ in range(3):
            assert "pipeline replay" in str(crash(pipeline, b"exit"))
            found.append(set(folder.capsules.iterdir()))
        assert [len(paths) for paths in found] == [1, 2, 2]
        assert not found[2] & found[0]
        # Eight bytes: the request fails all the same, and no capsule is written.
        assert "pipeline replay" not in str(crash(pipeline, b"segfault"))
        assert set(folder.capsules.iterdir()) == found[2]
        assert pipeline.stop() == 0


def test_a_folder_that_cannot_be_written_costs_the_capsule_and_nothing_else(folder: Any) -> None:
    folder.capsules.write_text("a file")
    with running(folder.config({"with.deadly": True})) as pipeline, pipeline.client() as client:
        assert "pipeline replay" not in str(crash(pipeline, b"exit"))
        until(lambda: "could not be written" in pipeline.log())
        with client.submit(data=b"later").get(200) as result:
            assert result["data"].tobytes() == b"later"
        assert pipeline.stop() == 0


DEADLY = '''
import ctypes

from stages.spec import TensorSpec


class Deadly:
    """Dies of the element `segfault`."""

    inputs = (
        TensorSpec("names", "bytes", ("n", 2), {"n": 4, "bytes": 256}),
        TensorSpec("numbers", "bfloat16", ("n",), {"n": 4}),
    )
    outputs = (TensorSpec("count", "int64", (1,)),)

    def process(self, batch):
        for row, names in enumerate(batch.rows("names")):
            if b"segfault" in names:
                ctypes.string_at(0)
            batch.out(row, "count")[...] = names.size + batch.rows("numbers")[row].size
'''


def test_a_capsule_has_elements_of_bytes_and_bfloat16_as_they_were(
    folder: Any, cli: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "deadly.py").write_text(DEADLY)
    config = folder.config(
        {"use": "./deadly.py:Deadly"},
        inputs=[
            {"name": "names", "dtype": "bytes", "shape": ["n", 2], "max": {"n": 4, "bytes": 256}},
            {"name": "numbers", "dtype": "bfloat16", "shape": ["n"], "max": {"n": 4}},
        ],
    )
    numbers = np.array([0.5, -3], np.float32).astype(numpy_dtype("bfloat16"))
    names = [[b"a\0", b"segfault"], [b"\xff", b""]]
    with running(config) as pipeline, pipeline.client() as client:
        with pytest.raises(StageCrashed):
            client.submit(names=names, numbers=numbers).get(200)
        with client.submit(names=[[b"a", b"b"]], numbers=numbers).get(200) as result:
            assert result["count"].tolist() == [4]
        (path,) = folder.capsules.iterdir()
        assert pipeline.stop() == 0
    capsule = read_capsule(path)
    assert capsule.inputs["names"].tolist() == names  # type: ignore[union-attr]
    assert capsule.inputs["numbers"].dtype == numbers.dtype  # type: ignore[union-attr]
    assert capsule.inputs["numbers"].tobytes() == numbers.tobytes()  # type: ignore[union-attr]
    replayed = cli("replay", path)
    assert replayed.code == -signal.SIGSEGV
    assert "input names: bytes [2, 2], 27 bytes" in replayed.out
    assert "input numbers: bfloat16 [2], 4 bytes" in replayed.out
