"""What native layers are measured against, on one thread: ONNX Runtime and PyTorch, with LIF neurons or without."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime as ort
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.cpu_onnx import DenseLayer, channels_last, channels_last_model, float_model, qdq_model
from benchmarks.cpu_timing import Array, Call, Given, Levels, Taken
from spikenm_compile.ops import IntConv2d

INT8 = ("ONNX Runtime int8", "ONNX Runtime int8 channels-last")
"""The quicker of them is the peer."""
FP32 = "ONNX Runtime fp32"
TORCH = "torch fp32"
COMPILED = "torch.compile fp32"
LIF = " + LIF"
"""Behind the name of a peer that has neurons too."""
BARE = (*INT8, FP32, TORCH)

MODELS = {INT8[0]: qdq_model, INT8[1]: channels_last_model, FP32: float_model}


def dense_layer(conv: IntConv2d, shape: tuple[int, int, int], num_steps: int) -> DenseLayer:
    """What a peer computes for `conv` on an input [C, H, W]."""
    kernel = (conv.weight.shape[2], conv.weight.shape[3])
    outputs, (channels, *size) = conv.weight.shape[0], shape
    if conv.linear_input is not None:
        channels = int(np.prod(shape))
        return DenseLayer(channels, outputs, (1, 1), (1, 1), (1, 1), (0, 0), 1, num_steps, is_linear=True)
    height, width = size
    geometry = (kernel, conv.stride, conv.padding, conv.groups)
    return DenseLayer(channels, outputs, (height, width), *geometry, num_steps, is_linear=False)


def peers_of(layer: DenseLayer, *, has_lif: bool, is_compiled: bool = False) -> dict[str, Call]:
    """Name -> peer: bare layers, and with `has_lif` also those with neurons; with `is_compiled` also torch.compile."""
    suffixes = ("", LIF) if has_lif else ("",)
    peers: dict[str, Call] = {}
    for suffix in suffixes:
        for name in MODELS:
            peers[name + suffix] = OnnxCall(MODELS[name](layer, has_lif=bool(suffix)), layer, name == INT8[1])
        peers[TORCH + suffix] = TorchCall(layer, has_lif=bool(suffix))
        if is_compiled:
            peers[COMPILED + suffix] = TorchCall(layer, has_lif=bool(suffix), is_compiled=True)
    return peers


class OnnxCall:
    """A session that reads and writes memory of its own."""

    def __init__(self, model: onnx.ModelProto, layer: DenseLayer, is_channels_last: bool) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        source, result = self._session.get_inputs()[0], self._session.get_outputs()[0]
        self._dtype = np.dtype(np.float32 if "float" in source.type else np.uint8)
        self._shape, self._is_last = layer.input, is_channels_last
        shape = channels_last(layer.input) if is_channels_last else layer.input
        self._x = ort.OrtValue.ortvalue_from_numpy(np.zeros(shape, self._dtype))
        self._binding = self._session.io_binding()
        self._binding.bind_ortvalue_input("x", self._x)
        self._binding.bind_output(result.name)

    def give(self, given: Given) -> None:
        """Copy the levels to the session's input."""
        key = (self._dtype.str, self._shape, self._is_last)
        self._x.update_inplace(given.form(key, self._form))

    def _form(self, levels: Levels) -> Array:
        shaped = levels.reshape(self._shape)
        order = np.moveaxis(shaped, 1, -1) if self._is_last else shaped
        return np.ascontiguousarray(order, self._dtype)

    def __call__(self) -> Taken:
        """One call of all steps."""
        return _timed(lambda: self._session.run_with_iobinding(self._binding))


class TorchCall:
    """Eager, or behind torch.compile."""

    def __init__(self, layer: DenseLayer, *, has_lif: bool, is_compiled: bool = False) -> None:
        generator = torch.Generator().manual_seed(0)
        weight = 0.1 * torch.randn(layer.weight, generator=generator)
        operation = F.linear if layer.is_linear else _convolution(layer)

        def forward(x: Tensor) -> Tensor:
            current = operation(x, weight)
            return lif(current) if has_lif else current

        self._forward: Callable[[Tensor], Tensor] = torch.compile(forward, dynamic=False) if is_compiled else forward
        self._shape = layer.input
        self._x = torch.zeros(layer.input)

    def give(self, given: Given) -> None:
        """Levels as floats."""
        floats = given.form(("torch", self._shape), lambda levels: levels.reshape(self._shape).astype(np.float32))
        self._x = torch.from_numpy(floats)

    def __call__(self) -> Taken:
        """One call of all steps."""
        with torch.inference_mode():
            return _timed(lambda: self._forward(self._x))


def _convolution(layer: DenseLayer) -> Callable[[Tensor, Tensor], Tensor]:
    def convolve(x: Tensor, weight: Tensor) -> Tensor:
        return F.conv2d(x, weight, None, layer.stride, layer.padding, 1, layer.groups)

    return convolve


def lif(current: Tensor) -> Tensor:
    """Spikes of h = v + (x - v) / 2 over the steps of [T, ...], threshold 1, reset to 0."""
    v, spikes = torch.zeros_like(current[0]), []
    for x in current:
        h = 0.5 * v + 0.5 * x
        fired = h >= 1.0
        v = torch.where(fired, 0.0, h)
        spikes.append(fired.to(torch.uint8))
    return torch.stack(spikes)


def _timed(call: Callable[[], object]) -> Taken:
    wall, cpu = time.perf_counter_ns(), time.thread_time_ns()
    call()
    return Taken((time.thread_time_ns() - cpu) / 1000, (time.perf_counter_ns() - wall) / 1000)
