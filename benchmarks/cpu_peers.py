"""ONNX Runtime's int8 layers on one thread: what native layers are measured against."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

Run = Callable[[int], float]
"""Number of calls -> nanoseconds of this thread's CPU time for each."""


def onnx_layer(outputs: int, inputs: int, size: int, kernel: int, padding: int, num_steps: int, groups: int = 1) -> Run:
    """All time steps as one batch: a channels-last QLinearConv, or a QGemm where the input is one pixel."""
    is_linear = size == 1
    shape: tuple[int, ...] = (num_steps, inputs) if is_linear else (num_steps, size, size, inputs)
    names = ["x", "xs", "xz", "w", "ws", "wz", *(["b", "ys", "yz"] if is_linear else ["ys", "yz", "b"])]
    node = helper.make_node("QGemm" if is_linear else "QLinearConv", names, ["y"], domain="com.microsoft")
    options: dict[str, Any] = {
        "channels_last": 1,
        "kernel_shape": [kernel, kernel],
        "pads": [padding] * 4,
        "group": groups,
    }
    options = {"transB": 1} if is_linear else options
    node.attribute.extend(helper.make_attribute(key, value) for key, value in options.items())
    pixels = () if is_linear else (size + 2 * padding - kernel + 1,) * 2
    result = (num_steps, *pixels, outputs)
    graph = helper.make_graph(
        [node],
        "layer",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, shape)],
        [helper.make_tensor_value_info("y", TensorProto.UINT8, result)],
        _constants((outputs, inputs) if is_linear else (outputs, inputs // groups, kernel, kernel), outputs),
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return _timed(helper.make_model(graph, opset_imports=opsets, ir_version=8), shape)


def _constants(shape: tuple[int, ...], outputs: int) -> list[onnx.TensorProto]:
    weight = np.random.default_rng(0).integers(-127, 128, shape).astype(np.int8)
    values: dict[str, Any] = {
        "xs": np.float32(1),
        "xz": np.uint8(0),
        "w": weight,
        "ws": np.full(outputs, 0.01, np.float32),
        "wz": np.zeros(outputs, np.int8),
        "ys": np.float32(0.1),
        "yz": np.uint8(128),
        "b": np.zeros(outputs, np.int32),
    }
    return [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()]


def _timed(model: onnx.ModelProto, shape: tuple[int, ...]) -> Run:
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    spikes = (np.random.default_rng(1).random(shape) < 0.1).astype(np.uint8)
    binding = session.io_binding()
    binding.bind_ortvalue_input("x", ort.OrtValue.ortvalue_from_numpy(spikes))
    binding.bind_output("y")

    def run(calls: int) -> float:
        first = time.thread_time_ns()
        for _ in range(calls):
            session.run_with_iobinding(binding)
        return (time.thread_time_ns() - first) / calls

    return run
