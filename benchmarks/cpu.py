"""Speed on a CPU, against ONNX Runtime and PyTorch: one thread, batch 1.

    python -m benchmarks.cpu layers                  # every kernel of every layer, at 5, 10, 20 and 40 % spikes
    python -m benchmarks.cpu networks                # sums over ResNet-18 and VGG-11, warm and cold
    python -m benchmarks.cpu recorded                # the spikes of trained networks
    python -m benchmarks.cpu lines                   # time against density, N/M, T and width
    python -m benchmarks.cpu plots
    python -m benchmarks.cpu tables                  # into README.md and docs/cpu_kernels.md
    python -m benchmarks.cpu layers --only c256@8 --density 10 --patterns 2:4 --out out/cpu   # a part, elsewhere

Results go to benchmarks/results/cpu, a file for each command, one place after the other; --resume leaves out places
that the file has. All variants and peers take turns on the same fresh random inputs; times are CPU time of the thread
and the clock on the wall. Ours have event lists, LIF and packing of spikes; each kernel's result is compared with the
reference before it is timed.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.cpu_layers import measure_layer
from benchmarks.cpu_lines import AXES, measure_axis
from benchmarks.cpu_networks import measure_network
from benchmarks.cpu_plots import write_plots
from benchmarks.cpu_recorded import KINDS, Training, measure_recorded
from benchmarks.cpu_results import FOLDER, About, Results, Row
from benchmarks.cpu_tables import summary, write_tables
from benchmarks.cpu_workloads import DENSITIES, LAYERS, NETWORKS, VARIANTS, WEIGHT_TYPES, Variant
from spikenm_compile.errors import InputError, SpikenmError
from spikenm_compile.targets.cpu import CPUS, Cpu, detect

LAYERS_PART, NETWORKS_PART, RECORDED_PART, LINES_PART = PARTS = ("layers", "networks", "recorded", "lines")
"""Commands that measure, and names of their files."""


@dataclass(frozen=True)
class Options:
    """What the command line says of a measurement."""

    variants: tuple[Variant, ...]
    densities: tuple[float, ...]
    cpu: Cpu
    rounds: int
    out: Path
    cache: Path
    training: Training


Measure = Callable[[str, Options], Iterable[Row]]
"""A place of a part -> its rows."""


def _layers(name: str, options: Options) -> Iterable[Row]:
    return measure_layer(name, LAYERS[name], options.variants, options.densities, options.cpu, options.rounds)


def _networks(name: str, options: Options) -> Iterable[Row]:
    measured = Results(options.out / f"{LAYERS_PART}.jsonl").rows
    return measure_network(name, options.variants, measured, options.cpu, options.rounds)


def _recorded(kind: str, options: Options) -> Iterable[Row]:
    return measure_recorded(kind, options.training, options.cache, options.cpu, options.rounds)


def _lines(axis: str, options: Options) -> Iterable[Row]:
    return measure_axis(axis, options.cpu, options.rounds)


MEASURES: Mapping[str, tuple[Measure, Iterable[str]]] = {
    LAYERS_PART: (_layers, LAYERS),
    NETWORKS_PART: (_networks, NETWORKS),
    RECORDED_PART: (_recorded, KINDS),
    LINES_PART: (_lines, AXES),
}
"""Part -> what measures a place of it, and all its places."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    given = _parser().parse_args(words)
    try:
        _run(given, f"python -m benchmarks.cpu {' '.join(words)}")
    except SpikenmError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _run(given: argparse.Namespace, command: str) -> None:
    if given.command == "tables":
        write_tables(given.out, given.root)
    elif given.command == "plots":
        write_plots(given.out)
    else:
        torch.set_num_threads(1)
        _measure(given, command)


def _measure(given: argparse.Namespace, command: str) -> None:
    part: str = given.command
    measure, places = MEASURES[part]
    unknown = set(given.only or ()) - set(places)
    if unknown:
        raise InputError(f"{part} has no {', '.join(sorted(unknown))}; it has {', '.join(places)}; choose among these")
    options = _options(given)
    results = Results(options.out / f"{part}.jsonl")
    if not (given.resume and results.about):
        results.begin(About.now(options.cpu, command))
    begun = time.monotonic()
    for place in given.only or places:
        if not any(known == place or known.startswith(f"{place} ") for known in results.places):
            results.add(measure(place, options))
            print(f"{part} {place}: after {time.monotonic() - begun:.0f} s", flush=True)
    print(summary(part, results.rows))


def _options(given: argparse.Namespace) -> Options:
    patterns, types = set(given.patterns or ()), set(given.weights)
    variants = (v for v in VARIANTS if (not patterns or v.pattern in patterns) and v.weight_type in types)
    return Options(
        tuple(variants),
        tuple(percent / 100 for percent in given.density),
        next(cpu for cpu in CPUS if cpu.name == given.cpu),
        given.rounds,
        given.out,
        given.cache,
        Training(given.width, given.images),
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=[*PARTS, "tables", "plots"])
    parser.add_argument("--only", nargs="+", metavar="PLACE", help="of the layers, networks, kinds of masks or axes")
    percents = [100 * density for density in DENSITIES]
    parser.add_argument("--density", type=float, nargs="+", default=percents, metavar="PERCENT", help="of layers")
    parser.add_argument("--patterns", nargs="+", choices=sorted({v.pattern for v in VARIANTS}))
    parser.add_argument("--weights", nargs="+", default=WEIGHT_TYPES, choices=WEIGHT_TYPES)
    parser.add_argument("--cpu", default=detect().name, choices=[cpu.name for cpu in CPUS])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--resume", action="store_true", help="go on with the file that is there")
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder of the results")
    parser.add_argument("--cache", type=Path, default=Path("out/cpu"), help="folder of the trained networks")
    parser.add_argument("--width", type=int, default=Training.width, help="of the first layer that is trained")
    parser.add_argument("--images", type=int, default=Training.images, help="to train on")
    parser.add_argument("--root", type=Path, default=Path(__file__).parents[1], help="where the texts with tables are")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
