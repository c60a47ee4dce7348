from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[4]


def test_the_descriptors_are_those_of_the_proto_files(tmp_path: Path) -> None:
    pytest.importorskip("grpc_tools")
    spec = importlib.util.spec_from_file_location("make_kserve", ROOT / "docs/make_kserve.py")
    assert spec is not None
    assert spec.loader is not None
    make_kserve = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make_kserve)
    written = (ROOT / "pipeline/kserve/descriptors.py").read_text(encoding="utf-8")
    assert written == make_kserve.text(), "write it again: python docs/make_kserve.py"
