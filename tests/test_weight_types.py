"""Weights as whole numbers: what is on a grid stays there, through batch norms of either sign."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from torch import Tensor, nn

from spikenm_compile.errors import InputError
from spikenm_compile.passes.fold_batchnorm import fold
from spikenm_compile.weight_types import (
    WEIGHT_TYPES,
    WeightType,
    quantize_weight,
    relative_error,
    round_weight,
    smallest_type,
    type_of_largest,
)

KINDS: tuple[WeightType, ...] = get_args(WeightType)


def weights(seed: int = 0) -> Tensor:
    """Normal weights with outliers, zeros, a channel of zeros and one with a single weight."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(12, 16, 3, 3, generator=generator) * torch.rand(12, 1, 1, 1, generator=generator)
    weight[torch.rand(weight.shape, generator=generator) < 0.5] = 0.0
    weight[:4, 0, 0, 0] = 9.0
    weight[5], weight[6] = 0.0, 0.0
    weight[6, 3, 1, 1] = -0.37
    return weight


@pytest.mark.parametrize("kind", KINDS)
def test_rounded_weights_are_the_product_and_keep_their_memory_layout(kind: WeightType) -> None:
    weight = weights().to(memory_format=torch.channels_last)
    q, scale = quantize_weight(weight, kind)
    rounded = round_weight(weight, kind)
    assert torch.equal(rounded, (q.double() * scale.view(-1, 1, 1, 1)).float())
    assert rounded.stride() == weight.stride()
    assert q.abs().max() == WEIGHT_TYPES[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_rounded_once_gives_the_same_whole_numbers_again(kind: WeightType) -> None:
    for seed in range(5):
        q, _ = quantize_weight(weights(seed), kind)
        rounded = round_weight(weights(seed), kind)
        assert torch.equal(quantize_weight(rounded, kind)[0], q)
        assert torch.equal(quantize_weight(rounded, "auto")[0], q)


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_norm_changes_no_more_than_signs(kind: WeightType) -> None:
    """Its factors have either sign and any size; round half to even of -x is that of x, negated."""
    conv, norm = nn.Conv2d(16, 12, 3, bias=False), nn.BatchNorm2d(12)
    conv.weight = nn.Parameter(round_weight(weights(), kind))
    generator = torch.Generator().manual_seed(1)
    norm.weight = nn.Parameter(torch.randn(12, generator=generator) * 3)
    norm.running_var = torch.rand(12, generator=generator) * 10
    q, _ = quantize_weight(fold(conv, norm.eval()).weight, kind)
    expected = quantize_weight(conv.weight, kind)[0]
    sign = norm.weight.detach().sign().view(-1, 1, 1, 1)
    assert (sign < 0).any()
    assert torch.equal(q, (expected * sign).to(torch.int8))


def test_floats_are_not_on_a_grid_and_auto_knows() -> None:
    weight = torch.randn(8, 8, 3, 3, generator=torch.Generator().manual_seed(0))
    assert [relative_error(weight, kind) > 1e-3 for kind in KINDS] == [True] * 3
    assert smallest_type(weight) == "int7"
    assert smallest_type(round_weight(weight, "int8")) == "int8"
    assert smallest_type(torch.zeros(3, 4)) == "int4"


def test_what_is_not_finite_stays_so() -> None:
    weight = weights()
    weight[2, 0, 0, 0] = torch.inf
    assert round_weight(weight, "int4")[2].isnan().all()
    assert round_weight(weight, "int4")[3].isfinite().all()


def test_types_by_their_largest_magnitude() -> None:
    assert [type_of_largest(WEIGHT_TYPES[kind]) for kind in KINDS] == list(KINDS)
    with pytest.raises(InputError, match="whole numbers up to 31; known are 127 of int8, 63 of int7, 7 of int4; use"):
        type_of_largest(31)
