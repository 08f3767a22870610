"""One native layer as a function that is timed in C: event lists and layer with its neurons, inputs taken in turns."""

from __future__ import annotations

import ctypes
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from spikenm_compile.lowering import tir
from spikenm_compile.lowering.kernels.event_list import build_event_list
from spikenm_compile.lowering.layer_rows import event_list_of
from spikenm_compile.lowering.layout import Bits
from spikenm_compile.lowering.native_layers import LayerCode, build_layer
from spikenm_compile.lowering.program import Program, Space
from spikenm_compile.neurons import Neuron, leaky
from spikenm_compile.ops import IntConv2d
from spikenm_compile.package import stored_weight_arrays
from spikenm_compile.targets.cpu import Cpu

Array = np.ndarray[Any, np.dtype[Any]]
NEURON = leaky(2.0, v_threshold=1.0, v_reset=0.0)

DRIVER = """
#include <stdint.h>
#include <string.h>
#include <time.h>
int32_t bench_events(void*, void*, void*, int32_t);
int32_t bench_layer(void*, void*, void*, void*, void*, void*, void*, int32_t);
int32_t bench_layer_prepare(void*, void*, void*, int32_t);
static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}
void bench_prepare(void **p) { bench_layer_prepare(p[0], p[1], p[2], 1); }
/* p: start, events, rows, scale, bias, state, out */
double bench_run(void **spikes, int inputs, void **p, long state_bytes, int steps, int calls) {
    double first = now();
    for (int i = 0; i < calls; i++) {
        memset(p[5], 0, state_bytes);
        bench_events(spikes[i % inputs], p[0], p[1], steps);
        bench_layer(p[0], p[1], p[2], p[3], p[4], p[5], p[6], steps);
    }
    return (now() - first) / calls;
}
"""


def aligned(num_bytes: int) -> Array:
    """Zero bytes from a multiple of 64 on, and some behind them."""
    raw = np.zeros(num_bytes + 128, np.uint8)
    first = -raw.ctypes.data % 64
    return raw[first : first + num_bytes + 64]


def pointers(arrays: list[Array]) -> Any:
    """A C array of their addresses."""
    return (ctypes.c_void_p * len(arrays))(*(a.ctypes.data for a in arrays))


def spike_words(spikes: Array, layout: Bits) -> Array:
    """Spikes [T, H, W, C] as the words of the layout."""
    t, h, w, c = spikes.shape
    halo = layout.halo
    full = np.zeros((t, h + 2 * halo, w + 2 * halo, layout.pixel * 64), np.uint8)
    full[:, halo : halo + h, halo : halo + w, :c] = spikes
    bits = np.packbits(full, axis=-1, bitorder="little").reshape(-1)
    memory = aligned(bits.size)
    memory[: bits.size] = bits
    return memory


@dataclass
class NativeLayer:
    """A layer of LIF neurons behind a convolution, compiled for `cpu`."""

    conv: IntConv2d
    size: int
    num_steps: int
    cpu: Cpu
    scratch: Path
    neuron: Neuron = NEURON

    def __post_init__(self) -> None:
        outputs, inputs, kernel, _ = self.conv.weight.shape
        halo = self.conv.padding[0]
        self.spikes = Bits(self.size, self.size, inputs, halo)
        self.out = Bits(self.size + 2 * halo - kernel + 1, self.size + 2 * halo - kernel + 1, outputs, halo)
        lists = event_list_of(self.conv, self.spikes, self.cpu.tile_width)
        program = Program(self.num_steps)
        code = LayerCode(self.conv, lists, self.out, self.neuron, self.cpu.tile_width)
        functions = [*build_layer(program, code, "bench_layer").functions, *program.functions]
        self.module = tir.compile_functions([*functions, *build_event_list("bench_events", lists)], self.cpu.tvm_target)
        self._link()
        self._allocate(program, lists)

    def _link(self) -> None:
        tir.write_object(self.module, self.scratch / "layer.o")
        (self.scratch / "driver.c").write_text(DRIVER)
        library = self.scratch / "layer.so"
        command = ["cc", "-O2", "-shared", "-fPIC", "driver.c", "layer.o", "-o", str(library)]
        subprocess.run(command, cwd=self.scratch, check=True)
        self.library = ctypes.CDLL(str(library))
        self.library.bench_run.restype = ctypes.c_double

    def _allocate(self, program: Program, lists: Any) -> None:
        stored = stored_weight_arrays(self.conv)
        outputs = self.conv.weight.shape[0]
        rows = aligned(program.sizes[Space.PARAMS])
        values, metadata = (np.ascontiguousarray(stored.get(k, np.zeros(1, np.uint8))) for k in ("values", "metadata"))
        self.library.bench_prepare(pointers([values, metadata, rows]))
        scale, bias = (aligned(4 * outputs) for _ in range(2))
        scale[: 4 * outputs] = self.conv.scale.numpy().view(np.uint8)
        bias[: 4 * outputs] = self.conv.bias.numpy().view(np.uint8)
        steps = self.num_steps
        self.state_bytes = 4 * self.out.height * self.out.width * outputs
        self.buffers = [
            aligned(lists.start_bytes(steps)),
            aligned(lists.event_bytes(steps)),
            rows,
            scale,
            bias,
            aligned(self.state_bytes),
            aligned(self.out.num_bytes(steps)),
        ]

    def run(self, inputs: list[Array], calls: int) -> float:
        """Nanoseconds a call, for inputs made by `spike_words`."""
        given = pointers(inputs)
        seconds = self.library.bench_run(
            given, len(inputs), pointers(self.buffers), ctypes.c_long(self.state_bytes), self.num_steps, calls
        )
        return float(seconds)

    def result(self) -> Array:
        """Spikes of the last call [T, H, W, O]."""
        o, halo = self.out, self.out.halo
        words = self.buffers[-1][: o.num_bytes(self.num_steps)]
        full = np.unpackbits(words, bitorder="little").reshape(
            self.num_steps, o.height + 2 * halo, o.width + 2 * halo, o.pixel * 64
        )
        return full[:, halo : halo + o.height, halo : halo + o.width, : o.channels]
