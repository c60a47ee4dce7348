"""The notebooks are run by a real kernel, in a reader's folder, and give the outputs that are committed with them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest

ROOT = Path(__file__).parents[2]
EXECUTE = """
import sys
import nbformat
from nbclient import NotebookClient

path, to, folder = sys.argv[1:]
notebook = nbformat.read(path, 4)
NotebookClient(notebook, timeout=200, resources={"metadata": {"path": folder}}).execute()
nbformat.write(notebook, to)
"""
#: It takes minutes beside the other tests: `make test-foreign`.
pytestmark = pytest.mark.foreign

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def outputs_of(notebook: Any) -> list[list[tuple[str, str]]]:
    """What each cell of code shows: texts as they are, of pictures that there is one."""
    shown = []
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        texts = []
        for output in cell.outputs:
            if output.output_type == "stream":
                # What a run prints comes when it comes, perhaps beside the next cell.
                if output.name == "stderr":
                    continue
                if texts and texts[-1][0] == output.name:
                    # Whether two prints come as one text or as two is a matter of time.
                    texts[-1] = output.name, texts[-1][1] + output.text
                else:
                    texts.append((output.name, output.text))
            else:
                # Pictures come with a text that names an address in memory.
                data = output.get("data", {})
                kinds = [kind for kind in data if kind.startswith("image/")]
                texts.append((min(kinds), "") if kinds else ("text/plain", data.get("text/plain", "")))
        shown.append(texts)
    return shown


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_gives_the_outputs_that_it_shows(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("configs", "photos", "models"):
        (tmp_path / name).symlink_to(ROOT / name)
    folder = tmp_path / "notebooks"
    folder.mkdir()
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    # In a process of its own: it leaves an event loop open in the one where it runs.
    subprocess.run([sys.executable, "-c", EXECUTE, path, tmp_path / "ran.ipynb", folder], check=True, timeout=200)
    committed, ran = nbformat.read(path, 4), nbformat.read(tmp_path / "ran.ipynb", 4)
    assert outputs_of(ran) == outputs_of(committed)


def test_all_notebooks_are_there() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["chaining", "quickstart", "remote"]
