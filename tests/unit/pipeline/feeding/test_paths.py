"""From what the command line names to files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.feeding.paths import Expansion, expand, is_same_file, relative_to_here

PICTURES = ("*.jpg", "*.png")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("b.jpg", "a.JPG", "c.png", "notes.txt", "inner/d.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_folder_is_its_matching_files_in_order_of_their_names(folder: Path) -> None:
    assert expand(["."], PICTURES) == Expansion(["a.JPG", "b.jpg", "c.png"])
    assert expand([str(folder)], ("*.txt",)).files == [str(folder / "notes.txt")]
    assert expand(["./inner/"]).files == ["inner/d.jpg"]


def test_hidden_files_of_a_folder_are_left_out_unless_they_are_asked_for(folder: Path) -> None:
    for name in (".DS_Store", "._b.jpg"):
        (folder / name).write_bytes(b"")
    assert expand(["."]).files == ["a.JPG", "b.jpg", "c.png", "notes.txt"]
    assert expand(["."], PICTURES).files == ["a.JPG", "b.jpg", "c.png"]
    assert expand(["*.jpg"]).files == ["b.jpg"]
    assert expand(["._b.jpg"], PICTURES).files == ["._b.jpg"]
    assert expand(["._*"]).files == ["._b.jpg"]
    assert expand(["."], (".DS*",)).files == [".DS_Store"]


def test_a_named_file_is_a_request_whatever_it_is_called_and_whether_or_not_it_exists(folder: Path) -> None:
    assert expand(["notes.txt", "gone.jpg"], PICTURES).files == ["notes.txt", "gone.jpg"]


def test_a_glob_is_what_it_matches_also_in_deeper_folders(folder: Path) -> None:
    assert expand(["*.jpg"]).files == ["b.jpg"]
    assert expand(["**/*.jpg"]).files == ["b.jpg", "inner/d.jpg"]
    assert expand([f"{folder}/inner/[a-z].jpg"]).files == [str(folder / "inner" / "d.jpg")]


def test_a_name_that_looks_like_a_glob_is_that_file_or_folder(folder: Path) -> None:
    for name in ("[x].png", "x.png"):
        (folder / name).write_bytes(b"")
    assert expand(["[x].png"]).files == ["[x].png"]
    data = folder / "data [v2]"
    data.mkdir()
    (data / "a.bin").write_bytes(b"")
    assert expand(["data [v2]"]).files == ["data [v2]/a.bin"]
    assert expand(["data [v2]/*.bin"]).files == ["data [v2]/a.bin"]
    assert expand([f"{data}/*.bin"]).files == [f"{data}/a.bin"]
    # Only what is there by that name: this one is a pattern.
    assert expand(["dat? [[]v2]/*.bin"]).files == ["data [v2]/a.bin"]


def test_what_is_named_twice_is_run_twice_and_in_that_order(folder: Path) -> None:
    assert expand(["b.jpg", "b.jpg", "b.jpg"]).files == ["b.jpg"] * 3
    assert expand(["c.png", ".", "b.jpg"], PICTURES).files == ["c.png", "a.JPG", "b.jpg", "c.png", "b.jpg"]


def test_a_folder_and_a_glob_that_hold_nothing_are_told_and_the_others_are_run(folder: Path) -> None:
    found = expand(["*.gif", "inner", "b.jpg", ""], ("*.png",))
    assert found.files == ["b.jpg"]
    assert found.empty == [
        "*.gif: this pattern matches no file",
        "inner: no file in this folder matches *.png",
        "'': expected the name of a file, folder or glob",
    ]


def test_stdin_is_a_dash_and_a_file_of_that_name_is_not(folder: Path) -> None:
    (folder / "-").write_bytes(b"")
    assert expand(["-", "./-", "."], ("-",)).files == ["-", "./-", "./-"]


def test_the_first_of_each_is_enough_to_know_that_there_is_one(folder: Path) -> None:
    found = expand([".", "*", "*.gif", "-"], PICTURES, first_only=True)
    assert (len(found.files), len(found.empty)) == (3, 1)


def test_where_the_answers_go_is_no_input_unless_it_is_named(folder: Path) -> None:
    (folder / "out.jsonl").write_bytes(b"")
    (folder / "inner" / "out.jsonl").write_bytes(b"")
    for output in ("out.jsonl", "./out.jsonl", str(folder / "inner" / ".." / "out.jsonl")):
        assert expand([".", "*.jsonl", "inner"], ("*.jsonl",), without=output).files == ["inner/out.jsonl"]
        assert is_same_file("out.jsonl", os.path.realpath(output))
    assert expand(["out.jsonl"], without="out.jsonl").files == ["out.jsonl"]
    assert not is_same_file("inner/out.jsonl", os.path.realpath("out.jsonl"))


def test_a_link_that_leads_nowhere_is_a_file_and_a_fifo_is_none(folder: Path) -> None:
    (folder / "gone.jpg").symlink_to("nothing")
    (folder / "linked.jpg").symlink_to("b.jpg")
    (folder / "folder.jpg").symlink_to("inner")
    os.mkfifo(folder / "fifo.jpg")
    assert expand(["."], ("*.jpg",)).files == ["a.JPG", "b.jpg", "gone.jpg", "linked.jpg"]


def test_a_folder_that_cannot_be_read_is_told_as_that(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str) -> None:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "scandir", refuse)
    found = expand(["inner", "b.jpg"])
    assert found.files == ["b.jpg"]
    assert found.empty == ["inner: this folder cannot be read: Permission denied"]


def test_names_that_are_no_utf8_are_found(folder: Path) -> None:
    name = os.fsdecode(b"caf\xe9.jpg")
    (folder / name).write_bytes(b"")
    assert name in expand(["."]).files
    assert expand(["caf*"]).files == [name]


def test_what_a_config_names_is_relative_to_the_config(folder: Path) -> None:
    inner = folder / "inner [1]"
    inner.mkdir()
    (inner / "a.bin").write_bytes(b"")
    named = relative_to_here(["*.bin", "../*.png", str(folder / "b.jpg"), "-"], inner)
    assert named == ["inner [1]/*.bin", "*.png", "b.jpg", "-"]
    assert expand(named).files == ["inner [1]/a.bin", "c.png", "b.jpg", "-"]
