"""Spiking neurons: what one computes (`Neuron`, `step`), the usual ones, and layers of them that train.

SpikingNeuron(Neuron(("h = beta * v + x", "s = h > 1", "v = h - s"), states={"v": 0.0}, constants={"beta": 0.9}))
"""

from spikenm_compile.levels import SPIKES, Levels
from spikenm_compile.neurons.canonical import Neuron, step
from spikenm_compile.neurons.forms import integrate_and_fire, leaky, parametric_leaky
from spikenm_compile.neurons.layers import IF, LIF, ParametricLIF, SpikingNeuron
from spikenm_compile.neurons.surrogate import ATan

__all__ = [
    "IF",
    "LIF",
    "SPIKES",
    "ATan",
    "Levels",
    "Neuron",
    "ParametricLIF",
    "SpikingNeuron",
    "integrate_and_fire",
    "leaky",
    "parametric_leaky",
    "step",
]
