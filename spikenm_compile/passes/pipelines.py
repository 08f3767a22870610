"""The order of the passes, on one screen."""

from __future__ import annotations

from torch import Tensor

from spikenm_compile.costs.advice import NO_ADVISOR, Advisor
from spikenm_compile.ops import Levels
from spikenm_compile.passes.annotate_density import AnnotateDensity
from spikenm_compile.passes.annotate_levels import AnnotateLevels
from spikenm_compile.passes.base import Pass
from spikenm_compile.passes.convert_avg_pool_to_sum import ConvertAvgPoolToSum
from spikenm_compile.passes.convert_conv1d_to_conv2d import ConvertConv1dToConv2d
from spikenm_compile.passes.convert_linear_to_conv import ConvertLinearToConv
from spikenm_compile.passes.fold_batchnorm import FoldBatchNorm
from spikenm_compile.passes.fuse_neuron import FuseNeuron
from spikenm_compile.passes.hoist_time_invariant import HoistTimeInvariant
from spikenm_compile.passes.pack_nm_weights import PackNMWeights
from spikenm_compile.passes.quantize_inputs import QuantizeInputs
from spikenm_compile.passes.quantize_weights import QuantizeWeights
from spikenm_compile.passes.select_kernels import SelectKernels
from spikenm_compile.passes.split_concatenation import SplitConcatenation
from spikenm_compile.passes.verify_whole_numbers import VerifyWholeNumbers
from spikenm_compile.pattern import Pattern


def lowering(
    levels: Levels,
    pattern: Pattern,
    families: tuple[str, ...],
    weight_type: str = "int8",
    samples: Tensor | None = None,
    advisor: Advisor = NO_ADVISOR,
) -> tuple[Pass, ...]:
    """Float step graph to lowered graph.

    Args:
        levels: of the model's input.
        pattern: that unmarked layers are tried with.
        families: kernel families of the target, best first.
        weight_type: integers that the weights become (weight_types).
        samples: inputs of the step graph that densities are measured on; None: they stay unknown.
        advisor: what is known of the times of kernels.
    """
    return (
        # what can be computed at all
        SplitConcatenation(),
        VerifyWholeNumbers(),
        # what is computed when
        HoistTimeInvariant(),
        # fewer kinds of layer
        FoldBatchNorm(),
        ConvertConv1dToConv2d(),
        ConvertLinearToConv(),
        # whole numbers
        QuantizeInputs(levels),
        AnnotateLevels(),
        ConvertAvgPoolToSum(),
        QuantizeWeights(weight_type),
        # how a target stores and computes them
        PackNMWeights(pattern),
        FuseNeuron(),
        AnnotateDensity(samples),
        SelectKernels(families, advisor),
    )
