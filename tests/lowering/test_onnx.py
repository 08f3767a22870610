"""ONNX models equal the step-by-step reference bit for bit in ONNX Runtime."""

from __future__ import annotations

import importlib.util
import operator
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from spikenm_compile.errors import PassError, TargetError
from spikenm_compile.graph import ALLOWED_FUNCTIONS, PER_STEP, Region, initial_states, run_steps, the_input
from spikenm_compile.lowering.onnx import IR_VERSION, OPSET, to_onnx_sequence, to_onnx_step
from spikenm_compile.neurons import integrate_and_fire
from spikenm_compile.ops import SPIKES, IntConv2d, Levels, QuantizeInput, exact_dtype
from spikenm_compile.targets import onnx as onnx_target
from spikenm_compile.targets.onnx import Onnx


def _load_examples() -> ModuleType:
    spec = importlib.util.spec_from_file_location("lowered_examples", Path(__file__).with_name("lowered_examples.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


examples = _load_examples()
Arrays = dict[str, npt.NDArray[Any]]

LEVELS_OF_OPTIMISATION = ["ORT_DISABLE_ALL", "ORT_ENABLE_BASIC", "ORT_ENABLE_EXTENDED", "ORT_ENABLE_ALL"]


def run_model(model: onnx.ModelProto, feeds: Arrays, level: str = "ORT_ENABLE_ALL", dump: str = "") -> Arrays:
    """Outputs by name."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    options.optimized_model_filepath = dump
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


def same_bits(actual: npt.NDArray[Any], expected: Tensor) -> bool:
    """Whether two float32 arrays are equal bit for bit, signs of zero and all; any NaN equals any other."""
    array = expected.numpy()
    same = (actual.view(np.int32) == array.view(np.int32)) | (np.isnan(actual) & np.isnan(array))
    return actual.shape == array.shape and actual.dtype == array.dtype and bool(same.all())


def check_sequence(lowered: GraphModule, x: Tensor, num_steps: int, level: str = "ORT_ENABLE_ALL") -> Arrays:
    """All outputs of the sequence model against `run_steps`."""
    feeds: Arrays = {"x": x.numpy()}
    if not the_input(lowered).meta[PER_STEP]:
        feeds["num_steps"] = np.array(num_steps)
    actual = run_model(to_onnx_sequence(lowered, "network"), feeds, level)
    expected = run_steps(lowered, x, num_steps)
    named = {"output": expected.output}
    named |= {f"{name}_next": value for name, value in expected.states.items()}
    named |= {f"spikes_{layer}": value for layer, value in expected.spikes.items()}
    assert actual.keys() == named.keys()
    for name, value in named.items():
        assert same_bits(actual[name], value), name
    return actual


def check_steps(lowered: GraphModule, x: Tensor, num_steps: int, level: str = "ORT_ENABLE_ALL") -> None:
    """The step model, fed with its own states, against `run_steps` of as many steps."""
    model = to_onnx_step(lowered, "network")
    inputs = [value.name for value in model.graph.input]
    per_step = the_input(lowered).meta[PER_STEP]
    states = {k: v.numpy() for k, v in initial_states(lowered, x.shape[1 if per_step else 0]).items()}
    for t in range(num_steps):
        feeds: Arrays = {"x": (x[t] if per_step else x).numpy(), "num_steps": np.array(t + 1), **states}
        actual = run_model(model, {name: feeds[name] for name in inputs}, level)
        expected = run_steps(lowered, x[: t + 1] if per_step else x, t + 1)
        states = {name: actual[f"{name}_next"] for name in states}
        is_sequence = expected.output.dim() > actual["output"].ndim
        assert same_bits(actual["output"], expected.output[-1] if is_sequence else expected.output)
        assert all(same_bits(states[name], value) for name, value in expected.states.items())
        assert all(same_bits(actual[f"spikes_{layer}"], value[-1]) for layer, value in expected.spikes.items())


NETWORKS: dict[str, Callable[[], GraphModule]] = {
    "hoisted mean": lambda: examples.network(),
    "hoisted sum unfused": lambda: examples.network(kind="sum", fused=False),
    "hoisted last": lambda: examples.network(kind="last"),
    "hoisted max": lambda: examples.network(kind="max"),
    "hoisted sequence": lambda: examples.network(kind="sequence"),
    "per step mean": lambda: examples.network(per_step=True),
    "per step last": lambda: examples.network(kind="last", per_step=True),
    "per step max": lambda: examples.network(kind="max", per_step=True),
    "per step sequence": lambda: examples.network(kind="sequence", per_step=True),
    "one pixel": lambda: examples.network(channels=1, size=(1, 1)),
    "17 channels": lambda: examples.network(channels=17, size=(5, 4), per_step=True),
    "residual per step": lambda: examples.residual(),
    "residual": lambda: examples.residual("sequence", per_step=False),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_sequence_equals_reference(name: str) -> None:
    lowered = NETWORKS[name]()
    for num_steps, batch in ((1, 5), (3, 1), (7, 5)):
        check_sequence(lowered, examples.random_input(lowered, num_steps, batch), num_steps)


@pytest.mark.parametrize("name", NETWORKS)
def test_steps_equal_reference(name: str) -> None:
    lowered = NETWORKS[name]()
    check_steps(lowered, examples.random_input(lowered, 3, 2), 3)


@pytest.mark.parametrize("level", LEVELS_OF_OPTIMISATION)
def test_every_level_of_optimisation_gives_the_same_bits(level: str) -> None:
    for name in ("hoisted mean", "per step sequence", "residual per step"):
        lowered = NETWORKS[name]()
        x = examples.random_input(lowered, 4, 5)
        spikes = check_sequence(lowered, x, 4, level)["spikes_layer.2"]
        assert 0.02 < spikes.mean() < 0.9, "the example must spike for the test to mean anything"
        check_steps(lowered, x, 2, level)


@pytest.mark.parametrize("neuron", examples.NEURONS, ids=str)
def test_neurons_keep_the_order_of_operations(neuron: Any) -> None:
    lowered = examples.one_neuron(neuron, (3, 32, 33))
    check_sequence(lowered, examples.random_input(lowered, 7, 5), 7)


@pytest.mark.parametrize(("fire", "spikes"), [(">=", [0.0, 1.0, 1.0]), (">", [0.0, 0.0, 1.0])])
def test_neurons_decide_at_the_threshold(fire: Literal[">=", ">"], spikes: list[float]) -> None:
    lowered = examples.one_neuron(integrate_and_fire(v_threshold=0.75, fire=fire), (3,))
    x = torch.tensor([0.75 - 2**-24, 0.75, 0.75 + 2**-24])
    assert check_sequence(lowered, x[None, None], 1)["output"].tolist() == [[spikes]]


def test_neurons_take_special_values() -> None:
    special = torch.tensor(
        [0.0, -0.0, 1.0, -1.0, 1e-45, -1e-45, 3e38, -3e38, float("inf"), -float("inf"), float("nan")]
    )
    for neuron in examples.NEURONS:
        lowered = examples.one_neuron(neuron, (len(special), len(special)))
        first, second = torch.meshgrid(special, special, indexing="ij")
        check_sequence(lowered, torch.stack([first, second, first])[:, None], 3)


@pytest.mark.parametrize(
    ("shape", "size", "geometry"),
    [
        ((1, 1, 1, 1), (1, 1), {}),
        ((3, 17, 3, 3), (9, 7), {"padding": (1, 1)}),
        ((17, 3, 3, 2), (9, 7), {"stride": (2, 3), "padding": (0, 1)}),
        ((6, 1, 3, 3), (9, 7), {"groups": 3, "padding": (2, 2), "dilation": (2, 2)}),
        ((8, 2, 1, 1), (5, 3), {"groups": 4, "stride": (2, 2)}),
        ((10, 3, 9, 7), (9, 7), {}),
    ],
)
@pytest.mark.parametrize("levels", [SPIKES, Levels(0, 3), Levels(-128, 127, 1 / 50)], ids=str)
def test_convolutions(
    shape: tuple[int, int, int, int], size: tuple[int, int], geometry: dict[str, Any], levels: Levels
) -> None:
    conv = examples.int_conv(shape, levels=levels, **geometry)
    lowered = examples.one_module(conv, (shape[1] * conv.groups, *size), levels=levels)
    check_sequence(lowered, examples.random_input(lowered, 2, 5), 2)


def test_sums_beyond_float32_stay_exact() -> None:
    levels = Levels(0, 255, 1 / 255)
    conv = examples.int_conv((3, 40, 5, 5), levels=levels)
    conv.weight.fill_(126)
    conv.weight[1:] += torch.randint(0, 2, (2, 40, 5, 5), dtype=torch.int8)
    assert exact_dtype(conv.weight, levels) is torch.float64
    lowered = examples.one_module(conv, (40, 5, 5), levels=levels, per_step=True)
    x = 1 - 0.1 * torch.rand(2, 5, 40, 5, 5)
    check_sequence(lowered, x, 2)
    rounded = nn.functional.conv2d((255 * x[0]).round(), conv.weight.float())
    assert not torch.equal(rounded, conv.sums((255 * x[0]).round()).float()), "float32 alone must be wrong here"


def test_a_single_bias_of_zero_still_clears_the_sign_of_zero() -> None:
    conv = IntConv2d(torch.ones(1, 1, 1, 1, dtype=torch.int8), torch.tensor([-0.5]), torch.zeros(1), levels=SPIKES)
    build = examples.Builder((1, 2, 2), per_step=True)
    current = build.module("conv", conv, build.input)
    lowered = build.build(build.function(operator.mul, current, -1.0))
    output = check_sequence(lowered, torch.zeros(1, 1, 1, 2, 2), 1)["output"]
    assert np.signbit(output).all()


def test_quantisation_rounds_saturates_and_places_nan() -> None:
    lowered = examples.one_module(QuantizeInput(Levels(-3, 5, 0.5)), (9,))
    inf = float("inf")
    x = torch.tensor([[0.25, 0.75, 1.25, -0.25, -9.0, 9.0, inf, -inf, float("nan")]])
    output = check_sequence(lowered, x, 1)["output"]
    assert output.tolist() == [[0.0, 2.0, 2.0, 0.0, -3.0, 5.0, 5.0, -3.0, -3.0]]


@pytest.mark.parametrize(
    "pool",
    [
        nn.MaxPool2d(2),
        nn.MaxPool2d((3, 2), stride=(2, 1), padding=1),
        nn.MaxPool2d(2, stride=2, dilation=2),
        nn.MaxPool2d(3, stride=2, padding=1, ceil_mode=True),
        nn.MaxPool2d(2, stride=3, ceil_mode=True),
        nn.AvgPool2d(2),
        nn.AvgPool2d((3, 2), stride=1),
        nn.AvgPool2d(3, stride=2, padding=1),
        nn.AvgPool2d(3, stride=2, padding=1, count_include_pad=False),
        nn.AvgPool2d(2, stride=2, ceil_mode=True),
        nn.AvgPool2d(3, stride=2, padding=1, ceil_mode=True, count_include_pad=False),
        nn.AvgPool2d(3, divisor_override=7),
        nn.AvgPool2d((9, 7)),
    ],
    ids=str,
)
def test_pooling(pool: nn.Module) -> None:
    lowered = examples.one_module(pool, (3, 9, 7))
    check_sequence(lowered, examples.random_input(lowered, 2, 3), 2)


def test_previous_values_may_be_read_after_the_last_step() -> None:
    build = examples.Builder((4,), per_step=True)
    build.neuron(build.input, examples.LIF)
    v = next(iter(build.next))
    last = build.function(operator.add, v, build.input, region=Region.AFTER)
    both = next(n for n in build.graph.nodes if n.op == "call_module")
    late = build.function(operator.getitem, both, 1, region=Region.AFTER)
    lowered = build.build(build.function(operator.add, last, late, region=Region.AFTER))
    check_sequence(lowered, examples.random_input(lowered, 5, 3), 5)
    check_steps(lowered, examples.random_input(lowered, 3, 3), 3)


def test_interface_of_the_models() -> None:
    lowered = examples.network()
    step, sequence = to_onnx_step(lowered, "network"), to_onnx_sequence(lowered, "network")
    states = ["v1", "v2", "v3", "total_flatten_out"]
    outputs = {"output", *(f"{s}_next" for s in states), *(f"spikes_layer.{i}" for i in (1, 2, 3))}
    assert [value.name for value in step.graph.input] == ["x", "num_steps", *states]
    assert [value.name for value in sequence.graph.input] == ["x", "num_steps"]
    assert {value.name for value in step.graph.output} == {value.name for value in sequence.graph.output} == outputs
    per_step = examples.network(per_step=True, kind="sum")
    assert [value.name for value in to_onnx_sequence(per_step, "network").graph.input] == ["x"]
    assert [value.name for value in to_onnx_step(per_step, "network").graph.input] == ["x", *states]


def test_models_are_checked_versioned_and_deterministic() -> None:
    for lower in (to_onnx_step, to_onnx_sequence):
        model = lower(examples.network(), "network")
        onnx.checker.check_model(model, full_check=True)
        assert (model.ir_version, model.opset_import[0].version) == (IR_VERSION, OPSET)
        assert model.producer_name == "spikenm_compile"
        again = lower(examples.network(), "network")
        assert model.SerializeToString(deterministic=True) == again.SerializeToString(deterministic=True)


def test_weights_are_stored_as_bytes() -> None:
    model = to_onnx_step(examples.network(), "network")
    weights = [t for t in model.graph.initializer if t.name.endswith(".weight")]
    assert [t.data_type for t in weights] == [onnx.TensorProto.INT8] * 3


def test_the_loop_holds_no_work_that_does_not_change() -> None:
    graph = to_onnx_sequence(examples.network(), "network").graph
    (loop,) = (node for node in graph.node if node.op_type == "Loop")
    assert [node.op_type for node in graph.node].count("Conv") == 1
    assert [node.op_type for node in loop.attribute[0].g.node].count("Conv") == 2
    assert len(loop.input) == 2 + 4, "trip count, condition and each state once: the readout reads a state"


@pytest.mark.parametrize("level", LEVELS_OF_OPTIMISATION[1:])
def test_no_optimisation_joins_a_convolution_with_its_scale(level: str, tmp_path: Path) -> None:
    dump = tmp_path / "optimised.onnx"
    lowered = examples.network(channels=16, fused=False)
    x = examples.random_input(lowered, 1, 1)
    states = {name: value.numpy() for name, value in initial_states(lowered, 1).items()}
    feeds = {"x": x.numpy(), "num_steps": np.array(1), **states}
    run_model(to_onnx_step(lowered, "network"), feeds, level, str(dump))
    nodes = onnx.load(dump).graph.node
    convolutions = [node for node in nodes if node.op_type == "Conv"]
    assert len(convolutions) == 3
    assert all(len(node.input) == 2 for node in convolutions), "a bias joined a convolution"
    assert [node.op_type for node in nodes].count("Round") == 4


def test_the_target_writes_both_models_and_says_what_they_hold(tmp_path: Path) -> None:
    lowered = examples.network(kind="max")
    texts: dict[str, str] = {}
    code = Onnx().build(lowered, tmp_path, name="network", num_steps=4, emit=texts.__setitem__)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sequence.onnx", "step.onnx"]
    assert (code["kind"], code["step"], code["sequence"]) == ("onnx", "step.onnx", "sequence.onnx")
    assert code["opset"] == OPSET
    assert isinstance(code["states"], list)
    assert code["states"][0] == {"name": "v1", "shape": [3, 9, 7], "init": 0.0}
    assert code["states"][-1] == {"name": "total_flatten_out", "shape": [5], "init": "-inf"}
    assert code["spikes"] == [
        {"layer": "layer.1", "shape": [3, 9, 7]},
        {"layer": "layer.2", "shape": [6, 2, 2]},
        {"layer": "layer.3", "shape": [5, 1, 1]},
    ]
    assert texts.keys() == {"step.onnx.txt", "sequence.onnx.txt"}
    assert "Loop" in texts["sequence.onnx.txt"]
    assert "int8[" not in texts["sequence.onnx.txt"], "weights make no readable text"
    assert onnx.load(tmp_path / "step.onnx") == to_onnx_step(lowered, "network")
    assert onnx.load(tmp_path / "sequence.onnx") == to_onnx_sequence(lowered, "network")


def test_refuses_what_it_cannot_lower() -> None:
    with pytest.raises(PassError, match="node 'module' is a ReLU; ONNX lowering knows AvgPool2d, Flatten, IntConv2d"):
        to_onnx_step(examples.one_module(nn.ReLU(), (2,)), "network")
    indices = examples.one_module(nn.MaxPool2d(2), (1, 4, 4))
    indices.get_submodule("module").return_indices = True
    with pytest.raises(PassError, match="node 'module' returns the indices of its maxima"):
        to_onnx_step(indices, "network")
    huge = examples.int_conv((1, 1, 1, 1), levels=Levels(0, 2**23))
    huge.weight.fill_(100)
    with pytest.raises(PassError, match="needs products below 2\\^24; quantise the input to fewer levels"):
        to_onnx_step(examples.one_module(huge, (1, 1, 1)), "network")
    with pytest.raises(PassError, match=r"pools a value of shape \[4, 4\]; 2-D pooling takes \[channels, height"):
        to_onnx_step(examples.one_module(nn.MaxPool2d(2), (4, 4)), "network")


def test_refuses_what_is_not_a_tensor() -> None:
    build = examples.Builder((3,), per_step=True)
    item = build.build(build.function(operator.getitem, build.input, 0))
    with pytest.raises(PassError, match="node 'getitem' takes item 0 of a value that is not"):
        to_onnx_step(item, "network")
    lowered = examples.residual()
    add = next(n for n in lowered.graph.nodes if n.target is operator.add)
    add.kwargs = {"alpha": 2}
    with pytest.raises(PassError, match=r"node 'add' has keyword arguments \['alpha'\]"):
        to_onnx_step(lowered, "network")
    add.kwargs = {}
    add.args = (add.args[0], None)
    with pytest.raises(PassError, match="node 'add' has argument None; ONNX lowering takes single tensors and numbers"):
        to_onnx_step(lowered, "network")


def test_refuses_a_pair_as_output() -> None:
    build = examples.Builder((3,), per_step=True)
    build.neuron(build.input, examples.LIF)
    both = next(n for n in build.graph.nodes if n.op == "call_module")
    lowered = build.build(both)
    for lower in (to_onnx_step, to_onnx_sequence):
        with pytest.raises(PassError, match=r"node 'neuron1' gives \(output, \*states\) where one tensor is used"):
            lower(lowered, "network")


def test_refuses_a_model_too_large_for_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_target, "MAX_MODEL_BYTES", 100)
    with pytest.raises(TargetError, match=r"step.onnx would take \d+ bytes; one ONNX file holds 100"):
        Onnx().build(examples.network(), tmp_path, name="network", num_steps=4)


def test_refuses_two_values_of_one_name() -> None:
    build = examples.Builder((3,), per_step=True)
    for name in ("v", "v_next"):
        state = build.state(name, (3,))
        build.next[state] = build.function(operator.add, state, build.input)
    lowered = build.build(build.next[state])
    with pytest.raises(PassError, match=r"interface values \['v_next'\] of 'network' are named twice"):
        to_onnx_step(lowered, "network")


def test_a_function_without_onnx_form_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ALLOWED_FUNCTIONS, operator.pow, "pow")
    graph = examples.residual()
    graph.graph.find_nodes(op="call_function", target=operator.add)[0].target = operator.pow
    with pytest.raises(PassError, match=r"'add.*' calls pow; ONNX lowering knows add, sub, mul, div, maximum"):
        to_onnx_step(graph, "x")
