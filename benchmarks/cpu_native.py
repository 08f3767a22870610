"""Our side: the kernels that take a layer, compiled as `build` does, and checked against the reference."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from benchmarks.cpu_driver import NativeCall
from benchmarks.cpu_timing import Given, Levels
from spikenm_compile.errors import PassError
from spikenm_compile.graph import run_steps
from spikenm_compile.lowering.layout import Bits
from spikenm_compile.passes.select_kernels import REFUSALS, SelectKernels
from spikenm_compile.planning import advisor_for
from spikenm_compile.targets import get_target
from spikenm_compile.targets.cpu import Cpu
from spikenm_compile.tuning.native_layer import NativeLayer, encode
from spikenm_compile.tuning.one_layer import Layer, conv_of, one_layer

TARGET = "native"


@dataclass(frozen=True, eq=False)
class TimedLayer:
    """A layer, and the shape of what it reads."""

    layer: Layer
    shape: tuple[int, int, int]
    """[C, H, W]."""
    num_steps: int

    def families(self) -> list[str]:
        """Those of the target that take it, best first."""
        return [f for f in get_target(TARGET).families if REFUSALS[f](conv_of(self.layer)) is None]

    def choose(self, density: float) -> str:
        """Let `build`'s pass choose the kernel at a density of the input; returns the family."""
        conv = conv_of(self.layer)
        conv.kernel, conv.tile_width, conv.density = "", None, density
        lowered = one_layer(self.layer, self.shape, self.num_steps)
        SelectKernels(get_target(TARGET).families, advisor_for(TARGET)).apply(lowered)
        return conv.kernel

    def compile(self, family: str, cpu: Cpu, example: Levels) -> NativeCall:
        """The kernel of a family, checked on an input.

        Raises:
            PassError: the family cannot compute the layer, or computes something else than the reference.
        """
        conv = conv_of(self.layer)
        conv.kernel = family
        lowered = one_layer(self.layer, self.shape, self.num_steps)
        call = NativeCall(NativeLayer(lowered, cpu))
        call.give(Given(example))
        call()
        levels = torch.from_numpy(example).float()
        expected = run_steps(lowered, levels[:, None]).output[:, 0].numpy()
        if call.output() != _stored(expected, self.layer is not conv):
            raise PassError(
                f"kernel {family} of a layer {list(conv.weight.shape)} with pattern {conv.pattern} computes something "
                "else than the reference; kernels agree with it bit for bit, so please report this layer"
            )
        return call


def _stored(output: np.ndarray[tuple[int, ...], np.dtype[np.float32]], is_spikes: bool) -> bytes:
    """[T, O, H, W] as a native layer writes it."""
    if not is_spikes:
        return output.transpose(0, 2, 3, 1).tobytes()
    outputs, height, width = output.shape[1:]
    return encode(output, Bits(height, width, outputs)).tobytes()
