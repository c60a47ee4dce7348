"""The repository: which models the files of a folder are."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
import yaml

from pipeline.errors import ConfigError
from pipeline.keeping.folder import Folder, Found


def write(path: Path, **fields: object) -> Path:
    document = {
        "inputs": [{"name": "x", "dtype": "uint8", "shape": [1]}],
        "stages": [{"name": "s", "use": "stages.infer:Infer", "with": {"model": "m.onnx"}}],
        **fields,
    }
    path.write_text(yaml.safe_dump(document))
    return path


@pytest.fixture
def there(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    folder.mkdir()
    return folder


def names(folder: Path) -> dict[str, bool]:
    return {name: not found.why for name, found in Folder(folder).look().items()}


def test_a_file_is_the_model_of_the_name_in_it(there: Path) -> None:
    path = write(there / "a.yaml", name="one")
    write(there / "two.yml")
    assert Folder(there).look() == {"one": Found(str(path)), "two": Found(str(there / "two.yml"))}


def test_only_files_directly_in_the_folder_count(there: Path) -> None:
    (there / "inner").mkdir()
    write(there / "inner" / "x.yaml")
    write(there / ".hidden.yaml")
    write(there / "notes.txt")
    assert names(there) == {}
    (there / "folder.yaml").mkdir()
    os.mkfifo(there / "pipe.yaml")
    assert names(there) == {"folder": False, "pipe": False}


def test_a_file_that_is_wrong_is_told_and_the_others_are_served(there: Path) -> None:
    write(there / "good.yaml")
    (there / "bad.yaml").write_text("inputs: [")
    (there / "gone.yaml").symlink_to(there / "nowhere")
    found = Folder(there).look()
    assert not found["good"].why
    assert "bad.yaml" in found["bad"].why
    assert "gone.yaml" in found["gone"].why


def test_of_two_files_with_one_name_neither_is_served(there: Path) -> None:
    write(there / "a.yaml", name="same")
    write(there / "b.yaml", name="same")
    why = Folder(there).look()["same"].why
    assert "a.yaml" in why
    assert "b.yaml" in why


def test_a_file_that_is_wrong_is_not_in_the_way_of_another_one_whose_name_it_has(there: Path) -> None:
    write(there / "z.yaml", name="good")
    (there / "good.yaml").write_text("inputs: [")
    assert names(there) == {"good": True, "good.yaml": False}


def test_what_changes_is_seen_at_the_next_look(there: Path) -> None:
    write(there / "a.yaml", name="one")
    folder = Folder(there)
    write(there / "a.yaml", name="another")
    write(there / "b.yaml")
    assert set(folder.look()) == {"another", "b"}
    (there / "b.yaml").unlink()
    assert set(folder.look()) == {"another"}


def test_a_link_out_of_the_folder_is_followed_if_the_operator_has_made_it(
    there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = write(there.parent / "elsewhere.yaml", name="far")
    (there / "..data").mkdir()
    write(there / "..data" / "near.yaml")
    (there / "far.yaml").symlink_to(outside)
    (there / "near.yaml").symlink_to(Path("..data") / "near.yaml")
    assert names(there) == {"far": True, "near": True}

    lstat = os.lstat

    def of_another_user(path: str) -> os.stat_result:
        found = lstat(path)
        if not stat.S_ISLNK(found.st_mode):
            return found
        return os.stat_result((*found[:4], 12345, *found[5:10]))

    monkeypatch.setattr(os, "lstat", of_another_user)
    found = {name: each.why for name, each in Folder(there).look().items()}
    assert "of another user that leads out" in found["far"]
    # As Kubernetes mounts a ConfigMap.
    assert found["near"] == ""


def test_what_is_no_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nope: expected a folder of YAML files"):
        Folder(tmp_path / "nope")
