"""Instructions of native layers on emulated ARM cores, against products of int8 matrices, and cycles of their loops.

    python -m benchmarks.arm count [--layer c128@16] [--cpu cortex-a72]     instructions, a table for each core
    python -m benchmarks.arm mca                                            cycles of the innermost loops
    python -m benchmarks.arm report                                         both, to benchmarks/results/arm.md

3 × 3 convolutions, T = 4, batch 1, 10 % of the inputs spike, drawn at random; weights are normal. Ours include event
lists, LIF and packing of spikes, and are compared with the reference; the peer's end with int32 sums (arm_gemm.c), and
are compared too. QEMU counts the instructions of the kernels alone, without the loading of weights.
"""

from __future__ import annotations

import argparse
import datetime
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from benchmarks.arm_gemms import LOOP_MAC, CountedGemm, count_gemm, instructions_of
from benchmarks.arm_layers import count_layer
from benchmarks.arm_loops import MODELS, Loop
from benchmarks.cpu_workloads import Shape, make_layer
from spikenm_compile.ops import IntConvNeuron
from spikenm_compile.passes.select_kernels import EVENT_ROWS, LOOKUP_TABLES, SHARED_ROWS, STAGGERED_ROWS
from spikenm_compile.pattern import Pattern
from spikenm_compile.targets.cpu import CORTEX_A72, CORTEX_A76, Cpu

NUM_STEPS, NUM_INPUTS, DENSITY = 4, 2, 0.1
LAYERS = {"c64@32": Shape(64, 64, 32), "c128@16": Shape(128, 128, 16), "c256@8": Shape(256, 256, 8)}
CORES = {cpu.name: cpu for cpu in (CORTEX_A72, CORTEX_A76)}
RESULTS = Path(__file__).parent / "results" / "arm.md"


@dataclass(frozen=True)
class Variant:
    """A pattern with a type of weights, and a kernel family that takes it."""

    pattern: str
    weights: str
    family: str

    def __str__(self) -> str:
        return f"{self.pattern} {self.weights}" + (", tables" if self.family == LOOKUP_TABLES else "")


VARIANTS = (
    *(Variant("2:4", weights, EVENT_ROWS) for weights in ("int8", "int7", "int4")),
    *(Variant(pattern, "int8", STAGGERED_ROWS) for pattern in ("2:4@stagger", "1:4@stagger", "1:8@stagger")),
    Variant("1:8@stagger", "int4", LOOKUP_TABLES),
    Variant("128:1:8", "int8", SHARED_ROWS),
)


def layer_of(shape: Shape, variant: Variant) -> IntConvNeuron:
    """A layer of LIF neurons, the same one at every call."""
    torch.manual_seed(0)
    pattern = Pattern.parse(variant.pattern)
    pattern = replace(pattern, v=min(pattern.v, shape.outputs))
    layer = make_layer(shape, pattern, variant.weights, DENSITY)
    layer.conv.kernel = variant.family
    return layer


def inputs_of(shape: Shape) -> torch.Tensor:
    """Spikes [calls, T, C, H, W]."""
    torch.manual_seed(1)
    return (torch.rand(NUM_INPUTS, NUM_STEPS, shape.channels, shape.size, shape.size) < DENSITY).float()


def gemm_of(shape: Shape, cpu: Cpu) -> CountedGemm:
    """The peer on the weights of the first variant."""
    weight = layer_of(shape, VARIANTS[0]).conv.weight
    return count_gemm(weight.to(torch.int8), inputs_of(shape)[0], cpu)


def count_table(cpu: Cpu, names: Sequence[str]) -> Iterator[str]:
    """Lines of a table, each as soon as it is known."""
    yield f"| {cpu.name}, thousands of instructions | {instructions_of(cpu)} | {' | '.join(map(str, VARIANTS))} |"
    yield "|---" * (len(VARIANTS) + 2) + "|"
    for name in names:
        shape, inputs = LAYERS[name], inputs_of(LAYERS[name])
        peer = gemm_of(shape, cpu).instructions
        layers = (count_layer(layer_of(shape, variant), inputs, cpu) for variant in VARIANTS)
        cells = (f"{x.instructions / 1e3:.0f} ×{peer / x.instructions:.1f}" for x in layers)
        yield f"| {name} | {peer / 1e3:.0f} | {' | '.join(cells)} |"


def mca_table(name: str = "c128@16") -> Iterator[str]:
    """Lines of a table: loops that add rows, for each type of weights, and loops of the peers."""
    yield "| loop | instructions | MAC |" + "".join(f" {model} |" for model in MODELS)
    yield "|---" * (3 + len(MODELS)) + "|"
    shape = LAYERS[name]
    for variant in VARIANTS[:3]:
        loop = count_layer(layer_of(shape, variant), inputs_of(shape)[:1], CORTEX_A72).loops[0]
        weights = loop.vector_bytes * (2 if variant.weights == "int4" else 1)
        rows = weights // min(CORTEX_A72.tile_width, shape.outputs)
        yield _cycles(f"{rows} rows of {variant.weights}", loop, weights)
    for cpu in CORES.values():
        peer = instructions_of(cpu)
        yield _cycles(peer, gemm_of(shape, cpu).loop, LOOP_MAC[peer])


def _cycles(name: str, loop: Loop, mac: int) -> str:
    cycles = (loop.cycles(model) for model in MODELS)
    cells = (f"{c:.1f} ({mac / c:.1f})" if c is not None else "none" for c in cycles)
    return f"| {name} | {len(loop.instructions)} | {mac} | {' | '.join(cells)} |"


def write_report() -> None:
    """Both tables to the file of results."""
    qemu = subprocess.run(["qemu-aarch64", "--version"], capture_output=True, text=True, check=True).stdout
    lines = [
        "# Instructions on ARM",
        "",
        f"{datetime.date.today()}, {qemu.splitlines()[0]}, user mode: `make bench-arm`. No board was measured.",
        "",
        *(__doc__ or "").split("\n\n")[-1].splitlines(),
        "`×` is the peer's number over ours.",
    ]
    for cpu in CORES.values():
        lines += ["", *count_table(cpu, list(LAYERS))]
    lines += [
        "",
        "Cycles of a round of the innermost loop (MAC a cycle) by llvm-mca: everything in the first-level cache, every",
        "jump foreseen. LLVM has the A57's model for the Cortex-A72; Neoverse N1 stands for the Cortex-A76.",
        "",
        *mca_table(),
    ]
    RESULTS.write_text("\n".join(lines) + "\n")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("count", "mca", "report"))
    parser.add_argument("--layer", nargs="+", default=list(LAYERS), choices=list(LAYERS))
    parser.add_argument("--cpu", nargs="+", default=list(CORES), choices=list(CORES))
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    if options.command == "report":
        write_report()
        return 0
    tables = [mca_table()]
    if options.command == "count":
        tables = [count_table(CORES[cpu], options.layer) for cpu in options.cpu]
    for table in tables:
        for line in table:
            print(line, flush=True)
        print()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
