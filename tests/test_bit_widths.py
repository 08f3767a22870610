"""What the weights of a model lose as whole numbers, and that nothing is left of measuring it."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from spikenm_compile import bit_width_report, fold, lower, transform
from spikenm_compile.cli import main
from spikenm_compile.errors import InputError, PassError
from spikenm_compile.ops import IntConv2d
from spikenm_compile.training.digits import DigitsNet, digits_net
from spikenm_compile.training.evaluation import reset_neurons
from spikenm_compile.weight_types import round_weight

X = torch.rand(48, 1, 8, 8, generator=torch.Generator().manual_seed(0))
LAYERS = ["block1.conv", "block2.conv", "block3.conv", "block4.conv", "classifier"]


def network() -> DigitsNet:
    torch.manual_seed(0)
    return digits_net().train()


def logits(model: DigitsNet) -> Tensor:
    reset_neurons(model)
    with torch.no_grad():
        found: Tensor = model.eval()(X)
    return found


def batches(model: DigitsNet) -> list[tuple[Tensor, Tensor]]:
    labels = logits(model).argmax(-1)
    model.train()
    return [(X[:32], labels[:32]), (X[32:], labels[32:])]


def test_the_figures_are_those_of_rounding_by_hand_and_the_model_is_left_as_it_was() -> None:
    model = network()
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    report = bit_width_report(model, batches(model))
    assert model.training
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert [layer.layer for layer in report.layers] == LAYERS
    assert list(report.layers[0].increase) == ["int8"]
    labels = logits(model).argmax(-1)
    floats = float(F.cross_entropy(logits(model), labels))
    assert report.whole["float32"].loss == pytest.approx(floats, rel=1e-5)
    assert report.whole["float32"].accuracy == 1.0
    with torch.no_grad():
        model.block3.conv.weight.copy_(round_weight(model.block3.conv.weight, "int4"))
    alone = float(F.cross_entropy(logits(model), labels)) - floats
    assert report.layers[2].increase["int4"] == pytest.approx(alone, abs=1e-5)
    for name in ("block2.conv", "block4.conv", "classifier"):
        weight = model.get_submodule(name).get_parameter("weight")
        weight.data.copy_(round_weight(weight, "int4"))
    model.block1.conv.weight.data.copy_(round_weight(model.block1.conv.weight, "int8"))
    assert report.whole["int4"].loss == pytest.approx(float(F.cross_entropy(logits(model), labels)), rel=1e-5)


def test_types_are_chosen_within_the_tolerance_and_are_deployed() -> None:
    model = network()
    generous = bit_width_report(model, batches(model), tolerance=100.0)
    assert generous.weight_types == {**dict.fromkeys(LAYERS, "int4"), "block1.conv": "int8"}
    assert generous.whole["chosen"] == generous.whole["int4"]
    report = bit_width_report(model, batches(model), tolerance=0.0)
    for layer in report.layers:
        within = [kind for kind, increase in layer.increase.items() if increase <= 0.0]
        assert layer.chosen == next(iter(within), "int8")
    generous.round_weights(model)
    largest = {m.layer: int(m.weight.abs().max()) for m in lower(model.eval(), X).modules() if isinstance(m, IntConv2d)}
    assert largest == {name: 127 if name == "block1.conv" else 7 for name in LAYERS}


def test_a_model_that_was_trained_in_whole_numbers_loses_nothing() -> None:
    model = network()
    transform(model, "2:4", weight_type="int4", report=None)
    with pytest.raises(PassError, match=r"'block1.conv' is still learning; folded models are measured: call fold"):
        bit_width_report(model, [(X, torch.zeros(48, dtype=torch.int64))])
    fold(model)
    report = bit_width_report(model, batches(model), tolerance=0.0)
    assert report.whole["int4"] == report.whole["float32"]
    assert report.weight_types == {**dict.fromkeys(LAYERS, "int4"), "block1.conv": "int8"}


def test_what_cannot_be_measured() -> None:
    with pytest.raises(InputError, match=r"0 calibration batches and tolerance=0.01 were given; at least one"):
        bit_width_report(network(), [])


def test_the_command_prints_both_tables(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bits"]) == 0
    told = capsys.readouterr().out
    assert "float32" in told
    assert "block3.conv" in told
    assert "accuracy: agreement with float32 on 32 example inputs" in told
