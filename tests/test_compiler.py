"""The compiler's front door: options reach the learners, and what cannot be lowered is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from spikenm_compile import compile_model, fold, load, lower, transform
from spikenm_compile.errors import PassError, TargetError
from spikenm_compile.graph import format_graph
from spikenm_compile.learning import MaskOptions, Schedule, masked_layers
from spikenm_compile.training.digits import digits_net
from spikenm_compile.training.loop import reset_neurons


def test_total_steps_goes_before_the_schedule_of_the_options() -> None:
    model = digits_net()
    options = MaskOptions(schedule=Schedule(total_steps=7, eid=0.0), seed=3)
    transform(model, "1:4", total_steps=40, options=options, report=None)
    for _, _, learner in masked_layers(model):
        assert learner.options.schedule == Schedule(total_steps=40, eid=0.0)
        assert learner.options.seed == 3


def test_the_report_says_what_was_chosen_and_how_long_the_search_is() -> None:
    told: list[str] = []
    model = digits_net()
    assert transform(model, total_steps=10, report=told.append) is model
    assert "block2.conv" in told[0]
    assert "7 of 10 steps" in told[0]


def test_a_model_that_still_learns_is_not_lowered() -> None:
    model = digits_net()
    transform(model, report=None)
    with pytest.raises(PassError, match=r"'block2.conv' still learns its mask.*call fold"):
        lower(model, torch.rand(2, 1, 8, 8))


def test_an_unknown_target_is_named_before_any_work() -> None:
    with pytest.raises(TargetError, match="target 'fpga' is unknown; known are native, onnx"):
        compile_model(digits_net(), torch.rand(2, 1, 8, 8), "never", target="fpga")
    assert not Path("never").exists()


def test_lowering_leaves_the_model_as_it_is() -> None:
    model = digits_net().train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    lower(model, torch.rand(2, 1, 8, 8))
    assert model.training
    assert all(module.training for module in model.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_lowering_twice_gives_the_same_text() -> None:
    model, x = digits_net(), torch.rand(2, 1, 8, 8)
    assert format_graph(lower(model, x)) == format_graph(lower(model, x))


@pytest.mark.parametrize("target", ["native", "onnx"])
def test_the_artifact_of_a_folded_model_predicts_what_the_model_predicts(tmp_path: Path, target: str) -> None:
    model: nn.Module = digits_net()
    transform(model, "2:4", report=None)
    fold(model).eval()
    images = torch.rand(32, 1, 8, 8)
    reset_neurons(model)
    expected = model(images)
    actual = load(compile_model(model, images, tmp_path / "a", target=target).path).run(images.numpy())
    assert torch.from_numpy(actual).shape == expected.shape
    correlation = torch.corrcoef(torch.stack([torch.from_numpy(actual).flatten(), expected.detach().flatten()]))[0, 1]
    assert correlation > 0.95
