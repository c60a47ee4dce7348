"""CUDA, as far as an engine needs it: one device, its memory, streams, graphs, and pinned host memory.

pycuda is used for devices, the context, streams, events and device memory. The driver library is called
directly for what pycuda lacks: copies from bare addresses, graphs, and registering memory (pycuda 2026.1's
own `register_host_memory` crashes). The context is the primary one, which TensorRT's runtime uses too.

No driver is loaded before an engine needs it.
"""

from __future__ import annotations

import atexit
import ctypes
import functools
import mmap
import sys
from collections import Counter
from collections.abc import Callable
from ctypes import POINTER, byref, c_char_p, c_int, c_size_t, c_uint, c_uint64, c_void_p
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.errors import ModelError, StageBroken

__all__ = ["MAX_PITCH", "CudaError", "Device", "Graph", "device_name"]

MAX_PITCH = (1 << 31) - 1
"""The most bytes between the rows of one copy (CU_DEVICE_ATTRIBUTE_MAX_PITCH of every GPU so far)."""

_PORTABLE = 1  # CU_MEMHOSTREGISTER_PORTABLE
_HOST, _DEVICE = 1, 2  # CU_MEMORYTYPE_HOST, CU_MEMORYTYPE_DEVICE
_CAPTURE_RELAXED = 2  # TensorRT may allocate during a capture, which the stricter modes forbid

#: Half of a CUDA_MEMCPY2D: where in the rows to begin, and the kind and address of their memory.
_SIDE = (
    ("X", c_size_t), ("Y", c_size_t), ("Type", c_uint), ("Host", c_void_p), ("Device", c_uint64), ("Array", c_void_p),
    ("Pitch", c_size_t),
)  # fmt: skip

_SIGNATURES: dict[str, tuple[Any, ...]] = {
    "cuInit": (c_uint,),
    "cuDeviceGet": (POINTER(c_int), c_int),
    "cuDeviceGetName": (c_char_p, c_int, c_int),
    "cuGetErrorString": (c_int, POINTER(c_char_p)),
    "cuMemHostRegister_v2": (c_void_p, c_size_t, c_uint),
    "cuMemHostUnregister": (c_void_p,),
    "cuMemcpyHtoDAsync_v2": (c_uint64, c_void_p, c_size_t, c_void_p),
    "cuMemcpyDtoHAsync_v2": (c_void_p, c_uint64, c_size_t, c_void_p),
    "cuMemcpy2DAsync_v2": (c_void_p, c_void_p),
    "cuStreamBeginCapture_v2": (c_void_p, c_int),
    "cuStreamEndCapture": (c_void_p, POINTER(c_void_p)),
    "cuGraphInstantiateWithFlags": (POINTER(c_void_p), c_void_p, ctypes.c_ulonglong),
    "cuGraphLaunch": (c_void_p, c_void_p),
    "cuGraphExecDestroy": (c_void_p,),
    "cuGraphDestroy": (c_void_p,),
}


#: By address of pinned memory: how many devices of this process pin it. The driver pins it once, for all contexts, and
#: refuses a second time, but stages that share a process may read the same slots.
_pinned: Counter[int] = Counter()


class _Rows(ctypes.Structure):
    """CUDA_MEMCPY2D: rows of equal length at equal distances, on either side."""

    _fields_ = [
        *((f"src{name}", kind) for name, kind in _SIDE),
        *((f"dst{name}", kind) for name, kind in _SIDE),
        ("width", c_size_t),
        ("height", c_size_t),
    ]


def _directions() -> tuple[_Rows, _Rows]:
    """Set up once for copies to the device and once for copies from it."""
    return _Rows(srcType=_HOST, dstType=_DEVICE), _Rows(srcType=_DEVICE, dstType=_HOST)


class CudaError(StageBroken):
    """A CUDA call failed. After most failures the context cannot be used any more: only a new process can go on."""


class _Driver:
    """libcuda.so.1, with exceptions instead of error codes."""

    def __init__(self) -> None:
        library = ctypes.CDLL("libcuda.so.1")
        for name, arguments in _SIGNATURES.items():
            if hasattr(library, name):
                getattr(library, name).argtypes = arguments
        self.library = library

    def __call__(self, name: str, *arguments: Any) -> None:
        """Call `name`.

        Raises:
            CudaError: it returned an error.
        """
        if code := getattr(self.library, name)(*arguments):
            text = c_char_p()
            self.library.cuGetErrorString(code, byref(text))
            raise CudaError(f"{name}: CUDA error {code}: {(text.value or b'unknown').decode()}")


@functools.cache
def _driver() -> _Driver:
    try:
        return _Driver()
    except OSError as error:
        raise ModelError(f"no NVIDIA driver here: {error}") from error


def device_name(ordinal: int = 0) -> str | None:
    """The driver's name of a GPU, such as "NVIDIA H100 80GB HBM3"; None if there is none."""
    number, name = c_int(), ctypes.create_string_buffer(256)
    try:
        driver = _driver()
        driver("cuInit", 0)
        driver("cuDeviceGet", byref(number), ordinal)
        driver("cuDeviceGetName", name, len(name), number.value)
    except (ModelError, CudaError):
        return None
    return name.value.decode()


class Device:
    """One GPU, with its primary context current in the calling thread until `close`.

    Raises:
        ModelError: pycuda is missing, or there is no such GPU.
    """

    def __init__(self, ordinal: int) -> None:
        try:
            import pycuda.driver as cuda
        except ImportError as error:
            raise ModelError(f"running on a GPU needs pycuda: {error}; install trtlab[gpu]") from error
        self._cuda = cuda
        self._driver = _driver()
        try:
            cuda.init()
            device = cuda.Device(ordinal)
            self._context = device.retain_primary_context()
        except cuda.Error as error:
            raise ModelError(f"cuda:{ordinal} cannot be used: {error}") from error
        self._context.push()
        # pycuda aborts the process if a context is still pushed when the interpreter ends.
        atexit.register(self.close)
        self.name: str = device.name()
        self.bus_id: str = device.pci_bus_id()
        # Filled in again for each copy: the driver has read them when the call returns.
        self._upload, self._download = _directions()
        self._registered: dict[int, memoryview] = {}
        #: Pinned memory that belongs to this device object.
        self._staging: list[NDArray[np.uint8]] = []
        self._allocations: list[Any] = []

    @property
    def memory(self) -> tuple[int, int]:
        """(free, total) bytes of the device."""
        free, total = self._cuda.mem_get_info()
        return int(free), int(total)

    def allocate(self, nbytes: int, what: str) -> int:
        """The address of new device memory, zeroed; it lives until `close`.

        Raises:
            ModelError: the device has no room for it.
        """
        try:
            memory = self._cuda.mem_alloc(max(1, nbytes))
        except self._cuda.MemoryError as error:
            free, total = self.memory
            raise ModelError(
                f"{self.name}: {nbytes} bytes for {what} do not fit: {free} of {total} bytes are free; "
                "use fewer contexts or smaller batches"
            ) from error
        self._cuda.memset_d8(memory, 0, max(1, nbytes))
        self._allocations.append(memory)
        return int(memory)

    def allocate_pinned(self, nbytes: int) -> NDArray[np.uint8] | None:
        """New pinned host memory, which stays pinned until `close`; None if the driver refuses."""
        memory = np.frombuffer(mmap.mmap(-1, max(1, nbytes)), np.uint8)
        try:
            self._driver("cuMemHostRegister_v2", memory.ctypes.data, memory.nbytes, _PORTABLE)
        except CudaError as error:
            print(f"no memory is pinned for small rows, so copies take longer: {error}", file=sys.stderr)
            return None
        self._staging.append(memory)
        return memory

    def stream(self) -> Any:
        """A new stream (pycuda's)."""
        return self._cuda.Stream()

    def event(self) -> Any:
        """A new event without a clock (pycuda's)."""
        return self._cuda.Event(self._cuda.event_flags.DISABLE_TIMING)

    def upload(self, target: int, source: int, nbytes: int, stream: int) -> None:
        """Enqueue a copy from host to device, both given as bare addresses."""
        if code := self._driver.library.cuMemcpyHtoDAsync_v2(target, source, nbytes, stream):
            raise CudaError(f"copy of {nbytes} bytes to {self.name}: CUDA error {code}")

    def download(self, target: int, source: int, nbytes: int, stream: int) -> None:
        """Enqueue a copy from device to host, both given as bare addresses."""
        if code := self._driver.library.cuMemcpyDtoHAsync_v2(target, source, nbytes, stream):
            raise CudaError(f"copy of {nbytes} bytes from {self.name}: CUDA error {code}")

    def upload_rows(self, target: int, source: int, nbytes: int, pitch: int, rows: int, stream: int) -> None:
        """Enqueue one copy of `rows` rows of `nbytes`, `pitch` bytes apart on the host, dense on the device."""
        copy = self._upload
        copy.srcHost, copy.srcPitch, copy.dstDevice, copy.dstPitch = source, pitch, target, nbytes
        copy.width, copy.height = nbytes, rows
        if code := self._driver.library.cuMemcpy2DAsync_v2(byref(copy), stream):
            raise CudaError(f"copy of {rows} rows of {nbytes} bytes to {self.name}: CUDA error {code}")

    def download_rows(self, target: int, source: int, nbytes: int, pitch: int, rows: int, stream: int) -> None:
        """Enqueue one copy of `rows` rows of `nbytes`, dense on the device, `pitch` bytes apart on the host."""
        copy = self._download
        copy.srcDevice, copy.srcPitch, copy.dstHost, copy.dstPitch = source, nbytes, target, pitch
        copy.width, copy.height = nbytes, rows
        if code := self._driver.library.cuMemcpy2DAsync_v2(byref(copy), stream):
            raise CudaError(f"copy of {rows} rows of {nbytes} bytes from {self.name}: CUDA error {code}")

    def synchronize(self) -> None:
        """Wait until everything that was enqueued on the device is done."""
        self._context.synchronize()

    def register(self, memory: memoryview) -> None:
        """Pin host memory, so that copies from and to it need no staging: 54 GB/s instead of 7 (H100, PCIe 5).

        The memory is kept until `unregister_all`.

        Raises:
            CudaError: the kernel or the driver refuses.
        """
        address = int(np.frombuffer(memory, np.uint8).ctypes.data)
        if address in self._registered:
            return
        if not _pinned[address]:
            self._driver("cuMemHostRegister_v2", address, memory.nbytes, _PORTABLE)
        _pinned[address] += 1
        self._registered[address] = memory

    def unregister_all(self) -> None:
        """Let go of all pinned memory. Nothing may be copying from or to it."""
        for address in list(self._registered):
            _pinned[address] -= 1
            if not _pinned[address]:
                self._driver("cuMemHostUnregister", address)
            del self._registered[address]

    @property
    def registered_bytes(self) -> int:
        """Bytes of host memory that are pinned."""
        return sum(memory.nbytes for memory in self._registered.values())

    def close(self) -> None:
        """Give everything back. May be called twice."""
        if self._context is None:
            return
        try:
            self.unregister_all()
            for staging in self._staging:
                self._driver("cuMemHostUnregister", staging.ctypes.data)
            for memory in self._allocations:
                memory.free()
        finally:
            # After a device error nothing can be freed, but the context must not stay pushed.
            self._allocations.clear()
            # Not earlier: freeing device memory waits for copies that are still running.
            self._staging.clear()
            context, self._context = self._context, None
            atexit.unregister(self.close)
            context.pop()
            context.detach()


class Graph:
    """The work that `enqueue` puts into a stream, captured once and launched as one.

    Raises:
        CudaError: `enqueue` did something that cannot be captured.
    """

    def __init__(self, stream: int, enqueue: Callable[[], None]) -> None:
        self._driver = driver = _driver()
        self._graph, self._executable = c_void_p(), c_void_p()
        self._stream = stream
        driver("cuStreamBeginCapture_v2", stream, _CAPTURE_RELAXED)
        try:
            enqueue()
        finally:
            # Even if that failed: a stream that stays in capture refuses everything else.
            driver("cuStreamEndCapture", stream, byref(self._graph))
        driver("cuGraphInstantiateWithFlags", byref(self._executable), self._graph, 0)
        self._launch = driver.library.cuGraphLaunch

    def launch(self) -> None:
        """Enqueue it."""
        if code := self._launch(self._executable, self._stream):
            raise CudaError(f"launching a graph: CUDA error {code}")

    def close(self) -> None:
        """Destroy it. May be called twice."""
        if self._executable:
            self._driver("cuGraphExecDestroy", self._executable)
            self._driver("cuGraphDestroy", self._graph)
            self._executable = c_void_p()
