"""Capture: `nn.Module` to a `torch.fx.GraphModule` that shares the user's modules and computes the same."""

from __future__ import annotations

import inspect
import linecache
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

from torch import Tensor, nn
from torch.fx import Graph, GraphModule

from spikenm_compile.errors import CaptureError
from spikenm_compile.frontend.adapters import stateful_types
from spikenm_compile.frontend.foreign import refuse_native_libraries
from spikenm_compile.frontend.location import FOREIGN, written_at
from spikenm_compile.frontend.snapshot import Snapshot, restored
from spikenm_compile.frontend.tracer import ShapeTracer


def capture(model: nn.Module, example_inputs: Tensor | tuple[Tensor, ...] | None = None) -> GraphModule:
    """Record what `model` computes as a graph of its own modules.

    The result has the state_dict keys of `model`, holds the very same layers and neurons, and gives the same values
    and gradients, in training and in evaluation, with and without resets between calls. Neurons, standard layers
    and autograd functions are one node each. Nothing about `model` changes, its membrane potentials included.

    Args:
        model: the spiking neural network.
        example_inputs: one input, or a tuple of them; needed only where python code asks for a shape.

    Raises:
        CaptureError: python code that cannot be recorded; the message names the line.
    """
    refuse_native_libraries(model)
    inputs = _named_inputs(model, example_inputs)
    stateful = stateful_types()
    if isinstance(model, stateful):
        raise CaptureError(
            f"the model is a single {type(model).__name__}; capture takes a network; wrap it in torch.nn.Sequential"
        )
    tracer = ShapeTracer(stateful)
    with restored(model) as snapshot:
        try:
            graph = tracer.record(model, inputs)
        except CaptureError:
            raise
        except Exception as error:
            raise CaptureError(_explain(error, tracer, model, has_example=example_inputs is not None)) from error
        left = tuple(_left_behind(snapshot, stateful))
        captured = _with_all_modules(model, graph, tracer)
    if left and not _is_written_first(model, inputs, left, graph):
        name, module, attribute = left[0]
        raise CaptureError(
            f"forward of module '{name or type(model).__name__}' ({type(module).__name__}) changes its attribute "
            f"'{attribute}'{written_at(module, attribute)}; "
            "state between calls is supported in neurons and buffers; keep it in a local variable or "
            f"in a neuron of spikenm_compile.neurons, or if {type(module).__name__} is a neuron make it known with "
            "spikenm_compile.register_neuron"
        )
    return captured


def _named_inputs(model: nn.Module, example_inputs: Tensor | tuple[Tensor, ...] | None) -> dict[str, Tensor | None]:
    parameters = list(inspect.signature(model.forward).parameters.values())
    named = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if example_inputs is None:
        return {p.name: None for p in named if p.default is p.empty}
    examples = (example_inputs,) if isinstance(example_inputs, Tensor) else example_inputs
    required = sum(p.default is p.empty for p in named)
    if not required <= len(examples) <= len(named) or not all(isinstance(x, Tensor) for x in examples):
        raise CaptureError(
            f"{type(model).__name__}.forward takes {required} to {len(named)} inputs and example_inputs gives "
            f"{len(examples)}; each must be a tensor; pass a tensor, or a tuple with one tensor for each input"
        )
    return {p.name: x for p, x in zip(named, examples, strict=False)}


def _explain(error: Exception, tracer: ShapeTracer, model: nn.Module, *, has_example: bool) -> str:
    """One sentence: the user's line, what stopped there, and the way out."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(FOREIGN)]
    where = "forward"
    if frames:
        line = linecache.getline(frames[-1].filename, frames[-1].lineno or 0).strip()
        where = f"{Path(frames[-1].filename).name}:{frames[-1].lineno} `{line}`"
    name = tracer.module_stack_names[-1] if tracer.module_stack_names else ""
    module = f"module '{name}' ({type(model.get_submodule(name)).__name__})" if name else type(model).__name__
    reason = str(error).strip().split("\n")[0].rstrip(".")
    way_out = (
        "python control flow on shapes is supported, on values of tensors it is not; write the step with tensor "
        "operations or with neurons of spikenm_compile.neurons, and check that the example fits the model"
        if has_example
        else "a shape is not known without an example; call transform(model, example_inputs=x)"
    )
    return f"capture stopped in {module} at {where}: {reason}; {way_out}"


Attribute = tuple[str, nn.Module, str]
"""(module name, module, attribute)."""


def _left_behind(snapshot: Snapshot, stateful: tuple[type[nn.Module], ...]) -> Iterator[Attribute]:
    """Attributes that forward changes: the graph has no attribute to leave a value in."""
    for name, module, attribute in snapshot.changed():
        is_ours = attribute in ("training", "_modules") or attribute.startswith("_tensor_constant")
        if not isinstance(module, stateful) and not is_ours:
            yield name, module, attribute


def _is_written_first(
    model: nn.Module, inputs: dict[str, Tensor | None], left: tuple[Attribute, ...], graph: Graph
) -> bool:
    """Whether forward writes these attributes before it reads them, so that no call sees what another one left.

    Then a trace with something useless in the attributes gives the same graph.
    """
    tracer = ShapeTracer(stateful_types())
    with restored(model):
        for _, module, attribute in left:
            if attribute in ("_parameters", "_buffers"):
                return False
            module.__dict__[attribute] = object()
        try:
            return str(tracer.record(model, inputs)) == str(graph)
        except Exception:  # the useless value was used, in whatever way
            return False


def _with_all_modules(model: nn.Module, graph: Graph, tracer: ShapeTracer) -> GraphModule:
    """GraphModule with every leaf of `model`, used or not, so that the state_dict keys and their order are the model's.

    Containers are new and empty of code: a pass that replaces a layer of the result must not touch the user's model.
    """
    captured = GraphModule(model, graph, class_name=type(model).__name__)
    skeleton = _skeleton(model, lambda module: tracer.is_leaf_module(module, ""), {})
    for node in graph.find_nodes(op="get_attr"):
        _share_constant(model, skeleton, str(node.target))
    for kind in ("_modules", "_parameters", "_buffers", "_non_persistent_buffers_set"):
        captured.__dict__[kind] = skeleton.__dict__[kind]
    captured.training = bool(model.training)
    return captured


def _share_constant(model: nn.Module, skeleton: nn.Module, target: str) -> None:
    """A tensor that is a plain attribute becomes a buffer outside the state_dict: it must follow `.to()`."""
    path, _, name = target.rpartition(".")
    value = getattr(model.get_submodule(path), name)
    owner = skeleton.get_submodule(path)
    if isinstance(value, Tensor) and not hasattr(owner, name):
        owner.register_buffer(name, value, persistent=False)


def _skeleton(module: nn.Module, is_leaf: Callable[[nn.Module], bool], done: dict[int, nn.Module]) -> nn.Module:
    """Containers like those inside `module`, with its own leaves and tensors."""
    container = nn.Module()
    container.training = bool(module.training)
    for kind in ("_parameters", "_buffers", "_non_persistent_buffers_set"):
        container.__dict__[kind] = module.__dict__[kind].copy()
    for name, child in module._modules.items():
        if child is None:
            continue
        if id(child) not in done:
            shares = is_leaf(child) or not child._modules
            done[id(child)] = child if shares else _skeleton(child, is_leaf, done)
        container._modules[name] = done[id(child)]
    return container
