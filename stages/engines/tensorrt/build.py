"""Builds a TensorRT plan out of an ONNX file: one batch size, one precision, for the GPU of this machine.

`pipeline build` calls it. TensorRT tries every kernel on the GPU and so needs one; TensorRT-RTX leaves the
last step to where the plan is loaded, and builds anywhere.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shm.handle import BFLOAT16
from stages.engines.calibration import Calibration
from stages.engines.cuda import Device, device_name
from stages.engines.onnxruntime import declared_outputs
from stages.engines.plans import ANY_GPU, EnginePlan, Profile, gpu_slug, plans_dir
from stages.engines.signature import TensorAxes
from stages.engines.tensorrt import compat
from stages.errors import ModelError
from stages.stage import Array

if TYPE_CHECKING:
    import tensorrt

__all__ = ["BuildOptions", "Range", "build_plan", "target"]


@dataclass(frozen=True, slots=True)
class Range:
    """Extents of a free dimension that a plan must take."""

    min: int
    opt: int
    """The one that it is made fast for."""
    max: int


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """The settings that are not in the name of a plan."""

    shapes: Mapping[str, Sequence[int | str]] = field(default_factory=dict)
    """Shapes of tensors without the batch, by name: numbers if fewer are meant than the model takes, or names."""
    ranges: Mapping[str, Range] = field(default_factory=dict)
    """For each free dimension, by its name."""
    calibration: Calibration | None = None
    timing_cache: Path | None = None
    """File that keeps what was measured, for the next plan of the same layers."""


def target() -> tuple[str, str]:
    """(GPU, version) that plans built here are for.

    Raises:
        ModelError: no TensorRT is installed, or it needs a GPU and there is none.
    """
    trt = compat.load_library()
    version = compat.spell_version(trt)
    if trt.__name__ == "tensorrt_rtx":
        return ANY_GPU, version
    name = device_name()
    if name is None:
        raise ModelError(f"{version} builds plans for the GPU of the machine it runs on, and there is none here")
    return gpu_slug(name), version


def build_plan(model: Path, wanted: EnginePlan, options: BuildOptions) -> tuple[EnginePlan, bytes]:
    """Build one plan; this takes tens of seconds.

    Args:
        model: the .onnx file.
        wanted: what to build; its tensors and profiles are still to be found.

    Returns:
        `wanted` with its tensors, and the plan's bytes.

    Raises:
        ModelError: the model cannot be read, or cannot be built so.
    """
    trt = compat.load_library()
    log = _Log(trt)
    builder: tensorrt.Builder = trt.Builder(log.logger)
    read = _Reader(model, wanted.version, trt, builder, log)
    network = read()
    config = builder.create_builder_config()
    takes = [network.get_input(i) for i in range(network.num_inputs)]
    shapes = [_profile(model, tensor, wanted.batch, options) for tensor in takes]
    _check_ranges(model, [axes for _, axes in shapes], options)
    profiles = tuple(profile for profile, _ in shapes)
    takes_any = all(compat.extents_of(tensor.shape)[0] == -1 for tensor in takes)
    # With every extent given, all shapes must be known: an output whose shape depends on the data cannot have a slot.
    inputs, outputs = _tensors(model, trt, network, [profile.max for profile in profiles])
    if wanted.batch > 1:
        _check_rows(model, wanted.batch, outputs)
    if wanted.batch > 1 and takes_any:
        # With another size than one: an output may have one row by chance.
        more = [(wanted.batch + 1, *profile.max[1:]) for profile in profiles]
        _check_rows(model, wanted.batch + 1, _tensors(model, trt, read(), more)[1])
    is_free = any(profile.min != profile.max for profile in profiles)
    if is_free:
        # Another network: 8.5 does not free an output's shape again once its inputs' were fixed.
        network = read()
        _set_free(trt, builder, config, network, shapes)
        inputs = tuple(replace(tensor, axes=axes) for tensor, (_, axes) in zip(inputs, shapes))
        outputs = _freed(model, network, outputs)
    # It must live until the plan is built.
    calibrator = None
    if wanted.precision == "int8" and compat.wants_calibration(trt, network):
        calibrator = _calibrator(model, trt, wanted, options.calibration, profiles, inputs)
    compat.set_precision(trt, config, wanted.precision, calibrator)
    _set_search(trt, config, options.timing_cache)
    content: tensorrt.IHostMemory | None = builder.build_serialized_network(network, config)
    if calibrator is not None:
        calibrator.close()
    if content is None:
        raise ModelError(f"{model}: {wanted.version} could not build it: {log.last}")
    if options.timing_cache is not None:
        options.timing_cache.write_bytes(compat.content_of(config.get_timing_cache().serialize()))
    found = replace(wanted, inputs=inputs, outputs=outputs, profiles=profiles if is_free else ())
    return found, compat.content_of(content)


def _check_ranges(model: Path, shapes: Sequence[_Axes], options: BuildOptions) -> None:
    """Refuse the range of a dimension that no input has.

    Raises:
        ModelError: with its name.
    """
    free = {axis for axes in shapes for axis in axes if isinstance(axis, str)}
    if unknown := sorted(set(options.ranges) - free):
        raise ModelError(f"{model}: no input has a free dimension {unknown[0]!r}")


def _set_search(trt: Any, config: tensorrt.IBuilderConfig, timing_cache: Path | None) -> None:
    """Say which kernels are tried, how often, and what is known of them."""
    # Kernels of TensorRT's own: cuBLAS and cuDNN need not be there, and later versions leave them out as well.
    sources = trt.TacticSource
    config.set_tactic_sources(1 << int(sources.EDGE_MASK_CONVOLUTIONS) | 1 << int(sources.JIT_CONVOLUTIONS))
    for name in ("avg_timing_iterations", "min_timing_iterations"):
        if hasattr(config, name):
            setattr(config, name, 1)
    if timing_cache is not None:
        known = timing_cache.read_bytes() if timing_cache.is_file() else b""
        cache = config.create_timing_cache(known)
        config.set_timing_cache(cache, ignore_mismatch=False)


_Axes = tuple[int | str | None, ...]


def _profile(model: Path, tensor: tensorrt.ITensor, batch: int, options: BuildOptions) -> tuple[Profile, _Axes]:
    """The shapes that a plan must take for an input, and its axes: numbers, and names of what is free."""
    first, *rest = compat.extents_of(tensor.shape)
    if first not in (-1, batch):
        raise ModelError(f"{model}: {tensor.name} was saved for batches of {first}, and {batch} was asked for")
    given = options.shapes.get(tensor.name)
    if given is not None and (
        len(given) != len(rest) or any(own not in (-1, extent) for own, extent in zip(rest, given))
    ):
        raise ModelError(f"{model}: {tensor.name} has the shape {rest} (-1: free), which {list(given)} does not fit")
    axes: list[int | str | None] = [batch]
    ranges = [Range(batch, batch, batch)]
    for number, own in enumerate(rest):
        axis = given[number] if given is not None else own if own != -1 else _axis_name(tensor, number)
        axes.append(axis)
        if isinstance(axis, int):
            ranges.append(Range(axis, axis, axis))
        elif axis in options.ranges:
            ranges.append(options.ranges[axis])
        else:
            raise ModelError(
                f"{model}: {tensor.name} has a free dimension besides the batch, {axis!r} in {[first, *rest]}: give "
                f"its range, such as --range {axis}=32:320:960 (least, usual, most), or fix it with "
                f"--shape {tensor.name}={','.join('320' if extent == -1 else str(extent) for extent in rest)}"
            )
    least, usual, most = (tuple(getattr(r, which) for r in ranges) for which in ("min", "opt", "max"))
    return Profile(tensor.name, least, usual, most), tuple(axes)


def _axis_name(tensor: Any, number: int) -> str:
    """As the file calls it; if it does not, or the library does not tell (8.5), as `model_specs` names it."""
    own = tensor.get_dimension_name(number + 1) if hasattr(tensor, "get_dimension_name") else ""
    return own or f"{tensor.name}.{number}"


class _Reader:
    """Makes networks of one model, any number of them."""

    def __init__(self, model: Path, version: str, trt: Any, builder: tensorrt.Builder, log: _Log) -> None:
        self._model, self._version, self._trt, self._builder, self._log = model, version, trt, builder, log
        self._content = model.read_bytes()
        #: The networks' weights lie in them.
        self._parsers: list[tensorrt.OnnxParser] = []

    def __call__(self) -> tensorrt.INetworkDefinition:
        network = compat.new_network(self._trt, self._builder)
        parser: tensorrt.OnnxParser = self._trt.OnnxParser(network, self._log.logger)
        self._parsers.append(parser)
        # With its path: TensorRT looks for weights beside the file there, and otherwise in this process's folder.
        if not parser.parse(self._content, str(self._model)):
            errors = "; ".join(str(parser.get_error(i)) for i in range(parser.num_errors))
            raise ModelError(f"{self._model}: {self._version} cannot read it: {errors}")
        return network


def _tensors(
    model: Path, trt: Any, network: tensorrt.INetworkDefinition, shapes: Sequence[tuple[int, ...]]
) -> tuple[tuple[TensorAxes, ...], tuple[TensorAxes, ...]]:
    """Inputs and outputs if the inputs are of these shapes."""
    for number, shape in enumerate(shapes):
        network.get_input(number).shape = trt.Dims(shape)
    return (
        tuple(_axes(model, trt, network.get_input(i)) for i in range(network.num_inputs)),
        tuple(_axes(model, trt, network.get_output(i)) for i in range(network.num_outputs)),
    )


def _check_rows(model: Path, batch: int, outputs: Sequence[TensorAxes]) -> None:
    """Refuse an output that has no row for each request of a batch."""
    for tensor in outputs:
        if tensor.axes[:1] != (batch,):
            raise ModelError(
                f"{model}: output {tensor.name} has the shape {list(tensor.axes)} for a batch of {batch}; expected "
                f"{batch} as first extent, one row a request. Build it for batches of one, --batch 1, and run it so, "
                f"batch: {{max_size: 1}}"
            )


def _set_free(
    trt: Any,
    builder: tensorrt.Builder,
    config: tensorrt.IBuilderConfig,
    network: tensorrt.INetworkDefinition,
    shapes: Sequence[tuple[Profile, _Axes]],
) -> None:
    """Let the inputs' dimensions be free within their ranges."""
    profile = builder.create_optimization_profile()
    for number, (shape, axes) in enumerate(shapes):
        free = [extent if isinstance(axis, int) else -1 for axis, extent in zip(axes, shape.max)]
        network.get_input(number).shape = trt.Dims(free)
        profile.set_shape(shape.name, trt.Dims(shape.min), trt.Dims(shape.opt), trt.Dims(shape.max))
    config.add_optimization_profile(profile)
    if hasattr(config, "set_calibration_profile"):
        config.set_calibration_profile(profile)


def _freed(
    model: Path, network: tensorrt.INetworkDefinition, outputs: Sequence[TensorAxes]
) -> tuple[TensorAxes, ...]:
    """The outputs with what is free in them, under the names in the file: TensorRT does not tell those."""
    named = {tensor.name: tensor.axes for tensor in declared_outputs(model)}
    freed = []
    for number, tensor in enumerate(outputs):
        (_, *now), (batch, *most) = compat.extents_of(network.get_output(number).shape), tensor.axes
        names = [name if isinstance(name, str) else None for name in named[tensor.name][1:]]
        axes = [name if extent == -1 else known for extent, known, name in zip(now, most, names)]
        freed.append(replace(tensor, axes=(batch, *axes)))
    return tuple(freed)


def _axes(model: Path, trt: Any, tensor: tensorrt.ITensor) -> TensorAxes:
    shape = compat.extents_of(tensor.shape)
    if -1 in shape:
        raise ModelError(f"{model}: the shape of output {tensor.name} depends on the data, {list(shape)}: no plan can")
    try:
        # TensorRT's own table has no names for these.
        dtype = {"UINT8": "uint8", "BF16": BFLOAT16}.get(tensor.dtype.name) or trt.nptype(tensor.dtype)().dtype.name
    except TypeError as error:
        why = f"{tensor.name} is a {tensor.dtype.name}, which cannot lie in shared memory"
        raise ModelError(f"{model}: {why}") from error
    return TensorAxes(tensor.name, dtype, shape)


def _calibrator(
    model: Path,
    trt: Any,
    wanted: EnginePlan,
    calibration: Calibration | None,
    profiles: tuple[Profile, ...],
    inputs: tuple[TensorAxes, ...],
) -> Any:
    """A calibrator: it shows TensorRT the samples, and keeps what TensorRT found, beside the plans, for the other batch
    sizes."""
    if calibration is None:
        raise ModelError(
            f"{model}: int8 is measured on samples: --calibration FILE.npz; or give a model that is quantised already"
        )
    usual = {profile.name: profile.opt for profile in profiles}
    calibration.check(tuple(replace(tensor, axes=usual[tensor.name]) for tensor in inputs), wanted.batch)
    key = hashlib.sha256(f"{wanted.model_sha256} {wanted.shapes} {calibration.digest}".encode()).hexdigest()[:16]
    kept = plans_dir() / f"{wanted.model}.{re.sub('[^a-z0-9.-]', '-', wanted.version)}.{key}.calibration"
    batch, arrays = wanted.batch, calibration.arrays
    gpu = Device(0)
    memory = {name: gpu.allocate(array[:batch].nbytes, f"calibration of {name}") for name, array in arrays.items()}
    batches = iter(range(0, calibration.samples - batch + 1, batch))

    class Calibrator(trt.IInt8EntropyCalibrator2):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IInt8EntropyCalibrator2.__init__(self)

        def get_batch_size(self) -> int:
            return batch

        def get_batch(self, names: Sequence[str]) -> list[int] | None:
            first = next(batches, None)
            if first is None:
                return None
            for name in names:
                rows: Array = arrays[name][first : first + batch]
                gpu.upload(memory[name], rows.ctypes.data, rows.nbytes, 0)
            # TensorRT reads in a stream of its own.
            gpu.synchronize()
            return [memory[name] for name in names]

        def read_calibration_cache(self) -> bytes | None:
            return kept.read_bytes() if kept.is_file() else None

        def write_calibration_cache(self, cache: Any) -> None:
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_bytes(bytes(cache))

        def close(self) -> None:
            memory.clear()
            gpu.close()

    return Calibrator()


#: What TensorRT says if it brings numbers of the model to a smaller type and they do not fit.
_NARROWED = re.compile(r"clamp|truncat|outside (?:of )?the range|overflow|out of range", re.IGNORECASE)


class _Log:
    """Keeps the last error: TensorRT returns None and logs why. Says once if it changed numbers of the model."""

    def __init__(self, trt: Any) -> None:
        severe = (trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.Severity.ERROR)
        warning = trt.ILogger.Severity.WARNING
        self.last = "it did not say why"
        keep = self
        told: set[str] = set()

        class Logger(trt.ILogger):  # type: ignore[misc]
            def __init__(self) -> None:
                trt.ILogger.__init__(self)

            def log(self, severity: Any, message: str) -> None:
                if severity in severe:
                    keep.last = message
                elif severity == warning and _NARROWED.search(message) and message not in told:
                    told.add(message)
                    print(f"TensorRT: {message}", file=sys.stderr)

        self.logger = Logger()
