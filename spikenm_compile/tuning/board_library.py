"""Kernels of one layer with its weights and inputs as a shared library that a board times by itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch.fx import GraphModule

from spikenm_compile.costs.trials import Kernel
from spikenm_compile.lowering.entry import build_objects
from spikenm_compile.lowering.program import Space
from spikenm_compile.package import stored_tensors
from spikenm_compile.targets.cpu import Cpu
from spikenm_compile.targets.cross import Toolchain
from spikenm_compile.tuning.native_layer import encode, initial_states, packed_weights
from spikenm_compile.tuning.one_layer import LayerProgram, layer_with_kernel, plan_layer
from spikenm_compile.tuning.tasks import Task

DRIVER = Path(__file__).parent / "board_driver.c"
EXPORTS = ("__tvm_ffi_measure", "__tvm_ffi_microseconds")


def build_board_library(task: Task, kernels: Sequence[Kernel], cpu: Cpu, toolchain: Toolchain, folder: Path) -> Path:
    """The library; what it is made of lies beside it.

    Raises:
        PassError: there is no such kernel of the layer.
        ToolError: the toolchain fails.
    """
    objects, rows, data = list[Path](), list[str](), bytearray()
    for number, kernel in enumerate(kernels):
        lowered = layer_with_kernel(task.layer, task.shape, task.call.num_steps, kernel)
        planned = plan_layer(lowered, cpu.tile_width, f"kernel{number}", cpu.instructions)
        place = folder / str(number)
        place.mkdir()
        objects += build_objects(planned.program, cpu.tvm_target, place)[:2]
        rows.append(_row(number, planned, _append(data, planned, lowered, task)))
    (folder / "data.bin").write_bytes(data)
    (folder / "board_layer.h").write_text(_header(task, planned, rows))
    (folder / "data.S").write_text(_assembly(folder / "data.bin"))
    compiled = [folder / "driver.o", folder / "data.o"]
    toolchain.compile(_beside(DRIVER, folder), compiled[0])
    toolchain.compile(folder / "data.S", compiled[1])
    library = folder / "layer.so"
    toolchain.link([*compiled, *objects], library, EXPORTS)
    return library


def _beside(source: Path, folder: Path) -> Path:
    """A copy of a source where its generated header lies."""
    copy = folder / source.name
    copy.write_text(source.read_text())
    return copy


def _append(data: bytearray, planned: LayerProgram, lowered: GraphModule, task: Task) -> tuple[int, int, int]:
    """Where packed weights, initial states and inputs begin in the data."""
    weights = packed_weights(planned.program, stored_tensors(lowered)).tobytes()
    states = initial_states(planned.program).tobytes()
    inputs = b"".join(encode(levels.astype(np.float32), planned.source).tobytes() for levels in task.inputs)
    starts = []
    for part in (weights, states, inputs):
        data += bytes(-len(data) % 64)
        starts.append(len(data))
        data += part
    return starts[0], starts[1], starts[2]


def _row(number: int, planned: LayerProgram, starts: tuple[int, int, int]) -> str:
    """The kernel's line in the table of kernels."""
    sizes = planned.program.sizes
    numbers = (
        *starts,
        *(sizes[space] for space in (Space.PARAMS, Space.STATE, Space.ARENA)),
        planned.source_place.offset,
        planned.output_place.offset,
    )
    return f"    {{kernel{number}_prepare, kernel{number}_steps, {', '.join(map(str, numbers))}}},"


def _header(task: Task, planned: LayerProgram, rows: Sequence[str]) -> str:
    names, steps = [f"kernel{number}" for number in range(len(rows))], task.call.num_steps
    memories = "const uint8_t *params, const float *input, uint8_t *state, uint8_t *arena, float *output"
    return "\n".join(
        [
            "#include <stddef.h>",
            "#include <stdint.h>",
            f"enum {{ NUM_KERNELS = {len(rows)}, NUM_INPUTS = {len(task.inputs)}, NUM_STEPS = {steps} }};",
            f"#define INPUT_BYTES ((size_t){planned.source.num_bytes(steps)})",
            f"#define OUTPUT_BYTES ((size_t){planned.output_bytes})",
            "struct board_kernel {",
            "    int32_t (*prepare)(const uint8_t *packed, uint8_t *params);",
            f"    int32_t (*steps)({memories}, int32_t num_steps);",
            "    size_t packed_at, state_at, inputs_at, params_bytes, state_bytes, arena_bytes, source_at, output_at;",
            "};",
            "extern const uint8_t board_data[];",
            *(f"int32_t {name}_prepare(const uint8_t *packed, uint8_t *params);" for name in names),
            *(f"int32_t {name}_steps({memories}, int32_t num_steps);" for name in names),
            "static const struct board_kernel board_kernels[NUM_KERNELS] = {",
            *rows,
            "};\n",
        ]
    )


def _assembly(data: Path) -> str:
    """`board_data`: a file as it is."""
    mark = '.section .note.GNU-stack,"",%progbits'
    lines = (".section .rodata", ".balign 64", ".global board_data", "board_data:", f'.incbin "{data}"', mark)
    return "\n".join(lines) + "\n"
