"""C toolchains for other CPUs: which one is here, and its three uses: compile, archive, link a shared library.

Looked for, in this order: $CC for this machine's own architecture, the GNU compiler of the target (Debian's
gcc-aarch64-linux-gnu, gcc-arm-linux-gnueabihf, or the system's own), clang, and zig (the package ziglang).
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from spikenm_compile.errors import ToolError
from spikenm_compile.targets.cpu import Cpu
from spikenm_compile.targets.linker import COMPILERS, link_shared

NO_UNWINDING = ("-fno-unwind-tables", "-fno-asynchronous-unwind-tables")
FLAGS = ("-std=c99", "-O2", "-fPIC", "-ffunction-sections", "-fdata-sections", *NO_UNWINDING)
"""How generated C is compiled; sections of their own let a linker drop what a program does not use."""


@dataclass(frozen=True)
class Toolchain:
    """Commands of a C toolchain for one CPU."""

    cc: tuple[str, ...]
    ar: tuple[str, ...]
    cflags: tuple[str, ...]

    def __str__(self) -> str:
        return " ".join(self.cc)

    def compile(self, source: Path, target: Path) -> None:
        """C to an object file.

        Raises:
            ToolError: the compiler fails.
        """
        self._run([*self.cc, *self.cflags, *FLAGS, "-c", str(source), "-o", str(target)], f"compile {source.name}")

    def archive(self, objects: Sequence[Path], library: Path) -> None:
        """Object files to a static library, the same bytes for the same objects.

        Raises:
            ToolError: the archiver fails.
        """
        self._run([*self.ar, "rcsD", str(library), *map(str, objects)], f"make {library.name}")

    def link(self, objects: Sequence[Path], library: Path, exports: Sequence[str]) -> None:
        """Object files to a shared library that exports only `exports`.

        Raises:
            ToolError: the linker fails.
        """
        link_shared(objects, library, exports, (*self.cc, *self.cflags))

    def _run(self, command: list[str], what: str) -> None:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise ToolError(f"{self} could not {what}: {reason}; a working C toolchain for the target is needed")


def find_toolchain(cpu: Cpu) -> Toolchain | None:
    """The first toolchain on this machine that compiles for `cpu`."""
    return next(_toolchains(cpu), None)


def _toolchains(cpu: Cpu) -> Iterator[Toolchain]:
    is_own = platform.machine() == cpu.machine
    compilers = [os.environ.get("CC") or "", *COMPILERS] if is_own else []
    for name in [*compilers, f"{cpu.gnu_triple}-gcc"]:
        compiler = shutil.which(name) if name else None
        archiver = _first(f"{cpu.gnu_triple}-ar", *(["ar"] if is_own else []), "llvm-ar")
        if compiler and archiver:
            yield Toolchain((compiler,), (archiver,), cpu.cflags)
    clang, archiver = shutil.which("clang"), _first("llvm-ar", f"{cpu.gnu_triple}-ar", "ar")
    if clang and archiver and not is_own:
        # A clang for another machine seldom has its C library; neither the code nor the shared library needs one.
        freestanding = ("-ffreestanding", "-nostdlib", "-fuse-ld=lld")
        yield Toolchain((clang, f"--target={cpu.triple}", *freestanding), (archiver,), cpu.cflags)
    if importlib.util.find_spec("ziglang") is not None:
        zig = (sys.executable, "-m", "ziglang")
        # zig names CPUs itself and takes no -march of GCC.
        yield Toolchain((*zig, "cc", "-target", _zig_triple(cpu)), (*zig, "ar"), ())


def _first(*names: str) -> str | None:
    return next((path for path in map(shutil.which, names) if path), None)


def _zig_triple(cpu: Cpu) -> str:
    """arch-os-abi as `zig targets` names them."""
    return {"armv7l": "arm-linux-gnueabihf"}.get(cpu.machine, f"{cpu.machine}-linux-gnu")
