from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from frontend.zoo import ZOO, example, make, node
from spikingjelly.activation_based import functional, layer
from torch import Tensor, nn
from torch.autograd.function import _SingleLevelFunction

from spikenm_compile.errors import CaptureError
from spikenm_compile.frontend.capture import capture
from spikenm_compile.frontend.recording import AutogradFunction
from spikenm_compile.neurons import IF, LIF

NEED_NO_SHAPE = [
    name for name in ZOO if name.startswith(("sequence", "repeated-re", "encoded", "loop", "own-single", "sew"))
]
NEED_NO_SHAPE.remove("sequence-sum-over-T")


def gradients(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    model(x).square().sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_same(one: nn.Module, other: nn.Module, x: Tensor) -> None:
    """Two calls without reset between them, from the same random state; then reset."""
    results = []
    for model in (one, other):
        torch.manual_seed(1)
        functional.reset_net(model)
        with torch.no_grad():
            results.append((model(x), model(x)))
        functional.reset_net(model)
    for expected, actual in zip(*results, strict=True):
        assert torch.equal(actual, expected)


@pytest.mark.parametrize("name", ZOO)
def test_captured_equals_the_model(name: str) -> None:
    model, x = make(name)
    functional.reset_net(model)
    for training in (True, False):
        captured = capture(model.train(training), x)
        assert list(captured.state_dict()) == list(model.state_dict())
        assert_same(copy.deepcopy(model).train(), captured.train(), x)
        assert_same(model.eval(), captured.eval(), example(name, batch=3))


@pytest.mark.parametrize("name", NEED_NO_SHAPE)
def test_models_that_ask_for_no_shape_need_no_example(name: str) -> None:
    model, x = make(name)
    assert_same(model.eval(), capture(model), x)


@pytest.mark.parametrize("name", ["repeated-repeat", "loop-stack-mean", "own-multi-step", "sew-ADD"])
def test_gradients_are_the_models(name: str) -> None:
    model, x = make(name)
    functional.reset_net(model)
    twin = copy.deepcopy(model)
    torch.manual_seed(1)
    expected = gradients(twin, x)
    torch.manual_seed(1)
    actual = gradients(capture(model, x), x)
    assert actual.keys() == expected.keys()
    assert any(g.any() for g in expected.values())
    assert all(torch.equal(actual[k], expected[k]) for k in expected)


def test_layers_are_the_users_own_objects() -> None:
    model, x = make("repeated-repeat")
    captured = capture(model, x)
    users = dict(model.named_modules())
    shared = {name for name, module in captured.named_modules() if module is users.get(name)}
    assert {f"layers.{i}" for i in range(11)} <= shared
    assert not shared & {"", "layers"}


def test_replacing_a_captured_layer_leaves_the_model_alone() -> None:
    model, x = make("repeated-repeat")
    before = model.get_submodule("layers.0")
    capture(model, x).set_submodule("layers.0", nn.Identity())
    assert model.get_submodule("layers.0") is before


@pytest.mark.parametrize("training", [True, False])
def test_capture_changes_nothing(training: bool) -> None:
    model, x = make("repeated-repeat")
    model.train(training)
    with torch.no_grad():
        model(x)  # membrane potentials and dropout masks are there
    before = {n: {k: copy.copy(v) for k, v in m.__dict__.items()} for n, m in model.named_modules()}
    weights = copy.deepcopy(model.state_dict())
    potential = model.get_submodule("layers.2").v.clone()  # type: ignore[operator]
    capture(model, x)
    assert all(torch.equal(weights[k], v) for k, v in model.state_dict().items())
    assert torch.equal(potential, model.get_submodule("layers.2").v)  # type: ignore[arg-type]
    for name, module in model.named_modules():
        assert list(module.__dict__) == list(before[name])
        for key, value in before[name].items():
            now = module.__dict__[key]
            same = (
                list(now) == list(value) and all(now[k] is value[k] for k in now)
                if isinstance(now, dict)
                else now == value
            )
            assert same, (name, key)
    assert type(model.training) is bool
    assert "apply" not in _SingleLevelFunction.__dict__


class Surrogate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return (x >= 0).to(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grads[0] / (1 + x.abs()) ** 2  # type: ignore[no-any-return]


spike = Surrogate.apply  # bound before any trace, as users do


class HandWritten(nn.Module):
    """A neuron without class: everything that plain fx gets wrong without saying so."""

    calls: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 8)
        self.bn = nn.BatchNorm1d(8)
        self.register_buffer("calls", torch.zeros(()))
        self.offset = torch.full((8,), 0.25)

    def forward(self, x: Tensor, state: Tensor | None = None) -> Tensor:
        num_steps, batch = x.shape[:2]
        self.calls.add_(1)
        mem = torch.zeros(batch, 8) if state is None else state
        out = x.new_zeros(num_steps, batch, 8)
        for t in range(num_steps):
            mem = 0.5 * mem + self.bn(self.fc(x[t])) + self.offset
            s = spike(mem - 0.5)  # type: ignore[no-untyped-call]
            mem = mem - s
            out[t] = F.dropout(s, 0.5, self.training)
        return out.mean(0)


def test_surrogate_gradient_survives() -> None:
    torch.manual_seed(0)
    model, x = HandWritten().eval(), torch.rand(3, 2, 8)
    captured = capture(model, x)
    assert any(isinstance(m, AutogradFunction) for m in captured.modules())
    expected, actual = gradients(model, x), gradients(captured, x)
    assert expected["fc.weight"].any()
    assert all(torch.equal(actual[k], expected[k]) for k in expected)


def test_batch_norm_and_buffers_are_not_touched_by_the_trace_but_by_the_graph() -> None:
    model, x = HandWritten().train(), torch.rand(3, 2, 8)
    captured = capture(model, x)
    assert int(model.bn.num_batches_tracked) == 0  # type: ignore[arg-type]
    assert float(model.calls) == 0
    captured(x)
    assert int(model.bn.num_batches_tracked) == 3  # type: ignore[arg-type]
    assert float(model.calls) == 1


def test_functional_dropout_follows_train_and_eval() -> None:
    model, x = HandWritten().eval(), torch.rand(3, 2, 8)
    captured = capture(model, x)
    for training in (True, False):
        assert_same(copy.deepcopy(model).train(training), captured.train(training), x)


def test_sizes_stay_symbolic() -> None:
    model = HandWritten().eval()
    captured = capture(model, torch.rand(3, 2, 8))
    assert_same(model, captured, torch.rand(3, 7, 8))


def test_optional_arguments_of_forward_are_no_inputs() -> None:
    captured = capture(HandWritten(), torch.rand(3, 2, 8))
    assert [n.name for n in captured.graph.find_nodes(op="placeholder")] == ["x"]


def test_constant_tensors_are_outside_the_state_dict_and_follow_dtype() -> None:
    model = HandWritten()
    captured = capture(model, torch.rand(3, 2, 8))
    assert captured.state_dict().keys() == model.state_dict().keys()
    assert captured.double().offset.dtype == torch.float64


def test_reset_inside_forward_is_part_of_the_graph() -> None:
    class Resets(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.spike = nn.Linear(8, 8), LIF(v_threshold=3.0, step_mode="s")

        def forward(self, x: Tensor) -> Tensor:
            self.spike.reset()
            return torch.stack([self.spike(x) for _ in range(3)]).sum(0)

    model, x = Resets(), torch.full((2, 8), 4.0)
    captured = capture(model, x)
    assert torch.equal(captured(x), captured(x))
    assert torch.equal(captured(x), model(x))


def test_captured_graph_copies_and_pickles() -> None:
    model = nn.Sequential(nn.Linear(8, 8), LIF(v_threshold=0.1))
    x = torch.rand(3, 2, 8)
    captured = capture(model, x)
    for twin in (copy.deepcopy(captured), pickle.loads(pickle.dumps(captured))):
        assert_same(model, twin, x)
        assert twin.get_parameter("0.weight") is not model[0].weight


def test_subclassed_layers_are_one_node() -> None:
    model, x = make("sequence-mean")
    captured = capture(model, x)
    called = [n.target for n in captured.graph.nodes if n.op == "call_module"]
    assert called == [f"layers.{i}" for i in range(11)]


def test_shape_without_example_shows_the_call() -> None:
    model, _ = make("each-step-range-shape")
    with pytest.raises(CaptureError, match=r"zoo.py:\d+ `.*range.*call transform\(model, example_inputs=x\)"):
        capture(model)


def test_branch_on_values_names_module_and_line() -> None:
    class Branch(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            if x.sum() > 0:
                return x
            return -x

    model = nn.Sequential(IF(), Branch())
    with pytest.raises(CaptureError, match=r"module '1' \(Branch\) at test_capture.py:\d+ `if x.sum\(\) > 0:`"):
        capture(model, torch.rand(3, 2, 8))


def test_example_that_does_not_fit_is_refused() -> None:
    model, _ = make("sequence-mean")
    with pytest.raises(CaptureError, match=r"module 'layers.0' .*expected input"):
        capture(model, torch.rand(4, 2, 3, 8, 8))


def test_state_in_a_python_attribute_is_refused() -> None:
    class Stateful(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mem: Any = 0.0

        def forward(self, x: Tensor) -> Tensor:
            self.mem = self.mem + x
            return self.mem  # type: ignore[no-any-return]

    model = nn.Sequential(Stateful())
    with pytest.raises(CaptureError, match="module '0' \\(Stateful\\) changes its attribute 'mem'"):
        capture(model, torch.rand(3, 2, 8))
    assert model[0].mem == 0.0


class Feedback(nn.Module):
    """Attributes that forward writes before it reads them: local variables in another place."""

    def __init__(self, *, resets: bool) -> None:
        super().__init__()
        self.fc, self.spike, self.resets = nn.Linear(8, 8), IF(v_threshold=0.3, step_mode="s"), resets
        self.last: Any = 0.0

    def forward(self, x: Tensor) -> Tensor:
        if self.resets:
            self.last = 0.0
        total: Any = 0.0
        for _ in range(3):
            self.last = self.spike(self.fc(x) + self.last)
            total = total + self.last
        return total  # type: ignore[no-any-return]


def test_attributes_that_are_written_first_are_no_state() -> None:
    model, x = Feedback(resets=True), torch.rand(2, 8)
    captured = capture(model, x)
    assert model.last == 0.0
    assert_same(model, captured, x)
    assert_same(model, captured, x)  # behind a call that left something in the attribute
    with pytest.raises(CaptureError, match="changes its attribute 'last'"):
        capture(Feedback(resets=False), x)


class MakesLayers(nn.Module):
    def __init__(self, made: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.fc, self.spike, self.made = nn.Linear(8, 8), IF(v_threshold=0.3), made

    def forward(self, x: Tensor) -> Tensor:
        return self.made()(self.spike(self.fc(x)))  # type: ignore[no-any-return]


class Halves(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 0.5


@pytest.mark.parametrize("made", [lambda: nn.AvgPool1d(2), lambda: nn.Sequential(nn.ReLU(), Halves(), nn.MaxPool1d(2))])
def test_layers_without_weights_may_be_made_in_forward(made: Callable[[], nn.Module]) -> None:
    model, x = MakesLayers(made), torch.rand(3, 2, 8)
    captured = capture(model, x)
    assert list(captured.state_dict()) == list(model.state_dict())
    assert_same(model, captured, x)


@pytest.mark.parametrize("made", [lambda: nn.Linear(8, 8), lambda: nn.Dropout(0.5), lambda: IF(v_threshold=0.3)])
def test_layers_that_keep_something_are_made_in_init(made: Callable[[], nn.Module]) -> None:
    with pytest.raises(
        CaptureError, match=f"forward makes a {type(made()).__name__} anew at each call; .* in __init__"
    ):
        capture(MakesLayers(made), torch.rand(3, 2, 8))


def test_values_of_a_maximum_and_transposed_tensors_go_into_functions() -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.spike = IF(v_threshold=0.3)

        def forward(self, x: Tensor) -> Tensor:
            x = self.spike(x)
            joined = torch.cat((x.mean(2, keepdim=True), x.max(dim=2, keepdim=True).values), dim=2)
            return joined @ torch.stack([x[0].mT for _ in range(joined.shape[0])])[..., :2, :]

    model, x = Attention(), torch.rand(3, 2, 2)
    assert_same(model, capture(model, x), x)


def test_single_neuron_is_refused() -> None:
    with pytest.raises(CaptureError, match=r"a single IF; .* wrap it in torch.nn.Sequential"):
        capture(IF(), torch.rand(3, 2, 8))


def test_number_of_example_inputs_is_checked() -> None:
    x = torch.rand(3, 2, 8)
    with pytest.raises(CaptureError, match="takes 1 to 2 inputs and example_inputs gives 3"):
        capture(HandWritten(), (x, x, x))


def test_unknown_stateful_modules_are_captured() -> None:
    model = nn.Sequential(
        layer.Linear(8, 8), layer.SynapseFilter(tau=2.0, step_mode="m"), node("KLIFNode", step_mode="m")
    )
    assert_same(model, capture(model, x := torch.rand(3, 2, 8)), x)
