"""A lowered graph and a target's code as an artifact, and back to the lowered graph: an artifact carries its reference.

manifest.json          what it is, per layer, with the sha256 of every file
weights.safetensors    <layer>.values, .metadata (N:M layers), .scale, .bias; <layer>.<constant> of neurons, per channel
lowered.json           the lowered graph without its weights
vectors.safetensors    input, output and spikes.<layer> of a few samples, computed by the lowered graph
code                   of the target
"""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.fx import GraphModule

from spikenm_compile.artifact.code import WEIGHTS_NAME
from spikenm_compile.artifact.directory import Artifact, write_artifact
from spikenm_compile.artifact.manifest import InputSpec, LayerReport, Manifest, OutputSpec
from spikenm_compile.artifact.packing import pack, unpack
from spikenm_compile.artifact.tensors import read_tensors, write_tensors
from spikenm_compile.errors import ArtifactError
from spikenm_compile.graph import PER_STEP, REGION, SHAPE, Region, result, run_steps, spike_nodes, the_input
from spikenm_compile.lowering.serialize import from_dict, to_dict
from spikenm_compile.lowering.serialize_neurons import channel_arrays
from spikenm_compile.ops import IntConv2d, NeuronStep, QuantizeInput
from spikenm_compile.pattern import Pattern
from spikenm_compile.targets.base import Contents, Emit, Target, no_emit

LOWERED_NAME = "lowered.json"
VECTORS_NAME = "vectors.safetensors"
NUM_VECTORS = 8
"""Most samples kept as test vectors."""


def write_package(
    lowered: GraphModule,
    target: Target,
    out: Path,
    *,
    name: str,
    pattern: Pattern,
    samples: Tensor,
    emit: Emit = no_emit,
) -> Artifact:
    """Build `lowered` for `target` and write everything to `out`, all or nothing.

    Args:
        lowered: the lowered graph; `lowered.meta["num_steps"]` is the default T.
        target: what to build for.
        out: the artifact's directory.
        name: of the network.
        pattern: that was asked for.
        samples: inputs, the first of which become test vectors.
        emit: gets name and text of what the target generates.
    """
    num_steps: int = lowered.meta["num_steps"]

    def fill(directory: Path) -> Manifest:
        contents = Contents(stored_tensors(lowered), _vectors(lowered, samples, num_steps))
        code = target.build(lowered, directory, name=name, num_steps=num_steps, emit=emit, contents=contents)
        write_tensors(directory / WEIGHTS_NAME, contents.tensors)
        (directory / LOWERED_NAME).write_text(json.dumps(_describe(lowered), indent=1) + "\n")
        write_tensors(directory / VECTORS_NAME, contents.vectors)
        return Manifest(
            producer=f"spikenm_compile {importlib.metadata.version('spikenm-compile')}",
            name=name,
            target=target.name,
            pattern=str(pattern),
            num_steps=num_steps,
            input=_input_spec(lowered),
            output=OutputSpec(result(lowered).meta[SHAPE], result(lowered).meta[REGION] is Region.STEP),
            layers=layer_reports(lowered),
            code=code,
        )

    return write_artifact(out, fill)


def convolutions(lowered: GraphModule) -> Iterator[tuple[str, IntConv2d]]:
    """Qualified name and module of every integer layer."""
    for name, module in lowered.named_modules():
        if isinstance(module, IntConv2d):
            yield name, module


def neurons_per_channel(lowered: GraphModule) -> Iterator[tuple[str, NeuronStep]]:
    """Qualified name and module of every layer of neurons with constants per channel."""
    for name, module in lowered.named_modules():
        if isinstance(module, NeuronStep) and module.neuron.per_channel:
            yield name, module


def layer_reports(lowered: GraphModule) -> tuple[LayerReport, ...]:
    """What became of each layer."""
    return tuple(_layer_report(conv) for _, conv in convolutions(lowered))


def _layer_report(conv: IntConv2d) -> LayerReport:
    tensors = stored_weight_arrays(conv)
    weights = conv.weight.numel()
    return LayerReport(
        name=conv.layer,
        kind="conv" if conv.linear_input is None else "linear",
        shape=tuple(conv.stored_weight().shape),
        pattern=str(conv.pattern) if conv.pattern else None,
        nonzeros=int(torch.count_nonzero(conv.weight)),
        weights=weights,
        bytes_packed=sum(t.nbytes for t in tensors.values()),
        bytes_dense=4 * weights,
        kernel=conv.kernel,
        why=conv.why,
        density=None if conv.density is None else round(conv.density, 6),
        microseconds=None if conv.microseconds is None else round(conv.microseconds, 3),
        savings=conv.savings,
    )


def stored_weight_arrays(conv: IntConv2d) -> dict[str, np.ndarray[Any, Any]]:
    """values, metadata, scale and bias of one layer."""
    weight = np.ascontiguousarray(conv.stored_weight().numpy())
    scale_and_bias = {"scale": conv.scale.numpy(), "bias": conv.bias.numpy()}
    if conv.pattern is None:
        return {"values": weight, **scale_and_bias}
    values, metadata = pack(weight, conv.pattern)
    return {"values": values, "metadata": metadata, **scale_and_bias}


def stored_tensors(lowered: GraphModule) -> dict[str, np.ndarray[Any, Any]]:
    """Every tensor of weights.safetensors."""
    weights = {conv.layer: stored_weight_arrays(conv) for _, conv in convolutions(lowered)}
    constants = {step.layer: channel_arrays(step.neuron) for _, step in neurons_per_channel(lowered)}
    return {
        f"{layer}.{part}": a for parts in (weights, constants) for layer, t in parts.items() for part, a in t.items()
    }


def _describe(lowered: GraphModule) -> dict[str, Any]:
    description, _ = to_dict(lowered)
    stored = {
        name: {
            "layer": conv.layer,
            "pattern": str(conv.pattern) if conv.pattern else None,
            "stored": list(conv.stored_weight().shape),
            "shape": list(conv.weight.shape),
        }
        for name, conv in convolutions(lowered)
    }
    constants = {
        name: {"layer": step.layer, "names": list(step.neuron.per_channel)}
        for name, step in neurons_per_channel(lowered)
    }
    return {"graph": description, "weights": stored, "constants": constants}


def read_lowered(artifact: Artifact) -> GraphModule:
    """Rebuild the lowered graph that an artifact was built from.

    Raises:
        ArtifactError: it does not fit together.
    """
    content = json.loads((artifact.path / LOWERED_NAME).read_text())
    arrays = read_tensors(artifact.path / WEIGHTS_NAME)
    tensors: dict[str, Any] = {}
    try:
        for module, entry in content["weights"].items():
            layer, shape = entry["layer"], tuple(entry["stored"])
            values = arrays[f"{layer}.values"]
            if entry["pattern"] is not None:
                values = unpack(values, arrays[f"{layer}.metadata"], Pattern.parse(entry["pattern"]), shape)
            tensors[f"{module}.weight"] = values.reshape(entry["shape"])
            tensors |= {f"{module}.{part}": arrays[f"{layer}.{part}"] for part in ("scale", "bias")}
        for module, entry in content["constants"].items():
            tensors |= {f"{module}.{name}": arrays[f"{entry['layer']}.{name}"] for name in entry["names"]}
        return from_dict(content["graph"], tensors)
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactError(
            f"{artifact.path / LOWERED_NAME} does not fit {WEIGHTS_NAME} ({error}); build it again"
        ) from error


def _input_spec(lowered: GraphModule) -> InputSpec:
    source = the_input(lowered)
    levels = [str(m.levels) for m in lowered.modules() if isinstance(m, QuantizeInput)]
    return InputSpec(source.meta[SHAPE], source.meta[PER_STEP], levels[0] if levels else "float32")


def _vectors(lowered: GraphModule, samples: Tensor, num_steps: int) -> dict[str, np.ndarray[Any, Any]]:
    per_step = the_input(lowered).meta[PER_STEP]
    x = samples[:, :NUM_VECTORS] if per_step else samples[:NUM_VECTORS]
    with torch.no_grad():
        expected = run_steps(lowered, x, None if per_step else num_steps)
    spikes = {f"spikes.{layer}": expected.spikes[layer].to(torch.uint8).numpy() for layer in spike_nodes(lowered)}
    return {"input": x.contiguous().numpy(), "output": expected.output.numpy(), **spikes}
