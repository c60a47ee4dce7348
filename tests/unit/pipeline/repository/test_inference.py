"""What is set in which config, and what a manager is without any model."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from pipeline.errors import ClientMisuse
from pipeline.repository.inference import InferenceManager, _assignments_of, _drain, _Model


def test_a_list_is_for_every_config_and_a_mapping_for_the_configs_that_it_names() -> None:
    configs = ["a.yaml", Path("b.yaml")]
    assert _assignments_of(configs, ["x=1"]) == [["x=1"], ["x=1"]]
    assert _assignments_of(configs, {"b.yaml": ["x=1"]}) == [(), ["x=1"]]
    assert _assignments_of(configs, {Path("a.yaml"): ["x=1"], "b.yaml": ["y=2"]}) == [["x=1"], ["y=2"]]
    assert _assignments_of([], ()) == []


def test_assignments_that_are_for_no_config_are_refused() -> None:
    with pytest.raises(ClientMisuse, match=r"assignments for 'b.yml', .*\(did you mean b.yaml\?\)"):
        _assignments_of(["a.yaml", "b.yaml"], {"b.yml": ["x=1"]})
    with pytest.raises(ClientMisuse, match=r"assignments are a list, such as \['x=1'\]"):
        _assignments_of(["a.yaml"], "x=1")


def test_a_list_of_configs_is_refused_with_what_to_write() -> None:
    with pytest.raises(ClientMisuse, match=r"found list; of a list that is InferenceManager\(\*configs\)"):
        InferenceManager(["a.yaml", "b.yaml"])  # type: ignore[arg-type]


def test_what_is_no_path_of_a_config_is_refused_with_what_is_expected() -> None:
    with InferenceManager() as manager:
        for call in (lambda: manager.load(5), lambda: manager.reload("mnist", 5)):  # type: ignore[arg-type]
            with pytest.raises(ClientMisuse, match=r"^config: expected the path of a YAML file, found int 5$"):
                call()


def test_a_manager_without_a_model_says_how_to_have_one() -> None:
    with InferenceManager() as manager:
        assert (manager.get_models(), manager.status()) == ([], {})
        assert repr(manager) == "<InferenceManager: no model was loaded>"
        for call in (manager.infer_runner, manager.unload, manager.reload):
            with pytest.raises(ClientMisuse, match=r"no model 'mnist' was loaded; manager.load\(CONFIG\) loads one"):
                call("mnist")
        with pytest.raises(ClientMisuse, match=r"call pipeline.connect\(\) there"):
            pickle.dumps(manager)
    with pytest.raises(ClientMisuse, match="this manager was stopped"):
        manager.get_models()


class _Run:
    def __init__(self) -> None:
        self.done: list[str] = []

    def interrupt(self) -> None:
        self.done.append("asked to end")

    def wait(self, timeout_s: float | None) -> int:
        return 0

    def let_go(self) -> None:
        self.done.append("let go")

    def end(self) -> None:
        pass


def test_a_model_that_is_unloaded_while_the_manager_stops_is_asked_to_end_once() -> None:
    run = _Run()
    model = _Model("mnist", "/mnist.yaml", (), 30.0, run)  # type: ignore[arg-type]
    other = _Model("other", "/other.yaml", (), 30.0, _Run())  # type: ignore[arg-type]
    _drain([(model, None)], "unloaded", 1.0)
    _drain([(model, None), (other, None)], "stopped", 1.0)
    assert run.done.count("asked to end") == 1
    assert other.run.done == ["asked to end", "let go"]  # type: ignore[attr-defined]
