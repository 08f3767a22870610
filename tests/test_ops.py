"""The reference operations against integer arithmetic in numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from spikenm_compile.neurons import leaky
from spikenm_compile.ops import (
    SPIKES,
    IntConv2d,
    IntConvNeuron,
    Levels,
    NeuronStep,
    QuantizeInput,
    exact_dtype,
    largest_sum,
    quantize,
)


def convolve(x: Tensor, conv: IntConv2d) -> np.ndarray[Any, Any]:
    """Σ weight · level in int64, by loops over outputs and taps."""
    weight = conv.weight.numpy().astype(np.int64)
    (sy, sx), (py, px), (dy, dx) = conv.stride, conv.padding, conv.dilation
    padded = np.pad(x.numpy().astype(np.int64), ((0, 0), (0, 0), (py, py), (px, px)))
    outputs, inputs, kh, kw = weight.shape
    height = (padded.shape[2] - dy * (kh - 1) - 1) // sy + 1
    width = (padded.shape[3] - dx * (kw - 1) - 1) // sx + 1
    result = np.zeros((len(x), outputs, height, width), np.int64)
    for o in range(outputs):
        first = o // (outputs // conv.groups) * inputs
        for i, j in np.ndindex(kh, kw):
            rows, columns = slice(i * dy, i * dy + height * sy, sy), slice(j * dx, j * dx + width * sx, sx)
            window = padded[:, first : first + inputs, rows, columns][:, :, :height, :width]
            result[:, o] += np.einsum("bchw,c->bhw", window, weight[o, :, i, j])
    return result


def int_conv(shape: tuple[int, int, int, int], levels: Levels = SPIKES, **geometry: Any) -> IntConv2d:
    weight = torch.randint(-127, 128, shape, dtype=torch.int8)
    return IntConv2d(weight, torch.rand(shape[0]), torch.randn(shape[0]), levels=levels, **geometry)


def test_quantize_rounds_ties_to_even_and_saturates() -> None:
    levels = Levels(-128, 127, 0.5)
    x = torch.tensor([0.25, 0.75, 1.25, -0.25, -0.75, 63.4, 63.5, 1e30, -64.25, -70.0, -1e30])
    assert quantize(x, levels).tolist() == [0, 2, 2, 0, -2, 127, 127, 127, -128, -128, -128]
    assert QuantizeInput(Levels(0, 255))(torch.tensor([-0.6, 254.5, 255.5, 300.0])).tolist() == [0, 254, 255, 255]


@pytest.mark.parametrize("low", [-128, 0])
def test_quantize_gives_nan_the_lowest_level_and_infinities_the_ends(low: int) -> None:
    x = torch.tensor([float("nan"), float("inf"), -float("inf")])
    assert quantize(x, Levels(low, 127, 0.1)).tolist() == [low, 127, low]


def test_levels_print_what_they_hold() -> None:
    assert [str(levels) for levels in (SPIKES, Levels(0, 3), Levels(0, 255, 0.0625), Levels(0, 1, 0.5))] == [
        "spikes",
        "0..3",
        "0..255 × 0.0625",
        "spikes × 0.5",
    ]
    assert SPIKES.is_binary
    assert not Levels(-1, 1).is_binary
    assert not Levels(0, 2).is_binary


def test_largest_sum_is_the_worst_channel_times_the_worst_level() -> None:
    weight = torch.zeros(3, 2, 1, 2, dtype=torch.int8)
    weight[1] = torch.tensor([[[-128, 5]], [[7, -1]]], dtype=torch.int8)
    assert largest_sum(weight, SPIKES) == 141
    assert largest_sum(weight, Levels(-128, 127)) == 141 * 128
    assert largest_sum(weight, Levels(0, 255, 0.1)) == 141 * 255


@pytest.mark.parametrize(
    ("channels", "dtype"), [(517, torch.float32), (519, torch.float64)], ids=["below 2^24", "above 2^24"]
)
def test_sums_are_exact_on_both_sides_of_2_to_the_24(channels: int, dtype: torch.dtype) -> None:
    weight = torch.full((1, channels, 1, 1), 127, dtype=torch.int8)
    conv = IntConv2d(weight, torch.ones(1), torch.zeros(1), levels=Levels(0, 255))
    assert exact_dtype(conv.weight, conv.levels) is dtype
    x = torch.full((1, channels, 1, 1), 255.0)
    assert int(conv.sums(x)) == channels * 127 * 255  # odd, so that float32 cannot hold it above 2^24
    x[0, 0] = 253.0
    assert int(conv.sums(x)) == channels * 127 * 255 - 2 * 127


def test_the_boundary_itself_is_computed_in_float64() -> None:
    weight = torch.full((1, 1024, 1, 1), 64, dtype=torch.int8)
    assert largest_sum(weight, Levels(0, 255)) == 2**24 - 2**16
    assert exact_dtype(weight, Levels(-256, 255)) is torch.float64
    weight[0, 0] = 63
    assert exact_dtype(weight, Levels(-256, 255)) is torch.float32


GEOMETRIES: list[tuple[tuple[int, int, int, int], dict[str, Any]]] = [
    ((5, 3, 3, 3), {}),
    ((4, 3, 3, 2), {"padding": (1, 2), "stride": (2, 1)}),
    ((6, 3, 2, 3), {"padding": (2, 2), "dilation": (2, 1)}),
    ((6, 1, 3, 3), {"groups": 3, "padding": (1, 1)}),
    ((2, 3, 7, 6), {}),
]


@pytest.mark.parametrize(("shape", "geometry"), GEOMETRIES)
@pytest.mark.parametrize("levels", [SPIKES, Levels(0, 255, 0.25), Levels(-128, 127, 0.1)], ids=str)
def test_int_conv_equals_the_convolution_in_int64(
    shape: tuple[int, int, int, int], geometry: dict[str, Any], levels: Levels
) -> None:
    conv = int_conv(shape, levels, **geometry)
    x = torch.randint(levels.low, levels.high + 1, (2, 3, 7, 6)).float()
    sums = convolve(x, conv)
    assert np.array_equal(conv.sums(x).numpy(), sums)
    scale, bias = conv.scale.numpy()[:, None, None], conv.bias.numpy()[:, None, None]
    current = sums.astype(np.float32) * scale + bias
    assert conv(x).dtype is torch.float32
    assert np.array_equal(conv(x).numpy(), current)


def test_int_conv_neuron_is_the_composition() -> None:
    conv, neuron = int_conv((5, 3, 3, 3)), NeuronStep(leaky(2.0))
    fused = IntConvNeuron(conv, neuron)
    v, expected_v = torch.zeros(2, 5, 5, 4), torch.zeros(2, 5, 5, 4)
    total = 0.0
    for _ in range(4):
        x = torch.randint(0, 2, (2, 3, 7, 6)).float()
        spikes, v = fused(x, v)
        expected, expected_v = neuron(conv(x), expected_v)
        assert torch.equal(spikes, expected)
        assert torch.equal(v, expected_v)
        total += float(spikes.mean())
    assert 0.1 < total / 4 < 0.9


def test_the_stored_weight_of_a_linear_layer_has_its_inputs_in_a_row() -> None:
    conv = int_conv((4, 2, 3, 3))
    assert conv.stored_weight() is conv.weight
    conv.linear_input = (2, 3, 3)
    assert conv.stored_weight().shape == (4, 18, 1, 1)
    assert torch.equal(conv.stored_weight().flatten(), conv.weight.flatten())


def test_text_of_the_operations() -> None:
    conv = int_conv((4, 2, 3, 3), stride=(2, 2), padding=(1, 1))
    assert conv.extra_repr() == "[4, 2, 3, 3], stride=2, padding=1, levels=spikes, pattern=dense"
    conv.kernel = "event-rows"
    assert conv.extra_repr().endswith("pattern=dense, kernel=event-rows")
    assert QuantizeInput(Levels(0, 255, 0.5)).extra_repr() == "0..255 × 0.5"
