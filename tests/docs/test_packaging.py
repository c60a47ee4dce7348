"""What is installed is what runs: packages, and the distributions they import."""

from __future__ import annotations

import ast
import re
import sys
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("pipeline", "shm", "stages")

#: Imported, but not declared.
BROUGHT = {
    "pydantic_core": "pydantic requires exactly the one that it fits",
    "google": "protobuf: only with the extra serve",
    "grpc": "grpcio: only with the extra serve",
    "starlette": "only with the extra serve",
    "av": "only with the extra video",
    "paho": "paho-mqtt: only with the extra mqtt",
    "opentelemetry": "only with the extra tracing",
    "h11": "only with the extra serve",
    "uvicorn": "only with the extra serve",
    "onnx": "only to convert a model when it is pulled, where pip fetches it, and for pipeline build --uint8",
    "pycuda": "only where there is a GPU: the extra gpu",
    "pynvml": "only where there is a GPU: the extra gpu",
    "tensorrt": "only where there is a GPU: the extra gpu; for the types of its objects",
}
#: Declared, but not imported.
RUN = {"pip": "pulls the models, as python -m pip"}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def imported() -> set[str]:
    """Distributions that the packages import, anywhere in any module."""
    modules: set[str] = set()
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Import):
                    modules.update(alias.name.partition(".")[0] for alias in node.names)
                elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    modules.add(node.module.partition(".")[0])
    foreign = modules - set(sys.stdlib_module_names) - set(PACKAGES) - set(BROUGHT)
    distributions = top_level()
    return {normal(distributions.get(module, f"none that is declared has {module}")) for module in foreign}


def declared() -> set[str]:
    """The distributions that the core requires."""
    required = [line for line in metadata.requires("trtlab") or () if "extra ==" not in line]
    return {normal(found[0]) for line in required if (found := re.match(r"[\w.-]+", line))}


def top_level() -> dict[str, str]:
    """Module -> the declared distribution that brings it. (That of importlib.metadata misses most on Python 3.10.)"""
    found: dict[str, str] = {}
    for distribution in map(metadata.distribution, declared()):
        for file in distribution.files or ():
            name = file.parts[0].partition(".")[0]
            if file.suffix in (".py", ".so") and name:
                found.setdefault(name, distribution.metadata["Name"])
    return found


def test_every_folder_of_modules_is_a_package() -> None:
    # An editable install finds the others as well; a wheel leaves them out.
    folders = {path.parent for package in PACKAGES for path in (ROOT / package).rglob("*.py")}
    assert [str(folder) for folder in sorted(folders) if not (folder / "__init__.py").exists()] == []


def test_what_is_imported_is_declared_and_what_is_declared_is_imported() -> None:
    assert imported() == declared() - set(RUN)


def test_each_package_says_that_it_is_typed() -> None:
    assert all((ROOT / package / "py.typed").exists() for package in PACKAGES)
