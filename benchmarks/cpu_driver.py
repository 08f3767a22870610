"""Calls of native layers, timed in C: initial states and all steps; copying the input to its place is not timed."""

from __future__ import annotations

import ctypes
import subprocess
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.cpu_timing import Given, Taken
from spikenm_compile.errors import ToolError
from spikenm_compile.tuning.native_layer import NativeLayer, encode

DRIVER = """
#include <stdint.h>
#include <string.h>
#include <time.h>
typedef int32_t steps_t(void*, void*, void*, void*, void*, int32_t);
static int64_t now(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}
/* memory: params, input, state, arena, output; taken: nanoseconds of this thread, and of the clock on the wall */
int32_t bench_call(steps_t *steps, void **memory, const void *initial, int64_t state_bytes,
                   void *source, const void *given, int64_t source_bytes, int32_t num_steps, int64_t *taken) {
    memcpy(source, given, source_bytes);
    int64_t wall = now(CLOCK_MONOTONIC), cpu = now(CLOCK_THREAD_CPUTIME_ID);
    memcpy(memory[2], initial, state_bytes);
    int32_t code = steps(memory[0], memory[1], memory[2], memory[3], memory[4], num_steps);
    taken[0] = now(CLOCK_THREAD_CPUTIME_ID) - cpu;
    taken[1] = now(CLOCK_MONOTONIC) - wall;
    return code;
}
"""


@lru_cache(maxsize=1)
def _driver() -> Any:
    """The function.

    Raises:
        ToolError: there is no C compiler.
    """
    with TemporaryDirectory() as scratch:
        source, library = Path(scratch) / "driver.c", Path(scratch) / "driver.so"
        source.write_text(DRIVER)
        try:
            subprocess.run(["cc", "-O2", "-shared", "-fPIC", str(source), "-o", str(library)], check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise ToolError(f"cc failed ({error}); a C compiler is needed to time calls; install gcc") from error
        call = ctypes.CDLL(str(library)).bench_call
    pointer, size = ctypes.c_void_p, ctypes.c_int64
    call.argtypes = (pointer, pointer, pointer, size, pointer, pointer, size, ctypes.c_int32, pointer)
    return call


class NativeCall:
    """A compiled layer as something to time."""

    def __init__(self, layer: NativeLayer) -> None:
        self._layer, self._parts, self._driver = layer, layer.parts, _driver()
        parts = self._parts
        self._memory = (ctypes.c_void_p * len(parts.addresses))(*parts.addresses)
        self._taken = np.zeros(2, np.int64)
        self._given = layer.encode(np.zeros((parts.num_steps, parts.layout.channels, *self._size), np.float32))

    @property
    def _size(self) -> tuple[int, int]:
        return self._parts.layout.height, self._parts.layout.width

    def give(self, given: Given) -> None:
        """Take the levels that the next call reads."""
        layout = self._parts.layout
        self._given = given.form(layout, lambda levels: encode(levels.astype(np.float32), layout))

    def __call__(self) -> Taken:
        """One call of all steps."""
        p = self._parts
        code = self._driver(
            *(p.steps, self._memory, p.initial.ctypes.data, p.initial.size),
            *(p.source.ctypes.data, self._given.ctypes.data, p.source.size, p.num_steps, self._taken.ctypes.data),
        )
        assert code == 0
        cpu, wall = self._taken.tolist()
        return Taken(cpu / 1000, wall / 1000)

    def output(self) -> bytes:
        """What the last call wrote."""
        return self._layer.output()
