from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import snntorch
import torch
from frontend.nir_graphs import DT, Steps, chain, full, plain, through_a_file, unit_if
from frontend.nir_zoo import on_grid, sequence
from torch import Tensor, nn

from spikenm_compile.errors import InputError, ToolError
from spikenm_compile.neurons import IF
from spikenm_compile.nir import NirNetwork, from_nir, to_nir

nir: Any = pytest.importorskip("nir")


def recurrent() -> Any:
    graph = chain(unit_if(4), nir.Linear(weight=np.eye(4)))
    graph.edges.append(("1", "0"))
    return graph


def varied(field: str, value: Any) -> Any:
    node = nir.LIF(tau=full(DT, 2, 2), r=full(1.0, 2, 2), v_leak=full(0.0, 2, 2), v_threshold=full(1.0, 2, 2))
    setattr(node, field, value)
    return chain(node)


def detached(name: str, edge: tuple[str, str] | None) -> Any:
    graph = chain(unit_if(4))
    graph.nodes[name] = unit_if(4)
    graph.edges += [edge] if edge is not None else []
    return graph


REFUSED: dict[str, tuple[Callable[[], Any], dict[str, Any], str]] = {
    "nobody": (lambda: chain(unit_if(4)), {}, r"node '0' \(IF\).*NIR stores no time step.*producer= \(.*norse.*or dt="),
    "unknown": (lambda: chain(unit_if(4)), {"producer": "lava"}, r"producer 'lava' is unknown; known are spiken"),
    "reset": (lambda: chain(unit_if(4)), {"reset": "zero"}, r"reset 'zero' is unknown"),
    "dt": (lambda: chain(unit_if(4)), {"dt": 0.0}, r"dt=0\.0 is no time step"),
    "num_steps": (lambda: chain(unit_if(4)), {"dt": DT, "num_steps": 0}, r"num_steps=0 is no number of time steps"),
    "kind": (lambda: chain(unit_if(4)), {"producer": "snntorch"}, r"snntorch does not write; it writes LIF, CubaLIF"),
    "numbers": (lambda: chain(unit_if(4)), {"producer": "norse"}, r"r = 10000, where norse writes 1; only what"),
    "cycle": (recurrent, {"dt": DT}, r"feeds back: .* -> .*; a step graph has no feedback.*recurrent"),
    "delay": (
        lambda: chain(nir.Delay(full(1.0, 4))),
        {"dt": DT},
        r"node '0' of the NIR graph is a Delay, which a step",
    ),
    "twice": (lambda: detached("x", ("0", "output")), {"dt": DT}, r"edge from '0' to 'output' stands twice"),
    "nowhere": (lambda: detached("x", ("0", "y")), {"dt": DT}, r"an edge of the NIR graph names 'y', which is no node"),
    "unfed": (lambda: detached("x", None), {"dt": DT}, r"node 'x' \(IF\) of the NIR graph has no edge into it"),
    "outputs": (
        lambda: nir.NIRGraph({"a": nir.Input(np.array([1]))}, [], type_check=False),
        {"dt": DT},
        r"has 0 Output nodes \(none\); one input and one output",
    ),
    "in a channel": (
        lambda: varied("tau", np.array([[1.0, 2.0], [3.0, 3.0]])),
        {"dt": DT},
        r"tau of node '0' \(LIF\) .*shape \[2, 2\], differs from neuron to neuron of one channel",
    ),
    "not a number": (lambda: varied("r", full(np.nan, 2, 2)), {"dt": DT}, r"parameter r .* is no array of numbers"),
    "first value": (
        lambda: varied("v_leak", np.array([[1.0, 1.0], [3.0, 3.0]])),
        {"dt": DT},
        r"starts its potential at v_leak, which has 2 values",
    ),
    "scale": (lambda: chain(nir.Scale(np.arange(8.0).reshape(2, 2, 2))), {}, r"\(Scale\) .*one factor per value"),
    "flatten": (lambda: chain(nir.Flatten(np.array([2, 2, 2]), 1, -1)), {}, r"\(Flatten\) .*has dimensions 1 to -1"),
    "bias": (lambda: chain(nir.Affine(np.eye(4), np.zeros(3))), {}, r"\(Affine\) .*has a bias of shape \[3\]"),
    "no graph": (lambda: 3, {}, r"a int is no NIR graph"),
    "sinabs threshold": (
        lambda: chain(nir.IF(r=full(1.0, 4), v_threshold=full(0.0, 4))),
        {"producer": "sinabs"},
        r"counts spikes in thresholds, which must be above zero",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_graphs_that_are_refused(name: str) -> None:
    make, options, message = REFUSED[name]
    with pytest.raises(InputError, match=message) as caught:
        from_nir(make(), **options)
    assert "\n" not in str(caught.value)


class Product(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.neuron = IF()

    def forward(self, x: Tensor) -> Tensor:
        spikes = self.neuron(x)
        return torch.mul(spikes, x)


class Readout(nn.Module):
    def __init__(self, head: nn.Module | None = None) -> None:
        super().__init__()
        self.body, self.head = plain(), head or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.body(x).mean(0))
        return y


class Twice(Product):
    def forward(self, x: Tensor) -> Tensor:
        return self.neuron(x + x)  # type: ignore[no-any-return]


class Feedback(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lif = snntorch.RLeaky(0.9, conv2d_channels=1, kernel_size=3, init_hidden=True)

    def forward(self, x: Tensor) -> Tensor:
        self.lif.reset_mem()
        return torch.stack([self.lif(x_t) for x_t in x])


class Third(Product):
    def forward(self, x: Tensor) -> Tensor:
        return self.neuron(x / 3.0)  # type: ignore[no-any-return]


MODELS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "max pool": (lambda: nn.Sequential(plain(), Steps(nn.MaxPool2d(2))), r"layer '1.module' is a MaxPool2d, which NIR"),
    "norm": (lambda: nn.Sequential(Steps(nn.BatchNorm2d(1)), IF()), r"\(BatchNorm2d\) cannot be folded"),
    "product": (Product, r"operation 'mul' .* has no form in NIR"),
    "feedback": (Feedback, r"'lif_recurrent' reads the state 'lif_spk', .*feed-forward networks are written as NIR"),
    "readout": (Readout, r"reduces its output over time, .*drop_readout=True"),
    "twice": (Twice, r"reads the same value twice in a sum"),
    "division": (Third, r"divides by 3, and NIR multiplies"),
    "padding": (
        lambda: nn.Sequential(Steps(nn.Conv2d(1, 1, 3, 1, 1, padding_mode="reflect")), IF()),
        r"pads with 'ref",
    ),
    "ceil": (lambda: nn.Sequential(IF(), Steps(nn.AvgPool2d(4, ceil_mode=True))), r"\(AvgPool2d\) has ceil_mode"),
    "divisor": (lambda: nn.Sequential(IF(), Steps(nn.AvgPool2d(2, divisor_override=3))), r"a divisor of its own"),
    "windows": (lambda: nn.Sequential(IF(), Steps(nn.AdaptiveAvgPool2d(4))), r"windows of several sizes"),
    "rows": (lambda: nn.Sequential(IF(), nn.Linear(6, 6)), r"\(Linear\) reads values of shape \[1, 6, 6\]"),
}


@pytest.mark.parametrize("name", MODELS)
def test_models_that_are_refused(name: str) -> None:
    make, message = MODELS[name]
    with pytest.raises(InputError, match=message) as caught:
        to_nir(make().eval(), sequence(1, 6, 6))
    assert "\n" not in str(caught.value)


def test_a_readout_may_be_left_out() -> None:
    model, x = on_grid(Readout()), sequence(1, 6, 6)
    with torch.no_grad():
        expected = model(x)
        assert torch.equal(from_nir(to_nir(model, x, drop_readout=True))(x).mean(0), expected)
    with pytest.raises(InputError, match=r"'head.1' computes on the output read out over time"):
        to_nir(Readout(nn.Sequential(nn.Flatten(), nn.Linear(108, 2))), x, drop_readout=True)
    with pytest.raises(InputError, match=r"dt=-1 is no duration"):
        to_nir(model, x, dt=-1)


@pytest.mark.parametrize("kept", [0, 100, 2000])
def test_a_truncated_file(tmp_path: Path, kept: int) -> None:
    path = through_a_file(chain(unit_if(4)), tmp_path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(InputError, match=r"'graph.nir' cannot be read as a NIR graph \(.*\); complete files") as caught:
        from_nir(path, dt=DT)
    assert "\n" not in str(caught.value)


def test_files_of_something_else(tmp_path: Path) -> None:
    text, other, single = tmp_path / "a.txt", tmp_path / "b.h5", tmp_path / "c.nir"
    text.write_text("no graph")
    nir.write(single, unit_if(4))
    h5py = pytest.importorskip("h5py")
    with h5py.File(other, "w") as file:
        file["weights"] = np.eye(3)
    for path in (text, other, single):
        with pytest.raises(InputError, match=rf"'{path.name}' cannot be read as a NIR graph"):
            from_nir(str(path))
    with pytest.raises(InputError, match=r"there is no file 'd.nir'"):
        from_nir(tmp_path / "d.nir")


def test_the_package_nir_is_needed_only_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nir", None)
    with pytest.raises(ToolError, match=r"the package nir cannot be imported .*pip install nir"):
        from_nir("graph.nir")


def test_the_network_is_a_module_of_named_layers() -> None:
    network = from_nir(to_nir(on_grid(plain()), sequence(1, 6, 6)))
    assert isinstance(network, NirNetwork)
    assert [type(m).__name__ for m in network.layers.values()] == ["Conv2d", "SpikingNeuron"]
    assert [*network.state_dict()] == ["layers.0_module.weight", "layers.0_module.bias"]
