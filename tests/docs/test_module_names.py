"""A module, file or folder that a docstring, a comment or a page names exists: otherwise names would outlive what they
name."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("pipeline", "stages", "shm", "bench", "tests")
FOLDERS = (*PACKAGES, "docs", "configs", "models", "photos")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
#: Not bench/NOTES.md: an entry there has the names of its day.
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "bench/README.md", *sorted((ROOT / "docs").glob("*.md"))]

#: `pipeline.graph.pools`, perhaps with names of the module behind it.
_DOTTED = re.compile(rf"(?<![\w./\[-])(?:{'|'.join(PACKAGES)})(?:\.[A-Za-z_]\w*)+(?![\w(]|\.\w)")
#: `pipeline/graph/`, `docs/design.md`.
_PATH = re.compile(rf"(?<![\w./<-])(?:{'|'.join(FOLDERS)})(?:(?:/[\w.-]+)+/?|/)(?<![.-])(?![\w*<{{-])")
#: `worker/execution.py`: a file by the last folders of its path. Not `./file.py`, which is a user's own.
_FILE = re.compile(r"(?<![\w./~-])(?:\w+/)+\w+\.py\b")
#: `boxes.py`, where a package's docstring lists its files.
_LISTED = re.compile(r"(?<![\w./-])\w+\.py\b")
#: Made-up files, a file of PyTorch, the title of a process, and a variable of a test.
_OTHERS = {"models/open-nsfw-uint8.onnx", "bench/results/NAME.json", "torch/serialization.py", "pipeline.resnet", "pipeline.pid"}
#: The last part of a file's name, which looks like a name in a module.
_SUFFIXES = (".md", ".py", ".json", ".yaml")


def prose(path: Path) -> Iterator[str]:
    """The comments and docstrings of a source, or the text of a page outside of its code."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        yield re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
        return
    for node in ast.walk(ast.parse(text)):
        # Those of attributes are statements of their own too.
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.value.value
    yield from (token.string for token in tokens_of(text) if token.type == tokenize.COMMENT)


def tokens_of(text: str) -> Iterator[tokenize.TokenInfo]:
    """The tokens of a source."""
    return tokenize.generate_tokens(io.StringIO(text).readline)


def names_in(path: Path) -> Iterator[str]:
    """Every name of a module, a file or a folder in the prose of `path`."""
    for text in prose(path):
        dotted = [name for name in _DOTTED.findall(text) if not name.endswith(_SUFFIXES)]
        yield from (name for name in (*dotted, *_PATH.findall(text), *_FILE.findall(text)) if name not in _OTHERS)


def exists(name: str) -> bool:
    """Whether `name` is a module, a name in a module, a file or a folder of this repository."""
    if "/" in name:
        return (ROOT / name).exists() or name in _endings()
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        folder = ROOT.joinpath(*parts[:count])
        module = folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")
        if folder.is_dir() and count == len(parts):
            return True
        if module.is_file():
            return count == len(parts) or parts[count].startswith("__") or parts[count] in _defined(module)
    return False


@cache
def _endings() -> frozenset[str]:
    """`worker/execution.py` and the like, for every file of the packages."""
    paths = [path.relative_to(ROOT).parts for path in SOURCES]
    return frozenset("/".join(parts[start:]) for parts in paths for start in range(len(parts) - 1))


@cache
def _defined(module: Path) -> frozenset[str]:
    """The names that a module defines or imports at its top."""
    names: set[str] = set()
    for node in ast.parse(module.read_text(encoding="utf-8")).body:
        for inner in ast.walk(node) if isinstance(node, ast.If | ast.Try) else [node]:
            if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                names.add(inner.name)
            elif isinstance(inner, ast.Import | ast.ImportFrom):
                names |= {alias.asname or alias.name for alias in inner.names}
            elif isinstance(inner, ast.Assign | ast.AnnAssign):
                targets = inner.targets if isinstance(inner, ast.Assign) else [inner.target]
                names |= {found.id for target in targets for found in ast.walk(target) if isinstance(found, ast.Name)}
    return frozenset(names)


@pytest.mark.parametrize("package", PACKAGES)
def test_what_a_docstring_or_a_comment_names_exists(package: str) -> None:
    stale = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in SOURCES
        if path.relative_to(ROOT).parts[0] == package
        for name in names_in(path)
        if not exists(name)
    }
    assert stale == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_names_exists(page: Path) -> None:
    assert {name for name in names_in(page) if not exists(name)} == set()


def test_the_files_that_a_packages_docstring_lists_lie_in_it() -> None:
    missing = set()
    for path in SOURCES:
        docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) if path.name == "__init__.py" else None
        listed = [name for name in _LISTED.findall(docstring or "") if not (path.parent / name).is_file()]
        missing |= {f"{path.relative_to(ROOT)}: {name}" for name in listed}
    assert missing == set()


@pytest.mark.parametrize(
    ("name", "there"),
    [
        ("shm.pool", True),
        ("shm.pool.SlotPool", True),
        ("shm.pool.SlotPool.loan", True),
        ("shm", True),
        ("shm.pond", False),
        ("shm.pool.Pond", False),
        ("shm/pool.py", True),
        ("shm/segments", True),
        ("shm/segments/", True),
        ("segments/posix.py", True),
        ("shm/pond.py", False),
        ("pond/posix.py", False),
    ],
)
def test_a_name_is_looked_up_as_a_module_an_attribute_or_a_path(name: str, there: bool) -> None:
    assert exists(name) is there


def test_names_are_found_in_docstrings_comments_and_prose_and_not_in_code(tmp_path: Path) -> None:
    source = tmp_path / "source.py"
    source.write_text('"""See `shm.pond`, pond/deep.py."""\npond = "shm.pool"  # as in shm/pond/; not ./pond/own.py\n')
    assert list(names_in(source)) == ["shm.pond", "pond/deep.py", "shm/pond/"]
    page = tmp_path / "page.md"
    page.write_text("In `shm.pond.Fish`:\n```python\nimport shm.pool\n```\nand [it](shm/pond.py).\n")
    assert list(names_in(page)) == ["shm.pond.Fish", "shm/pond.py", "shm/pond.py"]
