"""The `code` section of artifacts that compute in float32.

onnx-step     one ONNX model of one time step with explicit state; a sequence is T calls of it
onnx-whole    one ONNX model of the whole network at its T
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from spikenm_compile.artifact.code import StateSpec, code_fields, listed_file, onnx_states
from spikenm_compile.artifact.directory import Artifact


@dataclass(frozen=True, slots=True)
class OnnxStepCode:
    """Code of kind onnx-step."""

    step: str
    """File name of the model of one time step."""
    states: tuple[StateSpec, ...]
    spike_shapes: Mapping[str, tuple[int, ...]]
    """Layer that emits spikes or counts -> their shape of one sample of one step."""


@dataclass(frozen=True, slots=True)
class OnnxWholeCode:
    """Code of kind onnx-whole."""

    model: str
    """File name of the model."""
    batch: int | None
    """The only number of samples that the model takes, None: any."""


def read_onnx_step_code(artifact: Artifact) -> OnnxStepCode:
    """Check and return the code section of an artifact of kind onnx-step.

    Raises:
        ArtifactError: a field is missing or wrong, or a file is not there.
    """
    fields = code_fields(artifact)
    shapes = {section.text("layer"): section.shape("shape") for section in fields.sections("spikes")}
    return OnnxStepCode(listed_file(fields, "step", artifact), onnx_states(fields), shapes)


def read_onnx_whole_code(artifact: Artifact) -> OnnxWholeCode:
    """Check and return the code section of an artifact of kind onnx-whole.

    Raises:
        ArtifactError: a field is missing or wrong, or a file is not there.
    """
    fields = code_fields(artifact)
    return OnnxWholeCode(listed_file(fields, "model", artifact), fields.optional_integer("batch", least=1))
