"""The relay that every server has: ours is a config that loads, and answers with the tensor's ends."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bench.versus.relays import ENSEMBLE, KEYS, NAME, config_of
from bench.versus.stages import Ends
from pipeline.config.loader import load_config
from stages.testing import batch_of


def test_ours_has_the_stages_the_input_and_the_output_of_tritons(tmp_path: Path) -> None:
    path = tmp_path / "relay.yaml"
    path.write_text(config_of(4096, 16))
    config = load_config(str(path), []).config
    *stages, ensemble = ENSEMBLE
    assert config.name == ensemble.name == NAME
    assert [stage.name for stage in config.stages] == [stage.name for stage in stages]
    assert [entry.name for entry in config.inputs] == [tensor.name for tensor in ensemble.inputs]
    assert config.serve.shared_memory == (KEYS,)


def test_the_answer_is_the_first_and_the_last_eight_bytes() -> None:
    tensors = [np.arange(64, dtype=np.uint8), np.arange(64, 128, dtype=np.uint8)]
    stage = Ends([64])
    batch = batch_of(stage, IN=tensors)
    stage.process(batch)
    found = [bytes(batch.out(row, "OUT", (16,))) for row in range(2)]
    assert found == [bytes(tensor[:8]) + bytes(tensor[-8:]) for tensor in tensors]
