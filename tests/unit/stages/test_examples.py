"""The example pipelines' stages, with their options out of configs/, over the real photographs and models."""

from __future__ import annotations

import hashlib
import itertools
import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from stages.loading import load_stage
from stages.stage import StageContext
from stages.testing import MemoryBatch, run

ROOT = Path(__file__).resolve().parents[3]


class Pipeline:
    """The stages of a config, one after the other, without processes."""

    def __init__(self, name: str) -> None:
        config = yaml.safe_load((ROOT / "configs" / f"{name}.yaml").read_text())
        self.stages = [load_stage(s["use"], s.get("with", {}), ROOT / "configs") for s in config["stages"]]
        self.largest = max(s.get("batch", {}).get("max_size", 1) for s in config["stages"])
        for stage in self.stages:
            if hasattr(stage, "setup"):
                stage.setup(StageContext(max_batch=self.largest))

    def __call__(self, files: Sequence[Path]) -> MemoryBatch:
        preprocess, infer, postprocess = self.stages
        decoded = run(preprocess, image=[np.frombuffer(file.read_bytes(), np.uint8) for file in files])
        rows = range(len(files))
        inputs = {infer.inputs[0].name: [decoded.result(row, "image") for row in rows]}
        scored = run(infer, **inputs)
        return run(postprocess, scores=[scored.result(row, infer.outputs[0].name) for row in rows])


@pytest.fixture(scope="module")
def resnet(pulled: Callable[[str], Path]) -> Pipeline:
    pulled("open-nsfw")
    return Pipeline("resnet")


@pytest.fixture(scope="module")
def imagenet(pulled: Callable[[str], Path]) -> Pipeline:
    pulled("efficientnet-lite0")
    pulled("imagenet")
    return Pipeline("imagenet")


@pytest.fixture(scope="module")
def reference() -> dict[str, Any]:
    return json.loads((ROOT / "tests" / "data" / "opennsfw_reference.json").read_text())


def test_the_reference_scores_are_of_these_photographs(reference: dict[str, Any], photos: Path) -> None:
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in photos.glob("*.jpg")}
    assert found == {name: entry["sha256"] for name, entry in reference.items()}
    assert len(found) >= 8


@pytest.mark.parametrize("seed", range(3))
def test_the_resnets_scores_are_those_of_the_reference_package(
    resnet: Pipeline, reference: dict[str, Any], photos: Path, seed: int
) -> None:
    files = [photos / name for name in reference]
    random.Random(seed).shuffle(files)
    size = resnet.largest
    for start in range(0, len(files), size):
        part = files[start : start + size]
        done = resnet(part)
        for row, file in enumerate(part):
            scores = dict(zip(done.result(row, "labels"), done.result(row, "scores")))
            # Two photographs differ by 6e-5: 2e-5 tells every row of a batch from every other.
            assert scores["nsfw"] == pytest.approx(reference[file.name]["nsfw"], abs=2e-5), file.name
            assert scores["sfw"] == pytest.approx(reference[file.name]["sfw"], abs=2e-5), file.name


def test_any_two_reference_scores_are_further_apart_than_the_tolerance(reference: dict[str, Any]) -> None:
    scores = sorted(entry["nsfw"] for entry in reference.values())
    assert min(b - a for a, b in itertools.pairwise(scores)) > 2 * 2e-5


@pytest.mark.parametrize(
    ("photo", "label", "probability"), [("coffee", "espresso", 0.95), ("camera", "tripod", 0.94)]
)
def test_imagenet_names_what_is_on_a_photograph(
    imagenet: Pipeline, photos: Path, photo: str, label: str, probability: float
) -> None:
    done = imagenet([photos / f"{photo}.jpg"])
    assert done.result(0, "labels")[0] == label
    assert done.result(0, "scores")[0] == pytest.approx(probability, abs=0.03)


def test_imagenet_knows_a_cat(imagenet: Pipeline, photos: Path) -> None:
    done = imagenet([photos / "cat.jpg"])
    assert set(done.result(0, "labels")[:3]) == {"tiger cat", "Egyptian cat", "tabby, tabby cat"}
    assert done.result(0, "scores")[:3].sum() > 0.8


def test_every_digit_is_read() -> None:
    digits = Pipeline("digits")
    files = sorted((ROOT / "photos" / "digits").glob("*.png"))
    done = digits(files)
    assert len(files) == 10
    assert [done.result(row, "labels")[0] for row in range(10)] == [file.stem for file in files]
    assert min(done.result(row, "scores")[0] for row in range(10)) > 0.5
