from __future__ import annotations

import pwd
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from stages import catalogue
from stages.catalogue import ASSETS
from stages.engines.onnxruntime import OnnxRuntime
from stages.errors import ModelError


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRTLAB_MODELS", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir()
    return tmp_path / "cache"


@pytest.mark.parametrize("asset", ASSETS.values(), ids=str)
def test_every_entry_is_complete(asset: catalogue.Asset) -> None:
    assert ASSETS[asset.name] is asset
    assert re.fullmatch(r"[a-z0-9-]+==[0-9.]+", asset.package)
    assert re.fullmatch(r"[0-9a-f]{64}", asset.sha256)
    assert re.fullmatch(r"[0-9a-f]{64}", asset.member_sha256)
    assert asset.nbytes > 0
    assert asset.licence
    assert asset.homepage.startswith("https://")
    assert asset.kind in ("model", "labels")
    assert bool(asset.preprocessing) == bool(asset.inputs) == bool(asset.outputs) == (asset.kind == "model")


@pytest.mark.parametrize("asset", [a for a in ASSETS.values() if a.kind == "model"], ids=str)
def test_what_an_entry_says_of_its_tensors_is_true(asset: catalogue.Asset, pulled: Callable[[str], Path]) -> None:
    free = {axis: 2000 for axis in asset.shapes.get("x", ()) if isinstance(axis, str)}
    specs = OnnxRuntime.describe(pulled(asset.name), free, asset.shapes)
    for said, (spec,) in ((asset.inputs, specs.inputs), (asset.outputs, specs.outputs)):
        shape = ", ".join(map(str, spec.shape))
        assert said.startswith(f"{spec.name} {spec.dtype} (N, {shape})")


def test_a_path_is_relative_to_the_config(tmp_path: Path) -> None:
    (tmp_path / "my.onnx").touch()
    assert catalogue.find("my.onnx", tmp_path) == tmp_path / "my.onnx"
    assert catalogue.find(str(tmp_path / "my.onnx"), Path("/")) == tmp_path / "my.onnx"


def test_a_pulled_model_is_found_by_its_name(cache: Path) -> None:
    (cache / "imagenet-labels.json").write_bytes(b" " * ASSETS["imagenet"].nbytes)
    assert catalogue.find("imagenet", Path()) == cache / "imagenet-labels.json"


def test_a_model_that_was_not_pulled_says_the_command(cache: Path) -> None:
    with pytest.raises(ModelError, match=r"has not been pulled: expected .*; run: pipeline models pull open-nsfw"):
        catalogue.find("open-nsfw", Path())


def test_a_model_of_the_wrong_size_is_not_loaded(cache: Path) -> None:
    (cache / "open-nsfw.onnx").write_bytes(b"half")
    with pytest.raises(ModelError, match="expected 23590724 bytes, found 4; run: pipeline models pull open-nsfw"):
        catalogue.find("open-nsfw", Path())


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(ModelError, match=r"in the model catalogue \(did you mean open-nsfw\?\)"):
        catalogue.find("open_nsfw", Path())
    with pytest.raises(ModelError, match=r"it has open-nsfw, efficientnet-lite0, .*, imagenet"):
        catalogue.asset("zzz")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("models/mnst.onnx", r"catalogue \(did you mean models/mnist\.onnx\?\)$"),
        ("models/nope.onnx", r"catalogue; .*/models has mnist\.onnx; the catalogue has open-nsfw, [a-z0-9, -]+-rec$"),
        ("models/nope.txt", r"catalogue; the catalogue has imagenet$"),
        ("nowhere/nope.onnx", r"catalogue; the catalogue has open-nsfw, .*-rec$"),
        ("open-nsf", r"catalogue \(did you mean open-nsfw\?\)$"),
        ("zzz", r"catalogue; the catalogue has open-nsfw, .*, imagenet$"),
    ],
)
def test_what_is_no_file_is_answered_with_the_files_and_models_that_there_are(
    tmp_path: Path, name: str, expected: str
) -> None:
    (tmp_path / "models").mkdir()
    for file in ("mnist.onnx", "README.md"):
        (tmp_path / "models" / file).touch()
    with pytest.raises(ModelError, match=expected):
        catalogue.find(name, tmp_path)


def test_the_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRTLAB_MODELS", "/models")
    assert catalogue.cache_dir() == Path("/models")
    monkeypatch.delenv("TRTLAB_MODELS")
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert catalogue.cache_dir() == Path("/cache/trtlab/models")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/user")
    assert catalogue.cache_dir() == Path("/home/user/.cache/trtlab/models")


def test_the_imagenet_labels_are_a_thousand_in_order(pulled: Callable[[str], Path]) -> None:
    pulled("imagenet")
    names = catalogue.labels("imagenet", Path())
    assert len(names) == 1000
    assert (names[0], names[872], names[967], names[999]) == (
        "tench, Tinca tinca",
        "tripod",
        "espresso",
        "toilet tissue, toilet paper, bathroom tissue",
    )


@pytest.mark.parametrize(
    ("content", "names"),
    [
        (b"cat\n\ndog\n", ["cat", "", "dog"]),
        (b"\n\ncat", ["", "", "cat"]),
        (b"cat\n \t\ndog\n\n", ["cat", "", "dog", ""]),
        (b"\xef\xbb\xbfcat\r\ndog\r\n", ["cat", "dog"]),
        ("one\u2028two\nthree\u2029four\x85five\n".encode(), ["one\u2028two", "three\u2029four\x85five"]),
        (b"a\x0bb\x0cc\x1cd\re\nf", ["a\x0bb\x0cc\x1cd\re", "f"]),
        (b"#\n# 1\ncat\n# end\n# of file\n", ["#", "# 1", "cat"]),
        (b"cat\n#\n#hash\n", ["cat", "#", "#hash"]),
        (b"", []),
    ],
)
def test_every_line_of_a_labels_file_is_the_class_of_its_number(tmp_path: Path, content: bytes, names: list[str]) -> None:
    (tmp_path / "names.txt").write_bytes(content)
    assert catalogue.labels("names.txt", tmp_path) == names


def test_labels_that_are_not_in_utf_8_are_refused_with_the_line(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_bytes(b"cat\n\ncaf\xe9\n")
    with pytest.raises(ModelError, match=r"names\.txt:3: expected labels in UTF-8, found the byte 0xe9"):
        catalogue.labels("names.txt", tmp_path)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"0": "cat", "0": "dog"}', "'0' is there twice"),
        ('{"0": "cat", "2": "dog"}', "found 2 labels, and none for '1'"),
        ('["cat", 7]', "label 1 is 7"),
        ('"cat"', "found str"),
        ("[", "Expecting value"),
    ],
)
def test_labels_of_json_that_would_be_others_are_refused(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "names.JSON").write_text(text)
    with pytest.raises(ModelError, match=rf"names\.JSON: expected labels as JSON, .*{why}"):
        catalogue.labels("names.JSON", tmp_path)


@pytest.mark.parametrize("variables", [{}, {"HOME": "relative"}])
def test_a_user_without_a_home_is_told_what_to_set(variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    def no_entry(*_: object) -> None:
        raise KeyError("getpwuid(): uid not found: 12345")

    monkeypatch.setattr(pwd, "getpwuid", no_entry)
    for name in ("TRTLAB_MODELS", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ModelError, match=r"no home folder.*: set TRTLAB_MODELS to a folder for them, or XDG_CACHE_HOME"):
        catalogue.cache_dir()
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert catalogue.cache_dir() == Path("/caches/trtlab/models")
