"""Networks in and out of NIR, the Neuromorphic Intermediate Representation: `from_nir` and `to_nir`."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from spikenm_compile.compiler import lift_model
from spikenm_compile.errors import InputError
from spikenm_compile.frontend.nir.export import export_graph
from spikenm_compile.frontend.nir.network import NirNetwork, from_nir
from spikenm_compile.passes.base import run_pipeline
from spikenm_compile.passes.fold_batchnorm import FoldBatchNorm

__all__ = ["NirNetwork", "from_nir", "to_nir"]


def to_nir(
    model: nn.Module,
    example_inputs: Tensor,
    *,
    dt: float = 1e-4,
    allow_soft_reset: bool = False,
    drop_readout: bool = False,
) -> Any:
    """The `nir.NIRGraph` of a spiking network, for other libraries and neuromorphic chips.

    What NIR cannot hold (the order of float32 operations, >= or > at the threshold, dt) stands in metadata, so that
    `from_nir` gives back just these spikes. Batch norm is folded into the layers before it.

    Args:
        model: a folded, or any other, spiking network.
        example_inputs: a batch of inputs: [B, ...], or [T, B, ...] where the input changes with time.
        dt: duration of a time step, in seconds.
        allow_soft_reset: write neurons that reset by subtraction too. Other tools will reset them to 0, `from_nir` will
            not.
        drop_readout: leave out a mean, sum, maximum or last step over time; the graph then emits every step.

    Raises:
        CaptureError, PassError: the model cannot be captured, see `compiler.lift_model`.
        InputError: what NIR cannot say: max pools, products, neurons that do not leak linearly, readouts, ...
        ToolError: the package nir is not installed.
    """
    if not dt > 0:
        raise InputError(f"dt={dt} is no duration of a time step; it is above zero, in seconds")
    step_graph = run_pipeline((FoldBatchNorm(),), lift_model(model, example_inputs))
    return export_graph(step_graph, dt=dt, allow_soft_reset=allow_soft_reset, drop_readout=drop_readout)
