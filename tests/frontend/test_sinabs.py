from __future__ import annotations

from pathlib import Path

import pytest
import sinabs
import sinabs.layers as sl
import torch
from frontend.sinabs_zoo import (
    BATCH,
    NUM_STEPS,
    ZOO,
    dense,
    in_steps,
    laid_out,
    make,
    squeezed,
    steps_of,
)
from torch import Tensor, nn

from spikenm_compile.compiler import compile_model, fold, lift_model, transform
from spikenm_compile.errors import CaptureError
from spikenm_compile.frontend.capture import capture
from spikenm_compile.frontend.readings import flat_batch, steps_first
from spikenm_compile.frontend.values import Layout
from spikenm_compile.graph import PER_STEP, Role, placeholders, run_steps, the_input, verify_graph
from spikenm_compile.learning.attach import masked_layers
from spikenm_compile.proof import prove
from spikenm_compile.verification import verify


@torch.no_grad()
def three_calls(model: nn.Module, x: Tensor) -> list[Tensor]:
    """From reset states, without a reset, and after one."""
    model(x)  # sinabs draws random numbers when the batch changes, and dropout needs the same ones
    results = []
    for should_reset in (True, False, True):
        if should_reset:
            sinabs.reset_states(model)
        torch.manual_seed(1)
        results.append(model(x))
    return results


@pytest.mark.parametrize("name", ZOO)
def test_captured_equals_the_model(name: str) -> None:
    model, x = make(name)
    for training in (True, False):
        captured = capture(model.train(training), x)
        assert list(captured.state_dict()) == list(model.state_dict())
        for batch in (2, 2, 2) if ZOO[name][2] else (2, 5, 3):
            y = laid_out(name, steps_of(name, batch))
            expected, actual = three_calls(model, y), three_calls(captured, y)
            assert all(torch.equal(a, e) for a, e in zip(actual, expected, strict=True))
            assert expected[0].any()
            resets_itself = name.startswith("unsqueezed")
            assert torch.equal(expected[0], expected[1]) is resets_itself


def test_gradients_are_the_models() -> None:
    model, x = make("unsqueezed-sum")
    captured, found = capture(model.eval(), x), []
    for one in (model, captured):
        sinabs.reset_states(one)
        model.zero_grad()
        one(x).square().sum().backward()
        found.append({key: p.grad.clone() for key, p in one.named_parameters() if p.grad is not None})
    assert any(g.any() for g in found[0].values())
    assert all(torch.equal(found[1][key], g) for key, g in found[0].items())


def test_capture_leaves_states_and_methods_alone() -> None:
    model, x = make("squeezed-batch")
    model(x)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    capture(model, x)
    assert all(torch.equal(model.state_dict()[name], value) for name, value in before.items())
    assert not any("reset_states" in module.__dict__ for module in model.modules())


@torch.no_grad()
@pytest.mark.parametrize("name", ZOO)
def test_step_graph_equals_the_model(name: str) -> None:
    model, x = make(name)
    step_graph = lift_model(model.eval(), x)
    verify_graph(step_graph)
    assert the_input(step_graph).meta[PER_STEP] is (ZOO[name][1] != "static")
    assert step_graph.meta["num_steps"] == NUM_STEPS
    for batch in (2,) if ZOO[name][2] else (2, 3, 5):
        y = steps_of(name, batch)
        sinabs.reset_states(model)
        expected = in_steps(name, model(laid_out(name, y)), batch)
        found = run_steps(step_graph, y, NUM_STEPS)
        assert torch.equal(found.output, expected)
        assert expected.any()
        assert all(spikes.any() for spikes in found.spikes.values())


def test_states_are_explicit() -> None:
    model, x = make("dense")
    names = [node.name for node in placeholders(lift_model(model.eval(), x), Role.STATE)]
    assert names == ["_2_v", "_2_i", "_4_v", "_4_b", "_6_v"]


def test_layers_that_split_time_differently_are_refused() -> None:
    model = nn.Sequential(nn.Linear(4, 4), sl.IAFSqueeze(batch_size=2), nn.Linear(4, 4), sl.IAFSqueeze(batch_size=3))
    with pytest.raises(CaptureError, match=r"'3' splits 12 samples with batch_size=3.*they are 2 times 6 steps"):
        lift_model(model.eval(), torch.rand(12, 4))


def test_a_layout_that_a_neuron_does_not_take_is_refused() -> None:
    class Flattened(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.iaf = nn.Linear(4, 4), sl.IAFSqueeze(batch_size=2)

        def forward(self, x: Tensor) -> Tensor:
            return self.iaf(self.fc(x).transpose(0, 1).flatten(0, 1))  # type: ignore[no-any-return]

    with pytest.raises(CaptureError, match=r"'iaf' gets a sequence flattened.*it takes a .* \[B\*T, ...\]"):
        lift_model(Flattened().eval(), torch.rand(2, 6, 4))


def test_random_states_in_forward_are_refused() -> None:
    class Random(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.iaf = nn.Linear(4, 4), sl.IAF()

        def forward(self, x: Tensor) -> Tensor:
            self.iaf.reset_states(randomize=True)
            return self.iaf(self.fc(x))  # type: ignore[no-any-return]

    with pytest.raises(CaptureError, match="a reset to zero is supported"):
        capture(Random(), torch.rand(2, 3, 4))


def test_transform_masks_the_layers_between_neurons() -> None:
    model, x = make("squeezed-batch")
    linear = model.get_submodule("7")
    assert isinstance(linear, nn.Linear)
    found = [name for name, _, _ in masked_layers(transform(model, "2:4", example_inputs=x, report=None))]
    assert found == ["3", "7"]
    model(x).square().sum().backward()
    fold(model)
    assert int(linear.weight.count_nonzero()) <= 160


@pytest.mark.parametrize("target", ["native", "onnx"])
@pytest.mark.parametrize("form", ["squeezed", "dense"])
def test_artifact_computes_what_was_verified(form: str, target: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = squeezed(batch_size=BATCH) if form == "squeezed" else dense()
    x = torch.rand(BATCH, NUM_STEPS, 1, 8, 8) * 3
    compile_model(model.eval(), x.flatten(0, 1) if form == "squeezed" else x, tmp_path / "net", target=target)
    checks = verify(tmp_path / "net")
    assert len(checks) == 3
    assert all(check.passed for check in checks)


FACTORY = """
import torch
from frontend.sinabs_zoo import make

def network():
    return make("squeezed-batch")
"""


def test_proof_against_the_float_model_takes_its_layout(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(FACTORY)
    model, x = make("squeezed-batch")
    compile_model(model.eval(), x, tmp_path / "net", target="onnx")
    proof = prove(tmp_path / "net", f"{tmp_path / 'net.py'}:network", None, digits=False, seed=0)
    assert proof.passed
    rows = [line.split() for line in proof.text.splitlines()]
    slots = {row[0]: int(row[1]) for row in rows if row and row[0] in ("1", "4", "8")}
    assert slots == {"1": NUM_STEPS * BATCH * 512, "4": NUM_STEPS * BATCH * 32, "8": NUM_STEPS * BATCH * 10}


def test_inputs_are_put_into_steps() -> None:
    x = torch.rand(3, 2, 4)
    assert steps_first(None, x) is x
    assert steps_first(Layout(), x) is x
    assert torch.equal(steps_first(Layout(dim=1), x.transpose(0, 1)), x)
    assert torch.equal(steps_first(Layout(dim=1, is_flat=True, length=3), x.transpose(0, 1).flatten(0, 1)), x)


@pytest.mark.parametrize(
    ("batch", "length", "size", "expected"),
    [(2, None, 12, 2), (None, 4, 12, 3), (2, 6, 12, 2), (2, 5, 12, None), (5, None, 12, None), (None, 5, 12, None)],
)
def test_batch_of_a_flat_dimension(batch: int | None, length: int | None, size: int, expected: int | None) -> None:
    assert flat_batch(Layout(dim=1, is_flat=True, batch=batch, length=length), size) == expected
