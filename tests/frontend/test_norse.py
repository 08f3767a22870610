from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import norse.torch as norse
import pytest
import torch
from frontend.norse_zoo import FAST, NUM_STEPS, ZOO, Mnist, cells, example, make
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from spikenm_compile.compiler import compile_model, fold, lift_model, transform
from spikenm_compile.errors import CaptureError, PassError
from spikenm_compile.frontend.capture import capture
from spikenm_compile.graph import PER_STEP, Role, placeholders, run_steps, spike_nodes, the_input, verify_graph
from spikenm_compile.learning.attach import masked_layers
from spikenm_compile.verification import verify


def main_output(result: Any) -> Tensor:
    first = result[0] if isinstance(result, tuple) else result
    assert isinstance(first, Tensor)
    return first


@torch.no_grad()
def two_calls(model: nn.Module, x: Tensor) -> list[Any]:
    return [leaf for _ in range(2) for leaf in pytree.tree_leaves(model(x))]


@pytest.mark.parametrize("name", ZOO)
def test_captured_equals_the_model(name: str) -> None:
    model, x = make(name)
    for training in (True, False):
        captured = capture(model.train(training), x)
        assert list(captured.state_dict()) == list(model.state_dict())
        for batch in (2, 5, 3):
            y = example(name, batch)
            expected, actual = two_calls(model, y), two_calls(captured, y)
            assert len(actual) == len(expected)
            for a, e in zip(actual, expected, strict=True):
                assert torch.equal(a, e) if isinstance(e, Tensor) else a is e
            assert expected[0].any()


def test_gradients_are_the_models() -> None:
    model, x = make("sequential-max")
    captured, found = capture(model, x), []
    for one in (model, captured):
        model.zero_grad()
        main_output(one(x)).square().sum().backward()  # type: ignore[no-untyped-call]
        found.append({key: p.grad.clone() for key, p in one.named_parameters() if p.grad is not None})
    assert any(g.any() for g in found[0].values())
    assert all(torch.equal(found[1][key], g) for key, g in found[0].items())


@torch.no_grad()
@pytest.mark.parametrize("name", ZOO)
def test_step_graph_equals_the_model(name: str) -> None:
    model, x = make(name)
    step_graph = lift_model(model.eval(), x)
    verify_graph(step_graph)
    assert the_input(step_graph).meta[PER_STEP] is ZOO[name][1]
    assert step_graph.meta["num_steps"] == NUM_STEPS
    for batch in (2, 3, 5):
        y = example(name, batch)
        expected, found = main_output(model(y)), run_steps(step_graph, y, NUM_STEPS)
        assert torch.equal(found.output, expected)
        assert expected.any()
        assert all(spikes.any() for spikes in found.spikes.values())


def test_states_are_explicit_and_not_an_output() -> None:
    model, x = make("sequential-last")
    step_graph = lift_model(model.eval(), x)
    assert isinstance(model(x)[1], list)
    assert len(placeholders(step_graph, Role.STATE)) == 2 + 3 + 2
    assert list(spike_nodes(step_graph))[:2] == ["net.1", "net.4"]


@torch.no_grad()
def test_a_lifted_sequence_is_right_for_other_numbers_of_steps() -> None:
    model, x = make("lifted-layers")
    step_graph = lift_model(model.eval(), x)
    y = example("lifted-layers", 2, 9)
    assert torch.equal(run_steps(step_graph, y).output, main_output(model(y)))


class Forgets(nn.Module):
    """Drops the state, hands in that of another neuron, or one it made up."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.form = form
        self.fc, self.one, self.other = nn.Linear(4, 4), norse.LIFCell(FAST), norse.LIFCell(FAST)

    def forward(self, x: Tensor) -> Tensor:
        first = second = None
        out = []
        for x_t in x:
            z, first = self.one(self.fc(x_t), None if self.form == "dropped" else first)
            z, second = self.other(z, first if self.form == "swapped" else second)
            if self.form == "changed":
                second = norse.LIFFeedForwardState(second.v * 0.5, second.i)
            out.append(z)
        return torch.stack(out)


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ("dropped", "neuron 'one' gets another 'v' at its call 1 than what its call 0 returned"),
        ("swapped", "neuron 'other' gets another 'v' at its call 0 than its first value 0"),
        ("changed", "neuron 'other' gets another 'v' at its call 1"),
    ],
)
def test_states_that_a_step_graph_does_not_hand_on_are_refused(form: str, message: str) -> None:
    with pytest.raises(CaptureError, match=message):
        lift_model(Forgets(form).eval(), torch.rand(3, 2, 4))


def test_writing_steps_out_of_order_is_refused() -> None:
    class Backwards(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.lif = nn.Linear(4, 4), norse.LIFCell()

        def forward(self, x: Tensor) -> Tensor:
            state, out = None, torch.zeros(3, x.shape[1], 4)
            for t in range(3):
                out[2 - t], state = self.lif(self.fc(x[t]), state)
            return out

    with pytest.raises(CaptureError, match=r"writing the value of each step t to out\[t\]"):
        lift_model(Backwards().eval(), torch.rand(3, 2, 4))


def test_transform_masks_the_layers_between_neurons() -> None:
    model, x = make("mnist-max")
    assert isinstance(model, Mnist)
    captured = [name for name, _, _ in masked_layers(transform(model, "2:4", example_inputs=x, report=None))]
    assert captured == ["conv2", "fc", "fc_out"]
    model(x).square().sum().backward()
    fold(model)
    assert int(model.fc_out.weight.count_nonzero()) <= model.fc_out.weight.numel() // 2


def test_an_exponential_is_lifted_and_has_no_artifact_in_whole_numbers(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = norse.Lift(norse.SequentialState(nn.Linear(8, 16), norse.LIFAdExCell(), nn.Linear(16, 4), norse.LIFCell()))
    x = torch.rand(NUM_STEPS, 2, 8) * 5
    assert torch.equal(run_steps(lift_model(model.eval(), x), x).output, model(x)[0])
    with pytest.raises(PassError, match="computes exp"):
        compile_model(model, x, tmp_path / "net", target="onnx", arithmetic="int8")
    artifact = compile_model(model, x, tmp_path / "net", target="onnx", report=None)
    assert artifact.manifest.code["kind"] == "onnx-step"
    assert verify(artifact.path)[0].passed


@pytest.mark.parametrize("target", ["native", "onnx"])
def test_artifact_computes_what_was_verified(target: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    layers = cells(norse.LICell())
    model = norse.Lift(norse.SequentialState(*layers)).eval()
    compile_model(copy.deepcopy(model), torch.rand(NUM_STEPS, 4, 1, 8, 8) * 4, tmp_path / "net", target=target)
    checks = verify(tmp_path / "net")
    assert len(checks) == 3
    assert all(check.passed for check in checks)
