"""The CUDA compiler: where it is, and from the source of kernels to one binary for every architecture.

It may come with a CUDA toolkit ($CUDA_HOME, or nvcc on the path) or from PyPI (`pip install spikenm-compile[cuda]`).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from spikenm_compile.errors import ToolError
from spikenm_compile.targets.gpu import GPUS, Gpu

INSTALL = "pip install 'spikenm-compile[cuda]', or a CUDA toolkit 12.8 or later, and set CUDA_HOME to it"
FLAGS = ("-O3", "-std=c++17", "-fmad=false", "--threads=0")
"""No contraction of a·b + c: neurons round as their reference does. nvcc's divisions and subnormals are exact without
--use_fast_math. One process for each architecture."""


@dataclass(frozen=True)
class Toolkit:
    """A CUDA compiler."""

    nvcc: Path

    def version(self) -> str:
        """The release that nvcc says it is.

        Raises:
            ToolError: it does not run.
        """
        text = _run([str(self.nvcc), "--version"], "nvcc --version")
        release = [line.partition("release ")[2].partition(",")[0] for line in text.splitlines() if "release " in line]
        return release[0] if release else text.strip().splitlines()[-1]

    def compile(self, source: Path, binary: Path, gpus: Sequence[Gpu] = GPUS) -> None:
        """Compile kernels to a fat binary: machine code of each architecture, and PTX of the first for all others.

        Raises:
            ToolError: nvcc fails.
        """
        command = [str(self.nvcc), *FLAGS, *targets_of(gpus), "-fatbin", str(source), "-o", str(binary)]
        with tempfile.TemporaryDirectory() as scratch:
            _run(command, "nvcc", {**os.environ, "TMPDIR": scratch})


def targets_of(gpus: Sequence[Gpu]) -> list[str]:
    """Options of nvcc that name the architectures."""
    options = []
    for gpu in gpus:
        number = gpu.arch.removeprefix("sm_")
        code = f"[{gpu.arch},compute_{number}]" if gpu is gpus[0] else gpu.arch
        options.append(f"-gencode=arch=compute_{number},code={code}")
    return options


def find_toolkit() -> Toolkit | None:
    """$CUDA_HOME, then the path, then the packages of PyPI inside of this Python."""
    home = os.environ.get("CUDA_HOME")
    places = [Path(home) / "bin"] if home else []
    on_path = shutil.which("nvcc")
    places += [Path(on_path).parent] if on_path else []
    for entry in sys.path:
        places += sorted(Path(entry or ".").glob("nvidia/cu1[23]*/bin"), reverse=True)
    return next((Toolkit(place / "nvcc") for place in places if os.access(place / "nvcc", os.X_OK)), None)


def missing_toolkit() -> str:
    """Why there is no compiler, and what to do."""
    home = os.environ.get("CUDA_HOME")
    looked = f"CUDA_HOME={home} holds no bin/nvcc and" if home else "CUDA_HOME is not set and"
    return f"no CUDA compiler: {looked} neither the path nor this Python's packages hold nvcc; install {INSTALL}"


def _run(command: list[str], name: str, environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode != 0:
        lines = [line for line in (done.stderr + done.stdout).splitlines() if "error" in line] or ["no message"]
        raise ToolError(f"{name} failed: {lines[0]}; kernels are compiled with CUDA 12.8 or later; install {INSTALL}")
    return done.stdout
