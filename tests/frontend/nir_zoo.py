"""Networks of each library, what they give, and the NIR graphs that the libraries write of them.

Weights and inputs are multiples of small powers of two, so that every sum is exact in any order: what may differ is the
neurons only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import norse.torch as norse
import sinabs.layers as sl
import sinabs.nir
import snntorch as snn
import torch
from norse.torch.functional.reset import reset_value
from norse.torch.utils import export_nir as norse_nir
from snntorch import export_nir as snntorch_nir
from snntorch import utils
from spikingjelly.activation_based import functional, layer, neuron, nir_exchange
from torch import Tensor, nn

NUM_STEPS, BATCH = 24, 5
Exported = tuple[Any, Tensor, Tensor]
"""(NIR graph, input [T, B, ...], output [T, B, ...])."""


def on_grid(model: nn.Module) -> nn.Module:
    """Weights rounded to sixteenths, and larger, so that there are spikes."""
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                fan_in = module.weight[0].numel()
                module.weight.copy_((torch.randn_like(module.weight) * 48 / fan_in**0.5).round() / 16)
                if module.bias is not None:
                    module.bias.copy_((torch.rand_like(module.bias) * 4).round() / 16)
    return model.eval()


def sequence(*shape: int) -> Tensor:
    return (torch.rand(NUM_STEPS, BATCH, *shape) * 8).round() / 8


@torch.no_grad()
def _jelly(model: nn.Module, x: Tensor) -> Exported:
    on_grid(model)
    graph = nir_exchange.export_to_nir(model, x[0])
    functional.reset_net(model)
    functional.set_step_mode(model, "m")
    return graph, x, model(x)


def jelly_conv() -> Exported:
    head = [layer.Conv2d(2, 4, 3, padding=1), neuron.LIFNode(tau=2.0), layer.AvgPool2d(2, 2)]
    tail = [layer.Flatten(), layer.Linear(64, 5, bias=False), neuron.IFNode(v_threshold=1.5)]
    return _jelly(nn.Sequential(*head, *tail), sequence(2, 8, 8))


def jelly_mlp() -> Exported:
    first = [layer.Linear(6, 8), neuron.LIFNode(tau=3.3, decay_input=False, v_reset=-0.25)]
    second = [layer.Linear(8, 8), neuron.CUBALIFNode(c_decay=0.6, v_decay=0.9)]
    last = [layer.Linear(8, 4), neuron.LIFNode(tau=5.7, v_reset=0.1)]
    return _jelly(nn.Sequential(*first, *second, *last), sequence(6))


@torch.no_grad()
def _snntorch(model: nn.Module, x: Tensor) -> Exported:
    on_grid(model)
    graph = snntorch_nir.export_to_nir(model, x[0], ignore_dims=[0])
    utils.reset(model)
    return graph, x, torch.stack([model(x_t) for x_t in x])


def snntorch_conv(**options: Any) -> Exported:
    first, last = torch.full((4, 6, 6), 0.9), torch.full((5,), 0.77)
    leaky = snn.Leaky(beta=first, threshold=torch.full((4, 6, 6), 1.0), init_hidden=True, **options)
    end = snn.Leaky(beta=last, threshold=torch.full((5,), 1.25), init_hidden=True, **options)
    layers = [nn.Conv2d(1, 4, 3), leaky, nn.AvgPool2d(2, 2), nn.Flatten(), nn.Linear(36, 5), end]
    return _snntorch(nn.Sequential(*layers), sequence(1, 8, 8))


def snntorch_mlp() -> Exported:
    thresholds = torch.linspace(0.5, 1.5, 8)
    leaky = snn.Leaky(beta=torch.linspace(0.5, 0.95, 8), threshold=thresholds, init_hidden=True)
    decays = {"alpha": torch.full((4,), 0.8), "beta": torch.full((4,), 0.65)}
    synaptic = snn.Synaptic(**decays, threshold=torch.ones(4), init_hidden=True)
    return _snntorch(nn.Sequential(nn.Linear(6, 8), leaky, nn.Linear(8, 4), synaptic), sequence(6))


@torch.no_grad()
def _norse(model: nn.Module, x: Tensor) -> Exported:
    on_grid(model)
    graph, state, outputs = norse_nir.to_nir(model, x[0]), None, []
    for x_t in x:
        out, state = model(x_t, state)
        outputs.append(out)
    return graph, x, torch.stack(outputs)


def norse_conv(reset: Callable[..., Any] = reset_value) -> Exported:
    box = norse.LIFBoxParameters(tau_mem_inv=torch.tensor(250.0), v_th=torch.tensor(0.5), reset_method=reset)
    layers = [nn.Conv2d(1, 4, 3), norse.LIFBoxCell(box), nn.Conv2d(4, 2, 3), norse.IAFCell()]
    return _norse(norse.SequentialState(*layers), sequence(1, 8, 8))


def norse_mlp() -> Exported:
    p = norse.LIFParameters(tau_mem_inv=torch.tensor(1 / 3e-3), v_th=torch.tensor(0.25))
    layers = [nn.Linear(6, 8), norse.LIFCell(p), nn.Linear(8, 3), norse.LIBoxCell()]
    return _norse(norse.SequentialState(*layers), sequence(6))


@torch.no_grad()
def sinabs_conv() -> Exported:
    x = sequence(1, 8, 8)
    head = [nn.Conv2d(1, 4, 3), sl.IAFSqueeze(batch_size=BATCH), sl.SumPool2d(2)]
    tail = [nn.Flatten(), nn.Linear(36, 3), sl.IAFSqueeze(batch_size=BATCH, spike_threshold=torch.tensor(1.5))]
    model = on_grid(nn.Sequential(*head, *tail))
    flat = x.transpose(0, 1).flatten(0, 1)
    model(flat)
    graph = sinabs.nir.to_nir(model, flat)
    sinabs.reset_states(model)
    return graph, x, model(flat).unflatten(0, (BATCH, NUM_STEPS)).transpose(0, 1)


@torch.no_grad()
def sinabs_mlp() -> Exported:
    x = sequence(6)
    model = on_grid(nn.Sequential(nn.Linear(6, 8), sl.LIF(tau_mem=5.3), nn.Linear(8, 3), sl.ExpLeak(tau_mem=10.0)))
    model(x.transpose(0, 1))
    graph = sinabs.nir.to_nir(model, x.transpose(0, 1))
    sinabs.reset_states(model)
    return graph, x, model(x.transpose(0, 1)).transpose(0, 1)


ZOO: Mapping[str, tuple[str, Callable[[], Exported]]] = {
    "spikingjelly-conv": ("spikingjelly", jelly_conv),
    "spikingjelly-mlp": ("spikingjelly", jelly_mlp),
    "snntorch-conv": ("snntorch", snntorch_conv),
    "snntorch-mlp": ("snntorch", snntorch_mlp),
    "norse-conv": ("norse", norse_conv),
    "norse-mlp": ("norse", norse_mlp),
    "sinabs-conv": ("sinabs", sinabs_conv),
    "sinabs-mlp": ("sinabs", sinabs_mlp),
}
"""Name -> producer, and what makes the network."""
