"""PyTorch's own exporter to ONNX: quiet, its refusals as one sentence, and its models without traces of this machine.

The exporter notes for each node where in which file of which machine it comes from; what is written holds none of that,
so that the same network gives the same bytes.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib.util import find_spec
from io import StringIO
from typing import Any

import torch
from onnx import GraphProto, ModelProto, ValueInfoProto
from torch import Tensor, nn

from spikenm_compile.errors import PassError, ToolError

OPSET = 20
"""The opset that the exporter writes by itself; an older one would be converted from it."""
BATCH = "B"
"""Name of the free batch size."""


def export(module: nn.Module, arguments: Mapping[str, tuple[Tensor, int | None]], outputs: Sequence[str]) -> ModelProto:
    """The ONNX model of what `module` computes, in the mode and with the values that it has now.

    Args:
        module: takes the arguments in their order and gives one tensor for each of `outputs`.
        arguments: input name -> (example, its batch dimension, whose size stays free; None: no size is free).
        outputs: their names.

    Raises:
        PassError: the exporter does not take the module.
        ToolError: the exporter's package is missing.
    """
    if find_spec("onnxscript") is None:
        raise ToolError(
            "onnxscript is not installed; PyTorch exports float32 models with it; install it: pip install onnxscript"
        )
    dynamic = torch.export.Dim.DYNAMIC
    try:
        with quietly(), _seen_data(), torch.no_grad():
            program = torch.onnx.export(
                module,
                tuple(example for example, _ in arguments.values()),
                dynamo=True,
                verbose=False,
                opset_version=OPSET,
                input_names=list(arguments),
                output_names=list(outputs),
                dynamic_shapes=tuple(None if dim is None else {dim: dynamic} for _, dim in arguments.values()),
            )
            assert program is not None
            model = program.model_proto
    except Exception as error:  # of the exporter, of the packages behind it, or of code of the user's that it traces
        raise PassError(f"PyTorch cannot export the network to ONNX: {_reason(error)}") from error
    _clean(model)
    return model


@contextmanager
def quietly() -> Iterator[None]:
    """The exporter reports its progress, regrets packages that nobody needs here, and warns of its own internals."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


@contextmanager
def _seen_data() -> Iterator[None]:
    """`x.data`, which libraries make states of the size of x from, as `x.detach()`, which the tracer sees."""
    own: Any = torch._C.TensorBase.data
    setattr(torch.Tensor, "data", property(Tensor.detach, own.__set__))  # noqa: B010  the class itself has none
    try:
        yield
    finally:
        delattr(torch.Tensor, "data")


def _reason(error: Exception) -> str:
    """The first line of what is behind an error of the exporter, whose own lines say where to report it."""
    while error.__cause__ is not None and isinstance(error.__cause__, Exception):
        error = error.__cause__
    return str(error).strip().split("\n")[0].rstrip(".")


def _clean(model: ModelProto) -> None:
    """Take away what the exporter noted for debugging, and name the free size."""
    for message in (model, model.graph):
        message.ClearField("metadata_props")
        message.ClearField("doc_string")
    model.producer_name, model.producer_version = "pytorch", ""
    _clean_graph(model.graph)
    free = {d.dim_param for value in model.graph.input for d in _dimensions(value) if d.dim_param}
    if len(free) == 1:
        for value in (*model.graph.input, *model.graph.output):
            for dimension in _dimensions(value):
                if dimension.dim_param:
                    dimension.dim_param = dimension.dim_param.replace(next(iter(free)), BATCH)


def _dimensions(value: ValueInfoProto) -> Any:
    return value.type.tensor_type.shape.dim


def _clean_graph(graph: GraphProto) -> None:
    del graph.value_info[:]
    for value in (*graph.input, *graph.output, *graph.initializer, *graph.node):
        value.ClearField("metadata_props")
        value.ClearField("doc_string")
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _clean_graph(attribute.g)
