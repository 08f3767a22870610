"""Flash and RAM of an artifact for microcontrollers, as one line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def format_memory(code: Mapping[str, Any]) -> str | None:
    """What the code section says of memory; None where it says nothing of constants.

    Args:
        code: of the manifest; `constant_bytes` in flash, `arena_bytes` and `state_bytes` in RAM, and under `code` what
            the functions take when compiled, if that was measured.
    """
    if "constant_bytes" not in code:
        return None
    constants, measured = code["constant_bytes"], code["code"]
    arena, state = code["arena_bytes"], code["state_bytes"]
    if measured is None:
        flash = f"{constants} bytes of constants, and code (no compiler to measure it)"
    else:
        total = constants + measured["bytes"]
        flash = f"{total} bytes ({constants} constants, {measured['bytes']} code for {measured['cpu']})"
    return f"flash: {flash}; RAM: {arena + state} bytes (arena {arena}, state {state}) and the stack"
