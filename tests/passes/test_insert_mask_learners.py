from collections.abc import Callable
from typing import Any

import norse.torch as norse
import pytest
import sinabs.layers as sl
import snntorch as snn
import torch
from spikingjelly.activation_based import layer, neuron
from torch import Tensor, nn

from spikenm_compile.errors import InputError, PassError, PatternError
from spikenm_compile.frontend.capture import capture
from spikenm_compile.learning import MaskLearner, MaskOptions, Schedule, masked_layers
from spikenm_compile.neurons import IF, LIF
from spikenm_compile.passes.insert_mask_learners import InsertMaskLearners
from spikenm_compile.pattern import Pattern

TWO_OF_FOUR = Pattern(2, 4)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(8, 16, 3, padding=1)
        self.lif1 = LIF(step_mode="s")
        self.conv2 = nn.Conv2d(16, 17, 3, padding=1)
        self.lif2 = IF(step_mode="s")
        self.conv3 = nn.Conv2d(17, 16, 3, padding=1)
        self.side = nn.Conv2d(16, 16, 1)
        self.lif3 = LIF(step_mode="s")
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.lif4 = LIF(step_mode="s")
        self.fc = nn.Linear(16, 8)

    def forward(self, x: Tensor) -> Tensor:
        s1 = self.lif1(self.conv1(x))
        s2 = self.lif2(self.conv2(s1))
        s3 = self.lif3(self.conv3(s2) + self.side(s1))
        s4 = self.lif4(self.depthwise(s3))
        output: Tensor = self.fc(s4.mean((2, 3)))
        return output


def test_each_layer_is_chosen_or_left_dense_with_its_reason() -> None:
    choices = InsertMaskLearners(TWO_OF_FOUR).choose(capture(Net()))
    assert [(c.layer, c.kind, c.pattern, c.why) for c in choices] == [
        ("conv1", "Conv2d", None, "first layer: sees the input, not spikes"),
        ("conv2", "Conv2d", TWO_OF_FOUR, "between spiking neurons"),
        ("conv3", "Conv2d", None, "17 input channels do not split into groups of 4"),
        ("side", "Conv2d", TWO_OF_FOUR, "between spiking neurons"),
        (
            "depthwise",
            "Conv2d",
            None,
            "grouped convolution with 1 channels per group does not split into groups of 4",
        ),
        ("fc", "Linear", None, "classifier: no neuron behind it"),
    ]
    assert choices[1].shape == (17, 16, 3, 3)
    assert (choices[1].weights, choices[1].kept) == (17 * 16 * 9, 17 * 8 * 9)


def test_the_users_model_changes_in_place_and_a_second_run_changes_nothing() -> None:
    model = Net()
    layers, keys, graph_module = dict(model.named_modules()), list(model.state_dict()), capture(model)
    nodes = str(graph_module.graph)
    insert = InsertMaskLearners(TWO_OF_FOUR)
    assert insert.apply(graph_module)
    assert str(graph_module.graph) == nodes
    assert all(model.get_submodule(name) is layer for name, layer in layers.items() if name)
    assert [key for key in model.state_dict() if ".mask." not in key] == keys
    assert [name for name, _, _ in masked_layers(model)] == ["conv2", "side"]
    assert insert.apply(graph_module) is False


def test_layers_override_in_both_directions() -> None:
    model = Net()
    overrides = {"conv2": "1:8", "side": None, "conv1": Pattern(1, 4), "fc": "4:16"}
    InsertMaskLearners(TWO_OF_FOUR, layers=overrides).apply(capture(model))
    found = {name: str(learner.pattern) for name, _, learner in masked_layers(model)}
    assert found == {"conv1": "1:4", "conv2": "1:8", "fc": "4:16"}


def test_the_options_reach_the_learners() -> None:
    model, options = Net(), MaskOptions(Schedule(total_steps=7))
    InsertMaskLearners(TWO_OF_FOUR, options).apply(capture(model))
    learners = [m for m in model.modules() if isinstance(m, MaskLearner)]
    assert [(m.options, m.layer) for m in learners] == [(options, "conv2"), (options, "side")]


def test_a_weight_that_two_layers_share_is_masked_once() -> None:
    model = nn.Sequential(IF(), nn.Linear(8, 8), IF(), nn.Linear(8, 8), IF())
    model[3].weight = model[1].weight
    choices = InsertMaskLearners(TWO_OF_FOUR).choose(capture(model))
    assert [(c.layer, c.why) for c in choices] == [
        ("1", "between spiking neurons"),
        ("3", "shares its weight with layer '1'"),
    ]


def test_a_layer_that_is_called_twice_has_one_mask() -> None:
    linear = nn.Linear(8, 8)
    model = nn.Sequential(linear, IF(), linear, IF())
    choices = InsertMaskLearners(TWO_OF_FOUR).choose(capture(model))
    assert [(c.layer, c.pattern) for c in choices] == [("0", TWO_OF_FOUR)]


@pytest.mark.parametrize(
    ("layers", "error", "text"),
    [
        (
            {"conv9": "2:4"},
            InputError,
            "layers names 'conv9', which is not .*; it has conv1, conv2, conv3",
        ),
        ({"conv3": "1:8"}, PatternError, "layer 'conv3' cannot hold 1:8: 17 input channels do not split"),
        ({"conv2": "5:4"}, PatternError, "pattern '5:4'"),
        ({"conv2": None, "side": None}, PatternError, "no layer can learn 2:4 masks .'conv1': first layer.*name one"),
    ],
)
def test_errors_of_a_choice(layers: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        InsertMaskLearners(TWO_OF_FOUR, layers=layers).choose(capture(Net()))


def test_another_pattern_on_a_transformed_model_is_refused() -> None:
    model = Net()
    InsertMaskLearners(TWO_OF_FOUR).apply(capture(model))
    with pytest.raises(
        PassError, match=r"layer 'conv2' learns a 2:4 mask already.*fold it before transforming it again"
    ):
        InsertMaskLearners(Pattern(1, 8)).apply(capture(model))


def test_a_model_without_neurons_has_nothing_to_prune() -> None:
    with pytest.raises(PatternError, match=r"no layer can learn 2:4 masks .'0': first layer"):
        InsertMaskLearners(TWO_OF_FOUR).choose(capture(nn.Sequential(nn.Linear(8, 8))))
    with pytest.raises(PatternError, match="no convolution or Linear at all"):
        InsertMaskLearners(TWO_OF_FOUR).choose(capture(nn.Sequential(IF())))


def test_gradients_reach_the_logits_through_the_neurons() -> None:
    model = Net()
    InsertMaskLearners(TWO_OF_FOUR).apply(capture(model))
    torch.manual_seed(0)
    model(torch.rand(2, 8, 4, 4) * 4).square().sum().backward()
    assert all(p.grad is not None for _, _, learner in masked_layers(model) for p in learner.parameters())
    assert len(list(masked_layers(model))) == 2


RECURRENT: dict[str, tuple[Callable[[], nn.Module], str | None]] = {
    "front.recurrent": (lambda: snn.RLeaky(beta=0.9, linear_features=16, init_hidden=True), None),
    "front.rc": (lambda: layer.LinearRecurrentContainer(neuron.LIFNode(), 16, 16, step_mode="m"), None),
    "front.recurrent_weights": (lambda: norse.LIFRecurrent(16, 16), "its weights are parameters of the neuron"),
    "front.rec_connect": (lambda: sl.LIFRecurrent(5.0, nn.Linear(16, 16)), "sinabs takes every buffer"),
}


@pytest.mark.parametrize("name", RECURRENT)
def test_layers_that_feed_spikes_back(name: str) -> None:
    make, problem = RECURRENT[name]
    model = Recurrent(make())
    insert = InsertMaskLearners(Pattern(2, 4))
    choices = {c.layer: c for c in insert.choose(capture(model, torch.rand(3, 2, 16)))}
    assert choices["fc"].pattern == Pattern(2, 4)
    assert choices[name].pattern == (Pattern(2, 4) if problem is None else None)
    insert.apply(capture(model, torch.rand(3, 2, 16)))
    assert (name in [masked for masked, _, _ in masked_layers(model)]) == (problem is None)
    if problem is not None:
        assert problem in choices[name].why
        asked = InsertMaskLearners(Pattern(2, 4), layers={name: "2:4"})
        with pytest.raises(PatternError, match=rf"layer '{name}' cannot hold 2:4: not maskable: {problem}"):
            asked.choose(capture(Recurrent(make()), torch.rand(3, 2, 16)))


class Recurrent(nn.Module):
    """A recurrent layer, called as its library wants it, and a layer and a neuron behind it."""

    def __init__(self, front: nn.Module) -> None:
        super().__init__()
        self.front, self.fc, self.lif = front, nn.Linear(16, 8), LIF()

    def forward(self, x: Tensor) -> Tensor:
        self.lif.reset()
        if isinstance(self.front, snn.RLeaky):
            spikes = torch.stack([self.front(x_t) for x_t in x])
        else:
            found = self.front(x)
            spikes = found[0] if isinstance(self.front, norse.LIFRecurrent) else found
        out: Tensor = self.lif(self.fc(spikes))
        return out
