"""Native code stays inside of the buffers that it is given: each ends where unreadable memory begins."""

from __future__ import annotations

import operator
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from small_networks import project
from step_graphs import StepGraphBuilder, randomize
from torch import nn

from spikenm_compile.package import write_package
from spikenm_compile.passes.base import run_pipeline
from spikenm_compile.passes.pipelines import lowering
from spikenm_compile.passes.quantize_inputs import choose_levels
from spikenm_compile.passes.select_kernels import DENSE_ROWS, LOOKUP_TABLES
from spikenm_compile.pattern import Pattern
from spikenm_compile.targets.cpu import CPUS, Cpu, cpu_flags, detect
from spikenm_compile.targets.native import Native

PROGRAM = """
import ctypes, json, mmap, sys
from pathlib import Path
import numpy as np
from spikenm_compile.artifact.tensors import read_tensors

path, extra = Path(sys.argv[1]), int(sys.argv[2])
code = json.loads((path / "manifest.json").read_text())["code"]
libc = ctypes.CDLL(None, use_errno=True)
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
kept = []

def guarded(size):
    "Zero bytes that end at a page without access."
    page = mmap.PAGESIZE
    inside = -(-max(size, 1) // page) * page
    memory = mmap.mmap(-1, inside + page)
    kept.append(memory)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    assert libc.mprotect(start + inside, page, 0) == 0
    return np.frombuffer(memory, np.uint8)[inside - size : inside], start + inside - size

tensors = read_tensors(path / "weights.safetensors")
vectors = read_tensors(path / "vectors.safetensors")
packed, packed_at = guarded(code["packed_bytes"])
for part in code["packed"]:
    values = tensors[part["tensor"]].reshape(-1).view(np.uint8)
    packed[part["offset"] : part["offset"] + part["bytes"]] = values
x, expected = vectors["input"][0], vectors["output"][0]
# `extra` bytes less than promised must crash: otherwise the guard guards nothing
_, params_at = guarded(code["params_bytes"])
_, arena_at = guarded(code["arena_bytes"] - extra)
_, state_at = guarded(code["state_bytes"])
given, input_at = guarded(x.nbytes)
given[:] = x.reshape(-1).view(np.uint8)
output, output_at = guarded(expected.nbytes)
library = ctypes.CDLL(str(path / code["library"]))
assert library.spikenm_prepare(ctypes.c_void_p(packed_at), ctypes.c_void_p(params_at)) == 0
for name in ("before", "steps", "after"):
    addresses = [ctypes.c_void_p(at) for at in (params_at, input_at, state_at, arena_at, output_at)]
    assert getattr(library, "spikenm_" + name)(*addresses, code["max_steps"]) == 0
assert np.array_equal(output.view(np.float32), expected.reshape(-1))
print("inside")
"""


def artifact(out: Path, cpu: Cpu, pattern: Pattern, weight_type: str, families: tuple[str, ...]) -> Path:
    b = StepGraphBuilder((3, 7, 7))
    s = b.neuron("lif1", b.layer("conv1", nn.Conv2d(3, 20, 3, padding=1), b.x))
    s = b.neuron("lif2", b.layer("conv2", nn.Conv2d(20, 80, 3, padding=1, stride=2), s))
    s = b.function(operator.add, s, b.neuron("lif3", b.layer("depthwise", nn.Conv2d(80, 80, 3, 1, 1, groups=80), s)))
    s = b.neuron("lif4", b.layer("grouped", nn.Conv2d(80, 20, 3, padding=2, dilation=2, groups=10), s))
    flat = b.layer("flatten", nn.Flatten(), b.layer("pool", nn.MaxPool2d(2, padding=1), s))
    graph = b.output(b.mean(b.layer("fc", nn.Linear(flat.meta["shape"][0], 11), flat)))
    randomize(graph, 0)
    project(graph, pattern)
    passes = lowering(choose_levels(torch.rand(2, 3, 7, 7)), pattern, families, weight_type)
    graph = run_pipeline(passes, graph)
    written = write_package(
        graph, Native(cpu=cpu), out, name="guarded", pattern=pattern, samples=torch.ones(1, 3, 7, 7)
    )
    return written.path


@pytest.mark.parametrize(
    "cpu", [c for c in CPUS if c.machine == detect().machine and cpu_flags() >= set(c.features)], ids=lambda c: c.name
)
@pytest.mark.parametrize(
    ("pattern", "weight_type", "families"),
    [
        ("2:4", "int8", Native().families),
        ("1:4@stagger", "int7", Native().families),
        ("2:4@stagger", "int4", Native().families),
        ("64:2:4", "int7", Native().families),
        ("1:4@stagger", "int8", (LOOKUP_TABLES, DENSE_ROWS)),
        ("2:4", "int4", (LOOKUP_TABLES, DENSE_ROWS)),
    ],
)
def test_every_access_is_inside(
    tmp_path: Path, cpu: Cpu, pattern: str, weight_type: str, families: tuple[str, ...]
) -> None:
    path = str(artifact(tmp_path / "a", cpu, Pattern.parse(pattern), weight_type, families))
    run = [sys.executable, "-c", PROGRAM, path]
    done = subprocess.run([*run, "0"], capture_output=True, text=True, check=False)
    assert done.stdout == "inside\n", (done.returncode, done.stderr)
    assert subprocess.run([*run, "4096"], capture_output=True, check=False).returncode < 0
