"""Make the tiny models of tests/data/models/: `pip install onnx && python tests/data/make_models.py`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

BFLOAT16, FLOAT, INT64, STRING = TensorProto.BFLOAT16, TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING
TWO = numpy_helper.from_array(np.float32(2), "two")
TABLE = numpy_helper.from_array(np.arange(4, dtype=np.float32) * 10, "table")
LAST = numpy_helper.from_array(np.array([1]), "last")


def save(name, nodes, inputs, outputs, constants=()):
    def values(declared):
        return [helper.make_tensor_value_info(*value) for value in declared]

    made = [helper.make_node(operator, ins, outs, **attributes) for operator, ins, outs, attributes in nodes]
    graph = helper.make_graph(made, name, values(inputs), values(outputs), list(constants))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], producer_name="trtlab", ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, Path(__file__).with_name("models") / f"{name}.onnx")


def main() -> None:
    double = [("Mul", ["x", "two"], ["y"], {})]
    save("double", double, [("x", FLOAT, ["N", 3])], [("y", FLOAT, ["N", 3])], [TWO])
    save("double_in_twos", double, [("x", FLOAT, [2, 3])], [("y", FLOAT, [2, 3])], [TWO])
    over = numpy_helper.from_array(np.array([0]), "over")
    across = [("ReduceSum", ["x", "over"], ["y"], {"keepdims": 1})]
    save("sum_of_batch", across, [("x", FLOAT, ["N", 3])], [("y", FLOAT, [1, 3])], [over])
    total = ("ReduceSum", ["y", "last"], ["total"], {"keepdims": 0})
    save(
        "double_any_length",
        [*double, total],
        [("x", FLOAT, ["N", "length"])],
        [("y", FLOAT, ["N", "length"]), ("total", FLOAT, ["N"])],
        [TWO, LAST],
    )
    save(
        "double_any_length_in_twos",
        double,
        [("x", FLOAT, [2, "length"])],
        [("y", FLOAT, [2, "length"])],
        [TWO],
    )
    # Few operators know bfloat16 on the CPU.
    half = [
        ("Cast", ["x"], ["wide"], {"to": FLOAT}),
        ("Mul", ["wide", "two"], ["doubled"], {}),
        ("Cast", ["doubled"], ["y"], {"to": BFLOAT16}),
    ]
    save("double_bfloat16", half, [("x", BFLOAT16, ["N", "length"])], [("y", BFLOAT16, ["N", "length"])], [TWO])
    save("double_unnamed", double, [("x", FLOAT, ["N", None])], [("y", FLOAT, ["N", None])], [TWO])
    half = numpy_helper.from_array(np.array([2]), "by_two")
    start, end, axis = (
        numpy_helper.from_array(np.array([value]), name) for value, name in ((0, "start"), (9999, "end"), (1, "axis"))
    )
    every_second = [("Slice", ["x", "start", "end", "axis", "by_two"], ["y"], {})]
    save("every_second", every_second, [("x", FLOAT, ["N", None])], [("y", FLOAT, ["N", "?"])], [half, start, end, axis])
    # As many columns as the batch has numbers that are not 0: what only the values tell.
    zero, one = (numpy_helper.from_array(np.array([value]), name) for value, name in ((0, "zero"), (1, "one")))
    count = [
        ("NonZero", ["x"], ["places"], {}),
        ("Shape", ["places"], ["places_shape"], {}),
        ("Gather", ["places_shape", "one"], ["columns"], {"axis": 0}),
        ("ReduceMax", ["x"], ["most"], {"axes": [1], "keepdims": 1}),
        ("Shape", ["x"], ["x_shape"], {}),
        ("Gather", ["x_shape", "zero"], ["rows"], {"axis": 0}),
        ("Concat", ["rows", "columns"], ["shape"], {"axis": 0}),
        ("Expand", ["most", "shape"], ["y"], {}),
    ]
    save("as_many_as_not_zero", count, [("x", FLOAT, ["N", 3])], [("y", FLOAT, ["N", "found"])], [zero, one])
    add = [("Cast", ["b"], ["c"], {"to": FLOAT}), ("Add", ["a", "c"], ["sum"], {})]
    save("add", add, [("a", FLOAT, ["N", 4]), ("b", INT64, ["N", 4])], [("sum", FLOAT, ["N", 4])])
    look_up = [("Gather", ["table", "index"], ["value"], {"axis": 0})]
    save("look_up", look_up, [("index", INT64, ["N", 1])], [("value", FLOAT, ["N", 1])], [TABLE])
    # Rows as many as the data says: places above a half, as NonZero finds them; rows whose first number is below a limit.
    half = numpy_helper.from_array(np.float32(0.5), "half")
    places = [
        ("Greater", ["x", "half"], ["above"], {}),
        ("NonZero", ["above"], ["columns"], {}),
        ("Transpose", ["columns"], ["rows"], {}),
        ("Cast", ["rows"], ["found"], {"to": FLOAT}),
    ]
    detected = ("found", FLOAT, ["num_dets", 2])
    save("detect", places, [("x", FLOAT, ["N", 4])], [detected], [half])
    save("detect_in_ones", places, [("x", FLOAT, [1, 4])], [("found", FLOAT, [None, 2])], [half])
    first = numpy_helper.from_array(np.array(0), "first")
    for name, limit in (("drop_from_half", 0.5), ("drop_from_five", 5)):
        drop = [
            ("Gather", ["x", "first"], ["column"], {"axis": 1}),
            ("Less", ["column", "limit"], ["kept"], {}),
            ("Compress", ["x", "kept"], ["y"], {"axis": 0}),
        ]
        bound = numpy_helper.from_array(np.float32(limit), "limit")
        save(name, drop, [("x", FLOAT, ["N", 3])], [("y", FLOAT, ["rows", 3])], [first, bound])
    drop_in_twos = [("Gather", ["x", "first"], ["column"], {"axis": 1}), ("Less", ["column", "five"], ["kept"], {}),
                    ("Compress", ["x", "kept"], ["y"], {"axis": 0})]  # fmt: skip
    five = numpy_helper.from_array(np.float32(5), "five")
    save("drop_in_twos", drop_in_twos, [("x", FLOAT, [2, 3])], [("y", FLOAT, ["rows", 3])], [first, five])
    loss = ("ReduceMean", ["x"], ["loss"], {"keepdims": 0})
    save(
        "double_with_loss",
        [*double, loss],
        [("x", FLOAT, ["N", 3])],
        [("y", FLOAT, ["N", 3]), ("loss", FLOAT, [])],
        [TWO],
    )
    anchors = numpy_helper.from_array(np.arange(10, dtype=np.float32).reshape(5, 2), "anchors")
    fixed = ("Identity", ["anchors"], ["places"], {})
    save("with_anchors", [*double, fixed], [("x", FLOAT, ["N", 3])], [("y", FLOAT, ["N", 3]), ("places", FLOAT, [5, 2])],
         [TWO, anchors])  # fmt: skip
    save("double_with_text", [*double, ("Cast", ["y"], ["text"], {"to": STRING})], [("x", FLOAT, ["N", 3])],
         [("text", STRING, ["N", 3]), ("y", FLOAT, ["N", 3])], [TWO])  # fmt: skip
    save("strings", [("Identity", ["x"], ["y"], {})], [("x", STRING, ["N", 1])], [("y", STRING, ["N", 1])])


if __name__ == "__main__":
    main()
