"""The quick start of the README, word for word, and that of the laboratory: over models that it starts, and over connect."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pipeline
from pipeline.testing import running

ROOT = Path(__file__).parents[2]



@pytest.fixture(autouse=True)
def _in_the_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def quick_start() -> str:
    section = (ROOT / "README.md").read_text().partition("## From Python\n")[2]
    found = re.search(r"^```python\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


def done(text: str) -> tuple[dict[str, Any], list[Any]]:
    """Its names after the last line, and the values of the lines that its comments show."""
    np.random.seed(13)
    names: dict[str, Any] = {}
    exec(compile(text, "README.md", "exec"), names)
    shown = [
        eval(call, names)
        for call in ("mnist.input_bindings()", "mnist.output_bindings()")
    ]
    return names, shown


def commented(text: str, call: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(call)).partition("# ")[2].strip()


def test_the_quick_start_gives_what_its_comments_say_over_either_manager(pulled: Callable[[str], Path]) -> None:
    pulled("open-nsfw")
    text = quick_start()
    started, connects = text.splitlines()[3], text.splitlines()[4].removeprefix("# ")
    assert started.startswith('manager = pipeline.InferenceManager("configs/mnist.yaml", "configs/resnet.yaml")')
    connects = connects.partition("  ")[0]
    assert connects == "manager = pipeline.connect()"
    texts = [text.replace("manager.stop()\n", "models = manager.get_models()\n"), ""]
    texts[1] = texts[0].replace(started, connects)
    results = []
    with ExitStack() as others:
        for each, configs in zip(texts, ((), ("mnist", "resnet"))):
            for config in configs:
                others.enter_context(running(f"configs/{config}.yaml"))
            names, shown = done(each)
            with names["manager"]:
                results.append(names["result"]["Plus214_Output_0"].copy())
                assert names["models"] == eval(commented(text, "manager.get_models()"))
                assert shown[0] == eval(commented(text, "mnist.input_bindings()")) == {"Input3": (1, 28, 28)}
                assert shown[1] == eval(commented(text, "mnist.output_bindings()")) == {"Plus214_Output_0": (10,)}
            names.clear()
    assert results[0].shape == (10,)
    assert results[0].dtype == np.float32
    assert np.array_equal(results[0], results[1])


@pytest.fixture
def managers() -> Iterator[list[Any]]:
    with pipeline.InferenceManager("configs/mnist.yaml") as manager, pipeline.connect("mnist") as connected:
        yield [manager, connected]


def test_the_quick_start_runs_to_its_end_without_the_model_that_is_pulled(capsys: pytest.CaptureFixture[str]) -> None:
    text = quick_start().replace(', "configs/resnet.yaml"', "")
    names, _ = done(text)
    assert names["result"]["Plus214_Output_0"].shape == (10,)
    with pytest.raises(pipeline.errors.ClientMisuse, match="this manager was stopped"):
        names["mnist"].infer(Input3=names["array"])


def test_the_snippet_of_the_laboratory_runs_with_its_one_change(managers: list[Any]) -> None:
    array = np.random.random_sample((1, 1, 28, 28))
    answers = []
    for models in managers:
        assert models.get_models() == ["mnist"]
        mnist = models.infer_runner("mnist")
        future = mnist.infer(Input3=array.astype("float32"))
        result = future.get()
        answers.append(np.array(result["Plus214_Output_0"]))
        assert answers[-1].shape == (1, 10)
        # The change: this is said for the snippet as it stands.
        with pytest.raises(pipeline.errors.PipelineError, match=r'\.astype\("float32"\)'):
            mnist.infer(Input3=array)
    assert np.array_equal(answers[0], answers[1])
