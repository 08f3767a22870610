"""Convolutions for CUDA tests: a spec, random operands, and what PyTorch says of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from spikenm_compile.levels import SPIKES, Levels
from spikenm_compile.lowering.cuda.generated import GeneratedKernel
from spikenm_compile.lowering.cuda.neuron_steps import neuron_params
from spikenm_compile.lowering.cuda.specs import ConvSpec, Value
from spikenm_compile.lowering.cuda.tensors import LevelBytes, Reals, SpikeWords, decode, encode
from spikenm_compile.lowering.layout import Geometry
from spikenm_compile.neurons import Neuron, leaky, step
from spikenm_compile.ops import IntConv2d
from spikenm_compile.pattern import Pattern

LEAKY = leaky(2.0)


@dataclass(frozen=True)
class Case:
    """One convolution; sizes are of the input."""

    channels: int
    outputs: int
    size: tuple[int, int] = (5, 5)
    kernel: tuple[int, int] = (3, 3)
    stride: int = 1
    padding: int = 1
    dilation: int = 1
    groups: int = 1
    steps: int = 1
    levels: Levels = SPIKES
    is_sparse: bool = True
    neuron: Neuron | None = LEAKY
    batch: int = 2
    halo: int = 1
    """Of the output."""

    @property
    def geometry(self) -> Geometry:
        return Geometry(self.kernel, (self.stride,) * 2, (self.padding,) * 2, (self.dilation,) * 2)

    @property
    def out_size(self) -> tuple[int, int]:
        height, width = (
            (n + 2 * self.padding - self.dilation * (k - 1) - 1) // self.stride + 1
            for n, k in zip(self.size, self.kernel, strict=True)
        )
        return height, width

    @property
    def spec(self) -> ConvSpec:
        source: SpikeWords | LevelBytes
        if self.levels.is_binary:
            source = SpikeWords(*self.size, self.channels, self.steps, self.padding)
        else:
            source = LevelBytes(*self.size, self.channels, self.steps, self.padding, signed=self.levels.low < 0)
        return ConvSpec("conv", source, self._out(), self.geometry, self.groups, self.is_sparse, self.neuron)

    def _out(self) -> Value:
        if self.neuron is None or self.neuron.levels is None:
            return Reals(*self.out_size, self.outputs, self.steps)
        if self.neuron.is_binary:
            return SpikeWords(*self.out_size, self.outputs, self.steps, self.halo)
        signed = self.neuron.levels.low < 0
        return LevelBytes(*self.out_size, self.outputs, self.steps, self.halo, signed=signed)


@dataclass(frozen=True)
class Operands:
    """Random operands of a case."""

    weight: torch.Tensor
    scale: torch.Tensor
    bias: torch.Tensor
    source: torch.Tensor
    """[T, B, C, H, W] levels."""
    states: dict[str, torch.Tensor]


def operands(case: Case) -> Operands:
    """Weights that hold 2:4 where the case does; currents around the thresholds of neurons."""
    inputs = case.channels // case.groups
    weight = torch.randint(-128, 128, (case.outputs, inputs, *case.kernel)).float()
    if case.is_sparse:
        missing = -inputs % 4
        padded = torch.nn.functional.pad(weight, (0, 0, 0, 0, 0, missing))
        weight = Pattern(2, 4).project(padded)[:, :inputs]
    low, high = case.levels.low, case.levels.high
    source = torch.randint(low, high + 1, (case.steps, case.batch, case.channels, *case.size)).float()
    spread = float(np.sqrt(inputs * case.kernel[0] * case.kernel[1] + 1)) * 40 * max(abs(low), high)
    states = {}
    if case.neuron is not None:
        states = {n: torch.randn(case.batch, case.outputs, *case.out_size) for n in case.neuron.states}
    scale = (0.5 + torch.rand(case.outputs)) / spread
    return Operands(weight.to(torch.int8), scale, 0.3 + torch.randn(case.outputs) / 2, source, states)


def expected(case: Case, given: Operands) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """[T, B, O, H, W] output and last states, by the operations of the lowered graph."""
    g = case.geometry
    conv = IntConv2d(
        *(given.weight, given.scale, given.bias),
        levels=case.levels, stride=g.stride, padding=g.padding, dilation=g.dilation, groups=case.groups,
    )  # fmt: skip
    states, results = dict(given.states), []
    for levels in given.source:
        current = conv(levels)
        if case.neuron is not None:
            current, after = step(current, states, case.neuron)
            states = dict(zip(case.neuron.states, after, strict=True))
        results.append(current)
    return torch.stack(results), states


def arrays(case: Case, given: Operands, kernel: GeneratedKernel) -> dict[str, NDArray[Any]]:
    """Arguments of the kernel; the output is filled with ones, its halo with zeros."""
    spec, out = case.spec, case.spec.out
    assert kernel.pack is not None
    ones = np.ones((case.steps, case.batch, case.outputs, *case.out_size), np.float32)
    result: dict[str, NDArray[Any]] = {
        "source": encode(given.source.numpy(), spec.source),
        "weights": kernel.pack(given.weight.numpy()),
        "scale": given.scale.numpy(),
        "bias": given.bias.numpy(),
        "out": encode(ones, out),
    }
    for name in neuron_params(case.neuron) if case.neuron is not None else ():
        kind, _, short = name.partition("_")
        assert case.neuron is not None
        if kind == "constant":
            result[name] = np.array(case.neuron.per_channel[short], np.float32)
        else:
            result[name] = encode(given.states[short][None].numpy(), Reals(*case.out_size, case.outputs))
    return result


def assert_equal(case: Case, given: Operands, after: dict[str, NDArray[Any]]) -> None:
    """Output and states are those of PyTorch, bit for bit but for the sign of zeros; halo and unused bits are zero."""
    output, states = expected(case, given)
    out = case.spec.out
    np.testing.assert_array_equal(decode(after["out"], out), output.numpy())
    for name, state in states.items():
        size = Reals(*case.out_size, case.outputs)
        np.testing.assert_array_equal(decode(after[f"state_{name}"], size)[0], state.numpy())
    if isinstance(out, SpikeWords):
        np.testing.assert_array_equal(after["out"], encode(output.numpy(), out))
