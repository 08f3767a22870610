"""CUDA artifacts against cuDNN, cuSPARSELt and the roofline: whole networks and their layers, in one run of minutes.

    python -m benchmarks.gpu               # on a machine with an NVIDIA GPU and a PyTorch that can use it
    python -m benchmarks.gpu --dry-run     # anywhere: builds everything and stops in front of the first launch

Times are medians of the GPU's own clock, without copies from and to the host; networks run as one CUDA graph, ours and
PyTorch's alike. Results go to benchmarks/results/gpu-DEVICE-DATE.json and .md.
"""

from __future__ import annotations

import argparse
import datetime
import json
import re
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks.gpu_networks import NETWORKS, NUM_STEPS, Network, make
from benchmarks.gpu_peers import cusparselt, microseconds, peer_of
from benchmarks.gpu_roofline import Layer, layers_of, peak_of
from spikenm_compile import SpikenmError, compile_model
from spikenm_compile.artifact.directory import Artifact, read_artifact
from spikenm_compile.package import read_lowered
from spikenm_compile.passes.select_kernels import SPARSE_TENSOR_CORE
from spikenm_compile.report.table import format_table
from spikenm_compile.runtime.cuda import CudaModel
from spikenm_compile.runtime.cuda_driver import Device, Driver
from spikenm_compile.verification import reference

RESULTS = Path(__file__).parent / "results"
CHECKED = 2
"""Samples whose outputs are compared with the reference."""
SPARSE, DENSE = "ours, 2:4", "ours, dense int8"


@dataclass
class Results:
    """Everything that was measured."""

    device: str
    date: str
    torch: str
    networks: list[dict[str, Any]] = field(default_factory=list)
    """network, batch, way, microseconds."""
    layers: list[dict[str, Any]] = field(default_factory=list)
    """network, batch, layer, how, microseconds, roofline: its bound in microseconds."""
    products: list[dict[str, Any]] = field(default_factory=list)
    """outputs, reduction, columns, way, microseconds."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--dry-run", action="store_true", help="build everything and launch nothing")
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=NETWORKS, metavar="NAME")
    parser.add_argument("--runs", type=int, default=50, help="runs of each figure (default 50)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="directory of the results")
    options = parser.parse_args(arguments)
    try:
        device = None if options.dry_run else Device(Driver()).name
    except SpikenmError as error:
        print(f"no figure was taken: {error}")
        return 1
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    results = Results(device or "dry run", today, torch.__version__)
    with TemporaryDirectory() as scratch:
        for name in options.networks:
            artifacts = build(name, NETWORKS[name], Path(scratch))
            if device is None:
                dry_run(name, NETWORKS[name], artifacts)
            else:
                measure(results, name, NETWORKS[name], artifacts, options.runs)
    if device is not None:
        write(results, options.out)
    return 0


def build(name: str, network: Network, scratch: Path) -> dict[str, Artifact]:
    """The network with 2:4 weights and its dense twin."""
    artifacts = {}
    for way, is_sparse in ((SPARSE, True), (DENSE, False)):
        model, x = make(network, is_sparse=is_sparse)
        out = scratch / re.sub(r"\W+", "-", f"{name} {way}")
        artifacts[way] = compile_model(model, x, out, target="cuda", name=name)
    return artifacts


def dry_run(name: str, network: Network, artifacts: dict[str, Artifact]) -> None:
    """All that can be done without a GPU: what would run, its bounds on an H200, and PyTorch's form on the CPU."""
    model, x = make(network, is_sparse=True)
    with torch.no_grad():
        outputs = peer_of(model, torch.float32, "cpu", compiled=False)(x)
    layers = layers_of(read_lowered(artifacts[SPARSE]))
    peak = peak_of("H200")
    assert peak is not None
    bounds = [f"{sum(layer.microseconds(peak, b) for layer in layers):.1f} µs at batch {b}" for b in network.batches]
    sparse = sum(layer.kernel == SPARSE_TENSOR_CORE for layer in layers)
    for way, artifact in artifacts.items():
        code: Any = artifact.manifest.code
        print(f"{name}, {way}: {len(code['launches'])} launches, {code['missing'] or 'compiled'}")
    print(f"{name}: {sparse} of {len(layers)} layers 2:4; roofline of an H200 {', '.join(bounds)}; PyTorch gives "
          f"{list(outputs.shape)}")  # fmt: skip


def measure(results: Results, name: str, network: Network, artifacts: dict[str, Artifact], runs: int) -> None:
    """Every way at every batch."""
    torch.manual_seed(1)
    models = {way: CudaModel(artifact) for way, artifact in artifacts.items()}
    for model in models.values():
        check(model, torch.rand(CHECKED, 3, network.size, network.size))
    layers = layers_of(read_lowered(artifacts[SPARSE]))
    for batch in network.batches:
        x = torch.rand(batch, 3, network.size, network.size)
        times = {way: statistics.median(model.measure(x.numpy(), runs)) for way, model in models.items()}
        if torch.cuda.is_available():
            times |= cudnn(network, x, runs)
        for way, value in times.items():
            results.networks.append({"network": name, "batch": batch, "way": way, "microseconds": value})
            print(f"{name}, batch {batch}, {way}: {value:.1f} µs")
        for way, model in models.items():
            add_layers(results, name, way, model, layers, batch, runs)
    if torch.cuda.is_available():
        add_products(results, layers, network.batches[0], runs)


def check(model: CudaModel, x: torch.Tensor) -> None:
    """Stop if the artifact is not equal to its lowered graph."""
    expected = reference(read_lowered(read_artifact(model.path)), x, NUM_STEPS).output
    assert torch.equal(torch.from_numpy(model.run(x.numpy())), expected), f"{model} is not its reference"


def cudnn(network: Network, x: torch.Tensor, runs: int) -> dict[str, float]:
    """PyTorch, channels last, batch norm folded, LIF fused by torch.compile."""
    times = {}
    for label, dtype in (("fp16", torch.float16), ("bf16", torch.bfloat16)):
        model, _ = make(network, is_sparse=False)
        peer = peer_of(model, dtype, "cuda")
        given = x.to("cuda", dtype, memory_format=torch.channels_last)
        times[f"cuDNN {label} + fused LIF"] = microseconds(lambda p=peer, g=given: p(g), runs)  # type: ignore[misc]
    return times


def add_layers(
    results: Results, name: str, way: str, model: CudaModel, layers: list[Layer], batch: int, runs: int
) -> None:
    """Each kernel alone, with the bound of its layer where it is a convolution."""
    peak, by_name = peak_of(results.device), {layer.name: layer for layer in layers}
    for layer, how, value in model.measure_launches(batch, runs):
        bound = by_name[layer].microseconds(peak, batch) if peak and layer in by_name else None
        row = {"network": name, "batch": batch, "way": way, "layer": layer, "how": how}
        results.layers.append({**row, "microseconds": value, "roofline": bound})


def add_products(results: Results, layers: list[Layer], batch: int, runs: int) -> None:
    """The matrix product of each distinct 2:4 layer by cuBLAS and cuSPARSELt."""
    sizes = {(a.outputs, a.reduction, a.positions * batch) for a in layers if a.kernel == SPARSE_TENSOR_CORE}
    for outputs, reduction, columns in sorted(sizes):
        size = {"outputs": outputs, "reduction": reduction, "columns": columns}
        try:
            times = cusparselt(outputs, reduction, columns, runs)
        except RuntimeError as error:  # a PyTorch without cuSPARSELt, or a size that it does not take
            print(f"no cuSPARSELt figure for {outputs}×{reduction}×{columns}: {str(error).splitlines()[0]}")
            continue
        results.products += [{**size, "way": way, "microseconds": value} for way, value in times.items()]


def write(results: Results, out: Path) -> None:
    """Both files."""
    out.mkdir(parents=True, exist_ok=True)
    name = re.sub(r"\W+", "-", f"gpu-{results.device}-{results.date}")
    (out / f"{name}.json").write_text(json.dumps(asdict(results), indent=1) + "\n")
    (out / f"{name}.md").write_text(format_results(results))
    print(f"results: {out / name}.json and .md")


def format_results(results: Results) -> str:
    """The tables for people."""
    networks = [(r["network"], r["batch"], r["way"], f"{r['microseconds']:.1f}") for r in results.networks]
    layers = [
        (r["network"], r["batch"], r["way"], r["layer"], r["how"], f"{r['microseconds']:.1f}", _bound(r["roofline"]))
        for r in results.layers
    ]
    products = [
        (f"{r['outputs']}×{r['reduction']}×{r['columns']}", r["way"], f"{r['microseconds']:.1f}")
        for r in results.products
    ]
    parts = [
        f"# {results.device}, {results.date}, PyTorch {results.torch}, T={NUM_STEPS}\n\nMicroseconds, medians.\n",
        f"```\n{format_table(('network', 'batch', 'way', 'µs'), networks)}\n```\n",
        f"```\n{format_table(('network', 'batch', 'way', 'layer', 'kernel', 'µs', 'roofline µs'), layers)}\n```\n",
        f"```\n{format_table(('product', 'way', 'µs'), products)}\n```\n" if products else "",
    ]
    return "\n".join(parts)


def _bound(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


if __name__ == "__main__":
    raise SystemExit(main())
