"""The ONNX target: two models for any ONNX runtime, one of a time step and one of a whole sequence."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onnx import GraphProto, ModelProto, printer
from torch.fx import GraphModule, Node

from spikenm_compile.errors import TargetError
from spikenm_compile.graph import INIT, SHAPE, Role, placeholders, spike_nodes
from spikenm_compile.lowering.onnx import IR_VERSION, OPSET, to_onnx_sequence, to_onnx_step
from spikenm_compile.passes.select_kernels import ONNX_CONV
from spikenm_compile.targets.base import Contents, Emit, no_emit

STEP_FILE, SEQUENCE_FILE = "step.onnx", "sequence.onnx"
MAX_MODEL_BYTES = 2**31 - 1
"""A protobuf message cannot be larger."""


@dataclass(frozen=True)
class Onnx:
    """Dense ONNX models, bit for bit equal to the lowered graph in ONNX Runtime's CPU provider."""

    name: str = "onnx"
    summary: str = "ONNX models of one step and of a sequence, for ONNX Runtime on any machine (weights stored dense)"
    families: tuple[str, ...] = (ONNX_CONV,)
    known_cpu: None = None

    def build(
        self,
        lowered: GraphModule,
        directory: Path,
        *,
        name: str,
        num_steps: int,
        emit: Emit = no_emit,
        contents: Contents | None = None,
    ) -> dict[str, Any]:
        """Write `step.onnx` and `sequence.onnx` into `directory`.

        Args:
            lowered: the lowered graph.
            directory: an existing directory.
            name: name of the network, stored in the models.
            num_steps: number of steps that users will run by default; the models run any number.
            contents: unused; the models hold their weights themselves.
            emit: gets both models as text, without the values of weights and other constants.

        Returns:
            The "code" section of the manifest. Shapes are those of one sample of one step; the `init` of a state is a
            number, or "inf" or "-inf", which JSON cannot hold as a number.

        Raises:
            PassError: an operation without an exact ONNX form.
            TargetError: a model too large for one ONNX file.
        """
        for file, lower in ((STEP_FILE, to_onnx_step), (SEQUENCE_FILE, to_onnx_sequence)):
            model = lower(lowered, name)
            write_model(model, directory / file)
            emit(f"{file}.txt", text_without_constants(model))
        states = placeholders(lowered, Role.STATE)
        spikes = spike_nodes(lowered)
        return {
            "kind": "onnx",
            "step": STEP_FILE,
            "sequence": SEQUENCE_FILE,
            "opset": OPSET,
            "ir_version": IR_VERSION,
            "states": [describe_state(state) for state in states],
            "spikes": [{"layer": layer, "shape": list(node.meta[SHAPE])} for layer, node in spikes.items()],
        }


def describe_state(state: Node) -> dict[str, Any]:
    """A state placeholder as the code section has it."""
    return {"name": state.name, "shape": list(state.meta[SHAPE]), "init": _number(state.meta[INIT])}


def _number(value: float) -> float | str:
    return float(value) if abs(value) != float("inf") else str(float(value))


def write_model(model: ModelProto, path: Path) -> None:
    """One file; equal models give equal bytes.

    Raises:
        TargetError: it is too large for that.
    """
    size = model.ByteSize()
    if size > MAX_MODEL_BYTES:
        raise TargetError(
            f"{path.name} would take {size} bytes; one ONNX file holds {MAX_MODEL_BYTES}; build for a native target"
        )
    path.write_bytes(model.SerializeToString(deterministic=True))


def text_without_constants(model: ModelProto) -> str:
    """The model as text."""
    text = ModelProto()
    text.CopyFrom(model)
    _drop_constants(text.graph)
    return printer.to_text(text)


def _drop_constants(graph: GraphProto) -> None:
    del graph.initializer[:]
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _drop_constants(attribute.g)
