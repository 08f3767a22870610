"""A result that stays on the GPU."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from spikenm_compile.errors import InputError
from spikenm_compile.runtime.cuda_driver import Device, Memory, Stream
from spikenm_compile.runtime.dlpack import CUDA, lend
from spikenm_compile.runtime.model import Floats

_DEFAULT_STREAM = 1
"""CU_STREAM_LEGACY: what DLPack means by no stream."""
_NO_SYNCHRONIZATION = -1


class DeviceArray:
    """Contiguous float32 values on the GPU: `torch.from_dlpack(array)`, `cupy.from_dlpack(array)`, or `numpy()`.

    Args:
        device: the GPU.
        stream: that computes the values.
        shape: of the values.
    """

    def __init__(self, device: Device, stream: Stream, shape: tuple[int, ...]) -> None:
        self.shape = shape
        self._device, self._stream = device, stream
        with device.current():
            self._memory = Memory(device, 4 * math.prod(shape))

    @property
    def pointer(self) -> int:
        """Where it lies."""
        return self._memory.pointer

    def numpy(self) -> Floats:
        """A copy in the memory of the host."""
        copy = np.empty(self.shape, np.float32)
        with self._device.current():
            self._memory.read(copy, self._stream)
            self._stream.synchronize()
        return copy

    def __dlpack_device__(self) -> tuple[int, int]:
        return CUDA, self._device.ordinal

    def __dlpack__(self, *, stream: int | None = None, **options: Any) -> object:
        """The memory itself; `stream` is made to wait until the values are there.

        Raises:
            InputError: another device is asked for.
        """
        if options.get("dl_device") not in (None, self.__dlpack_device__()):
            raise InputError(
                f"the result lies on GPU {self._device.ordinal} and is asked for on another device; "
                "DLPack shares memory and does not move it; use numpy()"
            )
        if stream != _NO_SYNCHRONIZATION:
            with self._device.current():
                self._stream.let_wait(_DEFAULT_STREAM if stream is None else stream)
        return lend(self.pointer, self.shape, self.__dlpack_device__(), self)

    def __repr__(self) -> str:
        return f"<DeviceArray {list(self.shape)} float32 on GPU {self._device.ordinal}>"
