"""Networks as C programs under test: written, compiled by any compiler, run on samples, compared with the reference."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.fx import GraphModule

from spikenm_compile.graph import PER_STEP, REGION, SHAPE, Region, result, run_steps, the_input
from spikenm_compile.lowering.c.emit import kernels_source, weights_header, weights_source
from spikenm_compile.lowering.c.memory import Arena, place_buffers
from spikenm_compile.lowering.c.plan import plan_c
from spikenm_compile.lowering.c.program import Program
from spikenm_compile.lowering.c.weights import Rows

DRIVER = Path(__file__).parent / "edge" / "driver.c"
HOST = ("gcc",)
STRICT = ("-std=c99", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-pedantic", "-Werror")
SANITIZED = ("-g", "-O2", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
PREFIX = "net_k_"


@dataclass(frozen=True)
class CNetwork:
    """A network's C files in a folder."""

    graph: GraphModule
    program: Program
    arena: Arena
    folder: Path
    num_steps: int

    @classmethod
    def write(cls, graph: GraphModule, folder: Path, *, rows: Rows = "auto", keep_spikes: bool = True) -> CNetwork:
        """Plan and write it."""
        program = plan_c(graph, PREFIX, rows=rows, keep_spikes=keep_spikes)
        arena = place_buffers(program)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "kernels.c").write_text(kernels_source(program, arena))
        (folder / "weights.c").write_text(weights_source(program))
        (folder / "weights.h").write_text(weights_header(program))
        network = cls(graph, program, arena, folder, graph.meta["num_steps"])
        (folder / "network.h").write_text(network.header())
        return network

    def compile(self, compiler: Sequence[str] = HOST, flags: Sequence[str] = SANITIZED) -> Path:
        """An executable."""
        executable, objects = self.folder / "run", []
        for source in ("kernels.c", "weights.c"):
            objects.append(str(self.folder / source.replace(".c", ".o")))
            command = [*compiler, *STRICT, *flags, "-c", str(self.folder / source), "-o", objects[-1]]
            subprocess.run(command, check=True)
        driver = [*compiler, "-std=c99", *flags, f"-I{self.folder}", str(DRIVER)]
        subprocess.run([*driver, *objects, "-o", str(executable)], check=True)
        return executable

    def run(self, command: Sequence[str | Path], x: Tensor, *, one_call: bool) -> list[_Sample]:
        """What the program gives for samples [B, ...] or [T, B, ...], all steps in one call or one at a time."""
        per_step = bool(the_input(self.graph).meta[PER_STEP])
        samples = x.transpose(0, 1).contiguous() if per_step else x
        given = self._initial() + samples.numpy().astype(np.float32).tobytes()
        whole = [*map(str, command), *(["one"] if one_call else [])]
        done = subprocess.run(whole, input=given, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()[-2000:]
        size = len(done.stdout) // len(samples)
        assert size * len(samples) == len(done.stdout)
        return [self._read(done.stdout[b * size : (b + 1) * size], one_call=one_call) for b in range(len(samples))]

    def check(self, x: Tensor, compiler: Sequence[str] = HOST, flags: Sequence[str] = SANITIZED) -> None:
        """Compile, run and compare."""
        self.compare(x, [self.compile(compiler, flags)])

    def compare(self, x: Tensor, command: Sequence[str | Path]) -> None:
        """Outputs, spikes and states equal the reference, all steps in one call and one at a time."""
        per_step = bool(the_input(self.graph).meta[PER_STEP])
        with torch.no_grad():
            expected = run_steps(self.graph, x, None if per_step else self.num_steps)
        is_sequence = result(self.graph).meta[REGION] is Region.STEP
        for one_call in (False, True):
            for b, sample in enumerate(self.run(command, x, one_call=one_call)):
                output = expected.output[:, b] if is_sequence else expected.output[b]
                assert_same("output", sample.output, output.numpy().reshape(-1))
                for name, value in sample.states.items():
                    assert_same(name, value, as_pixels(expected.states[name][b].numpy()))
                assert sample.spikes.keys() == (set() if one_call else {s.layer for s in self.program.spikes})
                for layer, spikes in sample.spikes.items():
                    steps = expected.spikes[layer][:, b].numpy()
                    for t, (actual, step) in enumerate(zip(spikes, steps, strict=True)):
                        assert_same(f"{layer} at {t}", actual, as_pixels(step))

    def header(self) -> str:
        """network.h of the driver."""
        program, spikes = self.program, [s.buffer for s in self.program.spikes]
        per_step, output = bool(the_input(self.graph).meta[PER_STEP]), result(self.graph)
        inputs = int(np.prod(the_input(self.graph).meta[SHAPE]))
        outputs = int(np.prod(output.meta[SHAPE])) * (self.num_steps if program.output_values else 1)
        numbers = {
            "PREFIX": program.prefix,
            "ARENA_BYTES": self.arena.num_bytes,
            "STATE_BYTES": program.state_bytes,
            "NUM_STEPS": self.num_steps,
            "INPUT_VALUES": inputs * (self.num_steps if per_step else 1),
            "INPUT_STEP": program.input_values,
            "OUTPUT_VALUES": outputs,
            "OUTPUT_STEP": program.output_values,
            "SPIKE_OFFSETS": _braces([self.arena.offsets[buffer] for buffer in spikes]),
            "SPIKE_SIZES": _braces([buffer.num_bytes for buffer in spikes]),
        }
        return "".join(f"#define {name} {value}\n" for name, value in numbers.items())

    def _initial(self) -> bytes:
        memory = np.zeros(self.program.state_bytes, np.uint8)
        for state in self.program.states:
            values = np.full(int(np.prod(state.shape)), state.init, np.float32).view(np.uint8)
            memory[state.offset : state.offset + len(values)] = values
        return memory.tobytes()

    def _read(self, data: bytes, *, one_call: bool) -> _Sample:
        spikes: dict[str, list[np.ndarray]] = {}
        at = 0
        for _ in range(0 if one_call else self.num_steps):
            for entry in self.program.spikes:
                packed = np.frombuffer(data, np.uint8, entry.buffer.num_bytes, at)
                at += entry.buffer.num_bytes
                pixels = packed.reshape(entry.height * entry.width, -1)
                bits = np.unpackbits(pixels, axis=1, bitorder="little")
                assert not bits[:, entry.channels :].any()
                spikes.setdefault(entry.layer, []).append(bits[:, : entry.channels].reshape(-1))
        end = len(data) - self.program.state_bytes
        output, memory = np.frombuffer(data[at:end], np.float32), data[end:]
        counts = {state.name: (int(np.prod(state.shape)), state.offset) for state in self.program.states}
        states = {name: np.frombuffer(memory, np.float32, count, offset) for name, (count, offset) in counts.items()}
        return _Sample(output, states, spikes)


@dataclass(frozen=True)
class _Sample:
    output: np.ndarray
    states: dict[str, np.ndarray]
    spikes: dict[str, list[np.ndarray]]


def as_pixels(value: np.ndarray) -> np.ndarray:
    """[C] or [C, H, W] with the channel last, flat."""
    return value.reshape(-1) if value.ndim == 1 else value.transpose(1, 2, 0).reshape(-1)


def assert_same(what: str, actual: np.ndarray, expected: np.ndarray) -> None:
    """Equal numbers; NaN equals NaN."""
    assert actual.shape == expected.shape, what
    same = (actual == expected) | ((actual != actual) & (expected != expected))
    assert same.all(), f"{what}: {int((~same).sum())} of {same.size} values differ"


def _braces(values: Sequence[int]) -> str:
    return "{" + ", ".join(map(str, values or [0])) + "}"
