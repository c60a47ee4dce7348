"""Digits: a float32, float16 or bfloat16 as the float64 that is written with the fewest digits.

`array.tolist()` makes 0.10000000149011612 of the float32 0.1, and numpy's own text of it is made
number by number. Here it is arithmetic over whole arrays: each number is rounded, in float64, to
as many decimal digits as are needed to read the same number back.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["fewest_digits"]

#: For each dtype the digits that every decimal number keeps on the way into it and back, and those that tell any two
#: of its numbers apart: C's FLT_DIG and FLT_DECIMAL_DIG, and the same by their formulas for 11 and 8 bits.
_DIGITS = {"float16": (3, 5), "bfloat16": (2, 4), "float32": (6, 9)}

#: The largest power of ten that is a float64, and all up to it.
_EXACT = 22
_POWERS = np.array([float(10**power) for power in range(_EXACT + 1)])


def fewest_digits(array: NDArray[Any]) -> NDArray[np.float64]:
    """For each number the one with the fewest digits that is read back as the same float16, bfloat16 or float32.

    Args:
        array: of dtype float16, bfloat16 or float32. NaN and the infinities stay as they are. Float16s below 6.1e-05
            and bfloat16s far from 1 have up to two digits more than necessary.
    """
    least, most = _DIGITS[array.dtype.name]
    numbers = array.reshape(-1)
    with np.errstate(invalid="ignore"):  # told of some of the bits that are no number
        found = numbers.astype(np.float64)
    # Zero is written with one digit; numbers that are not finite have none.
    left = np.flatnonzero(np.isfinite(found) & (found != 0))
    values = found[left]
    magnitude = np.floor(np.log10(np.abs(values))).astype(np.int64)
    far = (magnitude < most - 1 - _EXACT) | (magnitude > least - 1 + _EXACT)
    if far.any():
        # These powers of ten equal no float64: one by one.
        found[left[far]] = [float(str(number)) for number in numbers[left[far]]]
        left, values, magnitude = left[~far], values[~far], magnitude[~far]
    for digits in range(least, most + 1):
        power = digits - 1 - magnitude
        scale = _POWERS[np.abs(power)]
        # A whole number and a power of ten, both exact: the result is the float64 nearest to the decimal number.
        rounded = np.where(power >= 0, np.rint(values * scale) / scale, np.rint(values / scale) * scale)
        with np.errstate(over="ignore"):
            same = rounded.astype(array.dtype) == numbers[left]
        found[left[same]] = rounded[same]
        left, values, magnitude = left[~same], values[~same], magnitude[~same]
        if not len(left):
            break
    return found.reshape(array.shape)
