"""A dense network in ONNX Runtime on one thread, in float32 and in int8: what networks of the frontier are beside.

Both are the file that PyTorch's exporter writes, all time steps of a convolution as one batch and neurons as nodes. For
int8, ONNX Runtime's own static quantisation puts spikes, weights (per channel) and currents of convolutions and
classifier on 8 bits; its optimiser then fuses them to integer convolutions. Nodes of neurons take most of the time of
small networks; `bare_convolutions` is the int8 network without them, less than any runtime with its kernels can take.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import torch
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import Tensor, nn

from spikenm_compile.lowering.onnx_exporter import quietly
from spikenm_compile.training.evaluation import reset_neurons
from spikenm_compile.training.event_digits import NUM_STEPS, SIZE

Floats = npt.NDArray[np.float32]
NUM_CALIBRATED = 100
"""Samples that ranges of currents are taken from."""
QUANTIZED = ["Conv", "Gemm", "MatMul"]
STRIDES, CLASSES = (2, 2, 1, 2), 10
"""Of the network for event digits."""


class Session:
    """A network whose input and output stay where they are from call to call."""

    def __init__(self, model: Path | onnx.ModelProto) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        source = str(model) if isinstance(model, Path) else model.SerializeToString()
        self._session = ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        place = self._session.get_inputs()[0]
        kind = np.uint8 if place.type == "tensor(uint8)" else np.float32
        self._binding = self._session.io_binding()
        self._place = ort.OrtValue.ortvalue_from_numpy(np.zeros(place.shape, kind))
        self._binding.bind_ortvalue_input(place.name, self._place)
        self._binding.bind_output(self._session.get_outputs()[0].name)

    def take(self, sample: Floats) -> None:
        """Put in one sample [1, T, ...]."""
        self._place.update_inplace(np.ascontiguousarray(sample))

    def run(self) -> None:
        """Compute."""
        self._session.run_with_iobinding(self._binding)

    def result(self) -> Floats:
        """Class logits [classes] of the last call."""
        logits: Floats = self._binding.copy_outputs_to_cpu()[0][0]
        return logits


def peers_of(model: nn.Module, calibration: Tensor) -> dict[str, Session]:
    """The network in float32 and in int8; `calibration` [N, T, ...] are samples that it was trained on."""
    with TemporaryDirectory() as scratch, quietly():
        exported, ready, quantized = (Path(scratch) / f"{name}.onnx" for name in ("float32", "ready", "int8"))
        reset_neurons(model)
        torch.onnx.export(model, (calibration[:1],), str(exported), dynamo=True, verbose=False, external_data=False)
        reset_neurons(model)
        quant_pre_process(str(exported), str(ready), skip_symbolic_shape=True)
        quantize_static(
            str(ready),
            str(quantized),
            _Samples(str(ready), calibration[:NUM_CALIBRATED]),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=QUANTIZED,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        return {"float32": Session(exported), "int8": Session(quantized)}


def bare_convolutions(channels: Sequence[int]) -> Session:
    """Four channels-last QLinearConv and a QGemm of the event-digit network, one behind the other, weights at random.

    Args:
        channels: output channels of the convolutions.
    """
    size, inputs, value = SIZE, 2, "x"
    nodes, constants = [], list[onnx.TensorProto]()
    for i, (outputs, stride) in enumerate(zip(channels, STRIDES, strict=True)):
        size = -(-size // stride)
        shape = (outputs, inputs, 3, 3)
        node = _integer_node("QLinearConv", f"conv{i}", value, shape, constants)
        options = {"channels_last": 1, "kernel_shape": [3, 3], "pads": [1] * 4, "strides": [stride] * 2}
        node.attribute.extend(helper.make_attribute(key, option) for key, option in options.items())
        nodes.append(node)
        inputs, value = outputs, node.output[0]
    nodes.append(helper.make_node("Reshape", [value, "flat"], ["features"]))
    constants.append(numpy_helper.from_array(np.array([NUM_STEPS, -1], np.int64), "flat"))
    gemm = _integer_node("QGemm", "classifier", "features", (CLASSES, inputs * size * size), constants)
    gemm.attribute.append(helper.make_attribute("transB", 1))
    graph = helper.make_graph(
        [*nodes, gemm],
        "convolutions",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, (NUM_STEPS, SIZE, SIZE, 2))],
        [helper.make_tensor_value_info(gemm.output[0], TensorProto.UINT8, (NUM_STEPS, CLASSES))],
        constants,
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return Session(helper.make_model(graph, opset_imports=opsets, ir_version=8))


def _integer_node(
    kind: str, name: str, value: str, shape: tuple[int, ...], constants: list[onnx.TensorProto]
) -> onnx.NodeProto:
    """A layer of `value` whose constants are added to the others."""
    own: dict[str, Any] = {
        "xs": np.float32(1),
        "xz": np.uint8(0),
        "w": np.random.default_rng(0).integers(-127, 128, shape).astype(np.int8),
        "ws": np.full(shape[0], 0.001, np.float32),
        "wz": np.zeros(shape[0], np.int8),
        "ys": np.float32(1),
        "yz": np.uint8(0),
        "b": np.zeros(shape[0], np.int32),
    }
    constants += [numpy_helper.from_array(np.asarray(constant), f"{name}.{key}") for key, constant in own.items()]
    order = ("w", "ws", "wz", "b", "ys", "yz") if kind == "QGemm" else ("w", "ws", "wz", "ys", "yz", "b")
    names = [value, *(f"{name}.{key}" for key in ("xs", "xz", *order))]
    return helper.make_node(kind, names, [f"{name}.out"], domain="com.microsoft")


class _Samples(CalibrationDataReader):  # type: ignore[misc]
    """Samples one by one, as the quantiser asks for them."""

    def __init__(self, path: str, samples: Tensor) -> None:
        name = ort.InferenceSession(path, providers=["CPUExecutionProvider"]).get_inputs()[0].name
        self._left = iter({name: sample[None].numpy()} for sample in samples)

    def get_next(self) -> dict[str, Any] | None:
        """The next sample, None after the last."""
        return next(self._left, None)
