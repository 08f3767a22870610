from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from frontend.given_forward import Net
from frontend.zoo import ZOO, JellyRepeated, JellySequence, JellySingleStep, example, make, spikingjelly_models
from spikingjelly.activation_based import base, functional, neuron, surrogate
from torch import Tensor, nn

from spikenm_compile.errors import CaptureError
from spikenm_compile.frontend.adapters import reset_states
from spikenm_compile.frontend.capture import capture
from spikenm_compile.frontend.lift import lift
from spikenm_compile.graph import (
    LAYER,
    PER_STEP,
    REGION,
    Region,
    Role,
    format_graph,
    initial_states,
    placeholders,
    run_steps,
    spike_nodes,
    the_input,
    verify_graph,
)
from spikenm_compile.neurons import IF, LIF


def lifted(model: nn.Module, x: Tensor) -> torch.fx.GraphModule:
    return lift(capture(model, x), x)


@torch.no_grad()
def outputs(model: nn.Module, step_graph: torch.fx.GraphModule, x: Tensor, num_steps: int) -> tuple[Tensor, Tensor]:
    functional.reset_net(model)
    expected: Tensor = model(x)
    functional.reset_net(model)
    return expected, run_steps(step_graph, x, num_steps).output


@pytest.mark.parametrize("name", ZOO)
def test_step_graph_equals_the_model_for_every_batch(name: str) -> None:
    model, x = make(name)
    step_graph = lifted(model.eval(), x)
    verify_graph(step_graph)
    assert the_input(step_graph).meta[PER_STEP] is ZOO[name][1]
    for batch in (2, 3, 5):  # one sample takes another matrix kernel in torch: equal up to rounding only
        expected, actual = outputs(model, step_graph, example(name, batch), step_graph.meta["num_steps"])
        assert actual.shape == expected.shape
        assert torch.equal(actual, expected)
        assert expected.any()


@pytest.mark.parametrize("num_steps", [1, 2, 8])
@pytest.mark.parametrize("readout", ["mean", "sum", "last", "max", "all"])
def test_step_graph_is_right_for_other_numbers_of_steps(readout: str, num_steps: int) -> None:
    model, x = make("repeated-repeat")
    assert isinstance(model, JellyRepeated)
    model.readout = readout
    step_graph = lifted(model.eval(), x)
    model.num_steps = num_steps
    expected, actual = outputs(model, step_graph, x, num_steps)
    assert torch.equal(actual, expected)


def test_loop_lifted_at_4_steps_runs_8() -> None:
    model, x = make("loop-plus-equals")
    assert isinstance(model, JellySingleStep)
    step_graph = lifted(model.eval(), x)
    model.num_steps = 8
    expected, actual = outputs(model, step_graph, x, 8)
    assert torch.equal(actual, expected)


def test_mean_over_many_steps_differs_from_torch_by_rounding_only() -> None:
    class Currents(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lif, self.fc = LIF(v_threshold=0.2), nn.Linear(8, 8)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.lif(x)).mean(0)  # type: ignore[no-any-return]

    torch.manual_seed(0)
    model, x = Currents().eval(), torch.rand(100, 2, 8)
    expected, actual = outputs(model, lifted(model, x), x, 100)
    torch.testing.assert_close(actual, expected, rtol=100 * 2**-24, atol=100 * 2**-24)


def test_every_form_of_one_network_lifts_to_the_same_steps() -> None:
    texts = {
        format_graph(lifted(m.eval(), x))
        for m, x in map(make, ("repeated-repeat", "repeated-stack", "repeated-expand"))
    }
    assert len(texts) == 1
    loop, x = make("loop-stack-mean")
    assert format_graph(lifted(loop.eval(), x)) in texts


def test_step_graph_names_the_users_layers() -> None:
    model, x = make("repeated-repeat")
    step_graph = lifted(model.eval(), x)
    assert list(spike_nodes(step_graph)) == ["layers.2", "layers.5", "layers.10"]
    named = [n.meta[LAYER] for n in step_graph.graph.nodes if n.op == "call_module"]
    assert named == [f"layers.{i}" for i in (0, 1, 2, 3, 4, 5, 6, 7, 9, 10)]  # 8 is dropout


def test_layers_are_plain_share_parameters_and_leave_the_model_alone() -> None:
    model, x = make("sequence-mean")
    assert isinstance(model, JellySequence)
    step_graph = lifted(model, x)
    plain = step_graph.get_submodule("layers_0")
    assert type(plain) is nn.Conv2d
    assert plain.weight is model.layers[0].weight
    assert not any(m.training for m in step_graph.modules() if m is not step_graph)
    assert model.training
    assert all(m.training for m in model.modules())
    plain.weight = nn.Parameter(torch.zeros(1))
    assert model.layers[0].weight.numel() > 1


def test_states_start_at_their_reset_potential() -> None:
    model, x = make("own-single-step")
    states = initial_states(lifted(model, x), 3)
    assert states["lif2_v"].shape == (3, 10)
    assert (states["lif2_v"] == torch.tensor(-0.1)).all()


def test_state_carries_on_between_calls() -> None:
    model, x = make("sequence-all")
    step_graph = lifted(model.eval(), x)
    first = run_steps(step_graph, x[:2])
    second = run_steps(step_graph, x[2:], states=first.states)
    whole = run_steps(step_graph, x)
    assert torch.equal(torch.cat([first.output, second.output]), whole.output)
    assert len(placeholders(step_graph, Role.STATE)) == 3


@pytest.mark.parametrize("form", ["sew_resnet18", "spiking_vgg11_bn"])
def test_models_of_spikingjelly(form: str) -> None:
    torch.manual_seed(0)
    options = {"surrogate_function": surrogate.ATan(), "detach_reset": True, "num_classes": 10, "v_threshold": 0.1}
    with spikingjelly_models() as models:
        if form == "sew_resnet18":
            model = models.sew_resnet.sew_resnet18(cnf="ADD", spiking_neuron=neuron.IFNode, **options)
        else:
            model = models.spiking_vgg.spiking_vgg11_bn(spiking_neuron=neuron.LIFNode, **options)
    functional.set_step_mode(model, "m")
    x = torch.rand(2, 2, 3, 32, 32) * 3
    with torch.no_grad():
        model(x)
    step_graph = lifted(model.eval(), x)
    expected, actual = outputs(model, step_graph, x, 2)
    assert torch.equal(actual, expected)
    assert sum(bool(s.any()) for s in run_steps(step_graph, x).spikes.values()) > 4


def single() -> IF:
    return IF(step_mode="s")


def head_after_the_last_step(net: Any, x: Tensor) -> Tensor:
    for _ in range(3):
        s = net.spike(net.fc(x))
    return net.head(s)  # type: ignore[no-any-return]


def changed_in_place(net: Any, x: Tensor) -> Tensor:
    h = net.fc(x)
    h.add_(0.5)
    return net.spikes(h).mean(0)  # type: ignore[no-any-return]


@pytest.mark.parametrize("forward", [head_after_the_last_step, changed_in_place])
def test_readout_layers_and_in_place_arithmetic(forward: Callable[[Any, Tensor], object]) -> None:
    options = {"v_threshold": 0.3}
    model = Net(
        forward, fc=nn.Linear(8, 8), head=nn.Linear(8, 4), spike=IF(step_mode="s", **options), spikes=IF(**options)
    )
    x = torch.rand(3, 2, 8) if forward is changed_in_place else torch.rand(2, 8)
    step_graph = lifted(model, x)
    reset_states(model)
    expected = model(x)
    assert torch.equal(run_steps(step_graph, x, 3).output, expected)
    if forward is head_after_the_last_step:
        result_node = next(n for n in step_graph.graph.nodes if n.meta.get(LAYER) == "head")
        assert result_node.meta[REGION] is Region.AFTER


@torch.no_grad()
def test_nothing_beside_the_output_is_no_output() -> None:
    model, x = Net(lambda n, x: (n.spikes(n.fc(x)).mean(0), None), fc=nn.Linear(8, 8), spikes=IF()), torch.rand(3, 2, 8)
    step_graph = lifted(model, x)
    reset_states(model)
    assert torch.equal(run_steps(step_graph, x).output, model(x)[0])


def changing_loop(net: Any, x: Tensor) -> Tensor:
    out: Any = 0
    for t in range(4):
        out = out + net.spike(net.fc(x) * (2.0 if t == 1 else 1.0))
    return out  # type: ignore[no-any-return]


def changing_step(net: Any, x: Tensor) -> Tensor:
    return torch.stack([net.spike(net.fc(x[t] * 2.0 if t == 1 else x[t])) for t in range(3)]).mean(0)


def reset_in_loop(net: Any, x: Tensor) -> Tensor:
    outs = []
    for _ in range(3):
        outs.append(net.spike(net.fc(x)))
        net.spike.reset()
    return torch.stack(outs).mean(0)


def skipped_step(net: Any, x: Tensor) -> Tensor:
    outs = [net.spike(net.fc(x)) for _ in range(4)]
    return torch.stack([outs[0], outs[2]]).mean(0)


def unequal_calls(net: Any, x: Tensor) -> Tensor:
    return net.spike(net.fc(x)) + net.spike(net.fc(x)) + net.other(net.fc(x))  # type: ignore[no-any-return]


class Trace(base.MemoryModule):  # type: ignore[misc]
    """A stateful layer of a user."""

    def __init__(self) -> None:
        super().__init__()
        self.register_memory("trace", 0.0)

    def forward(self, x: Tensor) -> Tensor:
        self.trace: Any = self.trace + x
        return self.trace  # type: ignore[no-any-return]


FC = nn.Linear(8, 8)


def norm_of_each_step(net: Any, x: Tensor) -> Tensor:
    return torch.stack([net.spike(net.norms[t](net.fc(x[t]))) for t in range(3)])


REFUSED: dict[str, tuple[nn.Module, str]] = {
    "changing loop": (Net(changing_loop, fc=FC, spike=single()), "gets 'mul_1' at step 1 and 'mul' at step 0"),
    "changing step": (Net(changing_step, fc=FC, spike=single()), "step 1 computes 'mul', which step 0 does not"),
    "reset in loop": (
        Net(reset_in_loop, fc=FC, spike=single()),
        "neuron 'spike' is reset between its time steps 0 and 1",
    ),
    "skipped step": (Net(skipped_step, fc=FC, spike=single()), "stack puts 2 different values"),
    "unequal calls": (
        Net(unequal_calls, fc=FC, spike=single(), other=single()),
        "'spike' is called 2 times and 'other' 1",
    ),
    "no neuron": (nn.Sequential(nn.Linear(8, 8), nn.Identity()), "no spiking neuron"),
    "unknown layer": (nn.Sequential(nn.Linear(8, 8), nn.LPPool1d(2, 2), IF()), "layer '1' is a LPPool1d"),
    "PSN": (
        nn.Sequential(nn.Linear(8, 8), neuron.PSN(4)),
        "layer '1': SpikingJelly's PSN has no canonical neuron: it multiplies the whole sequence",
    ),
    "reused neuron": (Net(lambda n, x: n.s(n.s(x)), s=IF()), "neuron 's' is called twice"),
    "two outputs": (Net(lambda n, x: (n.s(x), x), s=IF()), "forward returns a tuple"),
    "cumulative sum": (Net(lambda n, x: n.s(x.cumsum(-1)), s=IF()), "operation 'cumsum' has no form"),
    "mean over samples": (Net(lambda n, x: n.s(x).mean(1), s=IF()), "mean over dimension 1"),
    "mean over steps and channels": (Net(lambda n, x: n.s(x).mean((0, 2)), s=IF()), r"mean over dimension \(0, 2\)"),
    "step of a step": (
        nn.Sequential(nn.Linear(8, 8), single(), IF()),
        "multi-step neuron '2' gets the value of step 0",
    ),
    "stateful layer": (
        nn.Sequential(Trace(), IF()),
        "'0' \\(Trace\\) keeps a state",
    ),
    "a norm of each step": (
        Net(norm_of_each_step, fc=FC, norms=nn.ModuleList(nn.BatchNorm1d(8) for _ in range(3)), spike=single()),
        r"'norms\.1' \(BatchNorm1d\) normalises one time step, and others have norms of their own \(BNTT\)",
    ),
    "partial sum": (
        Net(lambda n, x: n.b(n.a(x[0]) + n.a(x[1])) + n.a(x[2]), a=single(), b=single()),
        "called 3 times and 'b' 1",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusal_says_what_and_where(name: str) -> None:
    model, message = REFUSED[name]
    x = torch.rand(3, 2, 8)
    captured = capture(model, x)
    with pytest.raises(CaptureError, match=message):
        lift(captured, x)


def test_two_inputs_are_refused() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.spike = IF()

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return self.spike(x + y)  # type: ignore[no-any-return]

    x = torch.rand(3, 2, 8)
    with pytest.raises(CaptureError, match="2 inputs; a step graph has one"):
        lift(capture(Two(), (x, x)), x)


def test_wrong_example_is_refused() -> None:
    model, _ = make("sequence-mean")
    captured = capture(model)
    with pytest.raises(CaptureError, match=r"'layers\.0' does not accept its input"):
        lift(captured, torch.rand(4, 2, 3, 8, 8))


def test_computed_weight_is_refused() -> None:
    model = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(8, 8)), IF())
    x = torch.rand(3, 2, 8)
    with pytest.raises(CaptureError, match=r"layer '0': .* computes its weight"):
        lift(capture(model, x), x)


class Rates(nn.Module):
    """Divides by the number of steps or samples, in a loop over time or behind it."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.form, self.lif = form, LIF(step_mode="s")

    def forward(self, x: Tensor) -> Tensor:
        total, steps = torch.zeros_like(x[0]), x.shape[0]
        for t in range(steps):
            spikes = self.lif(x[t])
            if self.form == "in the loop":
                spikes = spikes / steps
            elif self.form == "by a share":
                spikes = spikes * (1.0 / x.size(0))
            elif self.form == "of samples":
                spikes = spikes / x.shape[1]
            elif self.form == "of pixels":
                spikes = spikes / x.shape[2]
            total = total + spikes
        return total / steps if self.form == "behind" else total


@pytest.mark.parametrize("form", ["behind", "of pixels"])
def test_sizes_that_every_input_has_may_be_divided_by(form: str) -> None:
    model, x = Rates(form).eval(), torch.rand(3, 2, 5) * 3
    step_graph = lift(capture(model, x), x)
    other = torch.rand(6, 4, 5) * 3
    reset_states(model)
    assert torch.equal(run_steps(step_graph, other).output, model(other))


@pytest.mark.parametrize("form", ["in the loop", "by a share", "of samples"])
def test_arithmetic_with_the_examples_own_sizes_is_refused(form: str) -> None:
    model, x = Rates(form).eval(), torch.rand(3, 2, 5)
    with pytest.raises(CaptureError, match=r"Rates at test_lift.py:\d+ .* take that of the example .* after the loop"):
        lift(capture(model, x), x)
