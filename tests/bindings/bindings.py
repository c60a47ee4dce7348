"""Run by the tests, each time in a process of its own: TensorRT's compiled bindings without TensorRT.

    python bindings.py stubs  FOLDER TARGET     write what the bindings declare as the stubs of a package `tensorrt`
    python bindings.py compat FOLDER            call all of stages.engines.tensorrt.compat with objects of the bindings' classes

FOLDER holds an unpacked wheel of bindings, and libraries that stand in for the 2 GB which they are linked to:
nothing but the names that are looked up when the module is imported.
"""

from __future__ import annotations

import ast
import importlib
import os
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import create_autospec


def load(folder: Path) -> ModuleType:
    """The bindings' package."""
    # Functions that are never called need not exist.
    sys.setdlopenflags(os.RTLD_LAZY)
    sys.path.insert(0, str(folder))
    (package,) = [path.name for path in folder.iterdir() if (path / "__init__.py").exists()]
    return importlib.import_module(package)


def stubs(folder: Path, target: Path) -> None:
    """Write TARGET/tensorrt/__init__.pyi."""
    package = load(folder).__name__
    (compiled,) = [path.stem for path in (folder / package).glob("*.so")]
    from pybind11_stubgen import main

    sys.argv = ["pybind11-stubgen", f"{package}.{compiled}", "-o", str(target), "--ignore-all-errors"]
    main()
    text = (target / package / f"{compiled}.pyi").read_text().replace(f"{package}.{compiled}.", "")
    (target / "tensorrt").mkdir(exist_ok=True)  # 8.5 has this name already
    # It has a constant `bool`, which in a stub would be what its functions return.
    text = re.sub(r"^bool: .*$", "", text, flags=re.MULTILINE)
    # The one function of the package's own Python.
    text += "\ndef nptype(trt_type: DataType) -> type: ...\n"
    (target / "tensorrt" / "__init__.pyi").write_text("\n".join(parseable(text.splitlines())))


def parseable(lines: list[str]) -> list[str]:
    """Without the few signatures that the bindings spell in C++ or with a wrong order: those become Any."""
    while True:
        try:
            ast.parse("\n".join(lines))
        except SyntaxError as error:
            line = (error.lineno or 0) - 1
            # Back to the function's own line, from whatever its text spilled over.
            while not (found := re.match(r"(\s*)def (\w+)\(", lines[line])):
                line -= 1
            depth, name = found.groups()
            end = line + 1
            while end < len(lines) and not re.match(rf"(\s{{0,{len(depth)}}})(def|class|@|\w+:)", lines[end]):
                end += 1
            lines[line:end] = [f"{depth}def {name}(*args: typing.Any, **kwargs: typing.Any) -> typing.Any: ..."]
        else:
            return lines


def compat(folder: Path) -> None:
    """Fails with AttributeError where a name of stages.engines.tensorrt.compat is not one of these bindings'."""
    trt = load(folder)
    if trt.__name__.startswith("tensorrt_rtx"):
        trt.__name__ = "tensorrt_rtx"

    from stages.engines.tensorrt import compat as tensorrt_compat
    from stages.errors import ModelError

    def like(name: str) -> Any:
        return create_autospec(getattr(trt, name), spec_set=True, instance=True)

    engine, context = like("ICudaEngine"), like("IExecutionContext")
    assert tensorrt_compat.scratch_bytes(engine) == 1  # int() of a mock
    tensorrt_compat.context_without_scratch(trt, engine)
    assert len(engine.method_calls) == 1
    tensorrt_compat.set_scratch(context, 4096, 64)
    builder, network = like("Builder"), like("INetworkDefinition")
    tensorrt_compat.new_network(trt, builder)
    builder.create_network.assert_called_once()
    network.num_layers = 1
    network.get_layer.return_value.type = trt.LayerType.QUANTIZE
    assert not tensorrt_compat.wants_calibration(trt, network)
    network.get_layer.return_value.type = trt.LayerType.CONVOLUTION
    said = [f"version {tensorrt_compat.spell_version(trt)}", f"shares_profiles {tensorrt_compat.shares_profiles(trt)}"]
    for what, call in {
        "calibrates": lambda: tensorrt_compat.wants_calibration(trt, network),
        **{
            precision: lambda precision=precision: tensorrt_compat.set_precision(trt, like("IBuilderConfig"), precision, 1)
            for precision in tensorrt_compat.PRECISIONS
        },
    }.items():
        try:
            call()
            said.append(f"{what} yes")
        except ModelError:
            said.append(f"{what} no")
    print(", ".join(said))


if __name__ == "__main__":
    _, command, *folders = sys.argv
    {"stubs": stubs, "compat": compat}[command](*map(Path, folders))
