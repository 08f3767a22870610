"""The `verify` command for artifacts in float32: near PyTorch, on test vectors and on the inputs of the model."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from spikenm_compile.artifact.directory import Artifact
from spikenm_compile.artifact.float_code import read_onnx_step_code
from spikenm_compile.closeness import Array, Closeness, compare
from spikenm_compile.errors import InputError
from spikenm_compile.frontend.readings import LAYOUT, steps_first
from spikenm_compile.frontend.whole_network import whole_network
from spikenm_compile.graph import counting_nodes
from spikenm_compile.network import Network
from spikenm_compile.planning import capture_folded, step_form
from spikenm_compile.runtime import load
from spikenm_compile.verification import reference


def compare_with_model(path: Path, artifact: Artifact, network: Network, images: Tensor | None) -> Closeness:
    """Compare the artifact with the model that it was built from.

    Args:
        path: the artifact.
        artifact: the same, read.
        network: the model.
        images: inputs [B, ...] that are compared; None: the model's examples.

    Raises:
        InputError: the model is not the one that the artifact was built from.
    """
    manifest = artifact.manifest
    is_whole = manifest.code["kind"] == "onnx-whole"
    x, output, spikes = (_whole if is_whole else _steps)(network, images)
    shapes = {} if is_whole else read_onnx_step_code(artifact).spike_shapes
    sizes = x.shape[x.ndim - len(manifest.input.shape) :]
    if sizes != manifest.input.shape or shapes != {layer: found.shape[2:] for layer, found in spikes.items()}:
        raise InputError(
            f"'{path}' was not built from {network.name}: their inputs or spiking layers differ; "
            "give the model that it was built from"
        )
    name = "examples" if images is None else f"{len(images)} digits"
    return compare(name, load(path), x, output, spikes)


def _steps(network: Network, images: Tensor | None) -> tuple[Array, Array, dict[str, Array]]:
    """Inputs, outputs and spikes of the step graph."""
    step_graph = step_form(capture_folded(network.model, network.example_inputs), network.example_inputs)
    x = steps_first(step_graph.meta[LAYOUT], network.example_inputs) if images is None else images
    found = reference(step_graph, x, step_graph.meta["num_steps"])
    spikes = {layer: found.spikes[layer].numpy() for layer in counting_nodes(step_graph)}
    return x.contiguous().numpy(), found.output.numpy(), spikes


def _whole(network: Network, images: Tensor | None) -> tuple[Array, Array, dict[str, Array]]:
    """Inputs and outputs of the whole network."""
    x = network.example_inputs if images is None else images
    whole = whole_network(capture_folded(network.model, network.example_inputs), network.example_inputs)
    with torch.no_grad():
        return x.contiguous().numpy(), whole(x).numpy(), {}
