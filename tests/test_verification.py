"""Proofs: an artifact that is right passes, and one that is wrong does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from step_graphs import StepGraphBuilder
from torch import nn
from torch.fx import GraphModule

from spikenm_compile.artifact.directory import read_artifact, write_artifact
from spikenm_compile.artifact.manifest import Manifest
from spikenm_compile.artifact.tensors import read_tensors, write_tensors
from spikenm_compile.errors import ArtifactError
from spikenm_compile.graph import LEVELS, run_steps
from spikenm_compile.ops import IntConv2d, Levels
from spikenm_compile.package import VECTORS_NAME, stored_tensors, write_package
from spikenm_compile.passes.quantize_inputs import QuantizeInputs
from spikenm_compile.pattern import Pattern
from spikenm_compile.targets.native import Native
from spikenm_compile.verification import (
    NUM_FRESH,
    Check,
    Flips,
    compare_with_float,
    format_checks,
    format_flips,
    fresh_inputs,
    reference,
    verify,
)


@pytest.fixture
def artifact(tmp_path: Path, lowered: GraphModule) -> Path:
    x = torch.rand(4, 2, 5, 5) * 4
    out = tmp_path / "artifact"
    write_package(lowered, Native(), out, name="test", pattern=Pattern(2, 4), samples=x)
    return out


def add_one_to_the_last_value(path: Path, file: str, name: str) -> None:
    """Change a tensor of a file and make the manifest agree, as a wrong build would."""
    manifest = read_artifact(path).manifest
    contents = {file: (path / file).read_bytes() for file in manifest.files}
    tensors = {name: array.copy() for name, array in read_tensors(path / file).items()}
    tensors[name].reshape(-1)[-1] += 1

    def fill(directory: Path) -> Manifest:
        for name, content in contents.items():
            (directory / name).write_bytes(content)
        write_tensors(directory / file, tensors)
        return manifest

    write_artifact(path, fill)


def test_a_right_artifact_passes_in_every_form(artifact: Path) -> None:
    checks = verify(artifact, {"given": torch.rand(3, 2, 5, 5) * 20})
    assert [(c.inputs, c.form, c.samples) for c in checks] == [
        ("test vectors", "sequence", 4),
        ("fresh", "sequence", NUM_FRESH),
        ("fresh", "step", NUM_FRESH),
        ("given", "sequence", 3),
        ("given", "step", 3),
    ]
    assert all(c.passed for c in checks)
    spikes, output, states = 3 * (8 * 25 + 12 * 25), 4, 8 * 25 + 12 * 25 + 4
    assert [c.compared for c in checks] == [
        4 * (spikes + output),
        NUM_FRESH * (spikes + output + states),
        NUM_FRESH * (output + 3 * states),
        3 * (spikes + output + states),
        3 * (output + 3 * states),
    ]


def test_code_with_a_wrong_bias_is_found(tmp_path: Path, lowered: GraphModule, monkeypatch: pytest.MonkeyPatch) -> None:
    """The weights that the code reads differ from those that the reference was computed with."""

    def wrong(graph: GraphModule) -> dict[str, np.ndarray[Any, Any]]:
        tensors = stored_tensors(graph)
        return tensors | {"conv2.bias": tensors["conv2.bias"] + np.float32(0.05)}

    monkeypatch.setattr("spikenm_compile.package.stored_tensors", wrong)
    x = torch.rand(4, 2, 5, 5) * 4
    write_package(lowered, Native(), tmp_path / "wrong", name="t", pattern=Pattern(2, 4), samples=x)
    monkeypatch.setattr("spikenm_compile.verification.read_lowered", lambda _: lowered)
    checks = verify(tmp_path / "wrong")
    assert [c.passed for c in checks] == [False, False, False]
    assert all(c.outputs > 0 for c in checks)
    assert checks[0].spikes > 0
    assert checks[1].states > 0
    assert checks[2].states > 0
    assert "NOT equal to the lowered graph" in format_checks(checks)


@pytest.mark.parametrize("name", ["output", "spikes.lif1", "spikes.lif2"])
def test_vectors_that_the_code_does_not_compute_are_found(artifact: Path, name: str) -> None:
    add_one_to_the_last_value(artifact, VECTORS_NAME, name)
    vectors, *others = verify(artifact)
    assert (vectors.outputs, vectors.spikes) == ((1, 0) if name == "output" else (0, 1))
    assert all(check.passed for check in others)


def test_an_altered_artifact_is_refused(artifact: Path) -> None:
    with (artifact / VECTORS_NAME).open("ab") as file:
        file.write(b"x")
    with pytest.raises(ArtifactError, match="was altered or truncated"):
        verify(artifact)


def test_a_check_passes_when_nothing_differs() -> None:
    assert Check("x", "step", 1, outputs=0, spikes=0, states=0, compared=9).passed
    for outputs, spikes, states in ((1, 0, 0), (0, 1, 0), (0, 0, 1)):
        assert not Check("x", "step", 1, outputs=outputs, spikes=spikes, states=states, compared=9).passed


def test_the_share_of_flips() -> None:
    assert Flips("lif", 200, 3).share == 0.015
    assert "1.500%" in format_flips([Flips("lif", 200, 3)])


def test_the_text_of_checks() -> None:
    text = format_checks([Check("fresh", "step", 32, 0, 0, 0, 1000)])
    assert text.splitlines()[-1] == "equal bit for bit to the lowered graph"
    assert "fresh" in text
    assert "1000" in text.replace(",", "")


def float_graph() -> GraphModule:
    b = StepGraphBuilder((2, 5, 5))
    s = b.neuron("lif1", b.layer("conv1", nn.Conv2d(2, 8, 3, padding=1), b.x))
    return b.output(b.neuron("lif2", b.layer("conv2", nn.Conv2d(8, 12, 3), s)))


def test_a_graph_flips_no_spike_of_its_own() -> None:
    graph = float_graph()
    flips = compare_with_float(graph, graph, torch.rand(5, 2, 5, 5) * 9, 4)
    assert flips == [Flips("lif1", 5 * 4 * 200, 0), Flips("lif2", 5 * 4 * 108, 0)]


def test_flips_are_counted_by_layer() -> None:
    graph, other = float_graph(), float_graph()
    other.load_state_dict(graph.state_dict())
    with torch.no_grad():
        other.get_submodule("conv2").bias.add_(1.0)  # type: ignore[operator]
    x = torch.rand(5, 2, 5, 5) * 9
    first, second = compare_with_float(other, graph, x, 4)
    assert first.flipped == 0
    expected = (run_steps(graph, x, 4).spikes["lif2"] != run_steps(other, x, 4).spikes["lif2"]).sum()
    assert second.flipped == int(expected) > 0


@pytest.mark.parametrize("per_step", [False, True])
def test_the_reference_in_batches_equals_one_run(per_step: bool) -> None:
    b = StepGraphBuilder((3,), per_step=per_step)
    graph = b.output(b.neuron("lif", b.layer("fc", nn.Linear(3, 4), b.x)))
    x = torch.rand(5, 150, 3) * 5 if per_step else torch.rand(150, 3) * 5
    with torch.no_grad():
        expected, actual = run_steps(graph, x, 5), reference(graph, x, 5)
    assert actual.output.shape == (5, 150, 4)
    assert torch.equal(actual.output, expected.output)
    assert torch.equal(actual.spikes["lif"], expected.spikes["lif"])
    assert torch.equal(actual.states["lif_v"], expected.states["lif_v"])


@pytest.mark.parametrize("levels", [Levels(0, 255, 0.0625), Levels(-128, 127, 0.1)], ids=str)
@pytest.mark.parametrize("per_step", [False, True])
@pytest.mark.parametrize("shape", [(2, 5, 5), (1, 4, 40)])
def test_fresh_inputs_lie_on_and_off_the_grid_and_beyond_both_ends(
    levels: Levels, per_step: bool, shape: tuple[int, ...]
) -> None:
    b = StepGraphBuilder(shape, per_step=per_step)
    graph = b.output(b.layer("conv1", nn.Conv2d(shape[0], 2, 3), b.x))
    QuantizeInputs(levels).apply(graph)
    x = fresh_inputs(graph, 3, seed=0)
    assert x.shape == ((3, NUM_FRESH, *shape) if per_step else (NUM_FRESH, *shape))
    on_grid = torch.isclose(x / levels.scale, (x / levels.scale).round(), rtol=0, atol=1e-4)
    by_sample = on_grid.movedim(int(per_step), 0).flatten(1).float().mean(1)
    assert by_sample[: NUM_FRESH // 2].eq(1.0).all()
    assert by_sample[NUM_FRESH // 2 :].lt(0.1).all()
    assert x.min() < levels.low * levels.scale
    assert x.max() > levels.high * levels.scale
    assert torch.equal(x, fresh_inputs(graph, 3, seed=0))
    assert not torch.equal(x, fresh_inputs(graph, 3, seed=1))


def test_a_model_without_quantiser_gets_fresh_inputs_too() -> None:
    b = StepGraphBuilder((3, 4, 4))
    graph = b.output(b.neuron("lif", b.x))
    assert not any(isinstance(m, IntConv2d) for m in graph.modules())
    assert LEVELS not in b.x.meta
    x = fresh_inputs(graph, 2, seed=0)
    assert x.min() < -1
    assert x.max() > 1
