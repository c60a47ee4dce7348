"""The TensorRT engine against what TensorRT 8.6 to 11 and TensorRT-RTX declare: their own compiled bindings.

`make check-tensorrt` fetches the bindings (1 MB each) and runs this; neither a GPU nor TensorRT is needed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PYTHON = f"cp{sys.version_info.major}{sys.version_info.minor}"
WHEELS = sorted((ROOT / "build" / "tensorrt-bindings").glob(f"*-{PYTHON}-*.whl"))
STUBGEN = ROOT / "build" / "tensorrt-bindings" / "stubgen"

# What an import looks up; the two of C++ are those of 8.6.
NAMES = [
    "getNvOnnxParserVersion", "getPluginRegistry", "getBuilderPluginRegistry", "initLibNvInferPlugins",
    "createInferBuilder_INTERNAL", "createInferRuntime_INTERNAL", "createInferRefitter_INTERNAL",
    "createNvOnnxParser_INTERNAL", "createNvOnnxParserRefitter_INTERNAL",
    "_ZN14nvcaffeparser117createCaffeParserEv", "_ZN14nvcaffeparser123shutdownProtobufLibraryEv",
    "_ZN11nvuffparser15createUffParserEv", "_ZN11nvuffparser8FieldMapC1EPKcPKvNS_9FieldTypeEi",
]  # fmt: skip

pytestmark = [
    pytest.mark.foreign,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not WHEELS, reason="compares with TensorRT's bindings: run `make check-tensorrt`"),
]


@pytest.fixture(scope="module", params=WHEELS, ids=lambda wheel: "-".join(wheel.name.split("-")[:2]))
def bindings(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel, unpacked, with libraries that stand in for TensorRT's."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler, cc, for the libraries that stand in for TensorRT's")
    folder = tmp_path_factory.mktemp("bindings")
    with zipfile.ZipFile(request.param) as wheel:
        wheel.extractall(folder)
    (module,) = folder.glob("*/*.so")
    needed = set(re.findall(rb"\0(lib(?:nv|tensorrt_)\w+\.so\.\d+)", module.read_bytes()))
    assert needed
    (folder / "lib").mkdir()
    source = "".join(f"void *{name}(void) {{ return 0; }}\n" for name in NAMES)
    for library in needed:
        target = str(folder / "lib" / library.decode())
        subprocess.run([compiler, "-shared", "-x", "c", "-", "-o", target], input=source.encode(), check=True)
    return folder


def run(bindings: Path, *arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("bindings.py")), *map(str, arguments)],
        env={
            **os.environ,
            "LD_LIBRARY_PATH": str(bindings / "lib"),
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(STUBGEN)]),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_engine_and_the_builder_have_the_types_of_the_bindings(bindings: Path, tmp_path: Path) -> None:
    run(bindings, "stubs", bindings, tmp_path)
    files = [str(path.relative_to(ROOT)) for path in sorted((ROOT / "stages/engines/tensorrt").glob("[!_]*.py"))]
    assert len(files) == 4
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), *files]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "MYPYPATH": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    # The generated stubs have mistakes of their own.
    ours = [line for line in done.stdout.splitlines() if line.startswith("stages/")]
    assert "prevented further checking" not in done.stdout, done.stdout
    assert not ours, "\n".join(ours)


def test_what_differs_between_versions_is_called_by_the_names_that_each_has(bindings: Path) -> None:
    said = dict(entry.split(" ") for entry in run(bindings, "compat", bindings).strip().split(", "))
    version = said.pop("version")
    major = int(version.split("-")[1].split(".")[0])
    takes_flags = version.startswith("trt-") and major <= 10
    assert said == {
        "shares_profiles": str(version.startswith("rtx-") or major >= 10),
        "calibrates": "yes" if takes_flags else "no",
        "fp32": "yes",
        "fp16": "yes" if takes_flags else "no",
        "int8": "yes",
    }
