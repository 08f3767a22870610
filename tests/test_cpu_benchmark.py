"""The CPU benchmark on tiny layers: each command, what peers compute, turns, fits, ratios and tables."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks import cpu, cpu_layers, cpu_lines, cpu_networks, cpu_recorded, cpu_tables
from benchmarks.cpu_lines import Fit, Point
from benchmarks.cpu_native import TimedLayer
from benchmarks.cpu_onnx import DenseLayer, channels_last_model, float_model, qdq_model
from benchmarks.cpu_peers import INT8, LIF, TORCH, lif, peers_of
from benchmarks.cpu_ratios import int8_peer, slowest
from benchmarks.cpu_results import About, Results, Row
from benchmarks.cpu_tables import BEGIN, END, layer_table, network_table, replace_table
from benchmarks.cpu_timing import Given, Plan, Taken, Times, random_spikes, take_turns
from benchmarks.cpu_workloads import LAYERS, NETWORKS, Shape, Variant, make_layer
from spikenm_compile.errors import InputError, PassError
from spikenm_compile.ops import IntConvNeuron
from spikenm_compile.passes.select_kernels import DENSE_ROWS, EVENT_ROWS, STAGGERED_ROWS
from spikenm_compile.pattern import Pattern
from spikenm_compile.targets.cpu import detect
from spikenm_compile.training.networks.blocks import Classifier, PerStep, Spiking
from spikenm_compile.tuning.one_layer import conv_of

TINY = Shape(16, 16, 4)
DENSE = DenseLayer(8, 4, (5, 5), (3, 3), (2, 2), (1, 1), 1, 3, is_linear=False)
QUICK = ["--rounds", "1", "--patterns", "2:4@stagger", "--weights", "int8", "--density", "10"]


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Every part is a layer or two; gives the folder of the results."""
    monkeypatch.setitem(LAYERS, "tiny", TINY)
    monkeypatch.setitem(NETWORKS, "small", ("tiny", "tiny"))
    points = {str(v): Point(TINY, v) for v in (Variant("2:4", "int8"), Variant("1:4@stagger", "int8"))}
    monkeypatch.setitem(cpu_lines.AXES, "something", {0.1: points, 0.5: points})
    monkeypatch.setattr(cpu_recorded, "vgg11", lambda *_, **__: _network())
    monkeypatch.setattr(cpu_recorded, "SAMPLES", 4)
    monkeypatch.setattr("benchmarks.cpu_timing.CACHE_BYTES", 1 << 12)
    return tmp_path


def _network() -> Classifier:
    layers = [Spiking(1, 8, stride=4), Spiking(8, 8), PerStep(torch.nn.MaxPool2d(8))]
    return Classifier(torch.nn.Sequential(*layers), 8, 10, 4)


def test_each_command_runs(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ["--out", str(tiny)]
    assert cpu.main(["layers", "--only", "tiny", *QUICK, *out]) == 0
    assert cpu.main(["networks", "--only", "small", *QUICK, *out]) == 0
    recorded = ["--only", "2:4", "--rounds", "1", "--images", "16", "--cache", str(tiny / "kept")]
    assert cpu.main(["recorded", *recorded, *out]) == 0
    assert cpu.main(["lines", "--only", "something", "--rounds", "1", *out]) == 0
    text = capsys.readouterr().out
    assert "layers tiny: after" in text
    assert "Least gain of a chosen kernel over the best peer: " in text
    assert "2:4 body.0.1.conv (8-8@8)" in text
    families = {row.family for row in Results(tiny / "layers.jsonl").rows if row.what == "2:4@stagger int8"}
    assert families == set(TimedLayer(_staggered(), TINY.input, 4).families()) >= {STAGGERED_ROWS, DENSE_ROWS}
    assert len(list((tiny / "kept").iterdir())) == 1

    assert cpu.main(["plots", *out]) == 0
    (tiny / "docs").mkdir()
    for name in ("README.md", "docs/cpu_kernels.md"):
        (tiny / name).write_text(f"before\n{BEGIN}\nstale\n{END}\nafter\n")
    assert cpu.main(["tables", "--root", str(tiny), *out]) == 0
    assert "stale" not in (tiny / "README.md").read_text()
    docs = (tiny / "docs" / "cpu_kernels.md").read_text()
    for word in (
        "before\n",
        "2:4@stagger int8",
        "python -m benchmarks.cpu networks --only small",
        "R²",
        "[lines](../lines.png)",
        "\nafter\n",
    ):
        assert word in docs


def _staggered() -> IntConvNeuron:
    return make_layer(TINY, Pattern.parse("2:4@stagger"), "int8", 0.1)


def test_a_run_is_resumed(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def measure(name: str, *_: object) -> list[Row]:
        seen.append(name)
        return [_row(name, "2:4 int8", 1.0)]

    monkeypatch.setattr(cpu, "measure_layer", measure)
    names = ["--only", "tiny", "c64@32", *QUICK, "--out", str(tiny)]
    cpu.main(["layers", "--only", "tiny", *QUICK, "--out", str(tiny)])
    cpu.main(["layers", *names, "--resume"])
    assert seen == ["tiny", "c64@32"]
    cpu.main(["layers", *names])
    assert len(seen) == 4
    assert len(Results(tiny / "layers.jsonl").rows) == 2


def test_an_unknown_place_is_named(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cpu.main(["lines", "--only", "speed", "--out", str(tiny)]) == 1
    assert "lines has no speed; it has density, N/M, T, outputs" in capsys.readouterr().err


def test_a_wrong_kernel_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    spikes = random_spikes(TINY.input, 4, 0.5, np.random.default_rng(0))
    torch.manual_seed(0)
    timed = TimedLayer(make_layer(TINY, Pattern(2, 4), "int8", 0.1), TINY.input, 4)
    layer = timed.with_family(EVENT_ROWS)
    call = timed.compile(layer, detect(), spikes)
    assert call.output() != bytes(len(call.output()))
    monkeypatch.setattr("benchmarks.cpu_native.NativeCall.output", lambda _: b"")
    with pytest.raises(PassError, match="computes something else than the reference"):
        timed.compile(layer, detect(), spikes)


def test_what_build_chooses_is_a_family_or_something_of_its_own() -> None:
    timed = TimedLayer(_staggered(), TINY.input, 4)
    built = timed.as_built(0.5)
    assert timed.usual_family(built) == conv_of(built).kernel in timed.families()
    assert conv_of(timed.layer).kernel == ""
    conv_of(built).tile_width = 8
    assert timed.usual_family(built) is None


def test_kernels_of_equal_work_are_compiled_once() -> None:
    variants = [Variant(pattern, "int8") for pattern in ("2:4", "4:2:4", "2:4@stagger")]
    example = random_spikes(TINY.input, 4, 0.5, np.random.default_rng(0))
    kernels = cpu_layers.compile_variants(TINY, variants, detect(), example)
    assert len({kernels.names[variant, EVENT_ROWS] for variant in variants}) == 1
    assert len({name for (_, family), name in kernels.names.items() if family == DENSE_ROWS}) == 1
    assert f"{STAGGERED_ROWS} 2:4@stagger int8" in kernels.calls


@pytest.mark.parametrize("make", [float_model, qdq_model, channels_last_model])
def test_peers_with_neurons_give_the_spikes_of_their_currents(make: object) -> None:
    assert callable(make)
    x = 4 * random_spikes((8, 5, 5), 3, 0.5, np.random.default_rng(0))
    is_last = make is channels_last_model
    x = np.moveaxis(x, 1, -1) if is_last else x
    bare, full = (make(DENSE, has_lif=has_lif) for has_lif in (False, True))
    given = np.ascontiguousarray(x, np.float32 if make is float_model else np.uint8)
    current, spikes = (
        ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"x": given})[0]
        for model in (bare, full)
    )
    assert current.shape == ((3, 3, 3, 4) if is_last else (3, 4, 3, 3))
    if make is not float_model:
        current = (current.astype(np.float32) - 128) * np.float32(0.1)
    expected = lif(torch.from_numpy(current)).numpy()
    assert np.array_equal(spikes, expected)
    assert 0 < expected.mean() < 1


def test_all_peers_take_a_layer() -> None:
    given = Given(random_spikes((8, 5, 5), 3, 0.5, np.random.default_rng(0)))
    peers = peers_of(DENSE, has_lif=True)
    assert {*INT8, INT8[1] + LIF, TORCH, TORCH + LIF} <= peers.keys()
    linear = DenseLayer(8, 4, (1, 1), (1, 1), (1, 1), (0, 0), 1, 3, is_linear=True)
    pixel = Given(random_spikes((8, 1, 1), 3, 0.5, np.random.default_rng(0)))
    for calls, levels in ((peers, given), (peers_of(linear, has_lif=True), pixel)):
        for call in calls.values():
            call.give(levels)
            assert call().wall > 0


class Counted:
    """A call that takes as many microseconds as its input holds spikes."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def give(self, given: Given) -> None:
        self.seen.append(int(given.form("sum", lambda levels: levels.sum()[None])[0]))

    def __call__(self) -> Taken:
        return Taken(float(self.seen[-1]), 2.0 * self.seen[-1])


def test_turns() -> None:
    counts = iter(range(1, 100))

    def draw() -> Sequence[Given]:
        return [Given(np.ones((1, 1, 1, next(counts)), np.uint8))]

    a, b = Counted(), Counted()
    times = take_turns({"a": [a], "b": [b]}, draw, Plan(rounds=2, warm=1, timed=2))
    assert a.seen == b.seen == [1, 2, 3, 4, 5, 6]
    assert times["a"] == Times(2.0, 2.75, 4.0, 5.25, 8.0)  # calls 1 and 4 only warm up
    c = Counted()
    take_turns({"c": [c]}, draw, Plan(rounds=5, warm=0, timed=2, enough=1e-5))
    assert len(c.seen) == 2


def test_fits() -> None:
    fit = Fit.of((0.0, 1.0, 2.0), (1.0, 3.0, 5.0))
    assert (fit.slope, fit.intercept, fit.r2) == pytest.approx((2.0, 1.0, 1.0))
    assert Fit.of((0.0, 1.0, 2.0), (0.0, 1.0, 0.0)).r2 == pytest.approx(0.0)
    assert Fit.of((0.0, 1.0), (2.0, 2.0)).r2 == 1.0


def _row(place: str, what: str, microseconds: float, family: str = "", *, is_chosen: bool = False) -> Row:
    times = Times(*(microseconds,) * 5)
    return Row(place, 0.1, what, family, is_chosen, times)


ROWS = [
    _row("a", INT8[0], 300.0),
    _row("a", INT8[1], 200.0),
    _row("a", TORCH, 150.0),
    _row("a", "2:4 int8", 50.0, EVENT_ROWS, is_chosen=True),
    _row("a", "2:4 int8", 40.0, DENSE_ROWS),
]


def test_ratios_and_tables() -> None:
    peer = int8_peer(ROWS)
    assert peer is not None
    assert peer.what == INT8[1]
    slow = slowest(ROWS)
    assert slow is not None
    assert (slow.peer, slow.ratio) == (TORCH, 3.0)
    header, rows = layer_table(ROWS)
    assert list(header) == ["", "a"]
    assert ("2:4 int8", "50.0 (4.0×); dense-rows 40.0 (5.0×)") in rows
    rows = [_row("VGG-11 cold", INT8[0], 300.0), _row("VGG-11 cold", "2:4 int8", 100.0)]  # type: ignore[list-item]
    _, cells = network_table(rows)  # type: ignore[arg-type]
    assert cells[-1] == ("2:4 int8", "", "", "", "100 (3.0×)", "2.5× / 3×")


def test_results_come_back(tmp_path: Path) -> None:
    results = Results(tmp_path / "x.jsonl")
    results.begin(About.now(detect(), "command"))
    row = Row("n", 0.1, "w", "", True, Times(1.0, 2.0, 3.0, 4.0, 5.0, (1.0, 2.0)))
    results.add([row])
    again = Results(results.path)
    assert (again.about, again.rows, again.places) == (results.about, [row], {"n"})
    results.path.write_text("{}\n")
    with pytest.raises(InputError, match="no file of results"):
        Results(results.path)


def test_tables_need_markers_and_networks(tmp_path: Path) -> None:
    path = tmp_path / "text.md"
    path.write_text(BEGIN)
    with pytest.raises(InputError, match="lacks the markers"):
        replace_table(path, "")
    with pytest.raises(InputError, match="tables need the networks"):
        cpu_tables.write_tables(tmp_path, tmp_path)


def test_every_layer_of_a_network_is_known() -> None:
    assert {name for layers in NETWORKS.values() for name in layers} <= LAYERS.keys()
    assert cpu_layers.fits(LAYERS["c64@32"], Variant("128:2:4", "int8")) is False
    assert set(cpu_networks.plans(1)) == {"warm", "cold"}
