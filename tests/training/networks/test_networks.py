"""Every named network: it trains masks, computes the task's shape, and lowers, or says that it goes in float32."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
from torch import nn
from zoo import torchvision_stub

from spikenm_compile import fold, lower, transform
from spikenm_compile.errors import InputError, PassError, ToolError
from spikenm_compile.learning.attach import masked_layers
from spikenm_compile.neurons import IF, ParametricLIF
from spikenm_compile.pattern import Pattern
from spikenm_compile.planning import Request, capture_folded, make_plan
from spikenm_compile.training.loop import reset_neurons
from spikenm_compile.training.networks.blocks import CurrentBlock, SewBlock
from spikenm_compile.training.networks.table import NETWORKS, make_network
from spikenm_compile.training.networks.task import Task

IMAGES, EVENTS = Task((3, 32, 32), 10, 2, has_time=False), Task((2, 32, 32), 11, 2, has_time=True)
DIGITS, GESTURES = Task((1, 8, 8), 10, 2, has_time=False), Task((2, 32, 32), 8, 2, has_time=True)
SMALL_IMAGES, VECTORS = Task((3, 16, 16), 10, 2, has_time=False), Task((12,), 4, 3, has_time=True)

Case = tuple[str, Task, dict[str, Any], int]
"""Network, task, options, and layers that learn a mask."""

NATIVE: list[Case] = [
    ("digits", DIGITS, {}, 3),
    ("gestures", GESTURES, {}, 2),
    ("event-digits", Task((2, 16, 16), 10, 8, has_time=True), {"width": 8}, 3),
    ("mlp", VECTORS, {"hidden": [16, 16]}, 1),
    ("vgg11", IMAGES, {"width": 4}, 7),
    ("vgg16", EVENTS, {"width": 4, "neuron": "if"}, 12),
    ("vggsnn", EVENTS, {"width": 4}, 7),
    ("resnet18", IMAGES, {"width": 4}, 19),
    ("resnet18", IMAGES, {"width": 4, "stem": "imagenet", "join": "currents", "neuron": "plif"}, 19),
    ("resnet19", IMAGES, {"width": 2}, 18),
    ("resnet19", EVENTS, {"width": 2, "join": "currents", "hidden": 16}, 19),
    ("sew7b", EVENTS, {"width": 4}, 14),
    ("wide-sew7b", EVENTS, {"width": 4}, 15),
]
WITH_ATTENTION: list[Case] = [
    ("spikformer", SMALL_IMAGES, {"embed_dims": 32, "num_heads": 4, "depths": 1, "mlp_ratio": 2}, 8),
    ("spike-driven-transformer", SMALL_IMAGES, {"embed_dims": 32, "num_heads": 4, "depths": 1}, 10),
    ("qkformer", SMALL_IMAGES, {"embed_dims": 32, "num_heads": [1, 2, 4], "depths": [1, 1, 1]}, 21),
]


def trained(name: str, task: Task, options: dict[str, Any], maskable: int) -> tuple[nn.Module, torch.Tensor]:
    """The network with masks that were learned for one batch, folded; and an input."""
    torch.manual_seed(0)
    model, x = make_network(name, task, options), task.example(2)
    transform(model, "2:4", example_inputs=x, report=None)
    assert len(list(masked_layers(model))) == maskable
    logits = model.train()(x)
    assert logits.shape == (2, task.classes)
    logits.sum().backward()
    assert all(layer.weight.grad is not None for _, layer, _ in masked_layers(model))
    reset_neurons(model)
    return fold(model).eval(), x


@pytest.mark.parametrize("case", NATIVE, ids=lambda case: f"{case[0]} {case[2]}")
def test_a_network_lowers_to_whole_numbers(case: Case) -> None:
    model, x = trained(*case)
    graph = lower(model, x)
    assert sum(1 for node in graph.graph.nodes if node.op == "output") == 1


@pytest.mark.parametrize("case", WITH_ATTENTION, ids=lambda case: case[0])
def test_a_network_with_attention_is_planned_in_float32(case: Case) -> None:
    model, x = trained(*case)
    with pytest.raises(PassError, match="has no form in whole numbers"):
        lower(model, x)
    plan = make_plan(Request(capture_folded(model, x, lambda *_: None), x, Pattern(2, 4), "onnx"))
    assert plan.why is not None


@pytest.mark.parametrize("name", ["spikingjelly-vgg", "spikingjelly-resnet", "spikingjelly-sew-resnet"])
def test_networks_for_imagenet_come_from_spikingjelly(name: str) -> None:
    options = {"depth": 11} if name.endswith("vgg") else {}
    with torchvision_stub(), torch.device("meta"):
        model = make_network(name, IMAGES, options)
        with pytest.raises(InputError, match="depth"):
            make_network(name, IMAGES, {"depth": 12})
        with pytest.raises(InputError, match="takes images of 3 channels, and samples have 2"):
            make_network(name, EVENTS)
    assert sum(isinstance(module, nn.Conv2d) for module in model.modules()) in (8, 20)


def test_every_network_is_tested() -> None:
    tested = {case[0] for case in NATIVE + WITH_ATTENTION}
    assert NETWORKS.keys() - tested == {"spikingjelly-vgg", "spikingjelly-resnet", "spikingjelly-sew-resnet"}


def test_a_library_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "spikingjelly.activation_based.model.qkformer", None)
    with pytest.raises(ToolError, match=r"QKFormer cannot be imported here .*; install spikingjelly, or use"):
        make_network("qkformer", IMAGES)


def test_resnet19_has_the_widths_of_its_paper() -> None:
    with torch.device("meta"):
        model = make_network("resnet19", IMAGES, {"join": "currents", "hidden": 256})
    blocks = [module for module in model.modules() if isinstance(module, CurrentBlock)]
    assert [block.second.conv.out_channels for block in blocks] == [128] * 3 + [256] * 3 + [512] * 2
    assert [m.out_features for m in model.modules() if isinstance(m, nn.Linear)] == [256, 10]
    assert not [module for module in model.modules() if isinstance(module, SewBlock)]


def test_neurons_are_what_was_asked_for() -> None:
    assert any(isinstance(m, IF) for m in make_network("vgg11", IMAGES, {"width": 1, "neuron": "if"}).modules())
    model = make_network("mlp", VECTORS, {"neuron": "plif", "tau": 4})
    decays = [m.learned()["decay"] for m in model.modules() if isinstance(m, ParametricLIF)]
    assert [round(float(decay.detach()), 6) for decay in decays] == [0.25, 0.25]


@pytest.mark.parametrize(
    ("name", "task", "options", "message"),
    [
        ("vgg12", IMAGES, {}, "network 'vgg12' is unknown; did you mean 'vgg16'"),
        (
            "vgg11",
            IMAGES,
            {"widht": 3},
            "network 'vgg11' has no key 'widht'; did you mean 'width'\\?; it takes width, neu",
        ),
        ("vgg11", IMAGES, {"width": "wide"}, "width = 'wide' is not a whole number"),
        ("vgg11", IMAGES, {"neuron": "lef"}, "neuron 'lef' is unknown; use if, lif, plif"),
        ("vgg11", Task((3, 8, 8), 10, 2, has_time=False), {}, "halves an image 5 times, and 8 × 8 pixels are too few"),
        ("vgg11", VECTORS, {}, r"takes images \[C, H, W\], and samples are \[12\]"),
        ("resnet18", IMAGES, {"join": "AND"}, "join = 'AND' and stem = 'cifar'; join takes spikes, currents"),
        ("digits", IMAGES, {}, r"made for samples \[1, 8, 8\] without time and 10 classes"),
        ("digits", DIGITS, {"width": 3}, "network 'digits' has no key 'width'"),
    ],
)
def test_what_does_not_fit_is_one_sentence(name: str, task: Task, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        make_network(name, task, options)
    assert "\n" not in str(caught.value)


def test_a_task_has_sizes() -> None:
    with pytest.raises(InputError, match=r"samples \[3, 0, 8\], 10 classes and 4 time steps: every size must be 1 or"):
        Task((3, 0, 8), 10, 4, has_time=False)
    assert EVENTS.example(3).shape == (3, 2, 2, 32, 32)
    assert IMAGES.example(3).shape == (3, 3, 32, 32)
