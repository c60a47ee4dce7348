"""`pipeline build`: a model's TensorRT plans, one for each batch size and precision, into the model cache."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.tables import make_console, make_table
from pipeline.config.quantities import format_bytes
from pipeline.errors import ConfigError, StartError
from stages import catalogue
from stages.engines.calibration import read_calibration
from stages.engines.plans import EnginePlan, file_sha256, write_plan
from stages.engines.tensorrt.build import BuildOptions, Range, build_plan, target
from stages.engines.tensorrt.compat import PRECISIONS
from stages.errors import ModelError

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command()(build)


def build(
    model: Annotated[str, typer.Argument(help="A name of the catalogue, or an .onnx file.", show_default=False)],
    batch: Annotated[str, typer.Option(help="Batch sizes, a plan each.")] = "1,8",
    precision: Annotated[str, typer.Option(help="fp32, fp16, int8, or several; a plan each.")] = "fp16",
    shapes: Annotated[
        list[str],
        typer.Option(
            "--shape",
            metavar="TENSOR=D,...",
            help="Shape of an input without the batch: numbers, or names of what stays free. Repeatable.",
            show_default=False,
        ),
    ] = [],  # noqa: B006 (typer's own form of a default)
    ranges: Annotated[
        list[str],
        typer.Option(
            "--range",
            metavar="D=MIN:USUAL:MAX",
            help="Extents of a free dimension that the plans take; fast for the usual one. Repeatable.",
            show_default=False,
        ),
    ] = [],  # noqa: B006
    calibration: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE|DIR",
            help="Samples that int8 is measured on: .npz files, an array (samples, *shape) for each input.",
            show_default=False,
        ),
    ] = None,
    timing_cache: Annotated[
        Path | None, typer.Option(help="Keeps what was measured; later builds use it again.", show_default=False)
    ] = None,
    uint8: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="First write FILE: the model with normalisation inside, its image input uint8; then build FILE.",
            show_default=False,
        ),
    ] = None,
    mean: Annotated[str, typer.Option(help="With --uint8: what is subtracted, one number or one a channel.")] = "0",
    std: Annotated[str, typer.Option(help="With --uint8: what is then divided by.")] = "1",
    hwc_to_chw: Annotated[
        bool, typer.Option("--hwc-to-chw", help="With --uint8: pixels come as (H, W, C), the model wants (C, H, W).")
    ] = False,
    plans: Annotated[
        bool, typer.Option("--plans/--no-plans", help="With --uint8: build FILE as well, or only write it.")
    ] = True,
) -> None:
    """Build the TensorRT plans of a model for the GPU here. What is up to date is left alone."""
    sizes = sorted({int(number) for number in _numbers("--batch", batch, whole=True)})
    precisions = [name.strip() for name in precision.split(",")]
    for name in precisions:
        if name not in PRECISIONS:
            raise ConfigError(f"--precision {name!r}: expected {', '.join(PRECISIONS)}, or several of them")
    known = catalogue.ASSETS.get(model)
    given = dict(_shape(text) for text in shapes)
    spans = dict(_range(text) for text in ranges)
    try:
        path = catalogue.find(model, Path())
        if uint8 is not None:
            path = _write_uint8(path, uint8, _numbers("--mean", mean), _numbers("--std", std), hwc_to_chw)
        if plans:
            options = BuildOptions(
                {**(known.shapes if known else {}), **given},
                spans,
                None if calibration is None else read_calibration(calibration),
                timing_cache,
            )
            _build_all(path, sizes, precisions, options)
    except ModelError as error:
        raise StartError(str(error)) from error


def _build_all(path: Path, sizes: list[int], precisions: list[str], options: BuildOptions) -> None:
    gpu, version = target()
    console = make_console()
    sha256 = file_sha256(path)
    digest = "" if options.calibration is None else options.calibration.digest
    wanted = [
        EnginePlan(
            path.stem, sha256, gpu, version, precision, size, (), (), 0, _spelt(options),
            calibration=digest if precision == "int8" else "",
        )
        for precision in precisions
        for size in sizes
    ]  # fmt: skip
    table = make_table("", "plan", "size", "", right=("size",), console=console)
    for number, plan in enumerate(wanted, 1):
        if plan.is_there:
            verdict = "up to date"
        else:
            console.print(f"[{number}/{len(wanted)}] building {plan.path.name} ...")
            began = time.monotonic()
            made = build_plan(path, plan, options)
            if file_sha256(path) != sha256:
                raise ModelError(f"{path}: it, or its weights, changed while a plan of it was built; build it again")
            write_plan(*made)
            verdict = f"built in {time.monotonic() - began:.1f} s"
        table.add_row(plan.path.name, format_bytes(plan.path.stat().st_size), verdict)
    console.print(table)
    console.print(f"in {wanted[0].path.parent}")


def _write_uint8(path: Path, target: Path, mean: list[float], std: list[float], hwc_to_chw: bool) -> Path:
    if 0.0 in std:
        raise ConfigError("--std: expected numbers other than 0, for pixels are divided by it")
    try:
        from pipeline.models.normalise import read_whole, take_pixels  # they import onnx, which is not always installed
    except ImportError as error:
        raise StartError(f"--uint8 changes the model, which needs onnx: {error}; install trtlab[gpu]") from error
    if target.exists() and target.samefile(path):
        raise ConfigError(f"--uint8 {target}: expected another file than the model itself, which would be lost")
    content = take_pixels(read_whole(path), mean, std, hwc_to_chw)
    target.write_bytes(content)
    return target


def _shape(text: str) -> tuple[str, list[int | str]]:
    tensor, _, axes = text.rpartition("=")
    extents: list[int | str] = [int(axis) if axis.isdecimal() else axis for axis in axes.split(",")]
    if not tensor or any(axis in ("", 0) for axis in extents):
        raise ConfigError(f"--shape {text!r}: expected TENSOR=D,D,..., such as --shape x=3,48,W")
    return tensor, extents


def _range(text: str) -> tuple[str, Range]:
    name, _, values = text.rpartition("=")
    numbers = [int(value) if value.isdecimal() else 0 for value in values.split(":")]
    if not name or len(numbers) != 3 or not 1 <= numbers[0] <= numbers[1] <= numbers[2]:
        raise ConfigError(f"--range {text!r}: expected D=MIN:USUAL:MAX, such as --range W=32:320:960")
    return name, Range(*numbers)


def _spelt(options: BuildOptions) -> str:
    """Shapes and ranges as the command line has them."""
    shapes = [f"{tensor}={','.join(map(str, axes))}" for tensor, axes in sorted(options.shapes.items())]
    return " ".join([*shapes, *(f"{name}={r.min}:{r.opt}:{r.max}" for name, r in sorted(options.ranges.items()))])


def _numbers(option: str, text: str, whole: bool = False) -> list[float]:
    try:
        numbers = [float(int(part) if whole else float(part)) for part in text.split(",")]
    except ValueError:
        raise ConfigError(f"{option} {text!r}: expected numbers separated by commas") from None
    if whole and min(numbers) < 1:
        raise ConfigError(f"{option} {text!r}: expected numbers of at least 1")
    return numbers
