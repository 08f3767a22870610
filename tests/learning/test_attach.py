import copy
from typing import Literal

import pytest
import torch
from torch import nn

from spikenm_compile.errors import PassError
from spikenm_compile.learning import attach_mask, detach_mask, learner_of, masked_layers
from spikenm_compile.learning.attach import masked_class
from spikenm_compile.pattern import Pattern

layer = pytest.importorskip("spikingjelly.activation_based.layer")
neuron = pytest.importorskip("spikingjelly.activation_based.neuron")
functional = pytest.importorskip("spikingjelly.activation_based.functional")


def test_the_layer_stays_itself_and_the_print_shows_the_pattern() -> None:
    conv = nn.Conv2d(8, 4, 3)
    weight = conv.weight
    learner = attach_mask(conv, Pattern(1, 8))
    assert conv.weight is weight
    assert isinstance(conv, nn.Conv2d)
    assert learner_of(conv) is learner
    assert "MaskedConv2d(\n  8, 4, kernel_size=(3, 3)" in repr(conv)
    assert "(mask): SpikeNM(1:8)" in repr(conv)
    assert masked_class(nn.Conv2d) is type(conv)


def test_detaching_gives_the_class_back() -> None:
    linear = nn.Linear(8, 4)
    attach_mask(linear, Pattern(1, 8))
    detach_mask(linear)
    assert type(linear) is nn.Linear
    assert list(linear.state_dict()) == ["weight", "bias"]


@pytest.mark.parametrize("padding_mode", ["zeros", "circular"])
def test_a_masked_convolution_is_the_convolution_of_the_masked_weight(
    padding_mode: Literal["zeros", "circular"],
) -> None:
    conv = nn.Conv2d(8, 6, 3, stride=2, padding=1, groups=2, padding_mode=padding_mode).eval()
    plain = copy.deepcopy(conv)
    learner = attach_mask(conv, Pattern(2, 4))
    with torch.no_grad():
        plain.weight.mul_(learner.harden(plain.weight))
    x = torch.rand(2, 8, 6, 6)
    assert torch.equal(conv(x), plain(x))


@pytest.mark.parametrize("dims", [1, 3])
def test_convolutions_over_lines_and_volumes_are_masked_too(dims: int) -> None:
    conv: nn.Module = {1: nn.Conv1d, 3: nn.Conv3d}[dims](8, 6, 3).eval()
    plain = copy.deepcopy(conv)
    learner = attach_mask(conv, Pattern(2, 4))
    x = torch.rand(2, 8, *(5,) * dims)
    assert not torch.equal(conv(x), plain(x))
    with torch.no_grad():
        plain.get_parameter("weight").mul_(learner.harden(plain.get_parameter("weight")))
    assert torch.equal(conv(x), plain(x))


def test_a_layer_with_its_own_mask_is_refused() -> None:
    linear = nn.Linear(8, 4)
    attach_mask(linear, Pattern(2, 4), name="fc")
    with pytest.raises(PassError, match="layer 'fc' has an attribute 'mask' already; fold"):
        attach_mask(linear, Pattern(2, 4), name="fc")


def test_layers_of_spikingjelly_keep_their_multi_step_forward_and_reset() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        layer.Conv2d(4, 8, 3, padding=1, step_mode="m"),
        neuron.IFNode(step_mode="m"),
        layer.Conv2d(8, 8, 3, padding=1, step_mode="m"),
        neuron.IFNode(step_mode="m"),
        layer.Flatten(step_mode="m"),
        layer.Linear(8 * 9, 8, step_mode="m"),
        neuron.IFNode(step_mode="m"),
    )
    attach_mask(net[2], Pattern(2, 4), name="2")
    attach_mask(net[5], Pattern(1, 8), name="5")
    assert isinstance(net[2], layer.Conv2d)
    assert [name for name, _, _ in masked_layers(net)] == ["2", "5"]
    with torch.no_grad():
        net[2].weight.mul_(8)  # so that spikes reach the last layer
    x = torch.rand(3, 2, 4, 3, 3, generator=torch.Generator().manual_seed(0)) * 4
    first = net(x)
    functional.reset_net(net)
    twin = copy.deepcopy(net)
    second = net(x)
    assert torch.equal(second, first)
    assert torch.equal(twin(x), first)
    second.sum().backward()
    gradient = net.get_parameter("5.weight").grad
    assert gradient is not None
    assert gradient.count_nonzero() > 0
