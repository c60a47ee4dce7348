from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest

from stages.errors import BadOption, ModelError, SpecMismatch
from stages.function import FunctionStage
from stages.loading import load_stage
from stages.relay import Relay
from stages.stage import Stage

STAGES = """
import numpy as np
from stages.spec import TensorSpec

X = TensorSpec("x", "float32", ("n",), {"n": 4})

class Scale:
    inputs = (X,)
    outputs = (TensorSpec("y", "float32", ("n",), {"n": 4}),)

    def __init__(self, factor, offset=0.0):
        self.factor, self.offset = float(factor), offset

    def process(self, batch):
        return {"y": [row * self.factor + self.offset for row in batch.rows("x")]}

class Located:
    inputs, outputs = (), ()
    def __init__(self, file, base_dir): self.path = base_dir / file
    def process(self, batch): pass

class NoProcess:
    inputs, outputs = (X,), (X,)

class NoSpecs:
    inputs, outputs = (X,), ["x"]
    def process(self, batch): pass

class Twice:
    inputs, outputs = (X, X), ()
    def process(self, batch): pass

class Aliased:
    inputs = (X,)
    def __init__(self, of, most): self.outputs = (TensorSpec("y", "float32", ("n",), {"n": most}, alias_of=of),)
    def process(self, batch): pass

class Padded:
    inputs, outputs = (X,), ()
    def __init__(self, name, multiple): self.pad = {name: multiple}
    def process(self, batch): pass

def double(x, times: int = 2):
    return x * times

NUMBER = 7
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(STAGES)
    return tmp_path


def test_a_class_of_a_module_is_constructed_with_its_options(folder: Path) -> None:
    stage = load_stage("stages.relay:Relay", {"shape": [8]}, folder)
    assert isinstance(stage, Relay)
    assert stage.inputs[0].shape == (8,)


def test_a_class_of_a_file_beside_the_config_is_a_stage(folder: Path) -> None:
    stage = load_stage("./mine.py:Scale", {"factor": 3}, folder)
    assert isinstance(stage, Stage)
    assert stage.factor == 3


def test_two_stages_of_one_file_share_its_module(folder: Path) -> None:
    first = load_stage("./mine.py:Scale", {"factor": 1}, folder)
    second = load_stage("mine.py:Scale", {"factor": 2}, folder)
    assert type(first) is type(second)


def test_a_file_may_import_the_modules_beside_it_which_hide_no_other(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    inner, linked = folder / "inner", folder / "linked"
    for made in (inner, linked):
        made.mkdir()
    (inner / "beside_mine.py").write_text("FACTOR = 5")
    (inner / "json.py").write_text("raise AssertionError('this hides the library of that name')")
    (inner / "scaled.py").write_text(f"import json\nfrom beside_mine import FACTOR\n{STAGES}")
    (linked / "beside_link.py").write_text("FACTOR = 6")
    (inner / "far.py").write_text(f"from beside_link import FACTOR\n{STAGES}")
    (linked / "near.py").symlink_to(inner / "far.py")
    monkeypatch.delitem(sys.modules, "json")
    assert load_stage("./inner/scaled.py:Scale", {"factor": 1}, folder).factor == 1
    assert load_stage("./linked/near.py:Scale", {"factor": 1}, folder).factor == 1


def test_a_folder_whose_name_is_no_utf8_is_no_obstacle(folder: Path) -> None:
    other = folder / os.fsdecode(b"caf\xe9")
    other.mkdir()
    (other / "mine.py").write_text(STAGES)
    assert load_stage("./mine.py:Scale", {"factor": 1}, other).factor == 1


def test_two_files_of_one_name_are_two_modules(folder: Path) -> None:
    other = folder / "other"
    other.mkdir()
    (other / "mine.py").write_text(STAGES.replace("* self.factor", "/ self.factor"))
    assert type(load_stage("./mine.py:Scale", {"factor": 1}, folder)) is not type(
        load_stage("./mine.py:Scale", {"factor": 1}, other)
    )


def test_a_constructor_that_asks_for_it_is_given_the_configs_folder(folder: Path) -> None:
    assert load_stage("./mine.py:Located", {"file": "a.txt"}, folder).path == folder / "a.txt"


def test_a_function_becomes_a_stage_with_the_specs_of_the_yaml(folder: Path) -> None:
    spec = {"dtype": "float32", "shape": [2]}
    options = {"inputs": [{"name": "x", **spec}], "outputs": [{"name": "y", **spec}], "times": 3}
    assert isinstance(load_stage("./mine.py:double", options, folder), FunctionStage)


@pytest.mark.parametrize(
    ("use", "options", "why"),
    [
        ("Relay", {}, "expected module:Class, or ./file.py:Class"),
        ("stages.relay:", {}, "expected module:Class"),
        ("./main.py:Scale", {}, r"there is no file .*main\.py \(did you mean mine\.py\?\)"),
        ("./mine.py:Scales", {}, r"\./mine\.py has no 'Scales' \(did you mean Scale\?\)"),
        ("./mine.py:Qqq", {}, "has no 'Qqq'; known: Aliased, Located, .*double"),
        ("stages.imge:DecodeResize", {}, r"no module 'stages\.imge' \(did you mean stages\.image\?\)"),
        ("./mine.py:NUMBER", {}, "expected a class or a function, found int 7"),
        ("./mine.py:Scale", {"factor": 1, "ofset": 2}, r"unknown option 'ofset' \(did you mean offset\?\)"),
        ("./mine.py:Scale", {}, "option 'factor' is missing"),
        ("./mine.py:Scale", {"factor": "much"}, "constructing it failed: ValueError: could not convert"),
        ("./mine.py:double", {}, r"option 'inputs' is missing.* tensor specs, such as inputs: \[{name: x, dtype: "),
        ("./mine.py:double", {"inputs": []}, r"option 'outputs' is missing.* tensor specs, such as outputs: \[{name: "),
        ("./mine.py:double", {"times": "two"}, "option 'times': expected a whole number, found 'two'"),
        ("./mine.py:NoProcess", {}, r"no method process\(batch\)"),
    ],
)
def test_what_the_yaml_got_wrong_is_said_with_the_nearest_right_thing(
    folder: Path, use: str, options: dict[str, object], why: str
) -> None:
    with pytest.raises(BadOption, match=why):
        load_stage(use, options, folder)


MUTE = """
from stages.errors import BadInput, BadOption, ModelError

class Mute:
    def __str__(self): raise RuntimeError("no words")
    __repr__ = __str__

class MuteError(Mute, Exception): pass

class MuteRefusal(Mute, ModelError): pass

class Told(BadOption):
    def __init__(self, option, why): super().__init__(f"{option}: {why}")

class Made:
    inputs, outputs = (), ()

    def __init__(self, error):
        if error == "specs":
            self.inputs = Mute()
        elif error:
            raise {"own": MuteError, "ours": MuteRefusal, "told": lambda: Told("size", "too large")}[error]()

    def process(self, batch): pass

ONE = Mute()
"""


@pytest.mark.parametrize(
    ("name", "error", "kind", "why"),
    [
        ("Made", "own", BadOption, "Made: constructing it failed: MuteError: which cannot be shown"),
        ("Made", "ours", ModelError, "Made: which cannot be shown"),
        ("Made", "told", BadOption, "Made: size: too large"),
        ("Made", "specs", SpecMismatch, "inputs must be a tuple of TensorSpec, found <Mute that cannot be shown>"),
        ("ONE", "", BadOption, "expected a class or a function, found Mute <Mute that cannot be shown>"),
    ],
)
def test_a_class_of_the_users_own_is_told_by_its_name_whatever_it_says_of_itself(
    folder: Path, name: str, error: str, kind: type[Exception], why: str
) -> None:
    (folder / "mute.py").write_text(MUTE)
    with pytest.raises(kind, match=why) as caught:
        load_stage(f"./mute.py:{name}", {"error": error}, folder)
    assert type(caught.value) is kind


def test_an_import_that_raises_what_cannot_be_shown_is_told_by_its_name(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "says_nothing.py").write_text(f"{MUTE}\nraise MuteError\n")
    monkeypatch.syspath_prepend(str(folder))
    for use in ("./says_nothing.py:Made", "says_nothing:Made"):
        with pytest.raises(BadOption, match=r"importing .* failed: MuteError: which cannot be shown"):
            load_stage(use, {}, folder)


@pytest.mark.parametrize(
    ("name", "options", "why"),
    [
        ("NoSpecs", {}, r"outputs must be a tuple of TensorSpec, found \['x'\]"),
        ("Twice", {}, "inputs name 'x' twice"),
        ("Padded", {"name": "m", "multiple": 2}, r"pad m: 2; expected a free dimension of an input \(n\) and a multiple"),
        ("Padded", {"name": "n", "multiple": 0}, "pad n: 0; expected a free dimension"),
        ("Aliased", {"of": "z", "most": 4}, "output 'y' is an alias of 'z', which is not an input; known: x"),
        ("Aliased", {"of": "x", "most": 5}, "expected the same dtype, shape and max"),
    ],
)
def test_specs_that_contradict_themselves_are_refused(
    folder: Path, name: str, options: dict[str, object], why: str
) -> None:
    with pytest.raises(SpecMismatch, match=f"mine.py:{name}: .*{why}"):
        load_stage(f"./mine.py:{name}", options, folder)


def test_a_file_that_cannot_be_imported_is_named_with_the_reason_and_may_be_mended(folder: Path) -> None:
    (folder / "late.py").write_text("import surely_not_installed\n")
    with pytest.raises(BadOption, match=r"importing .*late\.py failed: ModuleNotFoundError: .*surely_not_installed"):
        load_stage("./late.py:Scale", {"factor": 1}, folder)
    (folder / "late.py").write_text(STAGES)
    load_stage("./late.py:Scale", {"factor": 1}, folder)


def test_a_module_whose_own_import_fails_says_what_is_missing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "needs_more.py").write_text("import surely_not_installed\n")
    (folder / "is_broken.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(str(folder))
    with pytest.raises(BadOption, match="importing needs_more needs 'surely_not_installed', which is not installed"):
        load_stage("needs_more:Scale", {}, folder)
    with pytest.raises(BadOption, match="importing is_broken failed: ZeroDivisionError"):
        load_stage("is_broken:Scale", {}, folder)


def test_an_error_of_the_stages_own_keeps_its_kind_and_gets_the_stages_name(folder: Path) -> None:
    with pytest.raises(ModelError, match=r"stages\.infer:Infer: no file .*resnet\.onnx"):
        load_stage("stages.infer:Infer", {"model": "resnet.onnx"}, folder)


@pytest.mark.parametrize(
    ("hook", "said"),
    [
        ("def process(self): pass", r"process\(\) cannot be called as process\(batch\)"),
        ("def process(self, images, scores): pass", r"process\(images, scores\) cannot be called as process\(batch\)"),
        ("def process(self, batch): pass\n    def setup(self): pass", r"setup\(\) cannot be called as setup\(context\)"),
        ("def process(self, batch): pass\n    def teardown(self, x): pass", r"teardown\(x\) cannot be called as teardown\(\)"),
    ],
)
def test_a_method_that_takes_other_arguments_is_refused_before_anything_runs(
    tmp_path: Path, hook: str, said: str
) -> None:
    (tmp_path / "mine.py").write_text(f"class Mine:\n    inputs = outputs = ()\n    {hook}\n")
    with pytest.raises(BadOption, match=said):
        load_stage("./mine.py:Mine", {}, tmp_path)


def test_a_method_may_take_more_than_it_is_given(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "class Mine:\n    inputs = outputs = ()\n    def process(self, batch, *more, fast=True, **options): pass\n"
    )
    assert load_stage("./mine.py:Mine", {}, tmp_path).inputs == ()


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"softmax": "no"}, "option 'softmax': expected true or false, found 'no'"),
        ({"softmax": 0}, "option 'softmax': expected true or false, found 0"),
        ({"k": "3"}, "option 'k': expected a whole number, found '3'"),
        ({"k": True}, "option 'k': expected a whole number, found True"),
    ],
)
def test_an_option_of_another_type_is_refused_and_not_taken_for_true(options: dict[str, object], why: str) -> None:
    with pytest.raises(BadOption, match=re.escape(why)):
        load_stage("stages.classify:TopK", {"labels": ["a", "b"], **options}, Path())
