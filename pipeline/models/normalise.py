"""Puts normalisation into a model: it then takes pixels as uint8, a quarter of the bytes of float32.

    before    image float32 ──▶ model
    after     image uint8 ──▶ Cast ──▶ - mean ──▶ / std ──▶ (HWC to CHW) ──▶ model

`pipeline build --uint8` calls it. What comes out is an ONNX file that any engine runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from stages.engines.onnx_file import external_files
from stages.errors import ModelError

__all__ = ["read_whole", "take_pixels"]

_COLOURS = (1, 3)


def read_whole(path: Path) -> bytes:
    """An ONNX file with all of its weights in it, even if they lie in files beside it.

    A file that is written to another folder would look for its weights there, and find none, or another model's.

    Raises:
        ModelError: weights are missing, or there are more than a file of protobuf holds.
    """
    if not external_files(path):
        return path.read_bytes()
    try:
        content: bytes = onnx.load(path).SerializeToString()
    except Exception as error:  # protobuf's own, and those of onnx's checks
        raise ModelError(f"{path}: expected weights of less than 2 GiB beside it: {error}") from error
    return content


def take_pixels(content: bytes, mean: Sequence[float], std: Sequence[float], hwc_to_chw: bool) -> bytes:
    """The model with its one float32 image input made uint8.

    Args:
        content: an ONNX file whose only input is float32 (N, C, H, W) or (N, H, W, C).
        mean, std: one number, or one for each channel, in units of 0..255; the model gets (x - mean) / std.
        hwc_to_chw: the new input is (N, H, W, C), the model's is (N, C, H, W).

    Raises:
        ModelError: the model has another input, or `mean` or `std` do not suit it.
    """
    model = onnx.load_model_from_string(content)
    graph = model.graph
    image = _only_input(graph)
    axes = image.type.tensor_type.shape.dim
    if len(axes) != 4:
        raise ModelError(f"{image.name}: expected (N, C, H, W) or (N, H, W, C), found {len(axes)} axes")
    chw = axes[1].dim_value in _COLOURS
    if not chw and (hwc_to_chw or axes[3].dim_value not in _COLOURS):
        shape = [axis.dim_value or axis.dim_param for axis in axes]
        raise ModelError(f"{image.name}: expected 1 or 3 channels in axis 1 or 3, found the shape {shape}")
    channels = axes[1].dim_value if chw else axes[3].dim_value
    # The constants are applied before the tensor is transposed.
    broadcast = (-1, 1, 1) if chw and not hwc_to_chw else (-1,)
    last = f"{image.name}/pixels"
    nodes = [helper.make_node("Cast", [image.name], [last], to=TensorProto.FLOAT)]
    for operator, option, values, neutral in (("Sub", "mean", mean, 0.0), ("Div", "std", std, 1.0)):
        if len(values) not in (1, channels):
            raise ModelError(f"{option}: expected 1 number or {channels}, found {len(values)}")
        if any(value != neutral for value in values):
            constant = np.array(values, np.float32).reshape(broadcast if len(values) > 1 else ())
            graph.initializer.append(numpy_helper.from_array(constant, f"{image.name}/{option}"))
            nodes.append(helper.make_node(operator, [last, f"{image.name}/{option}"], [f"{last}/{option}"]))
            last = f"{last}/{option}"
    if hwc_to_chw:
        nodes.append(helper.make_node("Transpose", [last], [f"{last}/chw"], perm=[0, 3, 1, 2]))
        last = f"{last}/chw"
        _move_channels_last(axes)
    _put_before(graph, image.name, nodes, last)
    image.type.tensor_type.elem_type = TensorProto.UINT8
    onnx.checker.check_model(model)
    made: bytes = model.SerializeToString()
    return made


def _only_input(graph: onnx.GraphProto) -> onnx.ValueInfoProto:
    """The input of a model that has one, of float32.

    Raises:
        ModelError: it has another.
    """
    weights = {initializer.name for initializer in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    if len(inputs) != 1 or inputs[0].type.tensor_type.elem_type != TensorProto.FLOAT:
        found = ", ".join(value.name for value in inputs)
        raise ModelError(f"expected a model with one float32 input, found {found or 'none'}")
    image: onnx.ValueInfoProto = inputs[0]
    return image


def _move_channels_last(axes: Any) -> None:
    """(N, C, H, W) becomes (N, H, W, C)."""
    moved = [onnx.TensorShapeProto.Dimension() for _ in range(4)]
    for new, old in enumerate((0, 2, 3, 1)):
        moved[new].CopyFrom(axes[old])
    del axes[:]
    axes.extend(moved)


def _put_before(graph: onnx.GraphProto, tensor: str, nodes: Sequence[onnx.NodeProto], last: str) -> None:
    """Have nodes that read `tensor` and give `last` run first, and all others read `last` instead."""
    for node in graph.node:
        for index, name in enumerate(node.input):
            if name == tensor:
                node.input[index] = last
    for position, node in enumerate(nodes):
        graph.node.insert(position, node)
