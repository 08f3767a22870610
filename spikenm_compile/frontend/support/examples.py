"""Where libraries keep their neurons, and how one of each class is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType, SimpleNamespace
from typing import Any

import torch


@dataclass(frozen=True)
class Library:
    """A library whose classes are listed."""

    title: str
    modules: tuple[str, ...]
    """Modules whose names are looked through."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Values of arguments that a class of it demands, by name. A class that demands others is not made: it has to be
    one that its adapter refuses by its name."""
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Class name -> further arguments, where the names alone do not say what is demanded."""
    bases: frozenset[str] = frozenset()
    """Classes that others are made of and nobody builds models with."""
    one_mode: Mapping[str, str] = field(default_factory=dict)
    """Class name -> the one step mode that works, where the class can be set to others, too."""


LIBRARIES: Mapping[str, Library] = MappingProxyType(
    {
        "spikenm_compile": Library(
            "spikenm_compile.neurons", ("spikenm_compile.neurons",), bases=frozenset({"SpikingNeuron"})
        ),
        "spikingjelly": Library(
            "SpikingJelly",
            ("spikingjelly.activation_based.neuron",),
            {
                "act": torch.relu,
                "threshold_related": False,
                "q_threshold": 1.0,
                "level": 4,
                "tau": 2.0,
                "decay_input": True,
            },
            {"MPBNLIFNode": {"out_features": 4}},
            bases=frozenset(
                {
                    *(
                        "BaseNode",
                        "AdaptBaseNode",
                        "SimpleBaseNode",
                        "NonSpikingBaseNode",
                        "ILCBaseNode",
                        "MPBNBaseNode",
                    ),
                    *("NoisyBaseNode", "NoisyILCBaseNode", "NoisyNonSpikingBaseNode"),
                }
            ),
            one_mode={
                **dict.fromkeys(("SLTTLIFNode", "OTTTLIFNode"), "s"),
                **dict.fromkeys(("DSRIFNode", "DSRLIFNode"), "m"),
            },
        ),
        "snntorch": Library(
            "snnTorch",
            ("snntorch",),
            {"alpha": 0.9, "beta": 0.8},
            {
                "DeltaLeaky": {"beta": 0.8},
                "Lapicque": {"beta": 0.9},
                "RLeaky": {"all_to_all": False},
                "RSynaptic": {"all_to_all": False},
            },
            bases=frozenset({"SpikingNeuron", "LIF"}),
        ),
        "norse": Library(
            "Norse",
            ("norse.torch", "norse.torch.module.lif_refrac", "norse.torch.module.leaky_integrator"),
            {"input_size": 4, "hidden_size": 4, "spiking_method": SimpleNamespace(p=None, s=None)},
            bases=frozenset({"SNN", "SNNCell", "SNNRecurrent", "SNNRecurrentCell"}),
        ),
        "sinabs": Library(
            "sinabs",
            ("sinabs.layers", "sinabs.layers.alif"),
            {"tau_mem": 5.0, "tau_adapt": 5.0, "rec_connect": torch.nn.Linear(4, 4)},
            {
                "IAFSqueeze": {"batch_size": 2},
                "LIFSqueeze": {"batch_size": 2, "tau_mem": 5.0},
                "ALIFSqueeze": {"batch_size": 2, "tau_mem": 5.0, "tau_adapt": 5.0},
                "ExpLeakSqueeze": {"batch_size": 2, "tau_mem": 5.0},
            },
            bases=frozenset({"StatefulLayer"}),
        ),
    }
)
"""Name of an adapter -> its library."""
