"""What the planner says of a config that was edited. What becomes of it: tests/faults/test_rolled_stages.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from msgspec.structs import replace

from pipeline.cli import planner
from pipeline.errors import ConfigError
from pipeline.graph.plan import Plan
from pipeline.prepare.preparation import prepare
from pipeline.wire.messages import StageChange

STAGE = """
from stages.spec import TensorSpec

class Add:
    inputs = (TensorSpec("x", "uint8", (1,)),)
    outputs = (TensorSpec("y", "uint8", (1,)),)

    def __init__(self, n: int = 1) -> None:
        self.n = n

    def process(self, batch):
        pass
"""


def write(folder: Path, n: int, **fields: Any) -> Path:
    (folder / "adding.py").write_text(STAGE)
    path = folder / "adding.yaml"
    document = {
        "inputs": [{"name": "x", "dtype": "uint8", "shape": [1]}],
        "stages": [{"name": "add", "use": "./adding.py:Add", "with": {"n": n}, "replicas": 1}],
        **fields,
    }
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return path


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return prepare(write(tmp_path, 1)).plan


def asked(path: Path, *assignments: str) -> dict[str, Any]:
    return {"config": str(path), "assignments": list(assignments), "stages": [0]}


def test_it_says_what_is_new_about_the_stage_and_what_else_has_changed(plan: Plan, tmp_path: Path) -> None:
    found = planner._planned(plan, asked(write(tmp_path, 2, drain_s=3.0)))
    assert found.changes == (StageChange(0, "./adding.py:Add", '{"n": 2}'),)
    assert (found.note.rpartition(": ")[2], found.refusal) == ("drain_s", "")


def test_it_refuses_what_others_rely_on_and_a_worker_for_which_memory_is_short(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = planner._planned(plan, asked(write(tmp_path, 2), "add.batch.max_size=4")).refusal
    assert refused.startswith("stage add: batch")
    monkeypatch.setattr(planner, "short_of_one_more", lambda weights, memory: "available memory: 18 MiB are needed")
    short = planner._planned(plan, asked(write(tmp_path, 2)))
    assert short.refusal == "a new worker beside the old one does not fit: available memory: 18 MiB are needed"
    assert short.changes == ()


def test_a_config_of_another_name_is_refused(plan: Plan, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"this pipeline is called other, the one that serves adding"):
        planner._planned(replace(plan, name="adding"), asked(write(tmp_path, 2, name="other")))
