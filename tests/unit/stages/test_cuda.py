"""What the driver is told to copy, read as the driver reads it."""

from __future__ import annotations

import ctypes
import struct
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from stages.engines.cuda import CudaError, Device, _directions

#: CUDA_MEMCPY2D of cuda.h: x, y, memory type, host, device, array and pitch of the source, the same of the target, then
#: width and height. 64 bits each; the type is an enum, padded to them.
MEMCPY2D = struct.Struct("<7Q7Q2Q")
HOST, DEVICE = 1, 2


class Driver:
    """Copies at once; what is called the device is memory like any other."""

    def __init__(self) -> None:
        self.code = 0
        self.library = SimpleNamespace(cuMemcpy2DAsync_v2=self.copy)

    def copy(self, reference: Any, stream: int) -> int:
        pointer = ctypes.cast(reference, ctypes.c_void_p)
        words = MEMCPY2D.unpack(ctypes.string_at(pointer.value or 0, MEMCPY2D.size))
        (sx, sy, s_type, s_host, s_device, s_array, s_pitch), (tx, ty, t_type, t_host, t_device, t_array, t_pitch) = (
            words[:7],
            words[7:14],
        )
        width, height = words[14:]
        assert {s_type & 0xFFFFFFFF, t_type & 0xFFFFFFFF} == {HOST, DEVICE}
        assert (sx, sy, s_array, tx, ty, t_array) == (0,) * 6
        assert width <= min(s_pitch, t_pitch)
        source = s_host if s_type & 0xFFFFFFFF == HOST else s_device
        target = t_host if t_type & 0xFFFFFFFF == HOST else t_device
        for row in range(height):
            ctypes.memmove(target + row * t_pitch, source + row * s_pitch, width)
        return self.code


@pytest.fixture
def driver() -> Driver:
    return Driver()


@pytest.fixture
def device(driver: Driver) -> Device:
    # A GPU cannot be had here: no more of it than the copies need.
    made = Device.__new__(Device)
    made.name = "NVIDIA Simulated"
    made._driver = driver  # type: ignore[assignment]
    made._upload, made._download = _directions()
    return made


def test_rows_that_lie_apart_come_together_on_the_device(device: Device) -> None:
    slots, batch = np.arange(40, dtype=np.uint8).reshape(4, 10), np.zeros((4, 3), np.uint8)
    device.upload_rows(batch.ctypes.data, slots.ctypes.data, 3, 10, 4, 7)
    np.testing.assert_array_equal(batch, slots[:, :3])


def test_rows_of_a_batch_come_to_slots_that_lie_apart(device: Device) -> None:
    batch, slots = np.arange(12, dtype=np.uint8).reshape(4, 3), np.full((4, 10), 255, np.uint8)
    device.download_rows(slots.ctypes.data, batch.ctypes.data, 3, 10, 4, 7)
    np.testing.assert_array_equal(slots[:, :3], batch)
    assert (slots[:, 3:] == 255).all()


def test_one_direction_leaves_nothing_for_the_other(device: Device) -> None:
    for _ in range(2):
        test_rows_that_lie_apart_come_together_on_the_device(device)
        test_rows_of_a_batch_come_to_slots_that_lie_apart(device)


def test_what_the_driver_refuses_is_an_error_that_names_the_copy(device: Device, driver: Driver) -> None:
    driver.code = 700
    rows = np.zeros((2, 8), np.uint8)
    with pytest.raises(CudaError, match="copy of 2 rows of 4 bytes to NVIDIA Simulated: CUDA error 700"):
        device.upload_rows(rows.ctypes.data, rows.ctypes.data, 4, 8, 2, 0)
    with pytest.raises(CudaError, match="copy of 2 rows of 4 bytes from NVIDIA Simulated: CUDA error 700"):
        device.download_rows(rows.ctypes.data, rows.ctypes.data, 4, 8, 2, 0)
