"""Networks without an integer form, with an input on which they spike: what is left to them is float32."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import snntorch as snn
import torch
from spikingjelly.activation_based import layer, neuron
from spikingjelly.activation_based.model.spikformer import Spikformer
from torch import Tensor, nn

from spikenm_compile.neurons import LIF

NUM_STEPS, BATCH = 4, 3
Network = tuple[nn.Module, Tensor]


class Written(nn.Module):
    """A forward on named parts."""

    def __init__(self, forward: Callable[[Any, Tensor], Tensor], **parts: nn.Module) -> None:
        super().__init__()
        self.write = forward
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, x: Tensor) -> Tensor:
        return self.write(self, x)


def jelly(make: Callable[[int], nn.Module]) -> Network:
    """Two layers between neurons that learn masks: a convolution and a linear layer; x changes with time."""
    layers = nn.Sequential(
        layer.Conv2d(2, 8, 3, padding=1, bias=False, step_mode="m"),
        layer.BatchNorm2d(8, step_mode="m"),
        make(8),
        layer.Conv2d(8, 8, 3, padding=1, bias=False, step_mode="m"),
        make(8),
        layer.Flatten(step_mode="m"),
        layer.Linear(200, 8, step_mode="m"),
        make(1),
        layer.Linear(8, 3, step_mode="m"),
    )
    return Written(lambda net, x: net.layers(x).mean(0), layers=loud(layers)), inputs(2, 5, 5)


def loud(model: nn.Module) -> nn.Module:
    """Weights that make neurons spike."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.uniform_(module.weight, -0.3, 0.7)
        if isinstance(module, neuron.PSN | neuron.MaskedPSN | neuron.SlidingPSN):
            nn.init.constant_(module.bias, -0.5)
    return model


def inputs(*shape: int) -> Tensor:
    return torch.rand(NUM_STEPS, BATCH, *shape) * 2 - 0.5


def gated() -> Network:
    """A static image, repeated."""
    parts = loud(
        nn.Sequential(
            layer.Conv2d(2, 8, 3, padding=1, step_mode="m"),
            neuron.GatedLIFNode(NUM_STEPS, 8),
            layer.Conv2d(8, 8, 3, padding=1, step_mode="m"),
            neuron.GatedLIFNode(NUM_STEPS, 8),
        )
    )

    def forward(net: Any, x: Tensor) -> Tensor:
        spikes = net.parts(x.unsqueeze(0).repeat(NUM_STEPS, 1, 1, 1, 1))
        return net.head(spikes.flatten(2)).mean(0)  # type: ignore[no-any-return]

    return Written(forward, parts=parts, head=nn.Linear(200, 3)), inputs(2, 5, 5)[0]


def few_spike() -> Network:
    """No time at all."""
    powers = torch.tensor([2.0**-k for k in range(6)])
    table = neuron.FewSpikeTable(powers, powers, powers)
    parts = (nn.Linear(6, 8), neuron.FewSpikeNode(table), nn.Linear(8, 8), neuron.FewSpikeNode(table), nn.Linear(8, 3))
    return loud(nn.Sequential(*parts)), inputs(6)[0]


def leaky_parallel() -> Network:
    parts = {"first": snn.LeakyParallel(6, 8), "middle": nn.Linear(8, 8), "second": snn.LeakyParallel(8, 8)}
    return Written(
        lambda net, x: net.head(net.second(net.middle(net.first(x * 8)) * 8)).sum(0), head=nn.Linear(8, 3), **parts
    ), inputs(6)


def state_leaky() -> Network:
    return Written(
        lambda net, x: net.head(net.lif(net.fc(x))[0]).mean(0),
        fc=loud(nn.Linear(6, 8)),
        lif=snn.StateLeaky(beta=0.9, channels=8),
        head=nn.Linear(8, 3),
    ), inputs(6)


def sigmoid_readout() -> Network:
    """A leaky integrator's last potentials as probabilities."""
    parts = {"fc": loud(nn.Linear(6, 8)), "lif": LIF(step_mode="m"), "head": nn.Linear(8, 3)}
    integrator = neuron.NonSpikingLIFNode(decode="last_mem")
    return Written(
        lambda net, x: torch.sigmoid(net.integrator(net.head(net.lif(net.fc(x))))), integrator=integrator, **parts
    ), inputs(6)


def spikformer() -> Network:
    model = Spikformer(
        T=2, in_channels=3, img_size_h=16, img_size_w=16, patch_size=4, num_classes=5, embed_dims=32, num_heads=2,
        mlp_ratio=2.0, depths=1,
    )  # fmt: skip
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.uniform_(module.bias, 0.0, 2.0)
            nn.init.constant_(module.weight, 2.0)
    return model, torch.rand(BATCH, 3, 16, 16)


def stbif() -> nn.Module:
    node: nn.Module = neuron.STBIFNode(q_threshold=torch.tensor(0.5), level=4, step_mode="m")
    return node


WHOLE: dict[str, Callable[[], Network]] = {
    "PSN": lambda: jelly(lambda _: neuron.PSN(NUM_STEPS)),
    "MaskedPSN": lambda: jelly(lambda _: neuron.MaskedPSN(2, NUM_STEPS, step_mode="m")),
    "SlidingPSN": lambda: jelly(lambda _: neuron.SlidingPSN(2, step_mode="m")),
    "GatedLIF": gated,
    "FewSpike": few_spike,
    "LeakyParallel": leaky_parallel,
    "StateLeaky": state_leaky,
}
"""Name -> a network whose steps cannot be told apart."""

STEP: dict[str, Callable[[], Network]] = {
    "EIF": lambda: jelly(lambda _: neuron.EIFNode(step_mode="m")),
    "ComplementaryLIF": lambda: jelly(lambda _: neuron.ComplementaryLIFNode(step_mode="m")),
    "DSRIF": lambda: jelly(lambda _: neuron.DSRIFNode(NUM_STEPS, v_threshold=0.5, step_mode="m")),
    "STBIF": lambda: jelly(lambda _: stbif()),
    "sigmoid-readout": sigmoid_readout,
    "spikformer": spikformer,
}
"""Name -> a network that lifts and has no integer form."""

OPAQUE = ("PSN", "MaskedPSN", "SlidingPSN", "GatedLIF", "FewSpike", "LeakyParallel")
"""Networks of `WHOLE` with a layer between neurons that need whole sequences."""
EXPENSIVE = (
    "SlidingPSN",
    "FewSpike",
    "StateLeaky",
    "spikformer",
    "STBIF",
    "ComplementaryLIF",
)
"""Networks whose export adds seconds and nothing new."""
