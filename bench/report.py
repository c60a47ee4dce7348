"""Report: a run of the tests as a page: the machine, and a table of tests that passed, failed or were skipped.

    python -m bench.report RESULTS.xml         # from pytest --junitxml; writes Markdown to stdout

`make test-gpu` calls it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from xml.etree import ElementTree

from bench.machine import describe_machine
from stages.engines.cuda import device_name

__all__ = ["main", "render"]

_LIBRARIES = ("tensorrt", "tensorrt-rtx-cu13", "pycuda", "onnxruntime", "numpy")


def render(results: ElementTree.Element, machine: Mapping[str, object]) -> str:
    """The page for the root of a JUnit file."""
    rows: list[tuple[str, str, str, str]] = []
    for case in results.iter("testcase"):
        outcome, why = "passed", ""
        for kind in ("failure", "error", "skipped"):
            if (found := case.find(kind)) is not None:
                outcome = {"failure": "**failed**", "error": "**error**"}.get(kind, kind)
                why = (found.get("message") or "").splitlines()[0] if found.get("message") else ""
        file = (case.get("classname") or "").rpartition(".")[2]
        rows.append((file, case.get("name") or "", f"{outcome} {why}".strip(), f"{float(case.get('time') or 0):.1f}"))
    counts = {
        word: sum(outcome.startswith(mark) for _, _, outcome, _ in rows)
        for word, mark in (("passed", "passed"), ("failed", "**"), ("skipped", "skipped"))
    }
    lines = ["# Tests", "", ", ".join(f"{count} {word}" for word, count in counts.items()), ""]
    lines += _table(("machine", ""), [(name, str(value)) for name, value in machine.items()])
    lines += ["", *_table(("file", "test", "outcome", "seconds"), rows)]
    return "\n".join(lines) + "\n"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    cells = [head, ["---"] * len(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return ["| " + " | ".join(row) + " |" for row in cells]


def _machine() -> dict[str, object]:
    found: dict[str, object] = {"GPU": device_name() or "none"}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return {**found, **describe_machine()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Render the file named on the command line."""
    (path,) = sys.argv[1:] if arguments is None else arguments
    print(render(ElementTree.parse(Path(path)).getroot(), _machine()), end="")


if __name__ == "__main__":
    main()
