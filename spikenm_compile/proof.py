"""The `verify` command: artifact against lowered graph, and lowered graph against the float model if it is known."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.fx import GraphModule

from spikenm_compile.artifact.directory import Artifact, read_artifact
from spikenm_compile.artifact.manifest import FLOAT32, Manifest
from spikenm_compile.compiler import lift_model
from spikenm_compile.errors import InputError
from spikenm_compile.float_proof import compare_with_model
from spikenm_compile.frontend.readings import LAYOUT, steps_first
from spikenm_compile.graph import SHAPE, spike_nodes, the_input
from spikenm_compile.network import CARRIED_NAME, Network, load_network
from spikenm_compile.package import read_lowered
from spikenm_compile.report.table import format_table
from spikenm_compile.runtime import load
from spikenm_compile.training.digits import all_digits
from spikenm_compile.training.loop import accuracy
from spikenm_compile.verification import (
    check_nearness,
    compare_with_float,
    format_checks,
    format_flips,
    reference,
    verify,
)

DIGITS = (1, 8, 8), (10,)
"""Shapes of a digit and of its class logits."""


@dataclass(frozen=True)
class Proof:
    """Outcome of the command."""

    passed: bool
    """Whether the artifact equals its lowered graph everywhere."""
    text: str


def prove(path: Path, source: str | None, weights: Path | None, *, digits: bool, seed: int) -> Proof:
    """Verify the artifact at `path`.

    Args:
        path: the artifact.
        source: `FILE.py:factory` of the float model; None: the carried network if the artifact was built from it.
        weights: the model's state_dict.
        digits: run all of scikit-learn's digits, and report accuracy on them.
        seed: of the fresh inputs.

    Raises:
        ArtifactError, TargetError, ToolError: the artifact is altered, or cannot be run here.
        InputError: the float model is not the one that the artifact was built from, or the digits do not fit it.
    """
    artifact = read_artifact(path)
    manifest = artifact.manifest
    if digits:
        _check_takes_digits(path, manifest)
    images, labels = all_digits() if digits else (None, None)
    if manifest.arithmetic == FLOAT32:
        return _prove_float(path, artifact, _float_network(source, weights, manifest.name), images, labels)
    checks = verify(path, None if images is None else {f"{len(images)} digits": images}, seed=seed)
    parts = [format_checks(checks)]
    network = _float_network(source, weights, manifest.name)
    if network is not None:
        lowered, step_graph = read_lowered(artifact), lift_model(network.model, network.example_inputs)
        x = steps_first(step_graph.meta[LAYOUT], network.example_inputs) if images is None else images
        _check_same_network(path, network, step_graph, lowered)
        flips = compare_with_float(lowered, step_graph, x, manifest.num_steps)
        parts += ["", "spikes that differ from the float model, layer by layer:", format_flips(flips)]
    if images is not None and labels is not None:
        parts += ["", _accuracies(path, network, images, labels)]
    return Proof(all(check.passed for check in checks), "\n".join(parts))


def _prove_float(
    path: Path, artifact: Artifact, network: Network | None, images: Tensor | None, labels: Tensor | None
) -> Proof:
    """Near PyTorch on the test vectors, and on more where the model is known."""
    checks = verify(path)
    if network is not None:
        checks.append(check_nearness(compare_with_model(path, artifact, network, images)))
    parts = [format_checks(checks)]
    if images is not None and labels is not None:
        parts += ["", _accuracies(path, network, images, labels)]
    return Proof(all(check.passed for check in checks), "\n".join(parts))


def _check_takes_digits(path: Path, manifest: Manifest) -> None:
    found = manifest.input.shape, manifest.output.shape
    if found != DIGITS or manifest.input.per_step or manifest.output.per_step:
        takes, wanted = (f"{list(shapes[0])} -> {list(shapes[1])}" for shapes in (found, DIGITS))
        raise InputError(f"'{path}' is {takes}, but the digits need {wanted} for the whole run; leave out --digits")


def _float_network(source: str | None, weights: Path | None, name: str) -> Network | None:
    if source is None and weights is None and name != CARRIED_NAME:
        return None
    return load_network(source, weights)


def _check_same_network(path: Path, network: Network, step_graph: GraphModule, lowered: GraphModule) -> None:
    """The same input, and the same spiking layers of the same sizes."""
    if _sizes(step_graph) != _sizes(lowered):
        raise InputError(
            f"'{path}' was not built from {network.name}: their inputs or spiking layers differ; "
            "give the model that it was built from"
        )


def _sizes(graph_module: GraphModule) -> dict[str, int]:
    """Values of one sample of one step, by spiking layer; the input's under an empty name."""
    nodes = {"": the_input(graph_module), **spike_nodes(graph_module)}
    return {name: math.prod(node.meta[SHAPE]) for name, node in nodes.items()}


def _accuracies(path: Path, network: Network | None, images: Tensor, labels: Tensor) -> str:
    model = load(path)
    outputs = {"artifact": torch.from_numpy(model.run(images.numpy()))}
    if model.manifest.arithmetic != FLOAT32:
        lowered = reference(read_lowered(read_artifact(path)), images, model.manifest.num_steps).output
        outputs = {"lowered graph": lowered, **outputs}
    rows = [] if network is None else [("float model", f"{accuracy(network.model, images, labels):.2%}")]
    for name, output in outputs.items():
        rows.append((name, f"{float((output.argmax(1) == labels).float().mean()):.2%}"))
    return format_table((f"accuracy on {len(labels)} digits (training images included)", ""), rows)
