"""Neurons of every kind that targets must compute, as functions of the number of channels."""

from __future__ import annotations

from collections.abc import Callable

from spikenm_compile.neurons import Levels, Neuron


def over_channels(low: float, high: float, channels: int) -> tuple[float, ...]:
    """One value for each channel."""
    return tuple(low + (high - low) * i / max(1, channels - 1) for i in range(channels))


def synaptic(_channels: int) -> Neuron:
    equations = ("i = alpha * i + x", "h = beta * v + i", "s = h > th", "v = where(s, v_reset, h)")
    return Neuron(equations, {"i": 0.0, "v": 0.0}, {"alpha": 0.7, "beta": 0.83, "th": 1.3, "v_reset": -0.05})


def adaptive(_channels: int) -> Neuron:
    equations = (
        "h = v + (x - (v - v_rest)) / tau",
        "s = h >= b",
        "v = h - s * b",
        "b = b + (b0 - b) * rate + s * jump",
    )
    constants = {"tau": 1.7, "v_rest": 0.1, "b0": 0.4, "rate": 0.3, "jump": 0.21}
    return Neuron(equations, {"v": 0.1, "b": 0.4}, constants)


def delayed_reset_per_channel(channels: int) -> Neuron:
    equations = ("r = v - th > 0", "h = beta * v + x - r * th", "s = h - th > 0", "v = h")
    constants = {"beta": over_channels(0.5, 0.95, channels), "th": over_channels(0.3, 0.9, channels)}
    return Neuron(equations, {"v": 0.0}, constants)


def refractory(_channels: int) -> Neuron:
    equations = (
        "h = v + k * (v_leak - v + x)",
        "z = h - th > 0",
        "m = rho > 0",
        "s = where(m, 0, z)",
        "v = where(m, v, where(z, v_reset, h))",
        "rho = where(s, 2, max(rho - m, 0))",
    )
    constants = {"k": 0.6, "v_leak": -0.02, "th": 0.3, "v_reset": 0.01}
    return Neuron(equations, {"v": -0.02, "rho": 0.0}, constants)


def previous_spike(_channels: int) -> Neuron:
    equations = ("h = beta * v + x + w * s - s * th", "s = h > th", "v = h")
    return Neuron(equations, {"v": 0.0, "s": 0.0}, {"beta": 0.8, "w": 0.3, "th": 0.6})


def five_states(_channels: int) -> Neuron:
    equations = (
        "a = a * 0.5 + x",
        "b = b * 0.6 + a * 0.3",
        "c = c + (b - c) / 1.3",
        "d = d - 0.1 * (d - c)",
        "h = v * 0.9 + d + a",
        "s = h >= 0.7",
        "v = where(s, 0, h)",
    )
    return Neuron(equations, dict.fromkeys("abcdv", 0.0))


def ternary(_channels: int) -> Neuron:
    equations = ("h = v + x", "s = (h >= th) - (h <= -th)", "v = h - s * th")
    return Neuron(equations, {"v": 0.0}, {"th": 0.6}, levels=Levels(-1, 1))


def many_spikes(_channels: int) -> Neuron:
    equations = ("h = decay * v + x", "s = max(min(trunc(h / th), 5), 0)", "v = h - s * th")
    return Neuron(equations, {"v": 0.0}, {"th": 0.31, "decay": 0.9}, levels=Levels(0, 5))


def rounded(channels: int) -> Neuron:
    equations = ("h = v * 0.25 + x", "s = round(max(min(h / th, 4), 0))", "v = h - s * th")
    return Neuron(equations, {"v": 0.0}, {"th": over_channels(0.2, 0.5, channels)}, levels=Levels(0, 4))


def membrane(_channels: int) -> Neuron:
    return Neuron(("v = v + (x - v) / tau",), {"v": 0.0}, {"tau": 2.7}, output="v", levels=None)


def graded(_channels: int) -> Neuron:
    equations = ("h = beta * v + x", "s = h > 1", "y = s * abs(h)", "v = h - y")
    return Neuron(equations, {"v": 0.5}, {"beta": 0.9}, output="y", levels=None)


def two_inputs(channels: int) -> Neuron:
    equations = ("h = beta * v + x + rec", "s = h > th", "v = h - s * th")
    threshold = over_channels(0.4, 0.9, channels)
    return Neuron(equations, {"v": 0.0}, {"beta": 0.8, "th": threshold}, inputs=("x", "rec"))


Kind = Callable[[int], Neuron]
SPIKING: tuple[Kind, ...] = (synaptic, adaptive, delayed_reset_per_channel, refractory, previous_spike, five_states)
COUNTING: tuple[Kind, ...] = (ternary, many_spikes, rounded)
REAL: tuple[Kind, ...] = (membrane, graded)

OPERATIONS = (
    "-x",
    "x + v",
    "x - v",
    "x * v",
    "x / v",
    "x > v",
    "x >= v",
    "x < v",
    "x <= v",
    "x == v",
    "x != v",
    "where(x, v, -v)",
    "where(x > v, 0.1, v)",
    "max(x, v)",
    "min(x, v)",
    "max(x, 0.1)",
    "round(x) + round(v * 10)",
    "trunc(x * 3) - trunc(v)",
    "abs(x) - abs(v)",
    "x * v + x",
    "x - x / v",
    "x * 0.1 - v * 0.7",
    "1 - 0.1 * 0.7 + x",
    "-(x * v) + 0.3",
)


def every_operation() -> Neuron:
    """One state for each operation on x and v, the input of the step before."""
    results = {f"y{i}": text for i, text in enumerate(OPERATIONS)}
    equations = tuple(f"{name} = {text}" for name, text in results.items())
    return Neuron((*equations, "v = x"), {**dict.fromkeys(results, 0.0), "v": 0.25}, output="y0", levels=None)
