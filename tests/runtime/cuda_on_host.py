"""A CUDA driver that runs an artifact's kernels on the host: its source compiled by g++ with emulated instructions."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from lowering.cuda.emulator import FLAGS, HEADER, EmulationError, _emulated

from spikenm_compile.artifact.directory import read_artifact
from spikenm_compile.runtime.cuda import CudaModel
from spikenm_compile.targets import cuda
from spikenm_compile.targets.gpu import GPUS

DRIVER = Path(__file__).parent / "cuda_driver.h"
SHARED_WORDS = 99 * 256
SIGNATURE = re.compile(r"__global__ void (?:__launch_bounds__\(\d+\) )?(\w+)\(([^)]*)\) \{")


@dataclass(frozen=True)
class NoCompiler:
    """In the place of nvcc: its binary is a mere mark, since the driver on the host has its own kernels."""

    compiled: list[Path] = field(default_factory=list)

    def compile(self, source: Path, binary: Path, _gpus: object = GPUS) -> None:
        self.compiled.append(source)
        binary.write_bytes(b"kernels of the host\n")

    def version(self) -> str:
        return "13.0"


def build_without_nvcc(monkeypatch: pytest.MonkeyPatch) -> NoCompiler:
    """Let the target believe that there is a CUDA compiler."""
    toolkit = NoCompiler()
    monkeypatch.setattr(cuda, "find_toolkit", lambda: toolkit)
    return toolkit


def driver_for(artifact: Path) -> Path:
    """The driver's library, beside the artifact."""
    source = (artifact / "kernels.cu").read_text().replace("#include <cuda.h>", "")
    source = re.sub(r'asm volatile\("(.*?)"\s*:.*?\);\n', lambda m: _emulated(m[1]) + "\n", source)
    source = re.sub(r"extern __shared__ __align__\(64\) uint (\w+)\[\];", "", source)
    entries, table = [], []
    for name, parameters in SIGNATURE.findall(source):
        types = [p.strip().rsplit(" ", 1)[0].replace("__restrict__", "") for p in parameters.split(",")]
        values = ", ".join(f"({t})*(void**)a[{i}]" if "*" in t else f"*({t}*)a[{i}]" for i, t in enumerate(types))
        entries.append(f"static void call_{name}(void** a) {{ {name}({values}); }}")
        table.append(f'{{"{name}", call_{name}, {len(types)}}},')
    text = [
        '#include "emulator.h"',
        f"alignas(64) static unsigned shared_ptr[{SHARED_WORDS}];",
        source,
        *entries,
        "static void (*selected)(void**);",
        "static void call_kernel(void** a) { selected(a); }",
        "DEFINE_LAUNCH(shared_ptr)",
        f'#include "{DRIVER.name}"',
        "const Kernel kernels[] = {",
        *table,
        "};",
        f"const int num_kernels = {len(table)};",
    ]
    library = artifact.with_suffix(".driver.so")
    library.with_suffix(".cc").write_text("\n".join(text))
    command = ["g++", *FLAGS, f"-I{HEADER.parent}", f"-I{DRIVER.parent}", str(library.with_suffix(".cc"))]
    done = subprocess.run([*command, "-o", str(library)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise EmulationError(done.stderr[:2000])
    return library


def load_on_host(artifact: Path) -> CudaModel:
    """The artifact on the emulated GPU."""
    return CudaModel(read_artifact(artifact), library=str(driver_for(artifact)))
