"""Activations computed again: the same gradients, bit for bit, from less memory, and no trace in the model."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import snntorch as snn
import torch
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import Tensor, nn

from spikenm_compile import transform
from spikenm_compile.neurons import LIF
from spikenm_compile.training.digits import digits_net, load_digits
from spikenm_compile.training.evaluation import reset_neurons
from spikenm_compile.training.memory import MEMORY
from spikenm_compile.training.networks.table import make_network
from spikenm_compile.training.networks.task import Task
from spikenm_compile.training.peak_memory import peak_of
from spikenm_compile.training.recompute import recomputed
from spikenm_compile.training.settings import Settings
from spikenm_compile.training.trainer import run_training

IMAGES = Task((3, 16, 16), 10, 4, has_time=False)


def jelly() -> nn.Module:
    """A flat Sequential with dropout, multi-step."""
    lif = {"surrogate_function": surrogate.ATan(), "detach_reset": True, "v_threshold": 0.3}
    convolutions = [
        *(layer.Conv2d(3, 8, 3, padding=1, bias=False), layer.BatchNorm2d(8), neuron.LIFNode(**lif)),
        *(layer.Conv2d(8, 8, 3, padding=1, bias=False), layer.BatchNorm2d(8), neuron.ParametricLIFNode(**lif)),
        *(layer.AvgPool2d(2), layer.Flatten(), layer.Dropout(0.5), layer.Linear(512, 10)),
    ]
    model = nn.Sequential(*convolutions)
    functional.set_step_mode(model, "m")
    return model


class SingleSteps(nn.Module):
    """A loop over time in forward, around blocks that take one step."""

    def __init__(self) -> None:
        super().__init__()
        block = [nn.Conv2d(3, 8, 3, padding=1), LIF(tau=2.0, step_mode="s"), nn.Conv2d(8, 8, 3), LIF(step_mode="s")]
        self.block = nn.Sequential(*block)
        self.classifier = nn.Linear(8 * 14 * 14, 10)

    def forward(self, x: Tensor) -> Tensor:
        """[T, B, 3, 16, 16] to [B, 10]."""
        return torch.stack([self.classifier(self.block(x[t]).flatten(1)) for t in range(len(x))]).mean(0)


Case = tuple[Callable[[], nn.Module], tuple[int, ...], float]
"""(makes the model, shape of its input, share of the memory that must be enough)."""
MODELS: dict[str, Case] = {
    "currents": (lambda: make_network("resnet19", IMAGES, {"width": 2, "join": "currents"}), (4, 3, 16, 16), 0.6),
    "counts": (lambda: make_network("resnet18", IMAGES, {"width": 4}), (4, 3, 16, 16), 0.7),
    "attention": (
        lambda: make_network("spikformer", IMAGES, {"embed_dims": 32, "num_heads": 4, "depths": 2}),
        (4, 3, 16, 16),
        0.6,
    ),
    "SpikingJelly": (jelly, (4, 2, 3, 16, 16), 0.75),
    "single steps": (SingleSteps, (4, 2, 3, 16, 16), 0.9),
}


def gradients(model: nn.Module, x: Tensor) -> list[Tensor]:
    """Gradients of two batches without a reset between them, the input's included, and the buffers behind it."""
    torch.manual_seed(0)  # of dropout
    reset_neurons(model)
    model.train().zero_grad()
    first, second = x.clone().requires_grad_(), x.flip(0).requires_grad_()
    loss = model(first).square().sum() + 0.5 * model(second).square().sum()
    loss.backward()
    reset_neurons(model)
    found = [*(p.grad for p in model.parameters()), first.grad, second.grad, *model.buffers()]
    return [tensor.clone() for tensor in found if tensor is not None]


@pytest.mark.parametrize("name", MODELS)
def test_gradients_are_the_same_from_less_memory(name: str) -> None:
    torch.manual_seed(0)
    make, shape, share = MODELS[name]
    model, x = make(), torch.rand(shape) * 2
    transform(model, "2:4", example_inputs=x, report=None)
    other = copy.deepcopy(model)
    expected = gradients(model, x)
    with recomputed(other):
        actual = gradients(other, x)
        reset_neurons(other)
        saved = peak_of(lambda: gradients(other, x))
    assert len(expected) == len(actual)
    assert all(torch.equal(a, b) for a, b in zip(expected, actual, strict=True))
    assert any(tensor.any() for tensor in expected)
    assert saved < share * peak_of(lambda: gradients(model, x))


def test_nothing_of_the_model_changes_for_good() -> None:
    model = MODELS["currents"][0]()
    before = {name: dict(vars(module)) for name, module in model.named_modules()}
    keys = list(model.state_dict())
    with recomputed(model):
        assert list(model.state_dict()) == keys
        assert "forward" in vars(model.get_submodule("body.0"))
    assert {name: dict(vars(module)) for name, module in model.named_modules()} == before
    assert all("forward" not in vars(module) for module in model.modules())


def test_a_graph_can_be_walked_twice() -> None:
    torch.manual_seed(0)
    model, x = jelly(), torch.rand(4, 2, 3, 16, 16)
    with recomputed(model):
        loss = model(x).square().sum()
        loss.backward(retain_graph=True)
        once = [p.grad.clone() for p in model.parameters() if p.grad is not None]
        loss.backward()
    twice = [p.grad for p in model.parameters() if p.grad is not None]
    assert all(torch.equal(2 * a, b) for a, b in zip(once, twice, strict=True))


def test_without_gradients_nothing_is_kept() -> None:
    model, x = jelly().eval(), torch.rand(4, 2, 3, 16, 16)
    with recomputed(model), torch.no_grad():
        assert not model(x).requires_grad


class Hidden(nn.Module):
    """snnTorch: states that the neurons keep themselves, and one that the loop hands on."""

    def __init__(self) -> None:
        super().__init__()
        hidden = snn.Leaky(beta=0.9, threshold=0.4, init_hidden=True)
        self.block = nn.Sequential(nn.Linear(16, 32), hidden, nn.Linear(32, 32))
        self.lif = snn.Synaptic(alpha=0.7, beta=0.8, threshold=0.2)

    def forward(self, x: Tensor) -> Tensor:
        """[T, B, 16] to [T, B, 32]."""
        syn, mem = self.lif.init_synaptic()
        spikes = []
        for t in range(len(x)):
            spike, syn, mem = self.lif(self.block(x[t]), syn, mem)
            spikes.append(spike)
        return torch.stack(spikes)


def test_states_of_other_libraries_are_put_back_too() -> None:
    torch.manual_seed(0)
    model, x = Hidden(), 3 * torch.rand(5, 4, 16)
    other = copy.deepcopy(model)
    expected = gradients(model, x)
    with recomputed(other):
        actual = gradients(other, x)
    assert any(tensor.any() for tensor in expected)
    assert all(torch.equal(a, b) for a, b in zip(expected, actual, strict=True))


def test_a_training_with_it_ends_in_the_same_weights() -> None:
    data = load_digits()
    results = []
    for memory in MEMORY:
        torch.manual_seed(0)
        model = digits_net()
        settings = Settings(
            epochs=1, batch_size=256, memory=memory, precision="bfloat16", accumulate=2, activity_target=0.05
        )
        transform(model, "2:4", total_steps=settings.total_steps(len(data.train_labels)), report=None)
        run_training(model, data, settings)
        results.append(model.state_dict())
    assert len(results) == 2
    assert all(torch.equal(results[0][key], results[1][key]) for key in results[0])
