"""NVIDIA GPUs: 2:4-sparse tensor cores, all time steps of a layer in one kernel, one artifact for sm_80 to sm_120."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch.fx import GraphModule

from spikenm_compile.artifact.cuda_code import WEIGHTS_TENSOR
from spikenm_compile.artifact.tensors import write_tensors
from spikenm_compile.passes.select_kernels import CUDA_CORE, DENSE_TENSOR_CORE, SPARSE_TENSOR_CORE
from spikenm_compile.targets.base import Contents, Emit, no_emit
from spikenm_compile.targets.cuda_toolkit import Toolkit, find_toolkit, missing_toolkit
from spikenm_compile.targets.gpu import GPUS, Gpu, portable_registers, portable_shared_bytes
from spikenm_compile.targets.toolchain import check_tvm

SOURCE, BINARY, WEIGHTS = "kernels.cu", "kernels.fatbin", "device.safetensors"
BLOCK = 256
"""Threads of the largest block."""


@dataclass(frozen=True)
class Cuda:
    """Kernels as CUDA C++ and, where a CUDA compiler is found, as one binary for all architectures."""

    name: str = "cuda"
    summary: str = "kernels for NVIDIA GPUs from Ampere on, 2:4 layers on sparse tensor cores"
    families: tuple[str, ...] = (SPARSE_TENSOR_CORE, DENSE_TENSOR_CORE, CUDA_CORE)
    known_cpu: None = None
    gpus: tuple[Gpu, ...] = GPUS
    """To compile for."""
    batch: int = 64
    """Samples that tiles are chosen for; kernels take any number."""
    keeps_states: bool = False
    """Whether the last potentials can be read: costs memory traffic of 8 bytes for each neuron."""

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
        """Write `kernels.cu`, `device.safetensors` and, if there is a compiler, `kernels.fatbin`; `contents` is unused.

        Raises:
            PassError: a node without a CUDA kernel.
            ToolError: the compiler refuses the kernels.
        """
        check_tvm()
        from spikenm_compile.lowering.cuda.generated import Gpu as Facts
        from spikenm_compile.lowering.cuda.plan import plan
        from spikenm_compile.lowering.cuda.program import Program

        facts = Facts(portable_shared_bytes(self.gpus), portable_registers(BLOCK, self.gpus))
        program: Program = plan(lowered, num_steps, facts, self.batch, keeps_states=self.keeps_states)
        text = f"// {name}, T={num_steps}: {len(program.launches)} launches\n{program.source()}"
        (directory / SOURCE).write_text(text)
        emit(SOURCE, text)
        weights = np.concatenate(program.weights) if program.weights else np.zeros(0, np.uint8)
        write_tensors(directory / WEIGHTS, {WEIGHTS_TENSOR: weights})
        return {
            "kind": "cuda",
            "source": SOURCE,
            **_compiled(find_toolkit(), directory, self.gpus),
            "weights": WEIGHTS,
            "weights_bytes": weights.nbytes,
            "arena_bytes": program.arena_bytes,
            "launches": [describe_launch(launch) for launch in program.launches],
            "states": program.states,
            "spikes": program.spikes,
        }


def _compiled(toolkit: Toolkit | None, directory: Path, gpus: tuple[Gpu, ...]) -> dict[str, Any]:
    """What the manifest says of the binary, and the binary itself."""
    if toolkit is None:
        return {"binary": None, "missing": missing_toolkit(), "toolkit": [0, 0], "architectures": []}
    toolkit.compile(directory / SOURCE, directory / BINARY, gpus)
    release = [int(number) for number in toolkit.version().split(".")[:2]]
    return {"binary": BINARY, "missing": None, "toolkit": release, "architectures": [gpu.arch for gpu in gpus]}


def describe_launch(launch: Any) -> dict[str, Any]:
    """A launch of a program as the code section has it."""
    kernel, grid = launch.kernel, launch.kernel.grid
    return {
        "kernel": kernel.name,
        "blocks": grid.blocks,
        "samples": grid.samples,
        "rows": grid.rows,
        "block": kernel.block,
        "shared_bytes": kernel.shared_bytes,
        "arguments": [{"space": p.space.value, "offset": p.offset} for p in launch.arguments],
        "layer": launch.layer,
        "description": kernel.description,
    }
