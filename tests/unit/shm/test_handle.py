from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from shm.handle import BFLOAT16, BYTES, JSON, TensorHandle, itemsize, nbytes_of, numpy_dtype


def test_a_handle_knows_its_bytes() -> None:
    assert TensorHandle(1, 2, 3, 0, "float32", (224, 224, 3)).nbytes == 602_112
    assert TensorHandle(1, 2, 3, 0, JSON, (17,)).nbytes == 17
    assert TensorHandle(1, 2, 3, 0, "float64", ()).nbytes == 8
    assert TensorHandle(1, 2, 3, 0, "uint8", (0, 9)).nbytes == 0
    assert TensorHandle(1, 2, 3, 0, BFLOAT16, (4, 3)).nbytes == 24
    assert TensorHandle(1, 2, 3, 0, BYTES, (4, 3, 57)).nbytes == 57
    assert TensorHandle(1, 2, 3, 0, BYTES, (9,)).nbytes == 9
    assert nbytes_of(BYTES, ()) == 0


@pytest.mark.parametrize("name", sorted({d.name for d in map(np.dtype, np.typecodes["All"]) if d.kind in "biufc"}))
def test_every_plain_number_of_numpy_travels(name: str) -> None:
    assert itemsize(name) == np.dtype(name).itemsize
    assert numpy_dtype(name) == np.dtype(name)


@pytest.mark.parametrize("name", ["object", "str", "<f4", "f4", "float", "i4,i4", "datetime64", "void", "", "JSON", "(9,)f4"])
def test_what_is_no_plain_number_or_has_another_canonical_name_is_refused(name: str) -> None:
    with pytest.raises(TypeError, match="cannot lie in shared memory"):
        itemsize(name)


def test_an_encoding_is_seen_as_its_bytes_and_bfloat16_as_what_it_is() -> None:
    assert numpy_dtype(JSON) == numpy_dtype(BYTES) == np.uint8
    assert numpy_dtype("int16") == np.int16
    assert numpy_dtype(BFLOAT16).name == BFLOAT16
    assert itemsize(BFLOAT16) == numpy_dtype(BFLOAT16).itemsize == 2
    with pytest.raises(TypeError, match="cannot lie in shared memory"):
        numpy_dtype("object")


def test_bfloat16_is_not_imported_before_it_is_used_and_says_what_to_install() -> None:
    """Each in a process of its own, since numpy knows the name for good once it has been used."""
    code = "import sys; from shm.handle import itemsize; assert 'ml_dtypes' not in sys.modules; "
    run = [sys.executable, "-c"]
    subprocess.run([*run, code + "import numpy; itemsize('bfloat16'); numpy.dtype('bfloat16')"], check=True)
    without = code + "sys.modules['ml_dtypes'] = None; itemsize('bfloat16')"
    done = subprocess.run([*run, without], capture_output=True, text=True, check=False)
    assert "TypeError: dtype 'bfloat16' needs ml_dtypes, from which numpy has it: pip install ml_dtypes" in done.stderr
