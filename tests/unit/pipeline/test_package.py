"""What `import pipeline` gives, and what it costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

import pipeline


def modules_after(statement: str) -> set[str]:
    code = f"import sys\n{statement}\nprint(*sys.modules)"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


def test_importing_it_or_its_light_modules_imports_no_manager() -> None:
    for statement in ("import pipeline", "import pipeline.errors", "from pipeline import errors"):
        modules = modules_after(statement)
        assert "pipeline" in modules
        assert not {name for name in modules if name.startswith(("zmq", "numpy", "pipeline.repository", "pydantic"))}
    assert "pipeline.repository" not in modules_after("import pipeline.processes.worker")


@pytest.mark.parametrize("name", pipeline.__all__)
def test_each_name_is_there_once_it_is_used_and_is_listed_before(name: str) -> None:
    assert name in dir(pipeline)
    value = getattr(pipeline, name)
    assert value.__name__ == name
    assert vars(pipeline)[name] is value
    assert value.__module__.startswith(("pipeline.repository.", "pipeline.remote."))


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'pipeline' has no attribute 'InferenceManagr'"):
        pipeline.InferenceManagr  # noqa: B018
