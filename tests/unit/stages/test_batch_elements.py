"""Elements of bytes in a batch: decoded if a stage reads them, encoded if it gives them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from shm.elements import Elements
from stages.batch import Batch
from stages.copies import DECODED, ENCODED, GATHERED, INPUT, OUTPUT
from stages.errors import BadInput, SpecMismatch
from stages.spec import TensorSpec
from stages.testing import run

NAMES = TensorSpec("names", "bytes", ("n",), {"n": 3, "bytes": 64})
MANY_NAMES = TensorSpec("many", "bytes", ("n",), {"n": 3, "bytes": 64}, many=4)


class Tell:
    """Does with a batch what the test says."""

    inputs: tuple[TensorSpec, ...] = (NAMES,)
    outputs: tuple[TensorSpec, ...] = (replace(NAMES, name="out"),)

    def __init__(self, process: Any) -> None:
        self.process = process


def test_elements_are_decoded_once_if_they_are_read_and_counted() -> None:
    seen: list[Any] = []

    def process(batch: Batch) -> dict[str, Any]:
        seen.append(batch.rows("names"))
        assert batch.rows("names") is seen[0]
        return {"out": [[b"x"]] * 2}

    done = run(Tell(process), names=[[b"a", b"bc"], []])
    assert [row.tolist() for row in seen[0]] == [[b"a", b"bc"], []]
    assert not seen[0][0].flags.writeable
    assert done.copies == {(INPUT, "names", DECODED): 11, (OUTPUT, "out", ENCODED): 10}
    done = run(Tell(lambda batch: {"out": [[]]}), names=[[b"a"]])
    assert done.copies == {}
    assert done.result(0, "out").shape == (0,)


def test_elements_of_a_batch_are_stacked_if_their_shapes_are_equal() -> None:
    def process(batch: Batch) -> dict[str, Any]:
        return {"out": batch.stack("names")[:, ::-1]}

    done = run(Tell(process), names=[[b"a", b"bc"], [b"", b"d"]])
    assert [done.result(row, "out").tolist() for row in (0, 1)] == [[b"bc", b"a"], [b"d", b""]]
    assert (INPUT, "names", GATHERED) not in done.copies
    with pytest.raises(BadInput, match="rows of different shapes"):
        run(Tell(process), names=[[b"a"], [b"a", b"b"]])


def test_bytes_that_are_no_elements_fail_what_reads_them() -> None:
    wrong = Elements(np.full(8, 255, np.uint8), (1,))
    b = Batch(1, {}, {}, lambda *_: np.empty(0), lambda *_: [], elements={"names": [wrong]})
    with pytest.raises(BadInput, match="input 'names': no elements of dtype bytes: element 0 of 1 has a length"):
        b.rows("names")
    with pytest.raises(SpecMismatch, match=r"no input 'other'; this stage has \['names'\]"):
        b.rows("other")


def test_elements_have_no_array_to_fill_and_the_message_says_what_else() -> None:
    for fill_it in (
        lambda b: b.out(0, "out"), lambda b: b.out(0, "out", (1,)), lambda b: b.out_rows("out", (1,)),
        lambda b: b.stack_out("out", (1,)),
    ):  # fmt: skip
        with pytest.raises(SpecMismatch, match=r"no array to fill, .*: return them, or batch\.write\(row, 'out', elements\)"):
            run(Tell(fill_it), names=[[b"a"]])

    class Many(Tell):
        outputs = (MANY_NAMES,)

    with pytest.raises(SpecMismatch, match="no array to fill"):
        run(Many(lambda b: b.out_many(0, "many", [(1,)])), names=[[b"a"]])


def test_many_tensors_of_elements_are_written_as_a_list() -> None:
    class Many(Tell):
        outputs = (MANY_NAMES,)

    done = run(Many(lambda b: b.write(0, "many", [[b"a"], [], ["ü", b""]])), names=[[b"a"]])
    assert [one.tolist() for one in done.result(0, "many")] == [[b"a"], [], [b"\xc3\xbc", b""]]
    assert done.copies == {(OUTPUT, "many", ENCODED): 5 + 10}
    with pytest.raises(SpecMismatch, match="expected at most 4 tensors, found 5"):
        run(Many(lambda b: b.write(0, "many", [[b"a"]] * 5)), names=[[b"a"]])


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ([b"a"] * 4, "expected at most 3 for 'n'"),
        ([b"a" * 61], "expected at most 64 for 'bytes'"),
        (b"a", "expected 1 dimensions"),
        ([1], "found int"),
    ],
)
def test_elements_that_do_not_fit_their_output_are_refused(value: Any, why: str) -> None:
    with pytest.raises(SpecMismatch, match=f"output 'out': .*{why}"):
        run(Tell(lambda b: b.write(0, "out", value)), names=[[b"a"]])


def test_missing_elements_are_none_and_many_are_a_list() -> None:
    class Join(Tell):
        inputs = (replace(NAMES, optional=True), MANY_NAMES)
        outputs = (TensorSpec.json("found", 200),)

    def process(batch: Batch) -> None:
        for row in range(len(batch)):
            one, many = batch.rows("names")[row], batch.rows("many")[row]
            batch.write(row, "found", [one is None, [[item.decode() for item in array] for array in many]])

    done = run(Join(process), names=[None, [b"a"]], many=[[], [[b"b"], [b"c", b"d"]]])
    assert [done.result(row, "found") for row in (0, 1)] == [[True, []], [False, [["b"], ["c", "d"]]]]
