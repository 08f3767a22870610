"""The `verify` command: artifact against lowered graph, and lowered graph against the float model if it is known."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from spikenm_compile.artifact.directory import read_artifact
from spikenm_compile.compiler import lift_model
from spikenm_compile.errors import InputError
from spikenm_compile.network import Network, load_network
from spikenm_compile.package import read_lowered
from spikenm_compile.report.table import format_table
from spikenm_compile.runtime import load
from spikenm_compile.training.digits import all_digits
from spikenm_compile.training.loop import accuracy
from spikenm_compile.verify import compare_with_float, format_checks, format_flips, reference, verify


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
    """
    artifact = read_artifact(path)
    manifest = artifact.manifest
    images, labels = all_digits() if digits else (None, None)
    if images is not None and tuple(images.shape[1:]) != manifest.input.shape:
        raise InputError(
            f"digits are {list(images.shape[1:])} but '{path}' takes {list(manifest.input.shape)}; leave out --digits"
        )
    checks = verify(path, None if images is None else {f"{len(images)} digits": images}, seed=seed)
    parts = [format_checks(checks)]
    network = _float_network(source, weights, manifest.name, manifest.pattern or "2:4")
    if network is not None:
        x = network.example_inputs if images is None else images
        flips = compare_with_float(read_lowered(artifact), lift_model(network.model, x[:1]), x, manifest.num_steps)
        parts += ["", "spikes that differ from the float model, layer by layer:", format_flips(flips)]
    if images is not None and labels is not None:
        parts += ["", _accuracies(path, network, images, labels)]
    return Proof(all(check.passed for check in checks), "\n".join(parts))


def _float_network(source: str | None, weights: Path | None, name: str, pattern: str) -> Network | None:
    if source is None and name != "digits":
        return None
    return load_network(source, weights, pattern)


def _accuracies(path: Path, network: Network | None, images: Tensor, labels: Tensor) -> str:
    model = load(path)
    lowered = reference(read_lowered(read_artifact(path)), images, model.manifest.num_steps).output
    rows = [] if network is None else [("float model", f"{accuracy(network.model, images, labels):.2%}")]
    for name, output in (("lowered graph", lowered), ("artifact", torch.from_numpy(model.run(images.numpy())))):
        rows.append((name, f"{float((output.argmax(1) == labels).float().mean()):.2%}"))
    return format_table((f"accuracy on {len(labels)} digits (training images included)", ""), rows)
