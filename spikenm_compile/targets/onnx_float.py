"""The float32 form of the ONNX target, for networks without an integer form: one time step, or the whole network."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import onnx
from onnx import ModelProto
from torch import Tensor, nn
from torch.fx import GraphModule

from spikenm_compile.graph import SHAPE, Role, counting_nodes, placeholders
from spikenm_compile.lowering.onnx_float import export_step, export_whole
from spikenm_compile.targets.base import Emit, no_emit
from spikenm_compile.targets.onnx import STEP_FILE, describe_state, text_without_constants, write_model

WHOLE_FILE = "model.onnx"


def build_step(step_graph: GraphModule, directory: Path, emit: Emit = no_emit) -> dict[str, Any]:
    """Write `step.onnx` into `directory`; the manifest's "code" section.

    Raises:
        PassError, ToolError: see `export_step`.
        TargetError: a model too large for one ONNX file.
    """
    model = export_step(step_graph)
    _write(model, directory / STEP_FILE, emit)
    return {
        "kind": "onnx-step",
        "step": STEP_FILE,
        **_versions(model),
        "states": [describe_state(state) for state in placeholders(step_graph, Role.STATE)],
        "spikes": [
            {"layer": layer, "shape": list(node.meta[SHAPE])} for layer, node in counting_nodes(step_graph).items()
        ],
    }


def build_whole(
    candidates: Callable[[], Iterable[AbstractContextManager[nn.Module]]],
    x: Tensor,
    batch: int | None,
    directory: Path,
    emit: Emit = no_emit,
) -> dict[str, Any]:
    """Write `model.onnx` into `directory`; the manifest's "code" section. `batch` in it: the only size, null: any.

    Raises:
        PassError, ToolError: see `export_whole`.
        TargetError: a model too large for one ONNX file.
    """
    model, is_free = export_whole(candidates, x, batch)
    _write(model, directory / WHOLE_FILE, emit)
    fixed = None if is_free else x.shape[batch or 0]
    return {"kind": "onnx-whole", "model": WHOLE_FILE, **_versions(model), "batch": fixed}


def _write(model: ModelProto, path: Path, emit: Emit) -> None:
    write_model(model, path)
    onnx.checker.check_model(model, full_check=True)
    emit(f"{path.name}.txt", text_without_constants(model))


def _versions(model: ModelProto) -> dict[str, int]:
    return {"opset": next(o.version for o in model.opset_import if not o.domain), "ir_version": model.ir_version}
