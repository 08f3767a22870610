"""NVIDIA's driver through ctypes: one GPU, its memory, its streams, kernels, events and graphs.

Only the library of the driver is needed, which every machine with a GPU has: no CUDA toolkit, no cudart, no package.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from ctypes import byref, c_char, c_char_p, c_float, c_int, c_size_t, c_uint, c_uint64, c_void_p
from typing import Any

import numpy.typing as npt

from spikenm_compile.errors import TargetError, ToolError

LIBRARY = "libcuda.so.1"
NEEDS = "a CUDA artifact runs on an NVIDIA GPU of compute capability 8.0 or later"
ELSEWHERE = "build for native or onnx to run it here"

_CAPABILITY_MAJOR, _CAPABILITY_MINOR, _NUM_MULTIPROCESSORS = 75, 76, 16
"""Numbers of CUdevice_attribute."""
_MAX_DYNAMIC_SHARED = 8
"""Number of CUfunction_attribute."""
_NON_BLOCKING = 1
"""CU_STREAM_NON_BLOCKING: does not wait for the default stream."""
_CAPTURE_RELAXED = 2
"""CU_STREAM_CAPTURE_MODE_RELAXED: other threads may go on using the driver."""

_SIGNATURES: dict[str, tuple[Any, ...]] = {
    "cuInit": (c_uint,),
    "cuDriverGetVersion": (c_void_p,),
    "cuGetErrorString": (c_int, c_void_p),
    "cuDeviceGetCount": (c_void_p,),
    "cuDeviceGet": (c_void_p, c_int),
    "cuDeviceGetName": (c_void_p, c_int, c_int),
    "cuDeviceGetAttribute": (c_void_p, c_int, c_int),
    "cuDevicePrimaryCtxRetain": (c_void_p, c_int),
    "cuCtxPushCurrent_v2": (c_void_p,),
    "cuCtxPopCurrent_v2": (c_void_p,),
    "cuModuleLoadData": (c_void_p, c_char_p),
    "cuModuleGetFunction": (c_void_p, c_void_p, c_char_p),
    "cuModuleUnload": (c_void_p,),
    "cuFuncSetAttribute": (c_void_p, c_int, c_int),
    "cuMemAlloc_v2": (c_void_p, c_size_t),
    "cuMemFree_v2": (c_uint64,),
    "cuMemsetD32Async": (c_uint64, c_uint, c_size_t, c_void_p),
    "cuMemcpyHtoDAsync_v2": (c_uint64, c_void_p, c_size_t, c_void_p),
    "cuMemcpyDtoHAsync_v2": (c_void_p, c_uint64, c_size_t, c_void_p),
    "cuStreamCreate": (c_void_p, c_uint),
    "cuStreamDestroy_v2": (c_void_p,),
    "cuStreamSynchronize": (c_void_p,),
    "cuStreamWaitEvent": (c_void_p, c_void_p, c_uint),
    "cuEventCreate": (c_void_p, c_uint),
    "cuEventRecord": (c_void_p, c_void_p),
    "cuEventDestroy_v2": (c_void_p,),
    "cuEventSynchronize": (c_void_p,),
    "cuEventElapsedTime": (c_void_p, c_void_p, c_void_p),
    "cuLaunchKernel": (c_void_p, *(c_uint,) * 7, c_void_p, c_void_p, c_void_p),
    "cuStreamBeginCapture_v2": (c_void_p, c_int),
    "cuStreamEndCapture": (c_void_p, c_void_p),
    "cuGraphInstantiateWithFlags": (c_void_p, c_void_p, ctypes.c_ulonglong),
    "cuGraphDestroy": (c_void_p,),
    "cuGraphLaunch": (c_void_p, c_void_p),
    "cuGraphExecDestroy": (c_void_p,),
}
"""Function of the driver -> types of its arguments, after cuda.h of CUDA 12.8."""


class Driver:
    """The library, initialised.

    Raises:
        TargetError: there is no driver, or it does not start.
    """

    def __init__(self, library: str = LIBRARY) -> None:
        try:
            self._library = ctypes.CDLL(library)
        except OSError as error:
            raise TargetError(
                f"this machine has no NVIDIA driver ({error}); {NEEDS}; install its driver, or {ELSEWHERE}"
            ) from error
        for name, types in _SIGNATURES.items():
            getattr(self._library, name).argtypes = types
        status = self._library.cuInit(0)
        if status:
            raise TargetError(
                f"the NVIDIA driver does not start ({self._why(status)}); {NEEDS}; check nvidia-smi, or {ELSEWHERE}"
            )

    def call(self, name: str, *arguments: object) -> None:
        """Call a function.

        Raises:
            ToolError: it reports an error.
        """
        status = getattr(self._library, name)(*arguments)
        if status:
            raise ToolError(f"the NVIDIA driver's {name} failed: {self._why(status)}; look at nvidia-smi and try again")

    def get(self, name: str, kind: type[Any], *arguments: object) -> Any:
        """Call a function that writes its result through its first argument."""
        result = kind()
        self.call(name, byref(result), *arguments)
        return result.value

    def version(self) -> tuple[int, int]:
        """(major, minor) of the newest CUDA that it supports."""
        number = self.get("cuDriverGetVersion", c_int)
        return number // 1000, number % 1000 // 10

    def num_devices(self) -> int:
        """GPUs that it can use."""
        return int(self.get("cuDeviceGetCount", c_int))

    def _why(self, status: int) -> str:
        text = c_char_p()
        self._library.cuGetErrorString(status, byref(text))
        reason = text.value.decode() if text.value else "unknown error"
        return f"error {status}, {reason}"


class Device:
    """One GPU and its primary context, which PyTorch and CuPy use too: their pointers are valid here.

    Raises:
        TargetError: there is no such GPU.
    """

    def __init__(self, driver: Driver, ordinal: int = 0) -> None:
        count = driver.num_devices()
        if not 0 <= ordinal < count:
            raise TargetError(f"GPU {ordinal} was asked for and the driver sees {count}; {NEEDS}; choose another")
        self.driver, self.ordinal = driver, ordinal
        self._handle = driver.get("cuDeviceGet", c_int, ordinal)
        self.name = self._read_name()
        self.capability = (self._attribute(_CAPABILITY_MAJOR), self._attribute(_CAPABILITY_MINOR))
        self.num_multiprocessors = self._attribute(_NUM_MULTIPROCESSORS)
        self._context = driver.get("cuDevicePrimaryCtxRetain", c_void_p, self._handle)

    @contextmanager
    def current(self) -> Iterator[None]:
        """Make it the GPU that this thread works with."""
        self.driver.call("cuCtxPushCurrent_v2", self._context)
        try:
            yield
        finally:
            self.driver.get("cuCtxPopCurrent_v2", c_void_p)

    def release_with(self, owner: object, function: str, handle: int) -> None:
        """Give something back to the driver when `owner` is no more; at the end of the program the driver does it."""
        weakref.finalize(owner, self._release, function, handle).atexit = False

    def _release(self, function: str, handle: int) -> None:
        with self.current():
            self.driver.call(function, handle)

    def _attribute(self, number: int) -> int:
        return int(self.driver.get("cuDeviceGetAttribute", c_int, number, self._handle))

    def _read_name(self) -> str:
        text = (c_char * 256)()
        self.driver.call("cuDeviceGetName", text, len(text), self._handle)
        return text.value.decode()


class Kernels:
    """The kernels of a binary, loaded onto the current GPU."""

    def __init__(self, device: Device, binary: bytes) -> None:
        self._driver = device.driver
        self._binary = binary  # the driver may read it as long as the module lives
        self._module: int = self._driver.get("cuModuleLoadData", c_void_p, binary)
        self._functions: dict[str, int] = {}
        device.release_with(self, "cuModuleUnload", self._module)

    def prepare(self, name: str, shared_bytes: int) -> None:
        """Find a kernel and allow it that much dynamic shared memory."""
        function: int = self._driver.get("cuModuleGetFunction", c_void_p, self._module, name.encode())
        self._driver.call("cuFuncSetAttribute", function, _MAX_DYNAMIC_SHARED, shared_bytes)
        self._functions[name] = function

    def launch(
        self, name: str, grid: tuple[int, int, int], block: int, shared_bytes: int, pointers: Sequence[int], stream: int
    ) -> None:
        """Start a prepared kernel on device pointers."""
        values = (c_uint64 * len(pointers))(*pointers)
        size = ctypes.sizeof(c_uint64)
        addresses = (c_void_p * len(pointers))(*(ctypes.addressof(values) + size * i for i in range(len(pointers))))
        function = self._functions[name]
        self._driver.call("cuLaunchKernel", function, *grid, block, 1, 1, shared_bytes, stream, addresses, None)


class Stream:
    """A queue of work on the current GPU."""

    def __init__(self, device: Device) -> None:
        self._driver = device.driver
        self.handle: int = self._driver.get("cuStreamCreate", c_void_p, _NON_BLOCKING)
        self._event = Event(device)
        device.release_with(self, "cuStreamDestroy_v2", self.handle)

    def synchronize(self) -> None:
        """Wait until it is empty."""
        self._driver.call("cuStreamSynchronize", self.handle)

    def let_wait(self, other: int) -> None:
        """Make another stream, by handle, wait for what is in this one now."""
        self._event.record(self)
        self._driver.call("cuStreamWaitEvent", other, self._event.handle, 0)

    def record(self, device: Device, start: Callable[[], None]) -> Graph:
        """What `start` launches into this stream, recorded and not started."""
        recorded = c_void_p()
        self._driver.call("cuStreamBeginCapture_v2", self.handle, _CAPTURE_RELAXED)
        try:
            start()
        finally:
            self._driver.call("cuStreamEndCapture", self.handle, byref(recorded))
        return Graph(device, recorded.value or 0)


class Event:
    """A mark in a stream, with its time."""

    def __init__(self, device: Device) -> None:
        self._driver = device.driver
        self.handle: int = self._driver.get("cuEventCreate", c_void_p, 0)
        device.release_with(self, "cuEventDestroy_v2", self.handle)

    def record(self, stream: Stream) -> None:
        """Set the mark behind all that is in the stream now."""
        self._driver.call("cuEventRecord", self.handle, stream.handle)

    def synchronize(self) -> None:
        """Wait until the GPU has come to it; at once if it was never set."""
        self._driver.call("cuEventSynchronize", self.handle)

    def microseconds_since(self, earlier: Event) -> float:
        """Time between two marks that the GPU has come to."""
        return 1000.0 * float(self._driver.get("cuEventElapsedTime", c_float, earlier.handle, self.handle))


class Graph:
    """Recorded launches that start with one call."""

    def __init__(self, device: Device, recorded: int) -> None:
        self._driver = device.driver
        self._executable: int = self._driver.get("cuGraphInstantiateWithFlags", c_void_p, recorded, 0)
        self._driver.call("cuGraphDestroy", recorded)
        device.release_with(self, "cuGraphExecDestroy", self._executable)

    def launch(self, stream: Stream) -> None:
        """Start it."""
        self._driver.call("cuGraphLaunch", self._executable, stream.handle)


class Memory:
    """Bytes on the current GPU, freed with the object."""

    def __init__(self, device: Device, num_bytes: int) -> None:
        self._driver = device.driver
        self.num_bytes = num_bytes
        self.pointer: int = self._driver.get("cuMemAlloc_v2", c_uint64, max(num_bytes, 1))
        device.release_with(self, "cuMemFree_v2", self.pointer)

    def fill(self, word: int, stream: Stream, offset: int = 0, num_bytes: int | None = None) -> None:
        """Set every 32-bit word, from `offset` on."""
        count = (self.num_bytes if num_bytes is None else num_bytes) // 4
        self._driver.call("cuMemsetD32Async", self.pointer + offset, word, count, stream.handle)

    def write(self, array: npt.NDArray[Any], stream: Stream, offset: int = 0) -> None:
        """Copy a contiguous array here; it must live until the stream has done it."""
        source = self.pointer + offset
        self._driver.call("cuMemcpyHtoDAsync_v2", source, array.ctypes.data, array.nbytes, stream.handle)

    def read(self, array: npt.NDArray[Any], stream: Stream, offset: int = 0) -> None:
        """Copy from here into a contiguous array, which is complete once the stream has done it."""
        self._driver.call("cuMemcpyDtoHAsync_v2", array.ctypes.data, self.pointer + offset, array.nbytes, stream.handle)
