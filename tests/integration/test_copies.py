"""Copies of tensor bytes with real processes: none if none is needed; otherwise each one is named."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from pipeline.testing import running

STAGES = '''
import numpy as np

from stages.spec import TensorSpec

FILE = TensorSpec("file", "uint8", ("bytes",), {"bytes": 64})
IMAGE = TensorSpec("image", "uint8", (16, 16))


class Make:
    """An image full of the file's first byte, in place; or by value."""
    ragged = True
    inputs = (FILE,)
    outputs = (IMAGE,)

    def __init__(self, returns=False):
        self.returns = returns

    def process(self, batch):
        if self.returns:
            return {"image": [np.full((16, 16), row[0], np.uint8) for row in batch.rows("file")]}
        for number, row in enumerate(batch.rows("file")):
            batch.out(number, "image")[...] = row[0]


class Total:
    """The sum of each image, over whole batches."""
    inputs = (IMAGE,)

    def __init__(self, name="total", dense=False):
        self.name, self.dense = name, dense
        self.outputs = (TensorSpec(name, "int64", (8,)),)

    def process(self, batch):
        images = batch.stack("image", dense=self.dense)
        batch.stack_out(self.name, dense=self.dense)[...] = images.sum(axis=(1, 2), dtype=np.int64)[:, None]


class Look:
    """Reads an image that another stage reads at the same time."""
    inputs = (IMAGE,)
    outputs = (TensorSpec("first", "uint8", (1,)),)

    def process(self, batch):
        for number, image in enumerate(batch.rows("image")):
            batch.out(number, "first")[...] = image[0, 0]
'''

MAKE = {"name": "make", "use": "./copying.py:Make"}
TOTAL = {"name": "total", "use": "./copying.py:Total", "batch": {"max_size": 4, "max_delay_ms": 20}}
#: Nothing is gathered, and images and sums fill their slots: batches are views without gaps.
VIEWS = {**TOTAL, "with": {"dense": True}, "batch": {**TOTAL["batch"], "gather": False}}  # type: ignore[dict-item]


@pytest.fixture
def config(tmp_path: Path) -> Callable[..., Path]:
    (tmp_path / "copying.py").write_text(STAGES)
    for number in range(40):
        (tmp_path / f"{number:02}.bin").write_bytes(bytes([number]) * 8)

    def config(*stages: dict[str, Any], **fields: Any) -> Path:
        document = {
            "inputs": [{"name": "file", "dtype": "uint8", "shape": ["bytes"], "max": {"bytes": 64}}],
            "stages": list(stages),
            **fields,
        }
        path = tmp_path / "copies.yaml"
        path.write_text(yaml.safe_dump(document, sort_keys=False))
        return path

    return config


def totals(path: Path) -> list[int]:
    records = [json.loads(line) for line in path.read_text().splitlines()]
    return [record["outputs"]["total"][0] for record in records]


def test_a_run_that_copies_nothing_passes_and_says_so(config: Callable[..., Path], cli: Callable[..., Any]) -> None:
    path = config(MAKE, VIEWS)
    output = path.parent / "out.jsonl"
    files = sorted(path.parent.glob("*.bin"))
    code, out, err = cli("run", path, *files, "--assert-zero-copy", "--output", output)
    assert (code, err) == (0, "")
    assert re.search(r"copied: nothing$", out, re.MULTILINE)
    assert "copied on" not in out
    assert totals(output) == [256 * number for number in range(40)]


def test_a_run_that_copied_fails_and_names_the_edge_the_reason_and_what_to_change(
    config: Callable[..., Path], cli: Callable[..., Any]
) -> None:
    path = config({**MAKE, "with": {"returns": True}}, VIEWS)
    files = sorted(path.parent.glob("*.bin"))[:5]
    code, out, err = cli("run", path, *files, "--assert-zero-copy")
    assert code == 1
    assert err.splitlines() == [
        "error: 1.2 KiB were copied on 1 edge, expected none",
        "  make.image: returned, 1.2 KiB in 5 batches: the stage gave a value instead of filling its output",
        "    to change: fill batch.out(row, name) or batch.stack_out(name); in a function, the arrays of the parameter out",
    ]
    assert re.search(r"^make\.image +1\.2 KiB +5 +returned: ", out, re.MULTILINE)
    # The same run without the flag succeeds, and shows the same.
    code, out, err = cli("run", path, *files)
    assert (code, err) == (0, "")
    assert re.search(r"^make\.image +1\.2 KiB +5 +returned: ", out, re.MULTILINE)


def test_branches_that_read_the_same_slot_in_parallel_copy_nothing(
    config: Callable[..., Path], cli: Callable[..., Any]
) -> None:
    # Both read make.image, at the same time and in batches of their own.
    path = config(
        MAKE,
        {**VIEWS, "inputs": ["make.image"]},
        {**VIEWS, "name": "again", "with": {"name": "sum", "dense": True}, "inputs": ["make.image"]},
        {"name": "look", "use": "./copying.py:Look", "inputs": ["make.image"]},
        outputs=["total.total", "again.sum", "look.first"],
    )
    output = path.parent / "out.jsonl"
    code, _, err = cli("run", path, *sorted(path.parent.glob("*.bin")), "--assert-zero-copy", "--output", output)
    assert (code, err) == (0, "")
    for number, line in enumerate(output.read_text().splitlines()):
        outputs = json.loads(line)["outputs"]
        assert outputs["total"] == outputs["sum"] == [256 * number] * 8
        assert outputs["first"] == [number]


def test_copies_outlive_the_worker_that_made_them_and_are_metrics(
    config: Callable[..., Path], cli: Callable[..., Any]
) -> None:
    path = config({**MAKE, "with": {"returns": True}}, {**TOTAL, "batch": {"max_size": 1}}, capsules={"max_count": 0})
    with running(path) as pipeline, pipeline.client() as client:

        def ask(requests: int) -> None:
            for _ in range(requests):
                client.submit(file=b"\x07" * 8).get(200).release()

        def copied(expected: int) -> int:
            """Bytes of make.image, once workers have reported that many."""
            end = time.monotonic() + 10
            while True:
                found = sum(copy["bytes"] for copy in client.status()["copies"] if copy["edge"] == "make.image")
                if found >= expected or time.monotonic() > end:
                    return found
                time.sleep(0.02)

        ask(3)
        assert copied(3 * 256) == 3 * 256
        os.kill(pipeline.worker_pids("make")[0], signal.SIGKILL)
        ask(1)
        assert copied(4 * 256) == 4 * 256
        code, text, _ = cli("status", pipeline.run_dir, "--prometheus")
        assert code == 0
        code, shown, _ = cli("status", pipeline.run_dir)
        assert re.search(r"^make\.image +1\.0 KiB +4 +returned: ", shown, re.MULTILINE)
    values = {
        (sample.name, sample.labels.get("edge") or sample.labels.get("stage")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert values["trtlab_copied_bytes_total", "make.image"] == 4 * 256
    assert values["trtlab_worker_deaths_total", "make"] == 1
    assert values["trtlab_rows_total", "make"] == 4


def test_zero_copies_cannot_be_asserted_for_a_pipeline_that_serves(config: Callable[..., Path], cli: Callable[..., Any]) -> None:
    code, _, err = cli("run", config(MAKE, VIEWS), "--serve", "--assert-zero-copy")
    assert code == 2
    assert "--assert-zero-copy is about a run of files" in err
