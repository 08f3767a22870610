"""Our side: the kernels that take a layer, compiled as `build` does, and checked against the reference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.fx import GraphModule

from benchmarks.cpu_driver import NativeCall
from benchmarks.cpu_timing import Given, Levels
from spikenm_compile.errors import PassError
from spikenm_compile.graph import run_steps
from spikenm_compile.lowering.layout import Bits
from spikenm_compile.ops import IntConv2d, IntConvNeuron
from spikenm_compile.passes.select_kernels import REFUSALS, SelectKernels
from spikenm_compile.planning import advisor_for
from spikenm_compile.targets import get_target
from spikenm_compile.targets.cpu import Cpu
from spikenm_compile.tuning.native_layer import NativeLayer, encode
from spikenm_compile.tuning.one_layer import Layer, conv_of, one_layer

TARGET = "native"


NOTES = ("kernel", "density", "microseconds", "savings", "why")
"""What `SelectKernels` writes on a layer that is no setting of its kernel, and the kernel itself."""


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

    def takes_any_weights(self, family: str) -> bool:
        """Whether a family takes the layer without its pattern too."""
        conv = conv_of(_without_kernel(self.layer))
        conv.pattern = None
        return REFUSALS[family](conv) is None

    def with_family(self, family: str) -> Layer:
        """The layer, computed by the kernel of a family as it usually is."""
        layer = _without_kernel(self.layer)
        conv_of(layer).kernel = family
        return layer

    def as_built(self, density: float) -> Layer:
        """The layer, computed as `build` chooses where that share of the inputs is active."""
        layer = _without_kernel(self.layer)
        conv_of(layer).density = density
        SelectKernels(get_target(TARGET).families, advisor_for(TARGET)).apply(self._alone(layer))
        return layer

    def usual_family(self, built: Layer) -> str | None:
        """The family of a layer from `as_built`; None where it is not what `with_family` gives."""
        family = conv_of(built).kernel
        return family if _settings(built) == _settings(self.with_family(family)) else None

    def compile(self, layer: Layer, cpu: Cpu, example: Levels) -> NativeCall:
        """The kernel of a layer from `with_family` or `as_built`, checked on an input.

        Raises:
            PassError: it cannot compute the layer, or computes something else than the reference.
        """
        conv, lowered = conv_of(layer), self._alone(layer)
        call = NativeCall(NativeLayer(lowered, cpu))
        call.give(Given(example))
        call()
        levels = torch.from_numpy(example).float()
        expected = run_steps(lowered, levels[:, None]).output[:, 0].numpy()
        if call.output() != _stored(expected, layer is not conv):
            raise PassError(
                f"kernel {conv.kernel} of a layer {list(conv.weight.shape)} with pattern {conv.pattern} computes "
                "something else than the reference; kernels agree with it bit for bit, so please report this layer"
            )
        return call

    def _alone(self, layer: Layer) -> GraphModule:
        return one_layer(layer, self.shape, self.num_steps)


def _without_kernel(layer: Layer) -> Layer:
    """A copy that no kernel was chosen for."""
    old = conv_of(layer)
    geometry: dict[str, Any] = {key: getattr(old, key) for key in ("levels", "stride", "padding", "dilation", "groups")}
    conv = IntConv2d(old.weight, old.scale, old.bias, **geometry)
    conv.pattern, conv.linear_input, conv.layer, conv.density = old.pattern, old.linear_input, old.layer, old.density
    return IntConvNeuron(conv, layer.neuron) if isinstance(layer, IntConvNeuron) else conv


def _settings(layer: Layer) -> dict[str, object]:
    return {k: v for k, v in vars(conv_of(layer)).items() if not k.startswith("_") and k not in NOTES}


def _stored(output: np.ndarray[tuple[int, ...], np.dtype[np.float32]], is_spikes: bool) -> bytes:
    """[T, O, H, W] as a native layer writes it."""
    if not is_spikes:
        return output.transpose(0, 2, 3, 1).tobytes()
    outputs, height, width = output.shape[1:]
    return encode(output, Bits(height, width, outputs)).tobytes()
