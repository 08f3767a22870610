"""The system's C compiler, used as a linker."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from spikenm_compile.errors import ToolError

COMPILERS = ("cc", "gcc", "clang")


def find_compiler() -> str | None:
    """The C compiler: `$CC` if set, else the first of cc, gcc, clang on the path."""
    chosen = os.environ.get("CC")
    return shutil.which(chosen) if chosen else next((c for c in map(shutil.which, COMPILERS) if c), None)


def link_shared(
    objects: Sequence[Path], library: Path, exports: Sequence[str], command: Sequence[str] | None = None
) -> None:
    """Link object files to a shared library that exports only `exports`.

    Args:
        objects: the object files.
        library: the library to be.
        exports: names of functions.
        command: the compiler to link with; by default this machine's.

    Raises:
        ToolError: no compiler, or it fails.
    """
    compiler = command or [host_compiler()]
    script = library.with_suffix(".map")
    script.write_text("{ global: " + " ".join(f"{name};" for name in exports) + " local: *; };\n")
    flags = ["-shared", "-nostartfiles", "-Wl,-s", "-Wl,--build-id=none", f"-Wl,--version-script={script}"]
    done = subprocess.run(
        [*compiler, *flags, "-o", str(library), *map(str, objects)], capture_output=True, text=True, check=False
    )
    script.unlink()
    if done.returncode != 0:
        lines = [line for line in done.stderr.strip().splitlines() if not line.startswith("collect2:")]
        reason = (lines or ["no message"])[-1]
        raise ToolError(
            f"{' '.join(compiler)} could not link the library: {reason}; "
            "a C compiler that links ELF shared libraries is needed"
        )


def host_compiler() -> str:
    """The C compiler of this machine.

    Raises:
        ToolError: there is none.
    """
    compiler = find_compiler()
    if compiler is None:
        found = (
            f"CC={os.environ['CC']} is not there"
            if os.environ.get("CC")
            else f"none of {', '.join(COMPILERS)} is on the path"
        )
        raise ToolError(f"linking needs a C compiler and {found}; install gcc or clang, or set CC")
    return compiler
