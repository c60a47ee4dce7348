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
            ended = subprocess.run(["sh", "-ec", text], capture_output=True, text=True, timeout=200)
            assert ended.returncode == 0, f"{text}\n{ended.stdout}{ended.stderr}"
    return len(found)


def test_the_readme_does_what_it_says(reader: Path, pulled: Callable[[str], Path]) -> None:
    pulled("open-nsfw")
    with running(ROOT / "configs/resnet.yaml"):
        assert follow("README.md") == 3


def test_the_readme_is_two_screens() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 140


def test_the_readmes_error_is_what_its_mistake_gives(reader: Path) -> None:
    (mistake,) = re.findall(r"^    (photos\.yaml:\d+:\d+: .*)$", (ROOT / "README.md").read_text(), re.MULTILINE)
    (text,) = [text for language, text in examples("README.md") if language == "yaml"]
    Path("photos.yaml").write_text(text.replace("max_size", "max_sise"))
    ended = subprocess.run(["pipeline", "check", "photos.yaml"], capture_output=True, text=True, timeout=200)
    assert mistake in ended.stderr


def test_the_tour_does_what_it_says(reader: Path, pulled: Callable[[str], Path]) -> None:
    for name in ("efficientnet-lite0", "imagenet"):
        pulled(name)
    assert follow("docs/tour.md") == 2


def test_the_page_of_commands_does_what_it_says(reader: Path, pulled: Callable[[str], Path]) -> None:
    pulled("open-nsfw")
    with running(ROOT / "configs/resnet.yaml"):
        assert follow("docs/commands.md") == 1
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
        assert subprocess.run(["pipeline", "check", config], capture_output=True, timeout=200).returncode == 0


def test_the_page_about_stages_does_what_it_says(reader: Path) -> None:
    assert follow("docs/writing-a-stage.md") == 11


def test_the_page_about_chaining_does_what_it_says(reader: Path) -> None:
    assert follow("docs/chaining.md") == 9


@pytest.mark.foreign
def test_the_page_about_the_client_does_what_it_says(reader: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with running(ROOT / "configs/digits.yaml"):
        assert follow("docs/client.md") == 7
        assert follow("docs/blocking-client.md") == 4
    assert capsys.readouterr().out.startswith("['7', ")


@pytest.mark.foreign
def test_the_page_about_load_does_what_it_says(reader: Path) -> None:
    with running(ROOT / "configs/digits.yaml"):
        assert follow("docs/load.md") == 2
    assert Path("siege.svg").read_text().startswith("<svg")


@pytest.mark.foreign
def test_the_page_about_the_manager_does_what_it_says(reader: Path) -> None:
    assert follow("docs/manager.md") == 2
    # The fixture is that of a user whose tests are in this folder.
    Path("test_digits.py").write_text("def test_it(manager):\n    assert manager.get_models() == ['mnist']\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "."]
    assert subprocess.run(command, capture_output=True, timeout=200).returncode == 0


def test_the_page_about_the_client_shows_the_example_for_fastapi_as_it_is() -> None:
    (shown,) = [text for _, text in examples("docs/client.md") if text.startswith("# fastapi_app.py\n")]
    assert shown.partition("\n")[2] == (ROOT / "examples/fastapi_app.py").read_text()


def test_the_page_about_text_does_what_it_says(reader: Path, pulled: Callable[[str], Path]) -> None:
    for name in ("ppocr-v4-det", "ppocr-v4-rec"):
        pulled(name)
    assert follow("docs/ocr.md") == 1
