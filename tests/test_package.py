"""An artifact carries its reference: the lowered graph comes back from its files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from step_graphs import StepGraphBuilder, randomize
from torch import Tensor, nn
from torch.fx import GraphModule

from spikenm_compile.artifact.directory import Artifact, read_artifact
from spikenm_compile.artifact.tensors import read_tensors
from spikenm_compile.errors import ArtifactError, ToolError
from spikenm_compile.graph import format_graph, run_steps
from spikenm_compile.ops import Levels
from spikenm_compile.package import (
    LOWERED_NAME,
    NUM_VECTORS,
    VECTORS_NAME,
    convolutions,
    layer_reports,
    read_lowered,
    stored_tensors,
    write_package,
)
from spikenm_compile.passes.base import run_pipeline
from spikenm_compile.passes.pipelines import lowering
from spikenm_compile.pattern import Pattern
from spikenm_compile.targets.base import Contents, Emit, no_emit


class Paper:
    """A target whose code is a note."""

    name = "paper"
    summary = "a note"
    families = ("event-rows", "dense-rows")
    known_cpu = None

    def build(
        self,
        lowered: GraphModule,
        directory: Path,
        *,
        name: str,
        num_steps: int,
        emit: Emit = no_emit,
        contents: Contents | None = None,
    ) -> dict[str, Any]:
        (directory / "note.txt").write_text(f"{name} {num_steps}")
        emit("note.txt", name)
        return {"kind": "paper"}


def write(lowered: GraphModule, out: Path, samples: Tensor) -> Artifact:
    return write_package(lowered, Paper(), out, name="test", pattern=Pattern(2, 4), samples=samples)


def test_the_lowered_graph_comes_back(tmp_path: Path, lowered: GraphModule) -> None:
    x = torch.rand(4, 2, 5, 5) * 4
    artifact = write(lowered, tmp_path / "a", x)
    for again in (read_lowered(artifact), read_lowered(read_artifact(tmp_path / "a"))):
        assert format_graph(again) == format_graph(lowered)
        assert again.meta["num_steps"] == 3
        expected, actual = run_steps(lowered, x, 3), run_steps(again, x, 3)
        assert torch.equal(actual.output, expected.output)
        assert all(torch.equal(actual.spikes[layer], s) for layer, s in expected.spikes.items())
        for (name, conv), (_, other) in zip(convolutions(lowered), convolutions(again), strict=True):
            assert torch.equal(conv.weight, other.weight), name
            assert (conv.layer, conv.why, conv.kernel, conv.pattern) == (
                other.layer,
                other.why,
                other.kernel,
                other.pattern,
            )


def test_the_manifest_says_what_became_of_each_layer(tmp_path: Path, lowered: GraphModule) -> None:
    manifest = write(lowered, tmp_path / "a", torch.rand(4, 2, 5, 5)).manifest
    assert (manifest.name, manifest.target, manifest.pattern, manifest.num_steps) == ("test", "paper", "2:4", 3)
    assert (manifest.input.shape, manifest.input.per_step, manifest.input.levels) == (
        (2, 5, 5),
        False,
        "0..255 × 0.0625",
    )
    assert (manifest.output.shape, manifest.output.per_step) == ((4,), False)
    assert [(r.name, r.kind, r.shape, r.pattern, r.kernel) for r in manifest.layers] == [
        ("conv1", "conv", (8, 2, 3, 3), None, "dense-rows"),
        ("conv2", "conv", (12, 8, 3, 3), "2:4", "event-rows"),
        ("fc", "linear", (4, 300, 1, 1), None, "event-rows"),
    ]
    conv2 = manifest.layers[1]
    assert conv2.weights == 864
    assert conv2.nonzeros == int(torch.count_nonzero(dict(convolutions(lowered))["lif2.conv"].weight)) <= 432
    assert conv2.bytes_dense == 4 * 864
    tensors = read_tensors(tmp_path / "a" / "weights.safetensors")
    stored = sum(array.nbytes for name, array in tensors.items() if name.startswith("conv2."))
    assert conv2.bytes_packed == stored < 864
    assert manifest.layers == layer_reports(lowered)


def test_only_layers_with_a_pattern_have_metadata(lowered: GraphModule) -> None:
    tensors = stored_tensors(lowered)
    assert sorted(tensors) == sorted(
        [f"{layer}.{part}" for layer in ("conv1", "conv2", "fc") for part in ("values", "scale", "bias")]
        + ["conv2.metadata"]
    )
    assert tensors["conv1.values"].dtype == np.int8
    assert tensors["fc.values"].shape == (4, 300, 1, 1)


@pytest.mark.parametrize("num_samples", [1, NUM_VECTORS, NUM_VECTORS + 3])
def test_vectors_are_what_the_lowered_graph_computes(tmp_path: Path, lowered: GraphModule, num_samples: int) -> None:
    x = torch.rand(num_samples, 2, 5, 5) * 4
    write(lowered, tmp_path / "a", x)
    vectors = read_tensors(tmp_path / "a" / VECTORS_NAME)
    assert sorted(vectors) == ["input", "output", "spikes.lif1", "spikes.lif2"]
    kept = x[:NUM_VECTORS]
    expected = run_steps(lowered, kept, 3)
    assert np.array_equal(vectors["input"], kept.numpy())
    assert np.array_equal(vectors["output"], expected.output.numpy())
    assert vectors["spikes.lif2"].dtype == np.uint8
    assert np.array_equal(vectors["spikes.lif2"], expected.spikes["lif2"].numpy())
    assert 0 < vectors["spikes.lif2"].mean() < 1


def test_vectors_of_an_input_of_each_step_keep_all_steps(tmp_path: Path) -> None:
    b = StepGraphBuilder((6,), per_step=True)
    graph = b.output(b.neuron("lif", b.layer("fc", nn.Linear(6, 5), b.x)))
    randomize(graph, 0)
    lowered = run_pipeline(lowering(Levels(0, 255, 0.0625), Pattern(2, 4), Paper.families), graph)
    x = torch.rand(4, 11, 6)
    manifest = write(lowered, tmp_path / "a", x).manifest
    vectors = read_tensors(tmp_path / "a" / VECTORS_NAME)
    assert np.array_equal(vectors["input"], x[:, :NUM_VECTORS].numpy())
    assert vectors["output"].shape == (4, NUM_VECTORS, 5)
    assert manifest.input.per_step
    assert manifest.output.per_step
    assert manifest.output.shape == (5,)


def test_a_failed_build_leaves_nothing(tmp_path: Path, lowered: GraphModule) -> None:
    class Broken(Paper):
        def build(self, *_args: Any, **_options: Any) -> dict[str, Any]:
            raise ToolError("no compiler")

    with pytest.raises(ToolError, match="no compiler"):
        write_package(
            lowered, Broken(), tmp_path / "a", name="t", pattern=Pattern(2, 4), samples=torch.rand(1, 2, 5, 5)
        )
    assert list(tmp_path.iterdir()) == []


def test_two_packages_of_one_graph_are_equal_byte_for_byte(tmp_path: Path, lowered: GraphModule) -> None:
    x = torch.rand(4, 2, 5, 5)
    for name in ("a", "b"):
        write(lowered, tmp_path / name, x)
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes(), file.name


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content["weights"].popitem(),
        lambda content: content.pop("graph"),
        lambda content: next(iter(content["weights"].values())).update(layer="another"),
        lambda content: next(iter(content["weights"].values())).update(shape=[1, 2, 3]),
        lambda content: content["graph"]["nodes"].pop(0),
    ],
    ids=["a layer missing", "graph missing", "unknown tensor", "another shape", "a node missing"],
)
def test_a_reference_that_does_not_fit_its_weights_is_an_error(
    tmp_path: Path, lowered: GraphModule, damage: Callable[[dict[str, Any]], object]
) -> None:
    artifact = write(lowered, tmp_path / "a", torch.rand(1, 2, 5, 5))
    path = artifact.path / LOWERED_NAME
    content = json.loads(path.read_text())
    damage(content)
    path.write_text(json.dumps(content))
    with pytest.raises(ArtifactError):
        read_lowered(artifact)
