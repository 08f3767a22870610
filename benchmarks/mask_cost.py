"""What learning masks costs in a training: time of a step and peak of memory, against the same network without masks.

A spiking VGG-11 for images of 32 × 32 (8 convolutions, batch norm, LIF, T = 4, batch 32) with 9.2 million prunable
weights, 2:4, AdamW in its fused form. One step after the other of all cases in turn; each round compares steps with the
dense step of the same round, and the table has the median and the quartiles of these ratios. Processor time says what
masks cost on a machine that others use too, with one thread; elapsed time what the user waits. Memory is the largest
resident size of a process of its own that takes a few steps, where every large block goes back when it is freed.

    python -m benchmarks.mask_cost [--threads 1 2] [--rounds 9]         writes benchmarks/results/mask_cost.md
"""

from __future__ import annotations

import argparse
import datetime
import functools
import itertools
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spikenm_compile import transform
from spikenm_compile.learning import MaskOptions, Schedule, masked_layers, param_groups
from spikenm_compile.neurons import LIF

STEPS, BATCH, CLASSES = 4, 32, 10
CHANNELS = (3, 64, 128, 256, 256, 512, 512, 512, 512)
POOLED = {0, 1, 3, 5, 7}
"""Convolutions that a pooling follows."""
PATTERN = "2:4"
WARM_UP, MEMORY_STEPS = 1, 3
RESULTS = Path(__file__).parent / "results" / "mask_cost.md"

WITHOUT_EID = Schedule(eid=0.0)
CASES: dict[str, MaskOptions | None] = {
    "dense": None,
    "spikenm, no EID": MaskOptions(WITHOUT_EID),
    "spikenm": MaskOptions(),
    "sr-ste": MaskOptions(learner="sr-ste"),
    "spikenm, softmax relaxation, no EID": MaskOptions(WITHOUT_EID, relaxation="softmax"),
    "spikenm, SIMPLE relaxation, no EID": MaskOptions(WITHOUT_EID, relaxation="simple"),
}
Clock = Callable[[], float]


class SpikingVGG(nn.Module):
    """Images [B, 3, 32, 32], shown for T steps, to outputs [B, 10]. Layers see [T · B, ...], neurons [T, B, ...]."""

    def __init__(self) -> None:
        super().__init__()
        pairs = list(itertools.pairwise(CHANNELS))
        self.convolutions = nn.ModuleList(nn.Conv2d(i, o, 3, padding=1, bias=False) for i, o in pairs)
        self.norms = nn.ModuleList(nn.BatchNorm2d(o) for _, o in pairs)
        self.neurons = nn.ModuleList(LIF(tau=2.0, decay_input=False) for _ in pairs)
        self.classifier = nn.Linear(CHANNELS[-1], CLASSES)

    def reset(self) -> None:
        """Forget the images before."""
        for neuron in self.neurons:
            assert isinstance(neuron, LIF)
            neuron.reset()

    def forward(self, image: Tensor) -> Tensor:
        x = image.unsqueeze(0).repeat(STEPS, 1, 1, 1, 1).flatten(0, 1)
        for i, (convolution, norm, neuron) in enumerate(zip(self.convolutions, self.norms, self.neurons, strict=True)):
            x = neuron(norm(convolution(x)).unflatten(0, (STEPS, -1))).flatten(0, 1)
            if i in POOLED:
                x = F.max_pool2d(x, 2)
        outputs: Tensor = self.classifier(x.flatten(1)).unflatten(0, (STEPS, -1)).mean(0)
        return outputs


def training_step(options: MaskOptions | None) -> tuple[Callable[[], None], int]:
    """(a step of training, number of weights with a mask) of a fresh network."""
    torch.manual_seed(0)
    image, label = torch.rand(BATCH, 3, 32, 32), torch.randint(0, CLASSES, (BATCH,))
    model = SpikingVGG()
    if options is not None:
        transform(model, PATTERN, example_inputs=image, total_steps=1000, options=options, report=None)
    prunable = sum(layer.get_parameter("weight").numel() for _, layer, _ in masked_layers(model))
    optimizer = torch.optim.AdamW(param_groups(model, 1e-3, 1e-4), fused=True)

    def step() -> None:
        optimizer.zero_grad()
        model.reset()
        loss: Tensor = F.cross_entropy(model(image), label)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step, prunable


def interleaved(clocks: dict[str, Clock], rounds: int) -> dict[str, dict[str, list[float]]]:
    """Clock -> case -> seconds of its step in each round."""
    steps = {case: training_step(options)[0] for case, options in CASES.items()}
    for step in steps.values():
        for _ in range(WARM_UP):
            step()
    seconds: dict[str, dict[str, list[float]]] = {clock: {case: [] for case in steps} for clock in clocks}
    for _ in range(rounds):
        for case, step in steps.items():
            start = {name: clock() for name, clock in clocks.items()}
            step()
            for name, clock in clocks.items():
                seconds[name][case].append(clock() - start[name])
    return seconds


def time_table(threads: int, rounds: int) -> list[str]:
    """Lines of the table for a number of threads."""
    torch.set_num_threads(threads)
    clocks: dict[str, Clock] = {"elapsed": time.perf_counter}
    if threads == 1:
        clocks = {"processor": time.process_time, **clocks}
    seconds = interleaved(clocks, rounds)
    lines = [f"| {threads} thread{'s' * (threads > 1)} |" + "".join(f" {c} s | {c} ratio |" for c in clocks)]
    lines.append("|---|" + "--:|--:|" * len(clocks))
    for case in CASES:
        cells = ""
        for times in seconds.values():
            ratios = [t / dense for t, dense in zip(times[case], times["dense"], strict=True)]
            low, middle, high = statistics.quantiles(ratios, n=4)
            cells += f" {statistics.median(times[case]):.2f} | {middle:.3f} ({low:.3f} to {high:.3f}) |"
        lines.append(f"| {case} |{cells}")
    return [*lines, ""]


def peak_of(case: str) -> tuple[int, int]:
    """(largest resident bytes of a process that trains `case`, number of weights with a mask)."""
    command = [sys.executable, "-m", "benchmarks.mask_cost", "--peak-of", case]
    # large blocks are mapped one by one, so that the resident size is what is in use
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TOP_PAD_": "0", "OMP_NUM_THREADS": "1"}
    output = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    peak, prunable = output.split()[-2:]
    return int(peak), int(prunable)


def print_peak(case: str) -> None:
    """Take some steps, then print what `peak_of` reads."""
    step, prunable = training_step(CASES[case])
    for _ in range(MEMORY_STEPS):
        step()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, prunable)


def memory_table() -> list[str]:
    """Lines of the table of peaks."""
    dense, _ = peak_of("dense")
    lines = ["| memory | peak, MiB | floats for each prunable weight over dense |", "|---|--:|--:|"]
    lines.append(f"| dense | {dense / 2**20:.0f} | |")
    for case in list(CASES)[1:]:
        peak, prunable = peak_of(case)
        lines.append(f"| {case} | {peak / 2**20:.0f} | {(peak - dense) / 4 / prunable:.2f} |")
    return [*lines, ""]


def machine() -> str:
    """Processor, cores, versions and how busy the machine is."""
    known = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    processor = known[0].split(":")[1].strip() if known else platform.machine()
    versions = f"Python {platform.python_version()}, torch {torch.__version__}"
    return f"{processor}, {os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}, {versions}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--peak-of", choices=list(CASES), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peak_of is not None:
        print_peak(arguments.peak_of)
        return 0
    head = ["# What learning masks costs", "", f"{datetime.date.today()}, {machine()}.", ""]
    what = f"Spiking VGG-11, T = {STEPS}, batch {BATCH}, {PATTERN}, {arguments.rounds} rounds: `make bench-mask-cost`."
    lines = [*head, what, ""]
    tables: list[Callable[[], list[str]]] = [memory_table]
    tables += [functools.partial(time_table, threads, arguments.rounds) for threads in arguments.threads]
    RESULTS.parent.mkdir(exist_ok=True)
    for table in tables:  # what is measured is written, whatever becomes of the next
        lines += table()
        RESULTS.write_text("\n".join(lines).rstrip() + "\n")
    print(RESULTS.read_text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
