"""The step graph: one time step as a `torch.fx.GraphModule` with explicit state, in three regions.

    forward(x, num_steps, *states) -> (output, (next states))

Every node has a region: `before` (does not depend on time: computed once), `step` (computed at each of T steps),
`after` (computed once, from the last step's values: readout). Called as it is, the module computes one step from its
state; `run_steps` computes T steps and repeats nothing that does not change. Shapes in `node.meta` are those of one
sample of one step: the batch dimension is left out.

Node annotations (`node.meta` keys): REGION; SHAPE; ROLE of a placeholder; PER_STEP of an input (another value at each
step); INIT of a state (its first value); LEVELS where values are whole numbers times a scale; LAYER, the user's name.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.fx import GraphModule, Interpreter, Node

from spikenm_compile.errors import InputError, PassError
from spikenm_compile.levels import Levels
from spikenm_compile.ops import IntConvNeuron, NeuronStep, sliced

REGION, SHAPE, ROLE, PER_STEP, INIT, LEVELS, LAYER = "region", "shape", "role", "per_step", "init", "levels", "layer"


class Region(Enum):
    """When a node is computed."""

    BEFORE = "before"
    STEP = "step"
    AFTER = "after"


class Role(Enum):
    """What a placeholder stands for."""

    INPUT = "input"
    NUM_STEPS = "num_steps"
    STATE = "state"


def placeholders(graph_module: GraphModule, role: Role) -> list[Node]:
    """Placeholders of one role, in the order of the arguments."""
    return [n for n in graph_module.graph.nodes if n.op == "placeholder" and n.meta[ROLE] is role]


def the_input(graph_module: GraphModule) -> Node:
    """The placeholder of the model's input."""
    return placeholders(graph_module, Role.INPUT)[0]


def output_node(graph_module: GraphModule) -> Node:
    """The node that returns `(output, (next states))`."""
    node = next(n for n in reversed(graph_module.graph.nodes) if n.op == "output")
    assert isinstance(node, Node)
    return node


def result(graph_module: GraphModule) -> Node:
    """The node whose value is the model's output."""
    node = output_node(graph_module).args[0][0]  # type: ignore[index]
    assert isinstance(node, Node)
    return node


def next_states(graph_module: GraphModule) -> dict[Node, Node]:
    """State placeholder -> the node that computes its next value."""
    values: tuple[Node, ...] = output_node(graph_module).args[0][1]  # type: ignore[index, assignment]
    return dict(zip(placeholders(graph_module, Role.STATE), values, strict=True))


def module_of(graph_module: GraphModule, node: Node) -> nn.Module | None:
    """The submodule that a call_module node calls, None for other nodes."""
    return graph_module.get_submodule(str(node.target)) if node.op == "call_module" else None


def neuron_of(graph_module: GraphModule, node: Node) -> NeuronStep | None:
    """The neuron step inside `node`, fused or not."""
    module = module_of(graph_module, node)
    if isinstance(module, IntConvNeuron):
        return module.neuron
    return module if isinstance(module, NeuronStep) else None


def spike_nodes(graph_module: GraphModule) -> dict[str, Node]:
    """Name of each layer of neurons that emits spikes -> the node that holds them."""
    return _emitting(graph_module, lambda levels: levels is not None and levels.is_binary)


def counting_nodes(graph_module: GraphModule) -> dict[str, Node]:
    """Name of each layer of neurons that emits spikes or counts -> the node that holds them."""
    return _emitting(graph_module, lambda levels: levels is not None)


def _emitting(graph_module: GraphModule, wanted: Callable[[Levels | None], bool]) -> dict[str, Node]:
    found = {}
    for node in graph_module.graph.nodes:
        if node.target is operator.getitem and node.args[1] == 0:
            neuron = neuron_of(graph_module, node.args[0])
            if neuron is not None and wanted(neuron.neuron.levels):
                found[neuron.layer] = node
    return found


def clean_up(graph_module: GraphModule) -> None:
    """Dead code and unused submodules out, graph checked, code generated: once at the end of each pass."""
    graph_module.graph.eliminate_dead_code()
    graph_module.delete_all_unused_submodules()
    graph_module.graph.lint()
    graph_module.recompile()


def add_module(graph_module: GraphModule, name: str, module: nn.Module) -> str:
    """Register `module` under `name` (dots become underscores; numbered if taken) and return the name."""
    base = name.replace(".", "_")
    taken = dict(graph_module.named_modules())
    unique, number = base, 1
    while unique in taken:
        unique, number = f"{base}_{number}", number + 1
    graph_module.add_submodule(unique, module)
    return unique


@dataclass(frozen=True)
class StepResult:
    """What T steps give."""

    output: Tensor
    """The model's output, batch first ([T, B, ...] where the model returns every step)."""
    states: dict[str, Tensor]
    """State after the last step by placeholder name."""
    spikes: dict[str, Tensor]
    """[T, B, ...] output of each layer of neurons that emits spikes or counts."""


def initial_states(graph_module: GraphModule, batch: int) -> dict[str, Tensor]:
    """First value of every state for a batch of that size."""
    nodes = placeholders(graph_module, Role.STATE)
    return {n.name: torch.full((batch, *n.meta[SHAPE]), n.meta[INIT]) for n in nodes}


def run_steps(
    graph_module: GraphModule, x: Tensor, num_steps: int | None = None, states: dict[str, Tensor] | None = None
) -> StepResult:
    """Run T steps of a step graph.

    Args:
        graph_module: the step graph.
        x: [T, B, ...] where the input changes with time, else [B, ...].
        num_steps: T; needed where x does not say it.
        states: state to go on from; the initial state by default.
    """
    source = the_input(graph_module)
    per_step = source.meta[PER_STEP]
    if per_step and num_steps not in (None, x.shape[0]):
        raise InputError(f"the input holds {x.shape[0]} time steps and num_steps={num_steps}; leave num_steps out")
    num_steps = x.shape[0] if per_step else num_steps
    if num_steps is None or num_steps < 1:
        raise InputError(
            f"the number of time steps is {num_steps}; at least one is needed: give num_steps >= 1, or an input "
            f"[T, B, ...] with T >= 1 to a graph whose input changes with time"
        )
    states = dict(states or initial_states(graph_module, x.shape[1 if per_step else 0]))
    run = _Runner(graph_module)
    run.define(placeholders(graph_module, Role.NUM_STEPS), num_steps)
    run.env[source] = x
    run.compute(Region.BEFORE)
    spiking = counting_nodes(graph_module)
    spikes: dict[str, list[Tensor]] = {name: [] for name in spiking}
    is_sequence = result(graph_module).meta[REGION] is Region.STEP
    outputs: list[Tensor] = []
    for t in range(num_steps):
        run.env[source] = x[t] if per_step else x
        run.env.update({n: states[n.name] for n in placeholders(graph_module, Role.STATE)})
        run.compute(Region.STEP)
        states = {state.name: run.env[value] for state, value in next_states(graph_module).items()}
        for name, node in spiking.items():
            spikes[name].append(run.env[node])
        if is_sequence:
            outputs.append(run.env[result(graph_module)])
    run.compute(Region.AFTER)
    output = torch.stack(outputs) if is_sequence else run.env[result(graph_module)]
    return StepResult(output, states, {name: torch.stack(s) for name, s in spikes.items()})


class _Runner(Interpreter):
    """Computes the nodes of one region into `env`."""

    def __init__(self, graph_module: GraphModule) -> None:
        super().__init__(graph_module, garbage_collect_values=False)
        self.nodes: dict[Region, list[Node]] = {region: [] for region in Region}
        for node in graph_module.graph.nodes:
            if node.op not in ("placeholder", "output"):
                self.nodes[node.meta[REGION]].append(node)

    def define(self, nodes: Iterable[Node], value: Any) -> None:
        """Give placeholders their value."""
        self.env.update(dict.fromkeys(nodes, value))

    def compute(self, region: Region) -> None:
        """Run one region."""
        for node in self.nodes[region]:
            self.env[node] = self.run_node(node)


ALLOWED_FUNCTIONS: dict[Callable[..., Any], str] = {
    operator.getitem: "getitem",
    operator.add: "add",
    operator.sub: "sub",
    operator.mul: "mul",
    operator.truediv: "div",
    torch.maximum: "maximum",
    # dimensions of each sample
    torch.reshape: "reshape",
    torch.permute: "permute",
    torch.select: "select",
    sliced: "slice",
    torch.cat: "cat",
    torch.stack: "stack",
    torch.roll: "roll",
    F.pad: "pad",
    torch.matmul: "matmul",
    torch.einsum: "einsum",
    torch.softmax: "softmax",
    torch.sum: "sum",
    torch.mean: "mean",
    torch.amax: "amax",
}
"""Functions that a step graph may call, and how they print."""


def verify_graph(graph_module: GraphModule) -> None:
    """Check that the step graph is legal.

    Raises:
        PassError: a node without region or shape, an unknown function, or a value used before its region.
    """
    order = {region: i for i, region in enumerate(Region)}
    for node in graph_module.graph.nodes:
        if node.op == "output":
            continue
        if node.op == "placeholder":
            if ROLE not in node.meta:
                raise PassError(f"placeholder '{node.name}' has no role; set node.meta[ROLE]")
            continue
        if node.op not in ("call_module", "call_function"):
            raise PassError(f"node '{node.name}' is a {node.op}; a step graph holds call_module and call_function only")
        if node.op == "call_function" and node.target not in ALLOWED_FUNCTIONS:
            raise PassError(
                f"node '{node.name}' calls {node.target}; a step graph may call {sorted(ALLOWED_FUNCTIONS.values())}"
            )
        if REGION not in node.meta or SHAPE not in node.meta:
            raise PassError(f"node '{node.name}' lacks its region or shape annotation")
        for source in node.all_input_nodes:
            if order[_available(source)] > order[node.meta[REGION]]:
                raise PassError(
                    f"node '{node.name}' in region {node.meta[REGION].value} uses '{source.name}' of a later one"
                )


def _available(node: Node) -> Region:
    """First region that can use a node's value; a state and a per-step input have one in `step` only."""
    if node.op != "placeholder":
        region: Region = node.meta[REGION]
        return region
    changes = node.meta[ROLE] is Role.STATE or bool(node.meta.get(PER_STEP))
    return Region.STEP if changes else Region.BEFORE


def format_graph(graph_module: GraphModule) -> str:
    """The step graph as text: stable, without addresses or paths."""
    lines = [
        "graph(" + ", ".join(_format_placeholder(n) for n in graph_module.graph.nodes if n.op == "placeholder") + ")"
    ]
    for region in Region:
        body = [n for n in graph_module.graph.nodes if n.meta.get(REGION) is region and n.op.startswith("call_")]
        if body:
            lines += [f"  {region.value}:", *(f"    {_format_node(graph_module, n)}" for n in body)]
    states = _format_argument(tuple(next_states(graph_module).values()))
    lines.append(f"  return {_format_argument(result(graph_module))}, states {states}")
    return "\n".join(lines) + "\n"


def format_captured(graph_module: GraphModule) -> str:
    """A captured graph as text: one line per node, with the class of each module."""
    return "\n".join(_lines_of_captured(graph_module)) + "\n"


def _lines_of_captured(graph_module: GraphModule) -> Iterator[str]:
    for node in graph_module.graph.nodes:
        if node.op == "placeholder":
            yield f"%{node.name} = input"
        elif node.op == "output":
            yield f"return {_format_argument(node.args[0])}"
        else:
            yield f"%{node.name} = {_format_call(graph_module, node)}"


def _format_placeholder(node: Node) -> str:
    role: Role = node.meta[ROLE]
    if role is Role.NUM_STEPS:
        return f"%{node.name}"
    text = f"%{node.name}: {_format_shape(node)}"
    if role is Role.STATE:
        levels = f" ({node.meta[LEVELS]})" if LEVELS in node.meta else ""
        return f"state {text} = {node.meta[INIT]:.9g}{levels}"
    return text + (" per step" if node.meta[PER_STEP] else "")


def _format_shape(node: Node) -> str:
    return "[" + ", ".join(["B", *map(str, node.meta[SHAPE])]) + "]"


def _format_node(graph_module: GraphModule, node: Node) -> str:
    levels = node.meta.get(LEVELS)
    note = f"  # {levels}" if levels is not None else ""
    return f"%{node.name}: {_format_shape(node)} = {_format_call(graph_module, node)}{note}"


def _format_call(graph_module: GraphModule, node: Node) -> str:
    arguments = ", ".join(
        [*map(_format_argument, node.args), *(f"{k}={_format_argument(v)}" for k, v in node.kwargs.items())]
    )
    module = module_of(graph_module, node)
    if module is None:
        name = ALLOWED_FUNCTIONS.get(node.target) if callable(node.target) else None
        return f"{name or getattr(node.target, '__name__', node.target)}({arguments})"
    details = module.extra_repr()
    children = "; ".join(child.extra_repr() for child in module.children()) if isinstance(module, IntConvNeuron) else ""
    return f"{type(module).__name__}[{node.target}]({arguments}) {{{details or children}}}"


def _format_argument(value: Any) -> str:
    if isinstance(value, Node):
        return f"%{value.name}"
    if isinstance(value, tuple | list):
        return "(" + ", ".join(_format_argument(v) for v in value) + ")"
    return repr(value)
