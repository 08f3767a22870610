"""Kernels with a thread for each value, on the emulator: equal to PyTorch."""

from __future__ import annotations

import neuron_kinds
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lowering.cuda.conv_cases import Case
from lowering.cuda.emulator import launch, needs_compiler
from lowering.cuda.test_conv import check
from neuron_kinds import COUNTING, REAL, SPIKING, Kind
from torch import Tensor

from spikenm_compile.errors import PassError
from spikenm_compile.levels import Levels
from spikenm_compile.lowering.cuda.build import build_kernel
from spikenm_compile.lowering.cuda.generated import Gpu
from spikenm_compile.lowering.cuda.specs import (
    AccumulateSpec,
    ConvertSpec,
    JoinSpec,
    KernelSpec,
    NeuronSpec,
    PoolSpec,
    QuantizeSpec,
    ScalarSpec,
    Value,
)
from spikenm_compile.lowering.cuda.tensors import LevelBytes, Planes, Reals, SpikeWords, decode, encode
from spikenm_compile.lowering.layout import Geometry
from spikenm_compile.neurons import Neuron, step
from spikenm_compile.ops import quantize

pytestmark = needs_compiler

BATCH, STEPS = 2, 3


def run(spec: KernelSpec, out: Value | Planes, **given: tuple[Tensor, Value | Planes]) -> Tensor:
    """[T, B, C, H, W] output of a kernel, whose memory holds `before`, or zeros."""
    zeros = torch.zeros(out.steps, BATCH, out.channels, out.height, out.width)
    arrays = {"out": _stored(*given.pop("before", (zeros, out)))}
    arrays |= {name: _stored(values, tensor) for name, (values, tensor) in given.items()}
    after = launch(build_kernel(spec, Gpu()), arrays, BATCH)["out"]
    return torch.from_numpy(after.copy() if isinstance(out, Planes) else decode(after, out))


def _stored(values: Tensor, tensor: Value | Planes) -> np.ndarray:
    return values.numpy().copy() if isinstance(tensor, Planes) else encode(values.numpy(), tensor)


def spikes(channels: int, height: int, width: int, steps: int = STEPS) -> Tensor:
    return torch.randint(0, 2, (steps, BATCH, channels, height, width)).float()


def same(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("levels", [Levels(0, 255, 0.0625), Levels(-128, 127, 0.013)])
def test_quantize(levels: Levels) -> None:
    x = torch.randn(STEPS, BATCH, 3, 4, 5) * 200 * levels.scale
    x[0, 0, 0] = torch.tensor([float("nan"), float("inf"), -float("inf"), 0.5 * levels.scale, 2.5 * levels.scale])
    source, out = Planes(4, 5, 3, STEPS), LevelBytes(4, 5, 3, STEPS, halo=2, signed=levels.low < 0)
    same(run(QuantizeSpec("quantize", source, out, levels), out, source=(x, source)), quantize(x, levels))


def test_max_pool_of_spikes() -> None:
    x = spikes(65, 7, 5)
    source, out = SpikeWords(7, 5, 65, STEPS, 1), SpikeWords(4, 3, 65, STEPS, 2)
    pooled = run(PoolSpec("pool", "max", source, out, Geometry((3, 3), (2, 2), (1, 1))), out, source=(x, source))
    same(pooled, torch.stack([F.max_pool2d(levels, 3, 2, 1) for levels in x]))


@pytest.mark.parametrize("out", [Reals(3, 2, 5, STEPS), LevelBytes(3, 2, 5, STEPS, 1, signed=True)], ids=type)
def test_max_pool_of_others(out: Value) -> None:
    x = torch.randint(-128, 128, (STEPS, BATCH, 5, 6, 5)).float()
    source = Reals(6, 5, 5, STEPS) if isinstance(out, Reals) else LevelBytes(6, 5, 5, STEPS, signed=True)
    spec = PoolSpec("pool", "max", source, out, Geometry((2, 3), (2, 2), (0, 0)))
    same(run(spec, out, source=(x, source)), torch.stack([F.max_pool2d(levels, (2, 3), 2) for levels in x]))


def test_sum_pool() -> None:
    x = spikes(33, 5, 5)
    source, out = SpikeWords(5, 5, 33, STEPS), LevelBytes(3, 3, 33, STEPS, 1)
    spec = PoolSpec("pool", "sum", source, out, Geometry((3, 3), (2, 2), (1, 1)))
    expected = torch.stack([F.avg_pool2d(levels, 3, 2, 1, divisor_override=1) for levels in x])
    same(run(spec, out, source=(x, source)), expected)


def test_sum_pool_of_reals_is_refused() -> None:
    spec = PoolSpec("pool", "sum", Reals(4, 4, 3), Reals(2, 2, 3), Geometry((2, 2), (2, 2)))
    with pytest.raises(PassError, match=r"sums real numbers under a window; sums of spikes and levels"):
        build_kernel(spec, Gpu())


def test_join_into_levels() -> None:
    a, b = spikes(40, 3, 3), torch.randint(-1, 3, (STEPS, BATCH, 40, 3, 3)).float()
    source, other = SpikeWords(3, 3, 40, STEPS, 1), LevelBytes(3, 3, 40, STEPS, 0, signed=True)
    out = LevelBytes(3, 3, 40, STEPS, 1, signed=True)
    for operation, expected in (("sub", a - b), ("mul", a * b), ("add", a + b)):
        spec = JoinSpec("join", operation, source, other, out)  # type: ignore[arg-type]
        same(run(spec, out, source=(a, source), other=(b, other)), expected)


def test_join_of_spikes_into_spikes() -> None:
    a, b = spikes(35, 3, 2), spikes(35, 3, 2, steps=1)
    source, other, out = SpikeWords(3, 2, 35, STEPS), SpikeWords(3, 2, 35), SpikeWords(3, 2, 35, STEPS, 1)
    same(run(JoinSpec("join", "mul", source, other, out), out, source=(a, source), other=(b, other)), a * b)


@pytest.mark.parametrize("operation", ["maximum", "div"])
def test_join_of_reals(operation: str) -> None:
    a, b = torch.randn(2, STEPS, BATCH, 3, 2, 2)
    a[0, 0, 0], b[0, 0, 1] = float("nan"), float("nan")
    size = Reals(2, 2, 3, STEPS)
    spec = JoinSpec("join", operation, size, size, size)  # type: ignore[arg-type]
    expected = torch.maximum(a, b) if operation == "maximum" else a / b
    same(run(spec, size, source=(a, size), other=(b, size)), expected)


def test_one_minus_spikes() -> None:
    a, source, out = spikes(40, 2, 2), SpikeWords(2, 2, 40, STEPS), SpikeWords(2, 2, 40, STEPS, 1)
    same(run(ScalarSpec("silent", "sub", source, 1.0, out, is_left=False), out, source=(a, source)), 1 - a)


def test_number_as_parameter() -> None:
    a, size = torch.randn(1, BATCH, 3, 1, 1), Reals(1, 1, 3)
    spec = ScalarSpec("mean", "div", size, None, size)
    arrays = {"source": encode(a.numpy(), size), "out": encode(a.numpy(), size)}
    after = launch(build_kernel(spec, Gpu()), arrays, BATCH, number=7.0)["out"]
    same(torch.from_numpy(decode(after, size)), a / 7)


@pytest.mark.parametrize("is_static", [False, True])
def test_accumulate(is_static: bool) -> None:
    x, total = torch.randn(1 if is_static else STEPS, BATCH, 3, 2, 1), torch.randn(1, BATCH, 3, 2, 1)
    source, out = Reals(2, 1, 3, len(x)), Reals(2, 1, 3)
    expected = total.clone()
    for t in range(STEPS):
        expected[0] += x[0 if is_static else t]
    actual = run(AccumulateSpec("sum", "add", source, out, STEPS), out, source=(x, source), before=(total, out))
    same(actual, expected)


@pytest.mark.parametrize("out", [LevelBytes(3, 3, 35, 2, 2), Reals(3, 3, 35, 2), Planes(3, 3, 35, 2)], ids=type)
def test_convert_spikes(out: Value | Planes) -> None:
    a, source = spikes(35, 3, 3), SpikeWords(3, 3, 35, STEPS, 1)
    same(run(ConvertSpec("convert", source, out, first=1), out, source=(a, source)), a[1:])


def test_convert_to_spikes() -> None:
    a, source, out = spikes(35, 3, 3), LevelBytes(3, 3, 35, STEPS, 1), SpikeWords(3, 3, 35, STEPS, 1)
    same(run(ConvertSpec("convert", source, out), out, source=(a, source)), a)


def output_of(neuron: Neuron, channels: int) -> Value:
    if neuron.levels is None:
        return Reals(2, 3, channels, STEPS)
    if neuron.is_binary:
        return SpikeWords(2, 3, channels, STEPS, 1)
    return LevelBytes(2, 3, channels, STEPS, 1, signed=neuron.levels.low < 0)


@pytest.mark.parametrize("kind", [*SPIKING, *COUNTING, *REAL], ids=lambda kind: kind.__name__)
def test_neurons_of_every_kind(kind: Kind) -> None:
    neuron = kind(35)
    out = output_of(neuron, 35)
    size = Reals(2, 3, 35, STEPS)
    currents = [torch.randn(STEPS, BATCH, 35, 2, 3) for _ in neuron.inputs]
    states = {name: torch.randn(1, BATCH, 35, 2, 3) for name in neuron.states}
    names = ["source"] if len(currents) == 1 else [f"source{i}" for i in range(len(currents))]
    arrays = {n: encode(c.numpy(), size) for n, c in zip(names, currents, strict=True)}
    arrays |= {f"state_{n}": encode(s.numpy(), Reals(2, 3, 35)) for n, s in states.items()}
    arrays |= {f"constant_{n}": np.array(v, np.float32) for n, v in neuron.per_channel.items()}
    arrays["out"] = encode(np.zeros((STEPS, BATCH, 35, 2, 3), np.float32), out)
    after = launch(build_kernel(NeuronSpec("neuron", (size,) * len(currents), out, neuron), Gpu()), arrays, BATCH)
    last = {name: state[0] for name, state in states.items()}
    emitted = []
    for t in range(STEPS):
        value, values = step([c[t] for c in currents], last, neuron)
        last = dict(zip(neuron.states, values, strict=True))
        emitted.append(value)
    same(torch.from_numpy(decode(after["out"], out)), torch.stack(emitted))
    for name, state in last.items():
        same(torch.from_numpy(decode(after[f"state_{name}"], Reals(2, 3, 35)))[0], state)


DIRECT = {
    "depthwise": Case(10, 10, groups=10, steps=3, is_sparse=False),
    "groups of odd size": Case(12, 18, (5, 4), groups=3, stride=2, levels=Levels(0, 9), is_sparse=False),
    "without neurons": Case(4, 6, (3, 3), groups=2, dilation=2, padding=2, neuron=None, is_sparse=False),
    "signed": Case(4, 4, (3, 3), groups=4, levels=Levels(-1, 1), neuron=neuron_kinds.ternary(4), is_sparse=False),
}


@pytest.mark.parametrize("name", DIRECT)
def test_convolution_without_tensor_cores(name: str) -> None:
    assert build_kernel(DIRECT[name].spec, Gpu()).description == "CUDA cores"
    check(DIRECT[name])
