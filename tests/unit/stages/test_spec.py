from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.errors import SpecMismatch
from stages.spec import TensorSpec, extents_of

FRAME = TensorSpec("frame", "uint8", ("H", "W", 3), {"H": 4, "W": 6})
SQUARE = TensorSpec("square", "float32", ("n", "n"), {"n": 5})


def test_a_spec_knows_its_largest_tensor() -> None:
    assert FRAME.max_shape == (4, 6, 3)
    assert FRAME.max_nbytes == 72
    assert SQUARE.max_nbytes == 100
    assert TensorSpec("scalar", "int64", ()).max_nbytes == 8
    assert TensorSpec.json("doc", 64).max_nbytes == 64


def test_a_spec_is_static_where_no_dimension_is_free() -> None:
    assert TensorSpec("x", "uint8", (3,)).is_static
    assert not FRAME.is_static


@pytest.mark.parametrize("shape", [(3, 4), [3, 4], np.array([3, 4]), (np.uint8(3), np.int64(4))])
def test_extents_are_plain_numbers(shape: Any) -> None:
    extents = extents_of(shape)
    assert extents == (3, 4)
    assert [type(extent) for extent in extents] == [int, int]
    assert extents_of(()) == ()


@pytest.mark.parametrize("shape", [(1.0,), ("n",), (None,), 3, (-1,), (2, -1)])
def test_what_is_no_shape_is_refused(shape: Any) -> None:
    with pytest.raises(SpecMismatch, match="expected a shape of whole numbers, found"):
        extents_of(shape)


def test_a_spec_reads_as_a_person_writes_it() -> None:
    assert str(FRAME) == "frame uint8[H<=4, W<=6, 3]"


def test_extents_are_rounded_up_where_their_dimension_is_padded_and_never_above_the_maximum() -> None:
    page = TensorSpec("page", "uint8", ("H", "W", 3), {"H": 90, "W": 100})
    assert page.padded((33, 33, 3), {"W": 32}) == (33, 64, 3)
    assert page.padded((33, 64, 3), {"W": 32}) == (33, 64, 3)
    assert page.padded((89, 97, 3), {"W": 32, "H": 8, "C": 4}) == (90, 100, 3)
    assert page.padded((0, 0, 3), {"W": 32}) == (0, 0, 3)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("x", "uint8", ("n",)), "free dimension 'n' has no maximum"),
        (("x", "uint8", (3,), {"n": 4}), "max names 'n', not in its shape"),
        (("x", "uint8", (-1,)), "extent -1 is below 0"),
        (("x", "uint8", ("n",), {"n": -4}), "extent -4 is below 0"),
        (("x", "object", (1,)), "'object' cannot lie in shared memory"),
        (("x", "str", (1,)), "'str' cannot lie in shared memory"),
        (("x", "float", (1,)), "expected a numpy name"),
        (("x", "uint8", (1.5,)), "its extents are not whole numbers"),
        (("x", "uint8", ("n",), {"n": 4.0}), "its extents are not whole numbers"),
    ],
)
def test_a_spec_that_contradicts_itself_is_refused(arguments: tuple[Any, ...], why: str) -> None:
    with pytest.raises(SpecMismatch, match=f"tensor 'x': .*{why}"):
        TensorSpec(*arguments)


@pytest.mark.parametrize(
    ("spec", "dtype", "shape", "why"),
    [
        (FRAME, "uint8", (4, 6, 3), None),
        (FRAME, "uint8", (0, 1, 3), None),
        (FRAME, "float32", (4, 6, 3), "expected dtype uint8, found float32"),
        (FRAME, "uint8", (4, 6), "expected 3 dimensions [H<=4, W<=6, 3], found [4, 6]"),
        (FRAME, "uint8", (4, 6, 4), "expected 3 along axis 2 of [H<=4, W<=6, 3], found 4"),
        (FRAME, "uint8", (5, 6, 3), "expected at most 4 for 'H' of [H<=4, W<=6, 3], found 5"),
        (SQUARE, "float32", (2, 2), None),
        (SQUARE, "float32", (2, 3), "'n' of [n<=5, n<=5] is both 2 and 3"),
    ],
)
def test_a_tensor_fits_or_is_told_why_not(spec: TensorSpec, dtype: str, shape: tuple[int, ...], why: str | None) -> None:
    assert spec.misfit(dtype, shape) == why


def x(*shape: int | str, dtype: str = "uint8", **max: int) -> TensorSpec:
    return TensorSpec("x", dtype, shape, max)


@pytest.mark.parametrize(
    ("wants", "producer", "why"),
    [
        (x(3), x(3), None),
        (x("n", n=4), x(3), None),
        (x("n", n=4), x("m", m=4), None),
        (x(3), x(4), "axis 0: 4 of [4] into 3 of [3]"),
        (x(3), x("m", m=3), "axis 0: 'm' of [m<=3] into 3 of [3]"),
        (x("n", n=4), x("m", m=5), "axis 0: up to 5 of [m<=5] into"),
        (x(3), x(3, dtype="int8"), "dtype int8 into uint8"),
        (x(3), x(3, 1), "2 dimensions [3, 1] into 1 [3]"),
    ],
)
def test_an_edge_fits_or_is_told_why_not(wants: TensorSpec, producer: TensorSpec, why: str | None) -> None:
    found = wants.misfit_of_edge(producer)
    assert found == why or (why is not None and found is not None and found.startswith(why))


EXTENTS = st.lists(st.integers(0, 5) | st.sampled_from(["a", "b"]), max_size=3)


@given(shape=EXTENTS, other=EXTENTS, most=st.integers(0, 5), size=st.data())
def test_what_an_edge_lets_through_always_fits(
    shape: list[int | str], other: list[int | str], most: int, size: st.DataObject
) -> None:
    def spec(extents: list[int | str], most: int) -> TensorSpec:
        return TensorSpec("x", "uint8", tuple(extents), {e: most for e in extents if isinstance(e, str)})

    wants, producer = spec(shape, 5), spec(other, most)
    if wants.misfit_of_edge(producer) is not None or len({e for e in shape if isinstance(e, str)}) < sum(
        isinstance(e, str) for e in shape
    ):
        return  # refused; or a dimension named twice, which only the tensor itself can tell
    tensor = tuple(size.draw(st.integers(0, most)) if isinstance(e, str) else e for e in other)
    assert wants.misfit("uint8", tensor) is None


@given(shape=EXTENTS, most=st.integers(0, 5))
def test_a_spec_survives_being_written_down(shape: list[int | str], most: int) -> None:
    spec = TensorSpec("x", "float32", tuple(shape), {e: most for e in shape if isinstance(e, str)})
    assert TensorSpec.from_dict(spec.to_dict()) == spec


NAMES = TensorSpec("names", "bytes", ("n",), {"n": 4, "bytes": 40})


def test_elements_of_bytes_are_bounded_by_the_bytes_of_all_of_them() -> None:
    assert (NAMES.max_nbytes, NAMES.max_shape, NAMES.is_static) == (40, (4,), False)
    assert NAMES.stored_shape == ("n", "bytes")
    assert str(NAMES) == "names bytes[n<=4] in bytes<=40"
    assert TensorSpec.from_dict(NAMES.to_dict()) == NAMES
    one = TensorSpec("name", "bytes", (), {"bytes": 9})
    assert (one.is_static, one.stored_shape, one.max_nbytes) == (False, ("bytes",), 9)
    assert TensorSpec("x", "uint8", ("n", 2), {"n": 3}).stored_shape == ("n", 2)


@pytest.mark.parametrize(
    ("shape", "why"),
    [
        ((4, 40), None),
        ((0, 0), None),
        ((5, 40), "expected at most 4 for 'n'"),
        ((4, 41), "expected at most 40 for 'bytes' of [n<=4] in bytes<=40, found 41"),
        ((4, 15), "[4] elements take at least 16 bytes with their lengths, found 15"),
        ((40,), "expected 1 dimensions [n<=4] in bytes<=40, found []"),
        ((1, 1, 40), "expected 1 dimensions [n<=4] in bytes<=40, found [1, 1]"),
    ],
)
def test_elements_of_bytes_fit_by_their_shape_and_their_bytes(shape: tuple[int, ...], why: str | None) -> None:
    found = NAMES.misfit("bytes", shape)
    assert found == why if why is None else found is not None and found.startswith(why)


def test_elements_of_bytes_need_a_bound_of_a_name_of_its_own() -> None:
    with pytest.raises(SpecMismatch, match=r"of any length; .* so give the most: max: \{bytes: \.\.\.\}"):
        TensorSpec("x", "bytes", ("n",), {"n": 4})
    with pytest.raises(SpecMismatch, match="give the dimension another name"):
        TensorSpec("x", "bytes", ("bytes",), {"bytes": 4})
    with pytest.raises(SpecMismatch, match="max names 'bytes', not in its shape"):
        TensorSpec("x", "uint8", ("n",), {"n": 4, "bytes": 4})


def test_an_edge_of_elements_fits_if_all_of_them_have_room() -> None:
    wide = TensorSpec("names", "bytes", ("m",), {"m": 4, "bytes": 41})
    assert wide.misfit_of_edge(NAMES) is None
    assert NAMES.misfit_of_edge(wide) == "up to 41 of [m<=4] in bytes<=41 into bytes<=40"
    assert NAMES.misfit_of_edge(TensorSpec("x", "uint8", ("n",), {"n": 4})) == "dtype uint8 into bytes"


def test_many_tensors_of_bytes_lie_one_after_the_other_by_what_they_take() -> None:
    many = TensorSpec("names", "bytes", ("n",), {"n": 4, "bytes": 100}, many=3, many_bytes=256)
    assert many.offsets([(2, 8), (1, 70), (1, 60)]) == [192, 64, 0]
    with pytest.raises(SpecMismatch, match="3 tensors of 384 bytes in all, expected at most 256"):
        many.offsets([(1, 100), (1, 100), (1, 100)])


def test_an_empty_tensor_fits_a_free_dimension() -> None:
    """0 is an extent like any other up to the maximum, as it is for numpy."""
    spec = TensorSpec("x", "float32", ("n", 3), {"n": 5})
    assert spec.misfit("float32", (0, 3)) is None
    assert spec.misfit("float32", (0, 2)) is not None
    assert TensorSpec("x", "float32", (5, 3)).misfit("float32", (0, 3)) is not None


def test_bfloat16_takes_two_bytes() -> None:
    assert TensorSpec("x", "bfloat16", (3, 5)).max_nbytes == 30
