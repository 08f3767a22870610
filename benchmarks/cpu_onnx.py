"""One dense layer as ONNX models: in float32, in int8 as the QDQ form and channels-last, with LIF nodes or without.

All T steps are one batch. LIF is h = v + (x - v) / 2, a spike where h >= 1, which then is 0; unrolled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

MICROSOFT = "com.microsoft"
Pair = tuple[int, int]


@dataclass(frozen=True)
class DenseLayer:
    """A layer without its weights; pairs are (vertical, horizontal)."""

    channels: int
    outputs: int
    size: Pair
    """Of the input; (1, 1) of a linear layer, whose inputs are channels."""
    kernel: Pair
    stride: Pair
    padding: Pair
    groups: int
    num_steps: int
    is_linear: bool

    @property
    def input(self) -> tuple[int, ...]:
        """[T, C, H, W], or [T, C] of a linear layer."""
        return (self.num_steps, self.channels, *(() if self.is_linear else self.size))

    @property
    def weight(self) -> tuple[int, ...]:
        """[O, C, kh, kw], or [O, C]."""
        return (self.outputs, self.channels // self.groups, *(() if self.is_linear else self.kernel))


def channels_last(shape: Sequence[int]) -> tuple[int, ...]:
    """[T, C, ...] as [T, ..., C]."""
    return (shape[0], *shape[2:], shape[1])


class _Graph:
    """Nodes and constants as they are added."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, Any] = {}

    def constant(self, name: str, value: Any) -> str:
        """A value under its name."""
        self.constants[name] = np.asarray(value)
        return name

    def add(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """A node with one output."""
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output


def float_model(layer: DenseLayer, *, has_lif: bool) -> onnx.ModelProto:
    """Convolution or Gemm in float32."""
    g = _Graph()
    weight = np.random.default_rng(0).normal(0, 0.1, layer.weight).astype(np.float32)
    current = _linear(g, layer, "x", g.constant("w", weight), "y" if not has_lif else "current")
    return _model(g, layer, _lif(g, layer, current) if has_lif else current, layer.input, TensorProto.FLOAT)


def qdq_model(layer: DenseLayer, *, has_lif: bool) -> onnx.ModelProto:
    """The same between DequantizeLinear and QuantizeLinear, which ONNX Runtime fuses to its int8 kernels."""
    g = _Graph()
    weight = _quantised(g, layer)
    x = g.add("DequantizeLinear", ("x", "xs", "xz"), "x_float")
    w = g.add("DequantizeLinear", (weight, "ws", "wz"), "w_float", axis=0)
    product = _linear(g, layer, x, w, "product")
    y = g.add("QuantizeLinear", (product, "ys", "yz"), "y" if not has_lif else "levels")
    return _model(g, layer, _dequantised_lif(g, layer, y) if has_lif else y, layer.input, TensorProto.UINT8)


def channels_last_model(layer: DenseLayer, *, has_lif: bool) -> onnx.ModelProto:
    """ONNX Runtime's own int8 operators: QLinearConv with channels innermost, or QGemm."""
    g = _Graph()
    weight, shared = _quantised(g, layer), ("x", "xs", "xz")
    out, bias = "y" if not has_lif else "levels", g.constant("b", np.zeros(layer.outputs, np.int32))
    if layer.is_linear:
        inputs = (*shared, weight, "ws", "wz", bias, "ys", "yz")
        y = g.add("QGemm", inputs, out, domain=MICROSOFT, transB=1)
    else:
        inputs = (*shared, weight, "ws", "wz", "ys", "yz", bias)
        y = g.add("QLinearConv", inputs, out, domain=MICROSOFT, channels_last=1, **_geometry(layer))
    result = _dequantised_lif(g, layer, y) if has_lif else y
    return _model(g, layer, result, channels_last(layer.input), TensorProto.UINT8)


def _geometry(layer: DenseLayer) -> dict[str, Any]:
    pads = [*layer.padding, *layer.padding]
    return {"kernel_shape": layer.kernel, "strides": layer.stride, "pads": pads, "group": layer.groups}


def _linear(g: _Graph, layer: DenseLayer, x: str, weight: str, out: str) -> str:
    if layer.is_linear:
        return g.add("Gemm", (x, weight), out, transB=1)
    return g.add("Conv", (x, weight), out, **_geometry(layer))


def _quantised(g: _Graph, layer: DenseLayer) -> str:
    """int8 weights, and the scales of input, weights and output."""
    for name, scale, zero in (("x", np.float32(1), np.uint8(0)), ("y", np.float32(0.1), np.uint8(128))):
        g.constant(f"{name}s", scale)
        g.constant(f"{name}z", zero)
    g.constant("ws", np.full(layer.outputs, 0.001, np.float32))
    g.constant("wz", np.zeros(layer.outputs, np.int8))
    return g.constant("w", np.random.default_rng(0).integers(-127, 128, layer.weight).astype(np.int8))


def _dequantised_lif(g: _Graph, layer: DenseLayer, y: str) -> str:
    return _lif(g, layer, g.add("DequantizeLinear", (y, "ys", "yz"), "current"))


def _lif(g: _Graph, layer: DenseLayer, current: str) -> str:
    """Spikes u8 of a current, step by step."""
    half, one, zero = (g.constant(n, np.float32(x)) for n, x in (("half", 0.5), ("one", 1.0), ("zero", 0.0)))
    currents = [f"current{t}" for t in range(layer.num_steps)]
    g.nodes.append(helper.make_node("Split", [current], currents, axis=0, num_outputs=len(currents)))
    spikes, v = [], ""
    for t, x in enumerate(currents):
        h = g.add("Mul", (x, half), f"in{t}")
        if v:
            h = g.add("Add", (h, g.add("Mul", (v, half), f"rest{t}")), f"h{t}")
        fired = g.add("GreaterOrEqual", (h, one), f"fired{t}")
        v = g.add("Where", (fired, zero, h), f"v{t}")
        spikes.append(g.add("Cast", (fired,), f"spikes{t}", to=TensorProto.UINT8))
    return g.add("Concat", spikes, "y", axis=0)


def _model(g: _Graph, layer: DenseLayer, result: str, shape: Sequence[int], dtype: int) -> onnx.ModelProto:
    is_spikes = g.nodes[-1].op_type == "Concat"
    x = helper.make_tensor_value_info("x", dtype, shape)
    y = helper.make_tensor_value_info(result, TensorProto.UINT8 if is_spikes else dtype, None)
    constants = [numpy_helper.from_array(value, name) for name, value in g.constants.items()]
    graph = helper.make_graph(g.nodes, "layer", [x], [y], constants)
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid(MICROSOFT, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)
