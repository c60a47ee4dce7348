"""What the image must have beside the config."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.config.loader import load_config
from pipeline.deploying.contents import Contents, contents_of

CONFIG = """\
inputs: [{name: image, dtype: uint8, shape: [4]}]
stages:
  - name: one
    use: ./glue.py:Glue
    with: {table: ../data/table.csv, words: [a, ../data, {deep: here.txt}], model: open-nsfw, mode: stretch}
  - {name: two, use: "stages.infer:Infer", with: {model: "${SIDE_MODELS:-../data}/m.onnx", home: "~/x"}}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    (tmp_path / "configs").mkdir()
    for name in ("configs/glue.py", "data/table.csv", "data/m.onnx", "configs/here.txt", "configs/canary.json"):
        (tmp_path / name).touch()
    path = tmp_path / "configs/demo.yaml"
    path.write_text(CONFIG)
    return path


def test_files_that_are_there_models_of_the_catalogue_and_variables_are_named(config: Path) -> None:
    assert contents_of(load_config(config)) == Contents(
        files=("../data", "../data/m.onnx", "../data/table.csv", "./glue.py", "here.txt"),
        assets=("open-nsfw",),
        variables=("SIDE_MODELS",),
    )


def test_a_variable_without_a_default_is_named_too(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config.write_text(CONFIG.replace("${SIDE_MODELS:-../data}", "$SIDE_MODELS"))
    monkeypatch.setenv("SIDE_MODELS", "../data")
    found = contents_of(load_config(config))
    assert found.variables == ("SIDE_MODELS",)
    assert "../data/m.onnx" in found.files


def test_the_canarys_file_is_one_of_them(config: Path) -> None:
    config.write_text(CONFIG + "canary: {input: canary.json}\n")
    assert "canary.json" in contents_of(load_config(config)).files


def test_what_the_command_line_sets_counts(config: Path) -> None:
    found = contents_of(load_config(config, ["one.table=nothing.csv", "one.model=imagenet"]))
    assert "../data/table.csv" not in found.files
    assert found.assets == ("imagenet",)


@pytest.mark.parametrize("name", ["", "x" * 5000, "a\\0b"])
def test_a_text_that_cannot_be_a_file_is_none(config: Path, name: str) -> None:
    config.write_text(CONFIG.replace("../data/table.csv", f'"{name}"'))
    assert "../data/table.csv" not in contents_of(load_config(config)).files


def test_a_module_beside_the_config_is_one_of_them_and_an_installed_one_is_not(config: Path) -> None:
    config.write_text(CONFIG.replace("./glue.py:Glue", "glue:Glue").replace("stages.infer:Infer", "parts.deep:Infer"))
    (config.parent / "parts").mkdir()
    found = contents_of(load_config(config)).files
    assert {"glue.py", "parts"} <= set(found)
    assert not any("stages" in name for name in contents_of(load_config(config)).files)


def test_a_name_of_the_catalogue_is_no_file_even_if_there_is_one(config: Path) -> None:
    (config.parent / "open-nsfw").touch()
    assert "open-nsfw" not in contents_of(load_config(config)).files
