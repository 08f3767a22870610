"""How much flash generated C takes on a microcontroller: compiled and measured where a compiler for one is here."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from spikenm_compile.errors import ToolError

COMPILER, SIZE = "arm-none-eabi-gcc", "arm-none-eabi-size"
CORTEX_M4 = ("-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16")
FLAGS = (*CORTEX_M4, "-std=c99", "-Os", "-ffp-contract=off", "-ffunction-sections", "-fdata-sections")
"""What most firmware is compiled with."""


def measure_code(sources: Sequence[Path]) -> dict[str, Any] | None:
    """Flash that the functions and tables of the sources take on a Cortex-M4; None without a compiler.

    Returns:
        compiler, cpu and bytes.

    Raises:
        ToolError: the compiler is here and fails.
    """
    if shutil.which(COMPILER) is None or shutil.which(SIZE) is None:
        return None
    with tempfile.TemporaryDirectory() as scratch:
        objects = [str(Path(scratch) / f"{source.stem}.o") for source in sources]
        for source, target in zip(sources, objects, strict=True):
            _run([COMPILER, *FLAGS, "-c", str(source), "-o", target], f"compile {source.name}")
        table = _run([SIZE, *objects], "measure the objects").splitlines()[1:]
    text, data = (sum(int(line.split()[column]) for line in table) for column in (0, 1))
    return {"compiler": COMPILER, "cpu": "cortex-m4", "bytes": text + data}


def _run(command: list[str], what: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise ToolError(f"{command[0]} could not {what}: {reason}; a working C compiler is needed, or none on the path")
    return done.stdout
