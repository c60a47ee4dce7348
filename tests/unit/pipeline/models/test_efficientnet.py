"""The converted EfficientNet-Lite0 against what PyTorch computes with the same weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.engines.onnxruntime import OnnxRuntime

DATA = Path(__file__).resolve().parents[3] / "data"


@pytest.fixture(scope="module")
def model(pulled: Callable[[str], Path]) -> Path:
    return pulled("efficientnet-lite0")


@pytest.fixture(scope="module")
def reference() -> dict[str, Any]:
    return json.loads((DATA / "efficientnet_lite0_reference.json").read_text())


def pictures() -> np.ndarray:
    """As in tests/data/make_efficientnet_lite0_reference.py."""
    channel, row, column = np.ogrid[:3, :224, :224]
    made = [
        (row * 3 + column * 5 + channel * 40) % 256,
        (row * column // 16 + channel * 90) % 256,
        ((row // 32 + column // 32) % 2 * 200 + channel * 20) % 256,
    ]
    return ((np.stack(made).astype(np.float32) - 127) / 128).astype(np.float32)


def test_the_pictures_are_those_that_pytorch_was_given(reference: dict[str, Any]) -> None:
    assert hashlib.sha256(pictures().tobytes()).hexdigest() == reference["inputs_sha256"]


def test_the_converted_model_computes_what_pytorch_computes(model: Path, reference: dict[str, Any]) -> None:
    engine = OnnxRuntime(model, {})
    engine.load(threads=1, device="cpu")
    found = engine.run({"input": pictures()}, {})["logits"]
    engine.close()
    expected = np.array(reference["logits"])
    assert expected.shape == (3, 1000)
    assert np.ptp(expected) > 10
    assert np.abs(found - expected).max() < 1e-4


def test_padding_is_tensorflows_same() -> None:
    pytest.importorskip("onnx")
    from pipeline.models.efficientnet import _same_padding

    assert _same_padding(224, 3, 2) == [0, 0, 1, 1]
    assert _same_padding(56, 5, 2) == [1, 1, 2, 2]
    assert _same_padding(14, 5, 1) == [2, 2, 2, 2]
    assert _same_padding(7, 1, 1) == [0, 0, 0, 0]
