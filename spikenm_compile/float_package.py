"""A network in float32 as an artifact: for what has no integer form, or where that is not wanted.

manifest.json          what it is, per layer, and why it computes in float32
vectors.safetensors    input and output of a few samples, computed by PyTorch; spikes.<layer> where there is a time step
code                   ONNX: one time step, or the whole network
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from spikenm_compile.artifact.directory import Artifact, write_artifact
from spikenm_compile.artifact.manifest import FLOAT32, InputSpec, LayerReport, Manifest, OutputSpec
from spikenm_compile.artifact.tensors import write_tensors
from spikenm_compile.errors import PassError
from spikenm_compile.frontend.readings import LAYOUT, steps_first
from spikenm_compile.frontend.whole_network import WholeNetwork
from spikenm_compile.graph import PER_STEP, REGION, SHAPE, Region, counting_nodes, result, run_steps, the_input
from spikenm_compile.package import NUM_VECTORS, VECTORS_NAME
from spikenm_compile.pattern import Pattern
from spikenm_compile.targets.base import Emit, no_emit

KERNEL = "onnx float32"


@dataclass(frozen=True)
class Description:
    """What an artifact says of itself."""

    name: str
    """Of the network."""
    target: str
    pattern: Pattern
    """That was asked for."""
    why: str
    """Why it computes in float32."""
    layers: tuple[LayerReport, ...]


def write_step_package(
    step_graph: GraphModule, example: Tensor, out: Path, about: Description, emit: Emit = no_emit
) -> Artifact:
    """Write a network that lifts: one time step with explicit state.

    Args:
        step_graph: of the network, in float32.
        example: an input as the model takes it; its first samples become test vectors.
        out: the artifact's directory.
        about: the rest of the manifest.
        emit: gets name and text of what is generated.

    Raises:
        PassError, TargetError, ToolError, ArtifactError: it cannot be exported or written.
    """
    from spikenm_compile.targets.onnx_float import build_step

    per_step, num_steps = bool(the_input(step_graph).meta[PER_STEP]), int(step_graph.meta["num_steps"])
    samples, end = _first(steps_first(step_graph.meta[LAYOUT], example), int(per_step)), result(step_graph)

    def fill(directory: Path) -> Manifest:
        code = build_step(step_graph, directory, emit)
        write_tensors(directory / VECTORS_NAME, _step_vectors(step_graph, samples, None if per_step else num_steps))
        source = InputSpec(the_input(step_graph).meta[SHAPE], per_step, FLOAT32)
        return _manifest(about, num_steps, source, OutputSpec(end.meta[SHAPE], end.meta[REGION] is Region.STEP), code)

    return write_artifact(out, fill)


def write_whole_package(network: WholeNetwork, out: Path, about: Description, emit: Emit = no_emit) -> Artifact:
    """Write a network of which no time step can be told apart. Arguments and errors as of `write_step_package`."""
    from spikenm_compile.targets.onnx_float import build_whole

    batch, end = network.batch or (0, 0)

    def fill(directory: Path) -> Manifest:
        code = build_whole(
            network.candidates, network.traced, None if network.batch is None else batch, directory, emit
        )
        samples = network.example if code["batch"] else _first(network.example, batch)
        output = network(samples)
        write_tensors(directory / VECTORS_NAME, {"input": _array(samples), "output": _array(output)})
        source = InputSpec(_without(samples, batch), batch == 1, FLOAT32)
        return _manifest(about, network.num_steps, source, OutputSpec(_without(output, end), end == 1), code)

    return write_artifact(out, fill)


def float_layers(captured: GraphModule, pattern: Pattern) -> tuple[LayerReport, ...]:
    """What becomes of each layer with weights: zeros stay zeros, and are stored.

    Raises:
        PassError: a layer that was folded no longer holds its pattern.
    """
    return tuple(_layer_report(name, layer, pattern) for name, layer in _weighted_layers(captured))


def _weighted_layers(captured: GraphModule) -> Iterator[tuple[str, nn.Module]]:
    called = dict.fromkeys(str(n.target) for n in captured.graph.nodes if n.op == "call_module")
    for name in called:
        layer = captured.get_submodule(name)
        if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear):
            yield name, layer


def _layer_report(name: str, layer: nn.Module, tried: Pattern) -> LayerReport:
    assert isinstance(layer.weight, Tensor)
    weight = layer.weight.detach()
    marked = getattr(layer, "nm_pattern", None)
    pattern: Pattern = marked if isinstance(marked, Pattern) else tried
    holds = pattern.holds(weight)
    if marked is not None and not holds:
        raise PassError(
            f"layer '{name}' was folded to {pattern} but no longer holds it; fold() leaves at most {pattern.n} "
            f"non-zeros of {pattern.m}, so do not train or load weights after it"
        )
    return LayerReport(
        name=name,
        kind="linear" if isinstance(layer, nn.Linear) else "conv",
        shape=tuple(weight.shape),
        pattern=str(pattern) if holds else None,
        nonzeros=int(torch.count_nonzero(weight)),
        weights=weight.numel(),
        bytes_packed=4 * weight.numel(),
        bytes_dense=4 * weight.numel(),
        kernel=KERNEL,
        why=f"at most {pattern.n} of {pattern.m} weights are not zero; ONNX stores the zeros" if holds else "dense",
    )


def _step_vectors(step_graph: GraphModule, x: Tensor, num_steps: int | None) -> dict[str, np.ndarray[Any, Any]]:
    with torch.no_grad():
        expected = run_steps(step_graph, x, num_steps)
    spikes = {f"spikes.{layer}": _array(expected.spikes[layer]) for layer in counting_nodes(step_graph)}
    return {"input": _array(x), "output": _array(expected.output), **spikes}


def _manifest(
    about: Description, num_steps: int, source: InputSpec, output: OutputSpec, code: Mapping[str, object]
) -> Manifest:
    return Manifest(
        producer=f"spikenm_compile {importlib.metadata.version('spikenm-compile')}",
        name=about.name,
        target=about.target,
        pattern=str(about.pattern),
        num_steps=num_steps,
        input=source,
        output=output,
        layers=about.layers,
        code=code,
        arithmetic=FLOAT32,
        why=about.why,
    )


def _first(x: Tensor, batch: int) -> Tensor:
    """The samples that become test vectors."""
    return x.narrow(batch, 0, min(NUM_VECTORS, x.shape[batch]))


def _without(x: Tensor, batch: int) -> tuple[int, ...]:
    """Shape of one sample, of one step where the steps come before the batch."""
    return tuple(x.shape[batch + 1 :] if batch == 1 else x.shape[:batch] + x.shape[batch + 1 :])


def _array(x: Tensor) -> np.ndarray[Any, Any]:
    return x.detach().contiguous().numpy()
