"""What is done to a photograph: the pipeline has the options of the loop."""

from __future__ import annotations

from pathlib import Path

import yaml

from bench.versus.photographs import DECODE, TOP, config_of
from pipeline.config.loader import load_config


def test_the_pipeline_is_a_sound_one_with_the_options_that_the_loop_has(tmp_path: Path) -> None:
    path = tmp_path / "far.yaml"
    path.write_text(yaml.safe_dump(config_of("grpc://127.0.0.1:1", 4)))
    decode, far, top = load_config(str(path)).config.stages
    assert DECODE.items() <= decode.options.items()
    assert top.options == TOP
    assert (far.options["url"], far.options["in_flight"]) == ("grpc://127.0.0.1:1", 4)
