"""A layer of LIF neurons, compiled for an ARM CPU and counted by QEMU; its spikes are compared with the reference."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from benchmarks.arm_counter import SOURCES, compile_program, count
from benchmarks.arm_loops import Loop, disassemble, loops_of
from spikenm_compile.graph import run_steps
from spikenm_compile.lowering.entry import build_objects
from spikenm_compile.lowering.layout import Bits
from spikenm_compile.lowering.program import Program, Space
from spikenm_compile.ops import IntConvNeuron
from spikenm_compile.package import stored_tensors
from spikenm_compile.targets.cpu import Cpu
from spikenm_compile.tuning.native_layer import encode
from spikenm_compile.tuning.one_layer import LayerProgram, one_layer, plan_layer

PREFIX = Program(0).prefix
NOT_COUNTED = "_prepare"
"""How functions end that run once, when weights are loaded."""
KERNEL = "_layer"
"""How the layer's own function ends; others make its event lists."""


@dataclass(frozen=True)
class CountedLayer:
    """What the kernels of a layer took."""

    functions: dict[str, float]
    """Function -> instructions of a call."""
    loops: tuple[Loop, ...]
    """Innermost loops of the layer's own function, the one that took the most first."""

    @property
    def instructions(self) -> float:
        """Of a call, in all."""
        return sum(self.functions.values())

    @property
    def list_instructions(self) -> float:
        """Those that make event lists."""
        return sum(number for name, number in self.functions.items() if not name.endswith(KERNEL))


def count_layer(layer: IntConvNeuron, inputs: torch.Tensor, cpu: Cpu) -> CountedLayer:
    """Run a layer on inputs [calls, T, C, H, W] of zeros and ones.

    Raises:
        ToolError: a tool is missing.
    """
    num_steps, *shape = inputs.shape[1:]
    lowered = one_layer(layer, (shape[0], shape[1], shape[2]), num_steps)
    planned = plan_layer(lowered, cpu.tile_width, instructions=cpu.instructions)
    program = planned.program
    packed = np.zeros(program.sizes[Space.PACKED], np.uint8)
    stored = stored_tensors(lowered)
    for part in program.packed:
        values = stored[part["tensor"]].reshape(-1).view(np.uint8)
        packed[part["offset"] :][: part["bytes"]] = values
    state = np.zeros(program.sizes[Space.STATE], np.uint8)
    for part in program.states:
        values = np.full(part["shape"], part["init"], np.float32).reshape(-1).view(np.uint8)
        state[part["offset"] :][: values.size] = values
    encoded = [encode(x.numpy(), planned.source).tobytes() for x in inputs]
    with TemporaryDirectory() as scratch:
        directory = Path(scratch)
        *objects, _ = build_objects(program, cpu.tvm_target, directory)
        flags = _sizes(planned, num_steps, len(inputs))
        compile_program(cpu, [SOURCES / "arm_layer.c", *objects], directory / "layer", *flags)
        counted = count(cpu, directory / "layer", b"".join([packed.tobytes(), state.tobytes(), *encoded]))
        functions = {
            name: number / len(inputs)
            for name, number in counted.by_function().items()
            if name.startswith(PREFIX) and not name.endswith(NOT_COUNTED)
        }
        (kernel,) = (name for name in functions if name.endswith(KERNEL))
        loops = loops_of(disassemble(directory / "layer", cpu, kernel), counted)
    with torch.no_grad():
        spikes = torch.stack([run_steps(lowered, x[:, None]).output[:, 0] for x in inputs])
    assert spikes.any(), "no spike is compared"
    assert counted.output == b"".join(map(_packed_spikes, spikes)), "the compiled layer is wrong"
    return CountedLayer(functions, tuple(loops))


def _packed_spikes(spikes: torch.Tensor) -> bytes:
    """Spikes [T, C, H, W] as a last layer writes them."""
    _, channels, height, width = spikes.shape
    return encode(spikes.numpy(), Bits(height, width, channels)).tobytes()


def _sizes(planned: LayerProgram, num_steps: int, calls: int) -> list[str]:
    sizes = planned.program.sizes
    defined = {
        "PACKED": sizes[Space.PACKED],
        "PARAMS": sizes[Space.PARAMS],
        "STATE": sizes[Space.STATE],
        "ARENA": sizes[Space.ARENA],
        "INPUT": planned.source_place.offset,
        "INPUT_BYTES": planned.source.num_bytes(num_steps),
        "OUTPUT": planned.output_place.offset,
        "OUTPUT_BYTES": planned.output_bytes,
        "STEPS": num_steps,
        "CALLS": calls,
    }
    return [f"-D{name}={value}" for name, value in defined.items()]
