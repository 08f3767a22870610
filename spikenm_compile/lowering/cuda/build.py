"""From what a kernel computes to its CUDA source."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from spikenm_compile.errors import PassError
from spikenm_compile.lowering.cuda.conv_mma import build_conv_mma
from spikenm_compile.lowering.cuda.generated import GeneratedKernel, Gpu
from spikenm_compile.lowering.cuda.specs import ConvSpec, KernelSpec
from spikenm_compile.lowering.cuda.tiling import choose_tiling, fits_tensor_cores


def build_kernel(spec: KernelSpec, gpu: Gpu, batch: int = 64) -> GeneratedKernel:
    """Generate the kernel of a spec.

    Args:
        spec: what it computes.
        gpu: facts about the GPUs that it is for.
        batch: number of samples that it shall be quick for; it takes any.

    Raises:
        PassError: the spec asks for what no kernel computes.
    """
    return BUILDERS[type(spec)](spec, gpu, batch)


def _conv(spec: ConvSpec, gpu: Gpu, batch: int) -> GeneratedKernel:
    tiling = choose_tiling(spec, gpu, batch) if fits_tensor_cores(spec) else None
    if tiling is None:
        raise PassError(f"kernel '{spec.name}' does not fit; use another")
    return build_conv_mma(spec, tiling)


BUILDERS: dict[type, Callable[[Any, Gpu, int], GeneratedKernel]] = {ConvSpec: _conv}
"""Kind of spec -> what builds its kernel."""
