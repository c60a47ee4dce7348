"""The examples in the documentation are run: what a reader copies works.

In a page, in order, in one folder that has the repository's configs, photographs and models:

    ```python or ```yaml whose first line is "# FILE"    is written to that file
    ```python otherwise                                  is executed
    ```sh                                                is run by sh -e; each command must succeed
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.testing import running

ROOT = Path(__file__).parents[2]
FENCED = re.compile(r"^```(python|yaml|sh)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NAMED = re.compile(r"# ([\w.]+\.(?:py|yaml))\n")


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a reader who follows a page."""
    for name in ("configs", "photos", "models"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    return tmp_path


def examples(page: str) -> list[tuple[str, str]]:
    return FENCED.findall((ROOT / page).read_text())


def follow(page: str) -> int:
    """Do what a page says; how many examples it had."""
    found = examples(page)
    for language, text in found:
        if named := NAMED.match(text):
            Path(named[1]).write_text(text)
        elif language == "python":
            exec(compile(text, page, "exec"), {"__name__": "example"})
        else:
            assert language == "sh", f"{page}: a {language} example needs a first line with its file's name"
            ended = subprocess.run(["sh", "-ec", text], capture_output=True, text=True, timeout=100)
            assert ended.returncode == 0, f"{text}\n{ended.stdout}{ended.stderr}"
    return len(found)


def test_the_readme_does_what_it_says(
    reader: Path, pulled: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("open-nsfw", "efficientnet-lite0", "imagenet"):
        pulled(name)
    with running(ROOT / "configs/resnet.yaml"):
        assert follow("README.md") == 5
    assert "cat.jpg sfw 0.9999" in capsys.readouterr().out
    assert len(Path("answers.jsonl").read_text().splitlines()) == 4  # cat.jpg, named twice, camera.jpg, coffee.jpg


def test_the_readmes_yaml_and_stage_are_whole(reader: Path, pulled: Callable[[str], Path]) -> None:
    pulled("open-nsfw")
    for _, text in examples("README.md"):
        if named := NAMED.match(text):
            Path(named[1]).write_text(text)
    Path("stage.yaml").write_text(
        "inputs: [{name: image, dtype: uint8, shape: [224, 224, 3]}]\n"
        "stages: [{name: invert, use: './invert.py:Invert', batch: {max_size: 4}}]\n"
    )
    for config in ("photos.yaml", "stage.yaml"):
        assert subprocess.run(["pipeline", "check", config], capture_output=True, timeout=60).returncode == 0


def test_the_page_about_stages_does_what_it_says(reader: Path) -> None:
    assert follow("docs/writing-a-stage.md") == 11


def test_the_page_about_chaining_does_what_it_says(reader: Path) -> None:
    assert follow("docs/chaining.md") == 9


def test_the_page_about_the_client_does_what_it_says(reader: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with running(ROOT / "configs/mnist.yaml"):
        assert follow("docs/client.md") == 7
    assert capsys.readouterr().out.startswith("['7', ")


def test_the_page_about_text_does_what_it_says(reader: Path, pulled: Callable[[str], Path]) -> None:
    for name in ("ppocr-v4-det", "ppocr-v4-rec"):
        pulled(name)
    assert follow("docs/ocr.md") == 1
