"""EfficientNet-Lite0: a PyTorch checkpoint to an ONNX file, without PyTorch.

    python -m pipeline.models.efficientnet CHECKPOINT.pth MODEL.onnx

`pipeline.models.pull` runs it as a process, since only this step needs the package `onnx`. The graph is
EfficientNet-Lite0 as Tan and Le's EfficientNet (https://arxiv.org/abs/1905.11946) and its "lite" variant
define it: depthwise blocks, ReLU6, no squeeze-and-excitation. Batch normalisation is folded into the convolutions.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from pipeline.models.checkpoint import read_checkpoint
from shm.layout import ceil_div

__all__ = ["build"]

Weights = dict[str, NDArray[np.float32]]

#: Number of blocks, and the stride of the first; kernels and channels are read off the weights.
_STAGES = ((1, 1), (2, 2), (2, 2), (3, 2), (3, 1), (4, 2), (1, 1))
_EPSILON = 1e-3
"""The epsilon of every batch normalisation."""
_OPSET = 13
_IR_VERSION = 8
"""Roughly the oldest that the opset allows, so that older runtimes read the file too."""


class _Graph:
    """Nodes and initialisers in order; each node continues the last tensor."""

    def __init__(self, weights: Weights) -> None:
        self.weights = weights
        self.nodes: list[onnx.NodeProto] = []
        self.initialisers: list[onnx.TensorProto] = []
        self.constant("zero", np.float32(0))
        self.constant("six", np.float32(6))

    def constant(self, name: str, value: NDArray[np.float32] | np.float32) -> str:
        self.initialisers.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def node(self, operator: str, inputs: list[str], name: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(operator, inputs, [name], name=name, **attributes))
        return name

    def conv(self, x: str, conv: str, norm: str, size: int, stride: int = 1, relu: bool = True) -> str:
        """Convolution, batch normalisation and ReLU6; `size` is the height and width of `x`."""
        kernel, bias = self._folded(conv, norm)
        depthwise = kernel.shape[1] == 1
        inputs = [x, self.constant(f"{conv}.weight", kernel), self.constant(f"{conv}.bias", bias)]
        pads = _same_padding(size, kernel.shape[2], stride)
        group = kernel.shape[0] if depthwise else 1
        y = self.node("Conv", inputs, conv, group=group, strides=[stride, stride], pads=pads)
        return self.node("Clip", [y, "zero", "six"], f"{conv}.relu6") if relu else y

    def _folded(self, conv: str, norm: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        # In float64, so that the result is the same number on every machine after rounding.
        parts = ("weight", "bias", "running_mean", "running_var")
        gamma, beta, mean, variance = (self.weights[f"{norm}.{part}"].astype(np.float64) for part in parts)
        scale = gamma / np.sqrt(variance + _EPSILON)
        kernel = self.weights[f"{conv}.weight"] * scale[:, None, None, None]
        return kernel.astype(np.float32), (beta - mean * scale).astype(np.float32)


def build(weights: Weights) -> bytes:
    """The model as the bytes of an .onnx file: `input` float32 (N, 3, 224, 224) -> `logits` float32 (N, 1000)."""
    graph, size = _Graph(weights), 224
    x = graph.conv("input", "_conv_stem", "_bn0", size, stride=2)
    size //= 2
    block = 0
    for repeats, first_stride in _STAGES:
        for repeat in range(repeats):
            stride = first_stride if repeat == 0 else 1
            x, shortcut = _block(graph, x, f"_blocks.{block}", size, stride), x
            size //= stride
            if repeat > 0:
                x = graph.node("Add", [x, shortcut], f"_blocks.{block}.add")
            block += 1
    x = graph.conv(x, "_conv_head", "_bn1", size)
    x = graph.node("GlobalAveragePool", [x], "pooled")
    x = graph.node("Flatten", [x], "features", axis=1)
    classifier = [graph.constant(f"_fc.{part}", weights[f"_fc.{part}"]) for part in ("weight", "bias")]
    graph.node("Gemm", [x, *classifier], "logits", transB=1)
    made = helper.make_graph(
        graph.nodes,
        "efficientnet-lite0",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 3, 224, 224])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 1000])],
        graph.initialisers,
    )
    opsets = [helper.make_opsetid("", _OPSET)]
    model = helper.make_model(made, opset_imports=opsets, producer_name="trtlab", ir_version=_IR_VERSION)
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content


def _block(graph: _Graph, x: str, name: str, size: int, stride: int) -> str:
    """Expand (but for the first block), filter each channel, project."""
    if f"{name}._expand_conv.weight" in graph.weights:
        x = graph.conv(x, f"{name}._expand_conv", f"{name}._bn0", size)
    x = graph.conv(x, f"{name}._depthwise_conv", f"{name}._bn1", size, stride)
    return graph.conv(x, f"{name}._project_conv", f"{name}._bn2", size // stride, relu=False)


def _same_padding(size: int, kernel: int, stride: int) -> list[int]:
    """TensorFlow's SAME, as ONNX writes it: top, left, bottom, right. An odd pixel goes to the bottom and right."""
    needed = max((ceil_div(size, stride) - 1) * stride + kernel - size, 0)
    return [needed // 2, needed // 2, needed - needed // 2, needed - needed // 2]


if __name__ == "__main__":
    checkpoint, target = map(Path, sys.argv[1:])
    target.write_bytes(build(read_checkpoint(checkpoint.read_bytes())))
