"""Plain C code for the CPU of this machine."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch.fx import GraphModule

from spikenm_compile.passes.select_kernels import DENSE_ROWS, EVENT_ROWS, LOOKUP_TABLES, SHARED_ROWS, STAGGERED_ROWS
from spikenm_compile.targets.base import Contents, Emit, no_emit
from spikenm_compile.targets.cpu import Cpu, detect, find_cpu
from spikenm_compile.targets.linker import link_shared
from spikenm_compile.targets.toolchain import check_tvm

LIBRARY = "model.so"


@dataclass(frozen=True)
class Native:
    """A shared library for this machine's CPU."""

    name: str = "native"
    families: tuple[str, ...] = (STAGGERED_ROWS, SHARED_ROWS, EVENT_ROWS, LOOKUP_TABLES, DENSE_ROWS)
    cpu: Cpu | None = None
    """The CPU to build for; None: this machine's."""

    @property
    def summary(self) -> str:
        """One line."""
        return "plain C shared library for this machine's CPU"

    @property
    def known_cpu(self) -> Cpu | None:
        """The CPU to build for, if there is a description of it."""
        return self.cpu or find_cpu()

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
        """Write model.so; `name` goes into the emitted text only, since the manifest knows the entry points.

        Raises:
            PassError: a layer without a native kernel.
            TargetError, ToolError: this machine cannot run or link native code.
        """
        check_tvm()
        from spikenm_compile.lowering.entry import build_objects, entry_names
        from spikenm_compile.lowering.native import plan
        from spikenm_compile.lowering.program import Space

        cpu = self.cpu or detect()
        program = plan(lowered, cpu.tile_width, num_steps, instructions=cpu.instructions)
        with tempfile.TemporaryDirectory() as scratch:
            kernels, entries, assembly = build_objects(program, cpu.tvm_target, Path(scratch))
            link_shared([kernels, entries], directory / LIBRARY, entry_names(program))
        emit("tir.py", f"# {name} for {cpu.name}\n" + "\n".join(f.script() for f in program.functions))
        emit("kernels.s", assembly)
        sizes = program.sizes
        return {
            "kind": "native",
            "library": LIBRARY,
            "cpu": cpu.name,
            "machine": cpu.machine,
            "cpu_features": list(cpu.features),
            "packed_bytes": sizes[Space.PACKED],
            "packed": program.packed,
            "params_bytes": sizes[Space.PARAMS],
            "state_bytes": sizes[Space.STATE],
            "arena_bytes": sizes[Space.ARENA],
            "max_steps": program.max_steps,
            "states": program.states,
            "spikes": program.spikes,
        }
