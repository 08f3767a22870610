"""Generated kernels on a GPU, through NVIDIA's driver alone: the same call as that of the emulator."""

from __future__ import annotations

import ctypes
import tempfile
from collections.abc import Mapping
from ctypes import byref, c_char_p, c_float, c_int, c_size_t, c_uint, c_uint64, c_void_p
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from lowering.cuda.sass import NVCC, compile_to_cubin
from numpy.typing import NDArray

from spikenm_compile.lowering.cuda.generated import GeneratedKernel

LIBRARY = "libcuda.so.1"
MAX_DYNAMIC_SHARED = 8
"""Number of CUfunction_attribute."""
CAPABILITY_MAJOR, CAPABILITY_MINOR = 75, 76
"""Numbers of CUdevice_attribute."""


class DriverError(Exception):
    """A function of the driver reports an error."""


class Device:
    """The first GPU.

    Raises:
        DriverError: the driver finds none.
        OSError: there is no driver.
    """

    def __init__(self, library: str = LIBRARY) -> None:
        self.library = ctypes.CDLL(library)
        self.call("cuInit", c_uint(0))
        device = self.get("cuDeviceGet", c_int, c_int(0))
        numbers = (CAPABILITY_MAJOR, CAPABILITY_MINOR)
        major, minor = (self.get("cuDeviceGetAttribute", c_int, c_int(n), c_int(device)) for n in numbers)
        self.arch = f"sm_{major}{minor}"
        self.call("cuCtxPushCurrent_v2", c_void_p(self.get("cuDevicePrimaryCtxRetain", c_void_p, c_int(device))))

    def call(self, name: str, *arguments: Any) -> None:
        """Call a function of the driver."""
        status = getattr(self.library, name)(*arguments)
        if status:
            raise DriverError(f"{name} reports {status}")

    def get(self, name: str, kind: type[Any], *arguments: Any) -> Any:
        """Call a function that writes its result through its first argument."""
        result = kind()
        self.call(name, byref(result), *arguments)
        return result.value

    def to_device(self, array: NDArray[Any]) -> int:
        """Copy to new memory of the GPU."""
        contiguous = np.ascontiguousarray(array)
        pointer = int(self.get("cuMemAlloc_v2", c_uint64, c_size_t(max(1, array.nbytes))))
        address = c_void_p(contiguous.ctypes.data)
        self.call("cuMemcpyHtoDAsync_v2", c_uint64(pointer), address, c_size_t(array.nbytes), None)
        self.call("cuStreamSynchronize", None)
        return pointer

    def to_host(self, pointer: int, array: NDArray[Any]) -> None:
        """Copy into `array`, and free the memory of the GPU."""
        self.call("cuMemcpyDtoHAsync_v2", c_void_p(array.ctypes.data), c_uint64(pointer), c_size_t(array.nbytes), None)
        self.call("cuStreamSynchronize", None)
        self.call("cuMemFree_v2", c_uint64(pointer))


@cache
def the_gpu() -> Device | str:
    """The GPU, or why there is none that can be used."""
    if NVCC is None:
        return "nvcc is missing: install the extra `cuda`, or set CUDA_HOME"
    try:
        gpu = Device()
    except (OSError, DriverError) as error:
        return f"no NVIDIA GPU: {error}"
    return gpu if int(gpu.arch.removeprefix("sm_")) >= 80 else f"{gpu.arch} has no 2:4 tensor cores"


def launch_on_gpu(
    kernel: GeneratedKernel,
    arrays: Mapping[str, NDArray[Any]],
    batch: int,
    gpu: Device,
    number: float = 0.0,
) -> dict[str, NDArray[Any]]:
    """Run a kernel on copies of `arrays` and return what they hold afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        binary, _ = compile_to_cubin(kernel, gpu.arch, Path(folder))
        module = gpu.get("cuModuleLoadData", c_void_p, c_char_p(binary.read_bytes()))
    function = c_void_p(gpu.get("cuModuleGetFunction", c_void_p, c_void_p(module), c_char_p(kernel.name.encode())))
    gpu.call("cuFuncSetAttribute", function, c_int(MAX_DYNAMIC_SHARED), c_int(kernel.shared_bytes))
    pointers = {name: gpu.to_device(array) for name, array in arrays.items()}
    values: dict[str, Any] = {name: c_uint64(pointer) for name, pointer in pointers.items()}
    values |= {"batch": c_int(batch), "number": c_float(number)}
    places = [ctypes.addressof(values[name]) for name in kernel.parameters]
    sizes = [c_uint(n) for n in (*kernel.grid.size(batch), kernel.block, 1, 1, kernel.shared_bytes)]
    gpu.call("cuLaunchKernel", function, *sizes, None, (c_void_p * len(places))(*places), None)
    gpu.call("cuStreamSynchronize", None)
    after = {name: np.empty_like(array, order="C") for name, array in arrays.items()}
    for name, pointer in pointers.items():
        gpu.to_host(pointer, after[name])
    gpu.call("cuModuleUnload", c_void_p(module))
    return after
