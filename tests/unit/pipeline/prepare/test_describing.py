"""Asking a child process what stages declare, whatever their code does to that process."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.config.loader import LoadedConfig, load_config
from pipeline.errors import ConfigError, StartError
from pipeline.prepare.describing import describe_stages
from stages.spec import TensorSpec

GOOD = """\
from stages.spec import TensorSpec

class Base:
    outputs = (TensorSpec("y", "float32", ("N",), {"N": 9}),)

    def process(self, batch): ...

class Good(Base):
    def __init__(self, size=1):
        self.inputs = (TensorSpec("x", "uint8", (size,)),)
"""

Describe = Callable[..., LoadedConfig]


@pytest.fixture
def config(tmp_path: Path) -> Describe:
    """A config whose stages are of these classes of `mine.py`."""

    def config(code: str, *stages: str) -> LoadedConfig:
        (tmp_path / "mine.py").write_text(code)
        path = tmp_path / "demo.yaml"
        lines = "".join(f"- {{name: s{n}, use: './mine.py:{stage}'}}\n" for n, stage in enumerate(stages))
        path.write_text("inputs: [{name: x, dtype: uint8, shape: [1]}]\nstages:\n" + lines)
        return load_config(path)

    return config


def test_specs_options_and_bases_come_back(config: Describe) -> None:
    described = describe_stages(config(GOOD, "Good", "Good', with: {size: 7}, cpus: '0"))
    assert described["s0"].inputs == (TensorSpec("x", "uint8", (1,)),)
    assert described["s1"].inputs == (TensorSpec("x", "uint8", (7,)),)
    assert described["s1"].outputs == (TensorSpec("y", "float32", ("N",), {"N": 9}),)
    assert [cls.rpartition(":")[2] for cls in described["s0"].classes] == ["Good", "Base", "object"]
    assert not described["s0"].is_inference


def test_the_largest_batch_and_notes_come_back_unless_they_are_something_of_the_stages_own(config: Describe) -> None:
    code = GOOD + """
class Alone(Good):
    max_batch = 1
    notes = ("one at a time",)

class Own(Good):
    max_batch = "many"
    notes = "of its own"
"""
    described = describe_stages(config(code, "Alone", "Own", "Good"))
    assert [(described[name].max_batch, described[name].notes) for name in ("s0", "s1", "s2")] == [
        (1, ("one at a time",)), (None, ()), (None, ()),
    ]  # fmt: skip


def test_the_calling_process_imports_nothing_of_the_users(config: Describe) -> None:
    before = set(sys.modules)
    describe_stages(config("import colorsys\n" + GOOD, "Good"))
    assert not {name for name in set(sys.modules) - before if "mine" in name or name == "colorsys"}


def test_what_a_stage_prints_does_not_garble_the_answer(config: Describe) -> None:
    code = "import os, sys\nprint('{\"inputs\": []}', flush=True)\nos.write(1, b'raw\\n')\nos.system('echo from a child')\n"
    assert describe_stages(config(code + GOOD, "Good"))["s0"].outputs[0].name == "y"


def test_a_stage_that_reads_stdin_finds_it_empty(config: Describe) -> None:
    assert len(describe_stages(config("import sys\nassert sys.stdin.read() == ''\n" + GOOD, "Good"))) == 1


@pytest.mark.parametrize(
    ("code", "complaint"),
    [
        ("import os; os._exit(7)", "ended the process with exit code 7"),
        ("import os; os.kill(os.getpid(), 11)", "ended the process with SIGSEGV"),
        ("import os, sys; print('last words'); sys.stdout.flush(); os._exit(1)", "ended the process with exit code 1\n    last words"),
    ],
)
def test_a_stage_that_ends_the_process_is_named(config: Describe, tmp_path: Path, code: str, complaint: str) -> None:
    bad = f"\nclass Bad:\n    def __init__(self):\n        {code}\n"
    with pytest.raises(StartError) as caught:
        describe_stages(config(GOOD + bad, "Good", "Bad", "Good"))
    expected = f"{tmp_path}/demo.yaml:4:19: stage s1: importing or constructing ./mine.py:Bad {complaint}"
    assert str(caught.value) == expected


def test_a_stage_that_never_returns_is_named(config: Describe) -> None:
    bad = "\nclass Bad:\n    def __init__(self):\n        import time; time.sleep(1000)\n"
    with pytest.raises(StartError, match=r"stage s1: importing or constructing ./mine.py:Bad did not end within 5 s"):
        describe_stages(config(GOOD + bad, "Good", "Bad"), timeout_s=5)


def test_every_wrong_stage_is_told_at_once(config: Describe, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        describe_stages(config(GOOD, "Goods", "Good', with: {sise: 7}, cpus: '0", "Good"))
    first, second = str(caught.value).replace(f"{tmp_path}/", "").splitlines()
    assert first.startswith("demo.yaml:3:19: stages[0].use: ./mine.py:Goods: ")
    assert "has no 'Goods' (did you mean Good?)" in first
    assert second == "demo.yaml:4:44: stages[1].with.sise: ./mine.py:Good: unknown option 'sise' (did you mean size?)"


def test_an_option_that_looks_like_a_field_of_the_stage_is_told_so(config: Describe) -> None:
    with pytest.raises(ConfigError, match=r"unknown option 'replica'.*or is the stage's own field replicas meant\?"):
        describe_stages(config(GOOD, "Good', with: {replica: 7}, cpus: '0"))


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ("inputs: [x], outputs: []", "with.inputs: .*, found 'x'; a list of specs is .*"),
        ("inputs: [], outputs: [], tims: 2", r"with.tims: .* \(did you mean times\?\)"),
        ("outputs: [{name: y, dtype: u, shape: []}], inputs: []", "with.outputs: .* tensor 'y': dtype 'u' .*"),
        ("inputs: [], outputs: []", "with.inputs: .* missing a required argument: 'x'; .*"),
    ],
)
def test_what_is_wrong_with_a_function_is_told_at_its_place(
    config: Describe, tmp_path: Path, options: str, why: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        describe_stages(config("def scale(x, times=2): ...", f"scale', with: {{{options}}}, cpus: '0"))
    told = str(caught.value).replace(f"{tmp_path}/", "")
    assert re.fullmatch(rf"demo\.yaml:3:\d+: stages\[0\]\.{why}", told), told
    # `inputs` of a stage are another thing.
    assert "field" not in told


def test_a_stage_that_raises_is_shown_with_its_own_traceback(config: Describe) -> None:
    bad = "\nclass Bad:\n    def __init__(self):\n        {}['key']\n"
    with pytest.raises(ConfigError) as caught:
        describe_stages(config(GOOD + bad, "Bad"))
    message = str(caught.value)
    assert "demo.yaml:3:19: stages[0].use: ./mine.py:Bad" in message
    assert "    Traceback (most recent call last):" in message
    assert "{}['key']" in message
    assert message.endswith("KeyError: 'key'")


def test_a_module_that_exits_is_shown_as_such(config: Describe) -> None:
    with pytest.raises(ConfigError, match=r"importing or constructing it raised SystemExit: enough"):
        describe_stages(config("import sys; sys.exit('enough')\n", "Bad"))


def test_a_model_that_is_nowhere_is_the_config_authors_to_name(tmp_path: Path) -> None:
    path = tmp_path / "demo.yaml"
    path.write_text(
        "inputs: [{name: x, dtype: uint8, shape: [1]}]\nstages:\n"
        "- {name: net, use: 'stages.infer:Infer', with: {model: nowhere.onnx}}\n"
    )
    with pytest.raises(ConfigError, match=r"demo\.yaml:3:56: stages\[0\]\.with\.model: .*no file .*nowhere\.onnx"):
        describe_stages(load_config(path))


def test_a_model_that_was_not_pulled_is_the_operators_to_get(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRTLAB_MODELS", str(tmp_path))
    path = tmp_path / "demo.yaml"
    path.write_text(
        "inputs: [{name: x, dtype: uint8, shape: [1]}]\nstages:\n"
        "- {name: net, use: 'stages.infer:Infer', with: {model: open-nsfw}}\n"
    )
    with pytest.raises(StartError, match=r"demo\.yaml:3:3: stage net: .*run: pipeline models pull open-nsfw"):
        describe_stages(load_config(path))
