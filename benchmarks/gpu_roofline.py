"""How fast a layer could be: the larger of its arithmetic at peak and its memory traffic at peak."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch.fx import GraphModule

from spikenm_compile.graph import REGION, SHAPE, Region, module_of
from spikenm_compile.ops import IntConv2d, IntConvNeuron
from spikenm_compile.passes.select_kernels import SPARSE_TENSOR_CORE


@dataclass(frozen=True)
class Peak:
    """A GPU's limits, from its data sheet."""

    int8: float
    """Dense int8 operations per second; 2:4 doubles them."""
    bandwidth: float
    """Bytes per second."""


PEAKS = {
    "H200": Peak(1979e12, 4.8e12),
    "H100": Peak(1979e12, 3.35e12),
    "A100": Peak(624e12, 2.0e12),
    "L40": Peak(362e12, 0.864e12),
    "B200": Peak(4500e12, 8.0e12),
}
"""Part of the device's name -> limits (SXM forms)."""


@dataclass(frozen=True)
class Layer:
    """One convolution of a network, for one sample of all its steps."""

    name: str
    kernel: str
    outputs: int
    reduction: int
    positions: int
    """Pixels × steps."""
    bytes_moved: float
    """Input and output once: bits for spikes."""
    weight_bytes: int

    def microseconds(self, peak: Peak, batch: int) -> float:
        """The bound."""
        rate = peak.int8 * (2 if self.kernel == SPARSE_TENSOR_CORE else 1)
        operations = 2.0 * self.outputs * self.reduction * self.positions * batch
        return 1e6 * max(operations / rate, (self.bytes_moved * batch + self.weight_bytes) / peak.bandwidth)


def peak_of(device: str) -> Peak | None:
    """Limits of a device by its name."""
    return next((peak for part, peak in PEAKS.items() if part in device), None)


def layers_of(lowered: GraphModule) -> list[Layer]:
    """Every convolution, in order."""
    found = []
    for node in lowered.graph.nodes:
        module = module_of(lowered, node)
        conv = module.conv if isinstance(module, IntConvNeuron) else module
        if isinstance(conv, IntConv2d):
            steps = lowered.meta["num_steps"] if node.meta[REGION] is Region.STEP else 1
            found.append(_layer(conv, node.args[0].meta[SHAPE], node.meta[SHAPE], steps, module is not conv))
    return found


def _layer(conv: IntConv2d, source: tuple[int, ...], out: tuple[int, ...], steps: int, is_fused: bool) -> Layer:
    reads = math.prod(source) * steps / (8 if conv.levels.is_binary else 1)
    writes = math.prod(out) * steps * (1 / 8 if is_fused else 4)
    kept = 2 if conv.kernel == SPARSE_TENSOR_CORE else 1
    return Layer(
        name=conv.layer,
        kernel=conv.kernel,
        outputs=conv.weight.shape[0],
        reduction=conv.weight[0].numel(),
        positions=math.prod(out[1:]) * steps,
        bytes_moved=reads + writes,
        weight_bytes=conv.weight.numel() // kept,
    )
