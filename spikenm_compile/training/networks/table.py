"""Name -> network. What a network takes after the task and the neuron are its keyword arguments."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from spikenm_compile.errors import InputError
from spikenm_compile.training.networks import resnet, sew, small, spikingjelly_zoo, vgg
from spikenm_compile.training.networks.neurons import NeuronOptions
from spikenm_compile.training.networks.task import Task
from spikenm_compile.training.tables import Where, checked, field_types, make, nearest

NETWORKS: dict[str, Callable[..., nn.Module]] = {
    # of this package
    "digits": small.digits,
    "event-digits": small.event_digits,
    "gestures": small.gestures,
    "mlp": small.mlp,
    "vgg11": vgg.vgg11,
    "vgg16": vgg.vgg16,
    "vggsnn": vgg.vggsnn,
    "resnet18": resnet.resnet18,
    "resnet19": resnet.resnet19,
    "sew7b": sew.sew7b,
    "wide-sew7b": sew.wide_sew7b,
    # of SpikingJelly, for any number of channels
    "spikformer": spikingjelly_zoo.spikformer,
    "spike-driven-transformer": spikingjelly_zoo.spike_driven_transformer,
    "qkformer": spikingjelly_zoo.qkformer,
    # of SpikingJelly, for images of three channels; they import torchvision
    "spikingjelly-vgg": spikingjelly_zoo.spikingjelly_vgg,
    "spikingjelly-resnet": spikingjelly_zoo.spikingjelly_resnet,
    "spikingjelly-sew-resnet": spikingjelly_zoo.spikingjelly_sew_resnet,
}


def option_types(name: str) -> dict[str, Any]:
    """Option of network `name` -> its type: its arguments, and fields of `NeuronOptions` if it takes a neuron."""
    hints = typing.get_type_hints(NETWORKS[name])
    parameters = inspect.signature(NETWORKS[name]).parameters.values()
    own = {p.name: hints[p.name] for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}
    return {**own, **_neuron_types(name)}


def make_network(
    name: str, task: Task, options: Mapping[str, object] | None = None, where: Where | None = None
) -> nn.Module:
    """A fresh network for `task`.

    Args:
        name: a key of `NETWORKS`.
        task: what it is made for.
        options: see `option_types`.
        where: says in messages where an option stands.

    Raises:
        InputError: an unknown name or option, or a task that does not fit.
        ToolError: the network comes from a library that is not installed.
    """
    where = where or (lambda _key: f"network '{name}'")
    if name not in NETWORKS:
        raise InputError(
            f"{where('name')} is unknown{nearest(name, NETWORKS)}; use {', '.join(NETWORKS)}, or FILE.py:factory"
        )
    values = checked(options or {}, option_types(name), where)
    of_neuron = _neuron_types(name)
    arguments: dict[str, Any] = {key: value for key, value in values.items() if key not in of_neuron}
    if of_neuron:
        neuron = {key: value for key, value in values.items() if key in of_neuron}
        arguments["neuron"] = make(NeuronOptions, neuron, where)
    return NETWORKS[name](task, **arguments)


def _neuron_types(name: str) -> dict[str, Any]:
    takes_neuron = NeuronOptions in typing.get_type_hints(NETWORKS[name]).values()
    return field_types(NeuronOptions) if takes_neuron else {}
