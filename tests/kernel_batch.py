"""Many layers as one program for a CPU, emulated or not, whose buffers are guarded: lowering/kernel_driver.c."""

from __future__ import annotations

import bisect
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from edge_machines import Machine, run_program
from layer_matrix import Case
from native_calls import plain_calls

from spikenm_compile.graph import Region, run_steps
from spikenm_compile.lowering import tir
from spikenm_compile.lowering.layout import Bits, Planes
from spikenm_compile.lowering.program import Call, Place, Program, Space, Steps
from spikenm_compile.package import stored_tensors
from spikenm_compile.targets.cpu import Cpu
from spikenm_compile.targets.cross import find_toolchain
from spikenm_compile.tuning.native_layer import encode
from spikenm_compile.tuning.one_layer import LayerProgram, one_layer, plan_layer

FOLDER = Path(__file__).parent / "lowering"
SAMPLES = 2


@dataclass(frozen=True)
class Buffer:
    """A buffer of one layer; `data` is what it holds at first (PACKED, STATE), or for each sample (INPUT, OUTPUT)."""

    kind: str
    num_bytes: int
    data: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class Planned:
    """A case as kernels and buffers of their own."""

    case: Case
    prefix: str
    cpu: Cpu

    @cached_property
    def _lowered(self) -> torch.fx.GraphModule:
        case = self.case
        return one_layer(case.layer(), (case.channels, *case.size), case.num_steps)

    @cached_property
    def layer(self) -> LayerProgram:
        """Its kernels."""
        return plan_layer(self._lowered, self.cpu.tile_width, self.prefix, self.cpu.instructions)

    @property
    def program(self) -> Program:
        """Its kernels."""
        return self.layer.program

    @cached_property
    def _starts(self) -> dict[Space, list[int]]:
        """Where buffers begin."""
        program = self.program
        calls = [*program.prepare, *plain_calls(program, Region.STEP)]
        places = [place for call in calls for place in call.places]
        places += [place for source, target, _ in program.copies for place in (source, target)]
        places += [Place(Space.ARENA, buffer.offset) for buffer in program.buffers]
        return {space: sorted({p.offset for p in places if p.space is space}) for space in Space}

    @cached_property
    def _indices(self) -> dict[Place, int]:
        places = [Place(space, offset) for space, offsets in self._starts.items() for offset in offsets]
        return {place: index for index, place in enumerate(places)}

    @cached_property
    def _exact(self) -> dict[Place, int]:
        """Sizes of the arena's buffers; those of other memories are padded."""
        return {Place(Space.ARENA, buffer.offset): buffer.num_bytes for buffer in self.program.buffers}

    @cached_property
    def buffers(self) -> tuple[Buffer, ...]:
        """All of them, in the order of their indices."""
        return tuple(map(self._buffer, self._indices))

    def _buffer(self, place: Place) -> Buffer:
        starts = self._starts[place.space]
        ends = [*starts[1:], self.program.sizes[place.space]]
        size = self._exact.get(place, ends[starts.index(place.offset)] - place.offset)
        if place.space is Space.PACKED:
            return Buffer("PACKED", size, (self._packed[place.offset :][:size],))
        if place.space is Space.STATE:
            (first,) = [s["init"] for s in self.program.states if s["offset"] == place.offset]
            return Buffer("STATE", size, (np.full(size // 4, first, np.float32).tobytes(),))
        if place == self.layer.source_place:
            return Buffer("INPUT", size, self._given)
        return Buffer("OUTPUT", size, self._expected) if place == self.layer.output_place else Buffer("ZERO", size)

    @cached_property
    def _packed(self) -> bytes:
        memory, tensors = np.zeros(self.program.sizes[Space.PACKED], np.uint8), stored_tensors(self._lowered)
        for part in self.program.packed:
            stored = np.ascontiguousarray(tensors[part["tensor"]]).reshape(-1).view(np.uint8)
            memory[part["offset"] : part["offset"] + part["bytes"]] = stored
        return memory.tobytes()

    @cached_property
    def _given(self) -> tuple[bytes, ...]:
        levels = self.case.levels(SAMPLES).numpy()
        return tuple(encode(levels[:, sample], self.layer.source).tobytes() for sample in range(SAMPLES))

    @cached_property
    def _expected(self) -> tuple[bytes, ...]:
        with torch.no_grad():
            output = run_steps(self._lowered, self.case.levels(SAMPLES)).output
        out = self.layer.output
        found = (output[:, sample] for sample in range(SAMPLES))
        if isinstance(out, Bits):
            return tuple(encode(each.numpy(), out).tobytes() for each in found)
        order = (0, 1, 2, 3) if isinstance(out, Planes) else (0, 2, 3, 1)
        return tuple(each.permute(order).contiguous().numpy().tobytes() for each in found)

    def c_text(self, name: str) -> str:
        """The functions that the driver calls, and the table of buffers."""
        program, p = self.program, self.prefix
        copies = [
            f"    memcpy({self._address(target)}, {self._address(source)}, {4 * count});\n"
            for source, target, count in program.copies
        ]
        sizes = ", ".join(f"{{{buffer.kind}, {buffer.num_bytes}}}" for buffer in self.buffers)
        declared = {call.function: len(call.places) for call in [*program.prepare, *plain_calls(program, Region.STEP)]}
        externs = "".join(f"int32_t {f}({'void *, ' * count}int32_t);\n" for f, count in declared.items())
        return (
            f"/* {name} */\n{externs}static const struct buffer buffers_{p}[] = {{{sizes}}};\n"
            f"static void prepare_{p}(uint8_t **b) {{\n{self._calls(program.prepare)}{''.join(copies)}}}\n"
            f"static void run_{p}(uint8_t **b) {{\n{self._calls(plain_calls(program, Region.STEP))}}}\n"
        )

    def _calls(self, calls: Sequence[Call]) -> str:
        steps = {Steps.ALL: self.case.num_steps, Steps.ONE: 1}
        return "".join(
            f"    {call.function}({', '.join(map(self._address, call.places))}, {steps[call.steps]});\n"
            for call in calls
        )

    def _address(self, place: Place) -> str:
        """C for where a place is: inside of the last buffer that begins at or before it."""
        starts = self._starts[place.space]
        start = starts[bisect.bisect(starts, place.offset) - 1]
        return f"b[{self._indices[Place(place.space, start)]}] + {place.offset - start}"

    def data(self, *, is_spoiled: bool) -> bytes:
        """What the driver reads; spoiled, inputs are all zero."""
        firsts = [buffer.data[0] for buffer in self.buffers if buffer.kind in ("PACKED", "STATE")]
        samples = [
            bytes(buffer.num_bytes) if is_spoiled and buffer.kind == "INPUT" else buffer.data[sample]
            for sample in range(SAMPLES)
            for buffer in self.buffers
            if buffer.kind in ("INPUT", "OUTPUT")
        ]
        return b"".join([*firsts, *samples])


@dataclass(frozen=True)
class Batch:
    """A program of many layers."""

    planned: tuple[Planned, ...]
    command: tuple[str | Path, ...]
    is_spoiled: bool = False
    """Whether other inputs are given than those that the outputs are of."""

    @classmethod
    def build(cls, cases: Sequence[Case], machine: Machine, folder: Path) -> Batch:
        """Compile the layers for a machine."""
        planned = tuple(Planned(case, f"c{i}", machine.cpu) for i, case in enumerate(cases))
        functions = [function for each in planned for function in each.program.functions]
        tir.write_object(tir.compile_functions(functions, machine.cpu.tvm_target), folder / "kernels.o")
        (folder / "layers.c").write_text(_layers_source(planned))
        toolchain = find_toolchain(machine.cpu)
        assert toolchain is not None
        sources = [str(FOLDER / "kernel_driver.c"), str(folder / "layers.c"), str(folder / "kernels.o")]
        flags = ["-std=c99", "-O1", "-Wall", "-Werror", f"-I{FOLDER}"]
        command = [*toolchain.cc, *toolchain.cflags, *flags, *sources, "-o", str(folder / "layers")]
        subprocess.run(command, check=True)
        return cls(planned, (*machine.runner, folder / "layers"))

    def run(self, *words: str) -> list[str]:
        """What is wrong."""
        data = b"".join(each.data(is_spoiled=self.is_spoiled) for each in self.planned)
        done = run_program(self.command, *words, data=data)
        assert done.returncode == 0, (done.returncode, done.stdout[-500:], done.stderr[-500:])
        *wrong, last = done.stdout.decode().splitlines()
        assert last == f"{len(self.planned)} layers"
        return wrong


def _layers_source(planned: Sequence[Planned]) -> str:
    texts = [each.c_text(repr(each.case)) for each in planned]
    rows = [
        f'    {{"{repr(each.case).replace(chr(34), chr(39))}", prepare_{each.prefix}, run_{each.prefix}, '
        f"buffers_{each.prefix}, {len(each.buffers)}}},\n"
        for each in planned
    ]
    head = '#include "kernel_driver.h"\n\n#include <string.h>\n\n'
    numbers = f"const int num_layers = {len(planned)}, num_samples = {SAMPLES};\n"
    return head + "\n".join(texts) + f"\nconst struct layer layers[] = {{\n{''.join(rows)}}};\n{numbers}"
