"""A C library for a CPU that need not be this machine's: static and shared, with header, examples and test vectors."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch.fx import GraphModule

from spikenm_compile.graph import SHAPE, spike_nodes, the_input
from spikenm_compile.passes.select_kernels import DENSE_ROWS, EVENT_ROWS, LOOKUP_TABLES, SHARED_ROWS, STAGGERED_ROWS
from spikenm_compile.targets.base import Contents, Emit, no_emit
from spikenm_compile.targets.cpu import Cpu
from spikenm_compile.targets.cross import Toolchain, find_toolchain
from spikenm_compile.targets.llvm import check_llvm
from spikenm_compile.targets.toolchain import check_tvm

if TYPE_CHECKING:
    from spikenm_compile.lowering.c_api.interface import Interface
    from spikenm_compile.lowering.program import Program

ARCHIVE, LIBRARY = "libmodel.a", "libmodel.so"

HOW_TO_LINK = """No C compiler for this CPU was found here, so that the artifact holds the parts of the library:
compile model.c and weights.c on the device (CMakeLists.txt says how) and link them with kernels.o and entries.o.
"""


@dataclass(frozen=True)
class CLibrary:
    """The network behind the functions of model.h (lowering.c_api), compiled by LLVM for `cpu`."""

    cpu: Cpu
    families: tuple[str, ...] = (STAGGERED_ROWS, SHARED_ROWS, EVENT_ROWS, LOOKUP_TABLES, DENSE_ROWS)
    keep_spikes: bool = False
    """Keep the spikes of every layer readable after a call, instead of the last layer's only; needs a larger arena."""
    max_steps: int | None = None
    """Time steps that are computed at a time; by default T. Fewer make the arena smaller."""

    @property
    def name(self) -> str:
        """The CPU's."""
        return self.cpu.name

    @property
    def summary(self) -> str:
        """One line."""
        return f"C library and header for {self.cpu.machine} ({self.cpu.mcpu}, {self.cpu.vector_bits}-bit vectors)"

    @property
    def known_cpu(self) -> Cpu:
        """That of the library."""
        return self.cpu

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
        """Write the library, or its parts where this machine has no toolchain for the CPU.

        Raises:
            PassError: a layer without a native kernel.
            TargetError, ToolError: LLVM does not know the CPU; a toolchain that is there fails.
        """
        assert contents is not None, "the library holds the weights"
        check_tvm()
        check_llvm(self.cpu)
        from spikenm_compile.lowering.c_api.interface import identifier, interface_of, memory_of, program_prefix
        from spikenm_compile.lowering.c_api.text import exported
        from spikenm_compile.lowering.entry import build_objects

        program = self._plan(lowered, program_prefix(identifier(name)), self.max_steps or num_steps)
        interface = interface_of(lowered, memory_of(program), name=name, target=self.name, num_steps=num_steps)
        self._write_sources(directory, program, interface, contents)
        emit("tir.py", f"# {name} for {self.name}\n" + "\n".join(f.script() for f in program.functions))
        *_, assembly = build_objects(program, self.cpu.tvm_target, directory)
        emit("kernels.s", assembly)
        left = _link(directory, find_toolchain(self.cpu), exported(interface), emit)
        self._write_cmake(directory, interface, left)
        return self._code_section(program, interface, is_linked=not left)

    def _plan(self, lowered: GraphModule, prefix: str, max_steps: int) -> Program:
        from spikenm_compile.lowering.native import plan
        from spikenm_compile.lowering.share_arena import share_arena

        program = plan(lowered, self.cpu.tile_width, max_steps, prefix, self.cpu.instructions)
        program.add_frame(4 * math.prod(the_input(lowered).meta[SHAPE]))
        return program if self.keep_spikes else share_arena(program, frozenset(list(spike_nodes(lowered))[-1:]))

    def _write_sources(self, directory: Path, program: Program, interface: Interface, contents: Contents) -> None:
        from spikenm_compile.lowering.c_api.cpu_check import cpu_check
        from spikenm_compile.lowering.c_api.data import VECTORS, WEIGHTS, packed_weights, vectors_text, weights_text
        from spikenm_compile.lowering.c_api.text import c_files

        files = c_files(interface, cpu_check(self.cpu.machine, self.cpu.features))
        files[VECTORS] = vectors_text(interface, contents.vectors)
        files[WEIGHTS] = weights_text(interface, packed_weights(program, contents.tensors))
        for file, text in files.items():
            (directory / file).write_text(text)

    def _write_cmake(self, directory: Path, interface: Interface, sources: Sequence[str]) -> None:
        from spikenm_compile.lowering.c_api.cmake import CMAKE, cmake_text

        (directory / CMAKE).write_text(cmake_text(interface, sources, self.cpu.cflags))

    def _code_section(self, program: Program, interface: Interface, *, is_linked: bool) -> dict[str, Any]:
        from spikenm_compile.lowering.c_api.interface import HEADER_BYTES

        return {
            "kind": "c_library",
            "library": LIBRARY if is_linked else None,
            "symbol": interface.name,
            "cpu": self.name,
            "machine": self.cpu.machine,
            "cpu_features": list(self.cpu.features),
            "arena_bytes": interface.arena_bytes,
            "state_bytes": interface.state_bytes,
            "max_steps": interface.max_steps,
            "states": [state | {"offset": state["offset"] + HEADER_BYTES} for state in program.states],
            "spikes": [{"layer": n.name, "shape": [n.channels, n.height, n.width]} for n in interface.neurons],
        }


def _link(directory: Path, toolchain: Toolchain | None, exports: Sequence[str], emit: Emit) -> tuple[str, ...]:
    """Make the libraries from what lies in `directory`, and remove what only they need.

    Returns:
        The files that are left to be compiled and linked where the library is used: none, if there is a toolchain.
    """
    sources = ("model.c", "weights.c", "kernels.o", "entries.o")
    if toolchain is None:
        emit("link.txt", HOW_TO_LINK)
        return sources
    with tempfile.TemporaryDirectory() as scratch:
        compiled = [Path(scratch) / f"{Path(source).stem}.o" for source in sources[:2]]
        for source, target in zip(sources, compiled, strict=False):
            toolchain.compile(directory / source, target)
        objects = [*compiled, *(directory / file for file in sources[2:])]
        toolchain.archive(objects, directory / ARCHIVE)
        toolchain.link(objects, directory / LIBRARY, exports)
    for file in sources[1:]:
        (directory / file).unlink()
    return ()
