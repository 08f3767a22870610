"""From what a kernel computes to its CUDA source."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from spikenm_compile.lowering.cuda.choose_tiling import choose_tiling, fits_tensor_cores
from spikenm_compile.lowering.cuda.conv_mma import build_conv_mma
from spikenm_compile.lowering.cuda.element_kernels import (
    build_accumulate,
    build_convert,
    build_join,
    build_quantize,
    build_scalar,
)
from spikenm_compile.lowering.cuda.generated import GeneratedKernel, Gpu
from spikenm_compile.lowering.cuda.neuron_kernels import build_conv_direct, build_neuron
from spikenm_compile.lowering.cuda.pool_kernels import build_pool
from spikenm_compile.lowering.cuda.specs import (
    AccumulateSpec,
    ConvertSpec,
    ConvSpec,
    JoinSpec,
    KernelSpec,
    NeuronSpec,
    PoolSpec,
    QuantizeSpec,
    ScalarSpec,
)


def build_kernel(spec: KernelSpec, gpu: Gpu, batch: int = 64) -> GeneratedKernel:
    """Generate the kernel of a spec.

    Args:
        spec: what it computes.
        gpu: facts about the GPUs that it is for.
        batch: number of samples that it shall be quick for; it takes any.

    Raises:
        PassError: the spec asks for what no kernel computes.
    """
    if isinstance(spec, ConvSpec):
        return _conv(spec, gpu, batch)
    return BUILDERS[type(spec)](spec)


def _conv(spec: ConvSpec, gpu: Gpu, batch: int) -> GeneratedKernel:
    """On tensor cores where they can be fed."""
    tiling = choose_tiling(spec, gpu, batch) if fits_tensor_cores(spec) else None
    return build_conv_direct(spec) if tiling is None else build_conv_mma(spec, tiling)


BUILDERS: dict[type, Callable[[Any], GeneratedKernel]] = {
    NeuronSpec: build_neuron,
    QuantizeSpec: build_quantize,
    PoolSpec: build_pool,
    JoinSpec: build_join,
    ScalarSpec: build_scalar,
    AccumulateSpec: build_accumulate,
    ConvertSpec: build_convert,
}
"""Kind of spec -> what builds its kernel, where there is one way."""
