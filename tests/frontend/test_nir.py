from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from frontend.nir_graphs import DT, chain, full, plain, through_a_file, unit_if
from frontend.nir_zoo import BATCH, NUM_STEPS, ZOO, norse_conv, on_grid, sequence, snntorch_conv
from norse.torch.functional.reset import reset_subtract
from spikingjelly.activation_based import functional, layer, neuron, nir_exchange
from torch import Tensor, nn

from spikenm_compile.compiler import lift_model
from spikenm_compile.errors import InputError
from spikenm_compile.frontend.nir.parameters import recovered
from spikenm_compile.frontend.nir.readers.norse import rate_of
from spikenm_compile.graph import run_steps
from spikenm_compile.neurons import IF, LIF, Neuron, ParametricLIF, SpikingNeuron, integrate_and_fire, leaky
from spikenm_compile.nir import from_nir, to_nir

nir: Any = pytest.importorskip("nir")


# What other libraries write


@pytest.mark.parametrize("name", ZOO)
def test_a_librarys_graph_gives_the_librarys_numbers(name: str) -> None:
    producer, make = ZOO[name]
    graph, x, expected = make()
    network = from_nir(graph, producer=producer)
    with torch.no_grad():
        assert torch.equal(network(x), expected)
    assert (expected != 0).float().mean() > 0.05
    network.reset()
    assert torch.equal(run_steps(lift_model(network, x), x).output, expected)


def test_snntorch_writes_no_reset_mechanism_so_that_it_must_be_said() -> None:
    graph, x, expected = snntorch_conv(reset_mechanism="zero")
    assert torch.equal(from_nir(graph, producer="snntorch", reset="hard")(x), expected)
    assert not torch.equal(from_nir(graph, producer="snntorch")(x), expected)


def test_norse_writes_no_reset_method_so_that_it_must_be_said() -> None:
    graph, x, expected = norse_conv(reset_subtract)
    assert torch.equal(from_nir(graph, producer="norse", reset="soft")(x), expected)
    assert not torch.equal(from_nir(graph, producer="norse")(x), expected)


def test_rates_of_norse_are_found_again() -> None:
    rates = torch.arange(1.0, 4000.0, 7.0)
    stored = np.stack([(0.001 / rate).numpy() for rate in rates])
    assert np.array_equal(rate_of(stored, 0.001), rates.numpy())


def test_r_says_whether_spikingjelly_decays_the_input() -> None:
    graph, _, _ = ZOO["spikingjelly-mlp"][1]()
    layers = from_nir(graph, producer="spikingjelly").layers
    charges = [module.neuron.equations[0] for module in layers.values() if isinstance(module, SpikingNeuron)]
    assert charges == ["h = v - (v - v_leak) / tau + x", "c = c * c_decay + x", "h = v + (x - (v - v_leak)) / tau"]


def test_a_parameter_is_recovered_where_a_rounded_quotient_is_not_it() -> None:
    rates, dt, one = np.arange(1, 400, dtype=np.float32), np.float32(1e-3), np.float32(1.0)
    stored = (one / rates) * dt
    guess = dt / stored
    assert (guess != rates).any()
    assert np.array_equal(recovered(stored, guess, lambda rate: (one / rate) * dt), rates)
    assert np.array_equal(recovered(stored, guess, lambda _: np.float32(7.0)), guess)


# Round trips


class Branches(nn.Module):
    """Two branches that meet in a sum, batch norm, and a scaled output."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm, self.first = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), LIF(2.7, step_mode="s")
        self.left = nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2, bias=False)
        self.right = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(4, 6, 1))
        self.join = ParametricLIF(2.3, decay_input=False, v_reset=-0.5, step_mode="s")
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, 5, bias=False))
        self.last = IF(step_mode="s")

    def forward(self, x: Tensor) -> Tensor:
        outputs = []
        for x_t in x:
            stem = self.first(self.norm(self.stem(x_t)))
            joined = self.join(self.left(stem) + self.right(stem))
            outputs.append(self.last(self.head(joined * 2.0)))
        return torch.stack(outputs)


def test_there_and_back_through_a_file(tmp_path: Path) -> None:
    on_grid(model := Branches())
    x = sequence(1, 8, 8)
    with torch.no_grad():
        model.norm.bias.fill_(0.25)
        expected = run_steps(lift_model(model, x), x)
        back = from_nir(through_a_file(to_nir(model, x), tmp_path))
        assert torch.equal(back(x), expected.output)
    assert expected.output.mean() > 0.05
    neurons = [m.neuron for m in back.layers.values() if isinstance(m, SpikingNeuron)]
    assert neurons == [m.canonical() for m in (model.first, model.join, model.last)]


def test_a_spikingjelly_model_there_and_back_with_and_without_the_notes() -> None:
    layers = [layer.Linear(6, 16), neuron.LIFNode(tau=3.3), layer.Linear(16, 4), neuron.IFNode(v_threshold=0.75)]
    model, x = on_grid(nn.Sequential(*layers)), sequence(6)
    functional.set_step_mode(model, "m")
    with torch.no_grad():
        expected = model(x)
    functional.reset_net(model)
    graph = to_nir(model, x)
    for options in ({}, {"producer": "spikingjelly"}, {"producer": "spikenm_compile"}, {"dt": DT}):
        found = from_nir(graph, **options)(x)
        assert torch.equal(found, expected) or "dt" in options  # NIR's own equations round otherwise
        assert (found != expected).float().mean() < 0.01
    theirs, state, outputs = nir_exchange.import_from_nir(graph, dt=DT), None, []
    for x_t in x:
        out, state = theirs(x_t, state)
        outputs.append(out)
    assert torch.equal(torch.stack(outputs), expected)


def test_our_graph_is_a_graph_for_the_checks_of_nir(tmp_path: Path) -> None:
    path = through_a_file(to_nir(on_grid(plain()), sequence(1, 6, 6)), tmp_path)
    graph = nir.read(path)
    graph.infer_types()
    assert graph.check_types()
    assert [type(node).__name__ for node in graph.nodes.values()].count("LIF") == 1
    lif = next(node for node in graph.nodes.values() if isinstance(node, nir.LIF))
    assert lif.tau.shape == (3, 6, 6)
    assert lif.tau.flat[0] == pytest.approx(2.0 * DT)
    assert (lif.r.flat[0], lif.v_reset.flat[0]) == (pytest.approx(1.0), 0.0)


def test_a_soft_reset_is_written_only_where_it_may_be() -> None:
    model, x = on_grid(plain(SpikingNeuron(leaky(2.0, v_reset=None, v_threshold=0.75)))), sequence(1, 6, 6)
    with pytest.raises(InputError, match=r"neuron '1' .* resets softly, .*allow_soft_reset=True"):
        to_nir(model, x)
    graph = to_nir(model, x, allow_soft_reset=True)
    with torch.no_grad():
        expected = model(x)
        assert torch.equal(from_nir(graph)(x), expected)
        assert not torch.equal(from_nir(graph, producer="spikenm_compile")(x), expected)
        assert torch.equal(from_nir(graph, producer="spikenm_compile", reset="soft")(x), expected)


def synaptic(**constants: Any) -> Neuron:
    equations = ("i = a * i + x", "v = b * v + g * i")
    return Neuron(equations, {"v": 0.0, "i": 0.0}, {"a": 0.5, "b": 0.75, "g": 2.0} | constants, "v", None)


NEURONS: dict[str, tuple[Neuron, str]] = {
    "if": (integrate_and_fire(v_threshold=0.5, fire=">"), "IF"),
    "lif per channel": (
        Neuron(
            ("h = beta * v + x", "s = h > th", "v = where(s, 0.25, h)"),
            {"v": 0.0},
            {"beta": (0.5, 0.75, 0.9), "th": (0.5, 1.0, 1.5)},
        ),
        "LIF",
    ),
    "subtracts where it spikes": (
        Neuron(("h = v + k * (l - v + x)", "s = h > 1", "v = where(s, h - 1, h)"), {"v": 0.5}, {"k": 0.2, "l": 0.5}),
        "LIF",
    ),
    "integrator": (Neuron(("v = v + 0.5 * x",), {"v": 0.0}, {}, "v", None), "I"),
    "readout": (Neuron(("v = v + k * (x - v)",), {"v": 0.0}, {"k": 0.1}, "v", None), "LI"),
    "synaptic readout": (synaptic(), "CubaLI"),
    "current before its decay": (
        Neuron(
            ("j = i + x", "h = v + 0.1 * (j - v)", "i = j - 0.2 * j", "s = h > 0.25", "v = where(s, 0, h)"),
            {"v": 0.0, "i": 0.0},
        ),
        "CubaLIF",
    ),
    "threshold": (Neuron(("s = x > 0.5",), {}), "Threshold"),
}


@pytest.mark.parametrize("name", NEURONS)
def test_neurons_there_and_back(name: str) -> None:
    canonical, kind = NEURONS[name]
    model, x = on_grid(plain(SpikingNeuron(canonical))), sequence(1, 6, 6)
    graph = to_nir(model, x, allow_soft_reset=True)
    assert kind in [type(node).__name__ for node in graph.nodes.values()]
    with torch.no_grad():
        expected, back = model(x), from_nir(graph)(x)
        assert torch.equal(back, expected)
        assert expected.std() > 0.05
        euler = from_nir(graph, dt=DT, reset="soft" if "subtracts" in name else "hard")(
            x
        )  # what the parameters alone say
    if canonical.levels is None:
        assert torch.allclose(euler, expected, rtol=1e-4, atol=1e-5)
    else:
        assert (euler != expected).float().mean() < 0.02


BEYOND: dict[str, Neuron] = {
    "late reset": Neuron(("r = v > 1", "v = 0.9 * v + x - r", "s = v > 1"), {"v": 0.0}),
    "adaptive": Neuron(("h = v + x", "s = h > b", "v = where(s, 0, h)", "b = 0.9 * b + s + 0.1"), {"v": 0.0, "b": 1.0}),
    "quadratic": Neuron(("h = v + x * v", "s = h > 1", "v = where(s, 0, h)"), {"v": 0.1}),
    "another input": Neuron(("v = 0.5 * v + y", "s = v > 1"), {"v": 0.0}, inputs=("y",)),
    "floor": Neuron(("h = max(v + x, 0)", "s = h > 1", "v = where(s, 0, h)"), {"v": 0.0}),
    "grows": Neuron(("h = 1.5 * v + x", "s = h > 1", "v = where(s, 0, h)"), {"v": 0.0}),
    "drifts": Neuron(("h = v + x - 0.1", "s = h > 1", "v = where(s, 0, h)"), {"v": 0.0}),
    "current one step late": Neuron(
        ("h = 0.9 * v + i", "i = 0.5 * i + x", "s = h > 1", "v = where(s, 0, h)"), {"v": 0.0, "i": 0.0}
    ),
    "resets at another level": Neuron(("h = v + x", "s = h > 1", "r = h > 2", "v = where(r, 0, h)"), {"v": 0.0}),
    "no reset": Neuron(("v = 0.5 * v + x", "s = v > 1"), {"v": 0.0}),
    "subtracts another number": Neuron(("h = v + x", "s = h > 1", "v = h - 2 * s"), {"v": 0.0}),
}


@pytest.mark.parametrize("name", BEYOND)
def test_neurons_that_nir_does_not_have(name: str) -> None:
    model = plain(SpikingNeuron(BEYOND[name]))
    with pytest.raises(InputError, match=r"neuron '1' \(.*\) has no form in NIR, whose neurons leak linearly"):
        to_nir(model, sequence(1, 6, 6), allow_soft_reset=True)


# Notes


def test_a_changed_node_is_not_overruled_by_its_note() -> None:
    graph = to_nir(on_grid(plain()), x := sequence(1, 6, 6), dt=1e-3)
    lif = next(node for node in graph.nodes.values() if isinstance(node, nir.LIF))
    lif.tau = lif.tau * 2.0
    with pytest.raises(InputError, match=r"\(LIF\) .* was changed after spikenm_compile wrote it.*producer="):
        from_nir(graph)
    changed = from_nir(graph, producer="spikenm_compile")
    assert changed.layers["1"].neuron.constants["tau"] == pytest.approx(4.0)  # type: ignore[union-attr, index]
    lif.metadata.clear()
    assert torch.equal(from_nir(graph)(x), changed(x))


def test_a_node_of_another_shape_is_not_overruled_by_its_note() -> None:
    per_channel = Neuron(("h = b * v + x", "s = h > 1", "v = where(s, 0, h)"), {"v": 0.0}, {"b": (0.5, 0.6, 0.7)})
    graph = to_nir(on_grid(plain(SpikingNeuron(per_channel))), sequence(1, 6, 6))
    lif = next(node for node in graph.nodes.values() if isinstance(node, nir.LIF))
    lif.tau = np.concatenate([lif.tau, lif.tau])
    with pytest.raises(InputError, match=r"was changed after spikenm_compile wrote it"):
        from_nir(graph)


@pytest.mark.parametrize("change", [{"version": 2}, {"equations": ["v"]}, {"states": None}, {"levels": [3]}, None])
def test_a_note_that_cannot_be_read(change: dict[str, Any] | None) -> None:
    graph = to_nir(on_grid(plain()), sequence(1, 6, 6))
    metadata = next(node for node in graph.nodes.values() if isinstance(node, nir.LIF)).metadata
    note = metadata["spikenm_neuron"]
    metadata["spikenm_neuron"] = note[:-9] if change is None else json.dumps(json.loads(note) | change)
    with pytest.raises(InputError, match=r"metadata spikenm_neuron of node '.*' of the NIR graph cannot be read"):
        from_nir(graph)


# Graphs written by hand


def test_graphs_inside_are_flattened_and_edges_into_one_node_add_up() -> None:
    inner = chain(nir.Linear(weight=2.0 * np.eye(4)), nir.Scale(scale=np.array([1.0, 2.0, 3.0, 4.0])))
    nodes = {
        "input": nir.Input(np.array([4])),
        "in.side": inner,
        "keys": unit_if(4),
        "output": nir.Output(np.array([4])),
    }
    edges = [("input", "in.side"), ("input", "keys"), ("in.side", "keys"), ("keys", "output")]
    network = from_nir(nir.NIRGraph(nodes, edges, type_check=False), dt=DT)
    assert [*network.layers] == ["in_side_0", "in_side_1", "keys_"]
    x = torch.tensor([0.125, 0.25, 0.375, 0.5]).expand(1, 2, 4)
    network(x)
    v = network.layers["keys_"].states[0]  # type: ignore[index]
    current = x[0] + 2.0 * x[0] * torch.tensor([1.0, 2.0, 3.0, 4.0])
    assert torch.equal(v, torch.where(current > 1.0, 0.0, current))


def test_layers_compute_what_nir_says() -> None:
    weight = np.arange(18.0, dtype=np.float32).reshape(2, 1, 3, 3)
    conv = nir.Conv2d((6, 6), weight, (2, 1), "same", 1, 2, np.ones(2, np.float32))
    conv.stride = (1, 1)
    scale = nir.Scale(scale=np.broadcast_to(np.array([2.0, 3.0])[:, None, None], (2, 6, 6)))
    window = (np.array([2, 2]), np.array([2, 2]), np.array([1, 1]))
    line = [conv, scale, nir.SumPool2d(*window), nir.AvgPool2d(*window), nir.Flatten(None, 0, -1)]
    found = from_nir(chain(*line))(x := torch.rand(3, 2, 2, 6, 6))
    y = torch.nn.functional.conv2d(x.flatten(0, 1), torch.tensor(weight), torch.ones(2), padding=1, groups=2)
    y = torch.nn.functional.avg_pool2d(y * torch.tensor([2.0, 3.0])[:, None, None], 2, 2, 1) * 4.0
    y = torch.nn.functional.avg_pool2d(y, 2, 2, 1).flatten(1).reshape(3, 2, -1)
    torch.testing.assert_close(found, y)


def test_a_conv1d_runs_in_torch() -> None:
    conv = nir.Conv1d(8, np.ones((2, 1, 3)), 1, "valid", 1, 1, np.zeros(2))
    assert from_nir(chain(conv))(torch.ones(2, 3, 1, 8)).eq(3.0).all()


def test_nirs_own_equations_where_only_dt_is_known() -> None:
    unit = {"tau_syn": 4 * DT, "tau_mem": 8 * DT, "r": 3.0, "v_leak": 0.25, "w_in": 2.0}
    node = nir.CubaLIF(**{k: full(v, 4) for k, v in unit.items()}, v_threshold=full(0.5, 4), v_reset=full(0.125, 4))
    found = from_nir(chain(node), dt=DT)(x := torch.rand(20, 2, 4).double())
    v, i = torch.full((2, 4), 0.25).double(), torch.zeros(2, 4).double()
    for x_t, spikes in zip(x, found, strict=True):
        i = i + (2.0 * x_t - i) / 4
        v = v + (0.25 - v + 3.0 * i) / 8
        assert torch.equal(spikes, (v > 0.5).double())
        v = torch.where(v > 0.5, 0.125, v)
    assert 0.05 < found.mean() < 0.95


def test_an_image_is_repeated_at_each_step() -> None:
    graph = chain(nir.Linear(weight=np.eye(4)), unit_if(4))
    still, moving = from_nir(graph, dt=DT, num_steps=NUM_STEPS), from_nir(graph, dt=DT)
    x = torch.rand(BATCH, 4)
    expected = moving(x.expand(NUM_STEPS, BATCH, 4))
    assert torch.equal(still(x), expected)
    assert expected.any()
    still.reset()
    lifted = lift_model(still, x)
    assert lifted.meta["num_steps"] == NUM_STEPS
    assert torch.equal(run_steps(lifted, x, NUM_STEPS).output, expected)


def test_states_live_on_until_reset() -> None:
    network, x = from_nir(chain(unit_if(4)), dt=DT), torch.full((1, 1, 4), 0.75)
    assert [float(network(x).max()) for _ in range(2)] == [0.0, 1.0]
    network(x)
    network.reset()
    assert float(network(x).max()) == 0.0
