from __future__ import annotations

import sys

import pytest

from stages.engines import ENGINES, engine_class
from stages.engines.engine import Engine
from stages.errors import BadOption, ModelError


@pytest.mark.parametrize("name", ["auto", *ENGINES])
def test_every_name_is_an_engine(name: str) -> None:
    assert issubclass(engine_class(name), Engine)


def test_an_unknown_name_is_refused_with_those_there_are() -> None:
    with pytest.raises(BadOption, match="engine 'tensorflow': expected one of auto, onnxruntime"):
        engine_class("tensorflow")


def test_an_engine_whose_library_is_absent_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.delitem(sys.modules, "stages.engines.onnxruntime", raising=False)
    with pytest.raises(ModelError, match=r"engine 'onnxruntime' cannot be used here: .*onnxruntime"):
        engine_class("onnxruntime")
