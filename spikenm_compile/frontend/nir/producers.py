"""Who writes NIR, and what their numbers mean. NIR stores neither the time step nor the kind of reset.

| producer | τ in the graph | r | v_reset in the graph | dt |
|---|---|---|---|---|
| spikingjelly | τ in steps · dt | 1 or τ/dt (decay_input=False); IF: 1/dt | as simulated | argument, 1e-4 |
| snntorch | dt / (1 - β) | τ/dt | 0, whatever the reset was | 1e-4 |
| norse | dt / rate, so that 10 ms is 1e-5 | 1 | 0 | argument, 1e-3 |
| sinabs | τ in steps | 1 | 0, whatever the reset was | none: 1 |

Measured with SpikingJelly 2.0, snnTorch 1.0, norse 1.1, sinabs 3.1 and nir 1.0.8.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from spikenm_compile.errors import InputError
from spikenm_compile.frontend.nir.parameters import Unit
from spikenm_compile.frontend.nir.readers import euler, norse, sinabs, snntorch, spikingjelly
from spikenm_compile.frontend.nir.readers.common import Reader, Reset
from spikenm_compile.neurons import Neuron

RESETS: tuple[Reset, ...] = ("hard", "soft")


@dataclass(frozen=True)
class Producer:
    """A library that writes NIR graphs."""

    name: str
    dt: float
    """Time step that it writes with by default, in the unit of its time constants."""
    reset: Reset
    """Reset that its neurons have by default, which the graph does not say."""
    readers: Mapping[str, Reader]
    """NIR neuron that it writes -> what it means by it."""

    def neuron(self, unit: Unit, dt: float, reset: Reset) -> Neuron:
        """The canonical neuron of a node.

        Raises:
            InputError: the library writes no such node, or other numbers.
        """
        if unit.kind == "Threshold":
            return euler.threshold(unit, dt, reset)
        if unit.kind not in self.readers:
            raise InputError(
                f"{unit} is of a kind that {self.name} does not write; it writes {', '.join(self.readers)}; leave "
                "producer out and give dt, so that NIR's own equations hold"
            )
        return self.readers[unit.kind](unit, dt, reset)


NIR = Producer(
    "nir",
    dt=1e-4,
    reset="hard",
    readers=MappingProxyType(
        {
            "I": euler.euler_integrator,
            "IF": euler.euler_if,
            "LI": euler.euler_leaky,
            "LIF": euler.euler_leaky,
            "CubaLI": euler.euler_synaptic,
            "CubaLIF": euler.euler_synaptic,
        }
    ),
)
"""NIR's own equations, for a graph of which only dt is known."""

SPIKINGJELLY = Producer(
    "spikingjelly",
    dt=1e-4,
    reset="hard",
    readers=MappingProxyType(
        {"IF": spikingjelly.jelly_if, "LIF": spikingjelly.jelly_lif, "CubaLIF": spikingjelly.jelly_synaptic}
    ),
)

SNNTORCH = Producer(
    "snntorch",
    dt=1e-4,
    reset="soft",
    readers=MappingProxyType({"LIF": snntorch.snntorch_leaky, "CubaLIF": snntorch.snntorch_synaptic}),
)

NORSE = Producer(
    "norse",
    dt=1e-3,
    reset="hard",
    readers=MappingProxyType(
        {"IF": norse.norse_if, "LIF": norse.norse_lif, "CubaLIF": norse.norse_synaptic, "LI": norse.norse_integrator}
    ),
)

SINABS = Producer(
    "sinabs",
    dt=1.0,
    reset="soft",
    readers=MappingProxyType({"IF": sinabs.sinabs_iaf, "LIF": sinabs.sinabs_lif, "LI": sinabs.sinabs_exp_leak}),
)

OURS = replace(
    SPIKINGJELLY,
    name="spikenm_compile",
    readers=MappingProxyType({**NIR.readers, "IF": spikingjelly.jelly_if, "LIF": spikingjelly.jelly_lif}),
)
"""This package, for graphs that lost the notes that it leaves in them."""

PRODUCERS: Mapping[str, Producer] = MappingProxyType(
    {producer.name: producer for producer in (OURS, SPIKINGJELLY, SNNTORCH, NORSE, SINABS)}
)


def get_producer(name: str) -> Producer:
    """The producer of that name.

    Raises:
        InputError: it is unknown.
    """
    if name not in PRODUCERS:
        raise InputError(
            f"producer {name!r} is unknown; known are {', '.join(PRODUCERS)}; name one of these, or give dt alone, so "
            "that NIR's own equations hold"
        )
    return PRODUCERS[name]
