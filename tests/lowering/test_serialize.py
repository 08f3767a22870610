"""A lowered graph survives JSON and tensors unchanged, and nothing else is read."""

from __future__ import annotations

import copy
import importlib.util
import json
import operator
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import neuron_kinds
import numpy as np
import pytest
import torch
from step_graphs import StepGraphBuilder
from torch import nn
from torch.fx import GraphModule

from spikenm_compile.errors import ArtifactError, PassError
from spikenm_compile.graph import REGION, Region, format_graph, run_steps
from spikenm_compile.lowering.serialize import from_dict, to_dict
from spikenm_compile.ops import IntConv2d, Levels


def _load_examples() -> ModuleType:
    spec = importlib.util.spec_from_file_location("lowered_examples", Path(__file__).with_name("lowered_examples.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


examples = _load_examples()

GRAPHS: dict[str, Callable[[], GraphModule]] = {
    "hoisted": lambda: examples.network(),
    "per step": lambda: examples.network(per_step=True, kind="sequence", fused=False),
    "max readout": lambda: examples.network(kind="max"),
    "last readout": lambda: examples.network(kind="last", size=(1, 1), channels=1),
    "residual": lambda: examples.residual("sum"),
    "average pool": lambda: examples.one_module(nn.AvgPool2d((3, 2), 2, padding=1, divisor_override=5), (3, 7, 6)),
}


def stored(graph_module: GraphModule) -> tuple[dict[str, Any], dict[str, Any]]:
    """Description after JSON, and tensors."""
    description, tensors = to_dict(graph_module)
    return json.loads(json.dumps(description, allow_nan=False)), tensors


@pytest.mark.parametrize("name", GRAPHS)
def test_text_and_results_survive(name: str) -> None:
    before = GRAPHS[name]()
    after = from_dict(*stored(before))
    assert format_graph(after) == format_graph(before)
    x = examples.random_input(before, 3, 2)
    expected, actual = run_steps(before, x, 3), run_steps(after, x, 3)
    assert torch.equal(actual.output, expected.output)
    assert actual.states.keys() == expected.states.keys()
    assert all(torch.equal(actual.states[k], v) for k, v in expected.states.items())
    assert all(torch.equal(actual.spikes[k], v) for k, v in expected.spikes.items())
    assert to_dict(after)[0] == to_dict(before)[0]


@pytest.mark.parametrize("neuron", examples.NEURONS, ids=str)
def test_neurons_survive_exactly(neuron: Any) -> None:
    after = from_dict(*stored(examples.one_neuron(neuron)))
    assert after.get_submodule("neuron1").neuron == neuron


def test_neurons_of_several_inputs_survive() -> None:
    b = StepGraphBuilder((3, 5, 4), per_step=True)
    graph = b.output(b.neuron("lif", b.x, neuron_kinds.two_inputs(3), (b.x,)))
    assert from_dict(*stored(graph)).get_submodule("lif").neuron == neuron_kinds.two_inputs(3)


def test_neurons_stored_before_they_named_their_inputs_have_one() -> None:
    description, tensors = stored(examples.one_neuron(examples.NEURONS[0]))
    del description["modules"]["neuron1"]["inputs"]
    assert from_dict(description, tensors).get_submodule("neuron1").neuron == examples.NEURONS[0]


def test_annotations_and_kernel_choice_survive() -> None:
    after = from_dict(*stored(examples.network(kind="max")))
    assert after.meta["num_steps"] == 4
    conv = after.get_submodule("neuron2.conv")
    assert isinstance(conv, IntConv2d)
    assert (str(conv.pattern), conv.kernel, conv.why, conv.layer) == ("2:4", "dense-rows", "few channels", "layer.2")
    assert after.get_submodule("head").linear_input == (6, 2, 2)
    assert next(n for n in after.graph.nodes if n.name == "conv1").meta[REGION] is Region.BEFORE
    assert "state %total_flatten_out: [B, 5] = -inf" in format_graph(after)


def test_tensors_are_named_by_convolution() -> None:
    _, tensors = to_dict(examples.network())
    names = {f"{conv}.{part}" for conv in ("conv1", "neuron2.conv", "head") for part in ("weight", "scale", "bias")}
    assert tensors.keys() == names
    assert {str(tensors[f"neuron2.conv.{part}"].dtype) for part in ("weight", "scale")} == {"int8", "float32"}


def test_tensors_are_copied() -> None:
    description, tensors = stored(examples.network())
    after = from_dict(description, tensors)
    tensors["conv1.bias"][:] = np.nan
    conv = after.get_submodule("conv1")
    assert isinstance(conv, IntConv2d)
    assert not conv.bias.isnan().any()


def test_a_graph_without_num_steps_stays_without() -> None:
    graph_module = examples.residual()
    del graph_module.meta["num_steps"]
    assert "num_steps" not in from_dict(*stored(graph_module)).meta


def test_float_arguments_survive_exactly() -> None:
    build = examples.Builder((2,), per_step=True)
    y = build.function(operator.mul, build.function(torch.maximum, build.input, build.input), 0.1)
    z = build.function(operator.add, y, -float("inf"))
    after = from_dict(*stored(build.build(z)))
    assert [n.args[1] for n in after.graph.nodes if n.name in ("mul", "add")] == [0.1, -float("inf")]


def test_refuses_a_module_outside_of_the_list() -> None:
    with pytest.raises(PassError, match="module 'module' is a ReLU; a lowered graph that is stored holds IntConv2d"):
        to_dict(examples.one_module(nn.ReLU(), (2,)))


def test_refuses_a_subclass_of_a_listed_module() -> None:
    class Flatten(nn.Flatten):
        pass

    with pytest.raises(PassError, match="module 'module' is a Flatten"):
        to_dict(examples.one_module(Flatten(), (2, 3)))


def test_refuses_keyword_arguments_and_text() -> None:
    graph_module = examples.residual()
    add = next(n for n in graph_module.graph.nodes if n.target is operator.add)
    add.kwargs = {"alpha": 2}
    with pytest.raises(PassError, match=r"node 'add' has keyword arguments \['alpha'\]"):
        to_dict(graph_module)
    add.kwargs = {}
    add.args = (add.args[0], "text")
    with pytest.raises(PassError, match="node 'add' has argument 'text'"):
        to_dict(graph_module)


def _node(description: dict[str, Any], name: str) -> dict[str, Any]:
    return next(node for node in description["nodes"] if node["name"] == name)


def _set(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """A change of one field: `modules/conv1/stride`, `nodes/add/args`."""

    def change(description: dict[str, Any]) -> None:
        keys, last = path.split("/")[:-1], path.split("/")[-1]
        fields: Any = description
        for key in filter(None, keys):
            fields = _node(description, key) if fields is description.get("nodes") else fields[key]
        if value is KeyError:
            del fields[last]
        else:
            fields[last] = value

    return change


BROKEN = [
    (_set("/format", 1), "format=1; it must be 2, the only one"),
    (_set("/format", KeyError), "the description of the stored graph has no field 'format'"),
    (_set("/modules", None), "the description.modules of the stored graph is not a JSON object"),
    (_set("/nodes", "x"), "nodes='x'; it must be a list"),
    (_set("modules/conv1/kind", "Exec"), "module 'conv1' .* has kind='Exec'; it must be a known kind"),
    (_set("modules/conv1/stride", [0, 1]), r"stride=\[0, 1\]; it must be 2 whole numbers >= 1"),
    (_set("modules/conv1/groups", 2), "groups=2; it must be a divisor of the 3 output channels"),
    (_set("modules/conv1/levels", {"low": 3, "high": 1, "scale": 1.0}), r"conv1'.levels .* has no level"),
    (_set("modules/conv1/pattern", "4:2"), "pattern='4:2'; it must be N:M or null"),
    (_set("modules/conv1/linear_input", [1, 2]), "linear_input"),
    (_set("modules/conv1/weight", [3, 2, 3, 2]), r"tensor 'conv1.weight' .* is torch.int8 \[3, 2, 3, 3\]"),
    (_set("modules/neuron1/equations", ["h = exec(x)"]), r"it must be those of a neuron \(equation 'h = exec\(x\)'"),
    (_set("modules/neuron1/equations", [1]), r"equations=\[1\]; it must be texts"),
    (_set("modules/neuron1/inputs", [1]), r"inputs=\[1\]; it must be texts"),
    (_set("modules/neuron1/inputs", ["y"]), "it must be those of a neuron .*reads the unknown 'x'"),
    (_set("modules/neuron1/output", "z"), r"it must be those of a neuron \(a neuron has no equation of 'z'"),
    (_set("modules/neuron1/constants", {"tau": "two"}), "tau='two'; it must be a number"),
    (_set("modules/neuron1/per_channel", {"tau": 3}), "tensor 'neuron1.tau' of the stored graph is missing"),
    (_set("modules/pool/kernel_size", "2"), "kernel_size='2'; it must be a whole number"),
    (_set("modules/unflatten/unflattened_size", 3), "module 'unflatten' .* used with other arguments"),
    (_set("modules/a b", {"kind": "Flatten"}), "module 'a b' of the stored graph has no legal name"),
    (_set("nodes/x/name", "x=exit()"), "node 0 .* name='x=exit\\(\\)'; it must be an identifier"),
    (_set("nodes/x/name", "class"), "name='class'; it must be a name that Python does not reserve"),
    (_set("nodes/v1/name", "x"), "name='x'; it must be an identifier that no other node has"),
    (_set("nodes/x/role", "guest"), "role='guest'; it must be one of input, num_steps, state"),
    (_set("nodes/x/role", KeyError), "node 0 .* role=None; it must be given"),
    (_set("nodes/x/role", "state"), "node 0 .* init=None; it must be given"),
    (_set("nodes/x/per_step", KeyError), "per_step=None; it must be given"),
    (_set("nodes/v1/init", [0]), r"init=\[0\]; it must be a number"),
    (_set("nodes/conv1/region", "never"), "region='never'; it must be one of before, step, after"),
    (_set("nodes/conv1/region", "after"), "not legal .*node 'neuron1' in region step uses 'conv1' of a later one"),
    (_set("nodes/conv1/shape", [-1]), r"shape=\[-1\]; it must be some whole numbers >= 0"),
    (_set("nodes/conv1/op", "get_attr"), "op='get_attr'; it must be placeholder, call_module or call_function"),
    (_set("nodes/conv1/target", "conv9"), "target='conv9'; it must be a module of the graph or one of getitem"),
    (_set("nodes/add/target", "eval"), "target='eval'; it must be"),
    (_set("nodes/add/args", [{"node": "truediv"}]), "node='truediv'; it must be an earlier node"),
    (_set("nodes/add/args", ["text"]), "an argument of node .* is not a JSON object"),
    (_set("output/value", "nothing"), r"returns \['nothing'\], which it does not compute"),
    (_set("output/states", ["add"]), "1 inputs, 4 states and 1 next states; it needs one input"),
    (_set("/num_steps", "4"), "num_steps='4'; it must be a whole number"),
]


@pytest.mark.parametrize(("change", "message"), BROKEN, ids=[message for _, message in BROKEN])
def test_refuses_a_changed_description(change: Callable[[dict[str, Any]], None], message: str) -> None:
    description, tensors = stored(examples.network())
    broken = copy.deepcopy(description)
    change(broken)
    with pytest.raises(ArtifactError, match=message):
        from_dict(broken, tensors)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (None, "tensor 'head.scale' of the stored graph is missing"),
        (np.ones(4, np.float32), r"tensor 'head.scale' .* is torch.float32 \[4\]; the graph needs torch.float32 \[5\]"),
        (np.ones(5, np.float64), r"tensor 'head.scale' .* is torch.float64 \[5\]"),
    ],
)
def test_refuses_wrong_tensors(array: Any, message: str) -> None:
    description, tensors = stored(examples.network())
    changed = {name: value for name, value in tensors.items() if name != "head.scale"}
    if array is not None:
        changed["head.scale"] = array
    with pytest.raises(ArtifactError, match=message):
        from_dict(description, changed)


def test_levels_survive_exactly() -> None:
    graph_module = examples.one_module(nn.Flatten(), (3,), levels=Levels(0, 200, 1 / 3))
    assert from_dict(*stored(graph_module)).get_submodule("quantize").levels == Levels(0, 200, 1 / 3)
