"""The network as C99 sources for any compiler, down to microcontrollers: constants in flash, one time step in RAM."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch.fx import GraphModule

from spikenm_compile.passes.select_kernels import LEVEL_ROWS, SPIKE_ROWS
from spikenm_compile.targets.base import Contents, Emit, no_emit
from spikenm_compile.targets.cross import Toolchain
from spikenm_compile.targets.footprint import measure_code
from spikenm_compile.targets.linker import host_compiler

if TYPE_CHECKING:
    from spikenm_compile.lowering.c.memory import Arena
    from spikenm_compile.lowering.c.program import Program
    from spikenm_compile.lowering.c.weights import Rows
    from spikenm_compile.lowering.c_api.interface import Interface

CORTEX_M = "portable C99 sources for microcontrollers: weights in flash without their zeros, RAM for one time step"
WEIGHTS = "weights.c"
SOURCES = ("model.c", "kernels.c", WEIGHTS)
FLAGS = ("-ffp-contract=off",)
"""The code itself asks gcc for no contraction; the flag tells others."""


@dataclass(frozen=True)
class PortableC:
    """The network behind the functions of model.h (lowering.c_api), as sources (lowering.c)."""

    name: str = "c"
    summary: str = "portable C99 sources for any compiler and machine"
    families: tuple[str, ...] = (SPIKE_ROWS, LEVEL_ROWS)
    known_cpu: None = None
    rows: Rows = "dense"
    """How weights are stored: with their zeros (dense), which is quickest where there are vectors; without (sparse); or
    whichever is smaller by layer (auto), which is also quicker where there are none."""
    keep_spikes: bool = False
    """Keep the spikes of every layer readable after a call, instead of the last layer's only; needs a larger arena."""

    @property
    def flags(self) -> tuple[str, ...]:
        """For the compiler: at -O3 it adds dense rows with vectors; elsewhere that makes code larger, not quicker."""
        return ("-O3" if self.rows == "dense" else "-O2", *FLAGS)

    def build(
        self,
        lowered: GraphModule,
        directory: Path,
        *,
        name: str,
        num_steps: int,
        emit: Emit = no_emit,
        contents: Contents | None = None,
    ) -> dict[str, Any]:
        """Write the sources.

        Raises:
            PassError: a layer without a C kernel.
            ToolError: a compiler for microcontrollers is here and fails.
        """
        assert contents is not None, "test_vectors.h holds the vectors"
        from spikenm_compile.lowering.c.describe import memory_of
        from spikenm_compile.lowering.c.memory import place_buffers
        from spikenm_compile.lowering.c.plan import plan_c
        from spikenm_compile.lowering.c_api.interface import identifier, interface_of, program_prefix

        prefix = f"{program_prefix(identifier(name))}_"
        program = plan_c(lowered, prefix, rows=self.rows, keep_spikes=self.keep_spikes)
        arena = place_buffers(program)
        interface = interface_of(lowered, memory_of(program, arena), name=name, target=self.name, num_steps=num_steps)
        files = self._files(program, arena, interface, contents)
        for file, text in files.items():
            (directory / file).write_text(text)
        emit("kernels.c", files["kernels.c"])
        functions = [directory / source for source in SOURCES if source != WEIGHTS]
        return self._code(program, interface) | {"code": measure_code(functions)}

    def _files(self, program: Program, arena: Arena, interface: Interface, contents: Contents) -> dict[str, str]:
        """File name -> text."""
        from spikenm_compile.lowering.c.emit import kernels_source, weights_header, weights_source
        from spikenm_compile.lowering.c_api.cmake import CMAKE, cmake_text
        from spikenm_compile.lowering.c_api.cpu_check import cpu_check
        from spikenm_compile.lowering.c_api.data import VECTORS, vectors_text
        from spikenm_compile.lowering.c_api.text import c_files

        return {
            **c_files(interface, cpu_check("any", ()), " ".join(SOURCES)),
            "kernels.c": kernels_source(program, arena),
            "weights.h": weights_header(program),
            WEIGHTS: weights_source(program),
            VECTORS: vectors_text(interface, contents.vectors),
            CMAKE: cmake_text(interface, SOURCES, self.flags),
        }

    def _code(self, program: Program, interface: Interface) -> dict[str, Any]:
        """The manifest's code section, but for what is measured."""
        from spikenm_compile.lowering.c_api.interface import HEADER_BYTES

        return {
            "kind": "c_sources",
            "library": None,
            "symbol": interface.name,
            "cpu": self.name,
            "machine": "any",
            "cpu_features": [],
            "arena_bytes": interface.arena_bytes,
            "state_bytes": interface.state_bytes,
            "constant_bytes": sum(array.values.nbytes for array in program.arrays),
            "max_steps": interface.max_steps,
            "states": [
                {"name": s.name, "offset": s.offset + HEADER_BYTES, "shape": list(s.shape), "init": s.init}
                for s in program.states
            ],
            "spikes": [{"layer": n.name, "shape": [n.channels, n.height, n.width]} for n in interface.neurons],
        }


def compile_for_host(sources: Sequence[Path], symbol: str, folder: Path) -> Path:
    """A shared library for this machine, in `folder`.

    Args:
        sources: C files that lie beside their headers.
        symbol: how the names of the exported functions begin.
        folder: an existing directory.

    Raises:
        ToolError: no C compiler, or it fails.
    """
    toolchain = Toolchain((host_compiler(),), (), FLAGS)
    objects = [folder / f"{source.stem}.o" for source in sources]
    for source, target in zip(sources, objects, strict=True):
        toolchain.compile(source, target)
    library = folder / "libmodel.so"
    toolchain.link(objects, library, [f"{symbol}_*"])
    return library
