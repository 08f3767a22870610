"""Neurons with a thread each, on currents from memory or on those of a convolution without tensor cores.

The convolution takes any geometry and any channel groups; it is there for those that tensor cores cannot be fed with.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import tirx

from spikenm_compile.lowering.cuda import device
from spikenm_compile.lowering.cuda.device import Expr, T
from spikenm_compile.lowering.cuda.elements import Element, elements
from spikenm_compile.lowering.cuda.generated import GeneratedKernel
from spikenm_compile.lowering.cuda.neuron_steps import NeuronSteps, neuron_params
from spikenm_compile.lowering.cuda.specs import ConvSpec, NeuronSpec, Value
from spikenm_compile.lowering.cuda.tensors import Reals
from spikenm_compile.neurons import Neuron


def build_neuron(spec: NeuronSpec) -> GeneratedKernel:
    """Neurons on currents in memory."""
    names = ["source"] if len(spec.sources) == 1 else [f"source{i}" for i in range(len(spec.sources))]

    def currents(element: Element, t: Expr) -> tuple[Expr, ...]:
        return tuple(element.read(n, s, "float32", t) for n, s in zip(names, spec.sources, strict=True))

    params = {**dict.fromkeys(names, "float32"), **neuron_params(spec.neuron, keeps_states=spec.keeps_states)}
    return _over_steps(spec.name, params, spec.out, spec.neuron, currents)


def build_conv_direct(spec: ConvSpec) -> GeneratedKernel:
    """A convolution tap by tap and channel by channel; weights as [O, kh·kw, I/groups] int8."""
    g, source = spec.geometry, spec.source
    inputs, outputs = source.channels // spec.groups, spec.out.channels // spec.groups

    def currents(element: Element, t: Expr) -> tuple[Expr, ...]:
        buffers = element.body.buffers
        total = device.variable("total", "int32", T.int32(0))
        with T.serial(0, g.kernel[0]) as ky, T.serial(0, g.kernel[1]) as kx:
            y = element.y * g.stride[0] + ky * g.dilation[0] - g.padding[0]
            x = element.x * g.stride[1] + kx * g.dilation[1] - g.padding[1]
            with device.when(y >= 0, y < source.height, x >= 0, x < source.width), T.serial(0, inputs) as i:
                weight = buffers["weights"][((element.c * g.kernel[0] + ky) * g.kernel[1] + kx) * inputs + i]
                level = element.read_at("source", source, "int32", y, x, element.c // outputs * inputs + i, t)
                device.store(total, 0, total[0] + T.cast(weight, "int32") * level)
        current = device.variable("current", "float32", T.cast(total[0], "float32") * buffers["scale"][element.c])
        return (current[0] + buffers["bias"][element.c],)

    neuron = neuron_params(spec.neuron, keeps_states=spec.keeps_states) if spec.neuron is not None else {}
    params = {"source": source.dtype, "weights": "int8", "scale": "float32", "bias": "float32", **neuron}
    kernel = _over_steps(spec.name, params, spec.out, spec.neuron, currents)
    return replace(kernel, pack=_taps_first, description="CUDA cores")


def _taps_first(weight: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(weight.reshape(*weight.shape[:2], -1).transpose(0, 2, 1))


def _over_steps(
    name: str,
    params: dict[str, str],
    out: Value,
    neuron: Neuron | None,
    currents: Callable[[Element, Expr], tuple[Expr, ...]],
) -> GeneratedKernel:
    """Loop over time; without a neuron the current itself is written."""
    with elements(name, params, out, loops_over_time=True) as element:
        size = Reals(out.height, out.width, out.channels)
        neurons = NeuronSteps(neuron, element.body.buffers, size) if neuron is not None else None
        place = (element.b, element.y, element.x, element.c)
        value = device.variable("value", "float32", tirx.const(0, "float32"))
        if neurons is not None:
            with device.when(element.exists):
                neurons.load(*place)
        with T.serial(0, out.steps) as t:
            with device.when(element.exists):
                given = currents(element, t)
                device.store(value, 0, given[0] if neurons is None else neurons.step(given))
            element.write(out, value, t)
        if neurons is not None:
            with device.when(element.exists):
                neurons.save(*place)
    return element.body.kernel
