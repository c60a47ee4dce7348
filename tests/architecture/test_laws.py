"""The laws of the house, checked against the sources."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from shm import pool

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(path for package in ("shm", "stages", "pipeline") for path in (ROOT / package).rglob("*.py"))
LONGEST = 500
MOST_BRANCHES = 20
#: Functions that have more, and why they are not taken apart.
IN_ONE_PIECE = {
    "pipeline.cli.main:main": "one case for each way in which a command may end, each with its exit code",
    "pipeline.cli.run:run": "one check for each pair of options that exclude each other",
    "pipeline.cli.status:_show": "one line for each thing that is shown, some of them only if there is something to say",
    "pipeline.processes.feeder:feed": "one run from its first file to its summary; what each step opens, the end closes",
}

VAGUE = {"common", "helper", "helpers", "manager", "misc", "util", "utils"}


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def text_files() -> Iterator[tuple[Path, str]]:
    """Everything that is tracked and is text."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode or not listed.stdout:
        pytest.skip("not a git checkout, or a folder that git ignores")
    for name in listed.stdout.decode().split("\0")[:-1]:
        path = ROOT / name
        if path.is_file():
            try:
                yield path, path.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                continue


def test_imports_keep_to_the_contracts(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    cli = pytest.importorskip("importlinter.cli")
    monkeypatch.chdir(ROOT)
    broken = cli.lint_imports(config_filename="pyproject.toml", no_cache=True)
    assert broken == 0, capsys.readouterr().out


def loaded(code: str, *names: str) -> list[str]:
    """Which of these modules a fresh interpreter has loaded after this code."""
    code += f"; import sys; print(*[name for name in {names} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.split()


@pytest.mark.parametrize(
    "module",
    [
        # What an application imports.
        "pipeline.client",
        "pipeline.client.client",
        "pipeline.wire.links",
        # What is started again after a death, while requests wait.
        "pipeline.processes.scheduler",
        "pipeline.processes.worker",
        # What every start waits for.
        "pipeline.processes.describe",
        # What each start of a canary or of a server waits for.
        "pipeline.processes.canary",
        "pipeline.processes.gateway",
    ],
)
def test_a_client_and_a_child_process_load_no_heavy_library(module: str) -> None:
    heavy = ("pydantic", "yaml", "onnxruntime", "PIL", "cv2", "rich", "typer", "structlog", "onnx")
    assert loaded(f"import {module}", *heavy) == []


def test_a_source_does_not_load_what_reads_configs() -> None:
    assert loaded("import pipeline.processes.source", "pydantic", "yaml", "importlib.metadata") == []


@pytest.mark.parametrize("module", ["pipeline.processes.scheduler", "pipeline.processes.worker"])
def test_what_is_started_again_while_requests_wait_loads_nothing_that_only_a_rare_path_needs(module: str) -> None:
    # In 3.10 uuid, which msgspec loads, loads it by way of platform.
    subprocess = ["subprocess"] if sys.version_info >= (3, 11) else []
    rare = ("secrets", "shutil", "tempfile", "difflib", "importlib.metadata")
    assert loaded(f"import {module}", *rare, *subprocess) == []


@pytest.mark.parametrize("module", ["pipeline.processes.scheduler", "pipeline.supervisor.supervisor", "pipeline.cli.run"])
def test_a_process_that_looks_at_no_tensor_does_not_load_numpy(module: str) -> None:
    """It takes longer than all else that they load."""
    assert loaded(f"import {module}", "numpy") == []


def test_the_supervisor_loads_nothing_of_what_its_exporter_renders_metrics_with() -> None:
    loads = ("prometheus_client", "psutil", "http.server")
    assert loaded("import pipeline.supervisor.supervisor, pipeline.processes.scheduler", *loads) == []


def test_a_command_does_not_load_what_only_others_need() -> None:
    others = ("onnxruntime", "rich", "psutil", "prometheus_client", "pdb", "onnx", "ssl")
    assert loaded("from pipeline.cli.main import make_app; make_app(['run'])", *others) == []


def test_no_wait_with_a_time_limit_is_that_of_a_simple_queue() -> None:
    """If a signal comes while it waits, and the time is over by then, CPython 3.11 waits for ever."""
    limited = re.compile(r"\.get\([^)\n]*timeout|\.get\(True, ")
    assert [name_of(path) for path in SOURCES if "SimpleQueue[" in (text := path.read_text()) and limited.search(text)] == []


def test_a_module_says_what_it_is_and_what_it_exports() -> None:
    assert [f"{name_of(path)}: {missed}" for path in SOURCES if (missed := _unsaid(path))] == []


def _unsaid(path: Path) -> str:
    """What a module does not say of itself; "" if it says all."""
    tree = tree_of(path)
    if not ast.get_docstring(tree):
        return "no docstring"
    defines = any(isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign)) for node in tree.body)
    if not defines and not any(isinstance(node, ast.ImportFrom) and node.module != "__future__" for node in tree.body):
        return ""  # a package that is only its docstring
    if path.name == "__main__.py":
        return ""
    exported = next(
        (
            ast.literal_eval(node.value)
            for node in tree.body
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
        ),
        None,
    )
    if exported is None:
        return "no __all__"
    # Constants, then classes, then functions: the order that ruff's RUF022 keeps.
    if exported != sorted(exported, key=lambda name: (not name.isupper(), not name[0].isupper(), name)):
        return "its __all__ is not in order"
    absent = set(exported) - {name for node in tree.body for name in _names(node)}
    return f"exports what it does not define: {sorted(absent)}" if absent else ""


def _names(node: ast.stmt) -> Iterator[str]:
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        yield node.name
    elif isinstance(node, (ast.Import, ast.ImportFrom)):
        yield from (alias.asname or alias.name for alias in node.names)
    elif isinstance(node, ast.Assign):
        yield from (name.id for target in node.targets for name in ast.walk(target) if isinstance(name, ast.Name))
    elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        yield node.target.id
    elif isinstance(node, ast.If):
        for child in (*node.body, *node.orelse):
            yield from _names(child)


def test_no_file_is_long_enough_to_hold_two_ideas() -> None:
    tracked = [path for path, _ in text_files() if path.suffix == ".py"]
    long = {name_of(path): lines for path in tracked if (lines := len(path.read_text().splitlines())) > LONGEST}
    assert long == {}


def test_no_module_has_a_name_that_says_nothing() -> None:
    assert [name_of(path) for path in SOURCES if VAGUE & set(path.relative_to(ROOT).with_suffix("").parts)] == []


def branches(function: ast.AST) -> int:
    """Cyclomatic complexity; unlike ruff's it has what is decided within expressions, too."""
    count = 1
    for node in ast.walk(function):
        if isinstance(node, (ast.If, ast.For, ast.While, ast.IfExp, ast.ExceptHandler, ast.Assert)):
            count += 1
        elif isinstance(node, ast.comprehension):
            count += 1 + len(node.ifs)
        elif isinstance(node, ast.BoolOp):
            count += len(node.values) - 1
    return count


def test_no_function_decides_more_than_can_be_followed() -> None:
    found = {
        f"{name_of(path)}:{node.name}"
        for path in SOURCES
        for node in ast.walk(tree_of(path))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and branches(node) > MOST_BRANCHES
    }
    assert found <= IN_ONE_PIECE.keys()


def test_rounding_up_is_written_in_one_place() -> None:
    assert [name_of(path) for path in SOURCES if "-(-" in path.read_text()] == ["shm.layout"]


def test_what_is_compiled_copies_objects_itself() -> None:
    # mypyc's classes cannot be made without their arguments, so `copy` fails on them, and only where it is compiled.
    found = [
        name_of(path)
        for path in SOURCES
        if name_of(path).startswith(("pipeline.scheduler", "pipeline.worker", "pipeline.processes", "pipeline.graph", "shm"))
        and re.search(r"^\s*(import|from) (copy|pickle)\b", path.read_text(), re.MULTILINE)
    ]
    assert found == []


def test_nothing_is_unpickled_or_evaluated() -> None:
    found = [
        f"{name_of(path)}:{node.lineno}"
        for path in SOURCES
        # It holds the one reader of checkpoints, which finds no class and calls nothing.
        if name_of(path) != "pipeline.models.checkpoint"
        for node in ast.walk(tree_of(path))
        if _runs_data(node)
    ]
    assert found == []


def _runs_data(node: ast.AST) -> bool:
    unpicklers = ("pickle", "marshal", "shelve")
    if isinstance(node, ast.Import):
        return any(alias.name in unpicklers for alias in node.names)
    if isinstance(node, ast.ImportFrom):
        return node.module in unpicklers
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id in ("eval", "exec")
    return isinstance(node, ast.keyword) and node.arg == "allow_pickle" and ast.unparse(node.value) != "False"


def test_nothing_names_a_machine_or_a_package_index() -> None:
    # Spelled in pieces, so that this file does not name them either.
    machine = re.compile("|".join(("/work" + "/", "/root" + "/", "/Users" + "/", r"--(extra-)?index" + "-url", "arti" + "factory")))
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path, text in text_files()
        for number, line in enumerate(text.splitlines(), 1)
        if machine.search(line)
    ]
    assert found == []


def test_a_mark_of_a_whole_module_stands_in_the_module() -> None:
    """Not in the text of a script that a test runs, for example, where it marks nothing."""
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        if re.search(r"^pytestmark\b", path.read_text(), re.MULTILINE):
            targets = [target for node in tree_of(path).body if isinstance(node, ast.Assign) for target in node.targets]
            assert any(isinstance(target, ast.Name) and target.id == "pytestmark" for target in targets), path


def test_every_stage_that_a_config_or_a_page_names_exists() -> None:
    named = set()
    for path, text in text_files():
        if path.suffix in (".md", ".yaml"):
            named |= set(re.findall(r"\b((?:stages|pipeline)\.[\w.]+):([A-Z]\w*)", text))
    assert ("stages.image", "DecodeResize") in named
    assert [f"{m}:{n}" for m, n in sorted(named) if not hasattr(importlib.import_module(m), n)] == []


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_file_that_a_config_names_exists(path: Path) -> None:
    config = yaml.safe_load(path.read_text())
    # A config of cameras has frames in place of files.
    assert ("run" in config) != ("sources" in config)
    for pattern in config.get("run", {"inputs": []})["inputs"]:
        assert list(path.parent.glob(pattern)), pattern
    for stage in config["stages"]:
        for value in (stage.get("with") or {}).values():
            if isinstance(value, str) and "/" in value:
                assert (path.parent / value).is_file(), value


def test_the_pools_transitions_are_those_of_its_drawing() -> None:
    # Out of the source: a compiled module has no docstring.
    drawing = str(ast.get_docstring(tree_of(ROOT / "shm/pool.py"))).split("    state ")[0]
    assert {verb for _, verb in pool.TRANSITIONS} == set(re.findall(r"\b(?:loan|commit|borrow|release|abandon)\b", drawing))
    row = next(line for line in drawing.splitlines() if "FREE" in line)
    verbs = next(line for line in drawing.splitlines() if "loan" in line)
    states = re.findall(r"[A-Z]{4,}", row)
    assert states == [state.name for state in pool.SlotState]
    # The upper arrows, from box to box; the verb stands over its arrow.
    for start, end, verb in zip(states, states[1:], re.findall(r"[a-z]+", verbs)):
        assert pool.TRANSITIONS[pool.SlotState[start], verb][0] == pool.SlotState[end]
        assert row.index(start) < verbs.index(verb) < row.index(end)
    # The lower arrows all lead home, and only BORROWED has a loop.
    home = {start.name for (start, verb), ends in pool.TRANSITIONS.items() if pool.SlotState.FREE in ends}
    assert home == {"LOANED", "COMMITTED", "BORROWED"}
    assert {start.name for (start, _), ends in pool.TRANSITIONS.items() if start in ends} == {"BORROWED"}
    assert drawing.count("abandon") == sum(verb == "abandon" for _, verb in pool.TRANSITIONS)
    assert drawing.count("release") == 2  # one reader less, and the last reader
