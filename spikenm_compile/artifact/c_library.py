"""The `code` section of kind c_library: the functions of model.h in a shared library, and what they work in."""

from __future__ import annotations

from dataclasses import dataclass

from spikenm_compile.artifact.code import StateSpec, check_apart, code_fields, named_file, native_state
from spikenm_compile.artifact.directory import Artifact


@dataclass(frozen=True, slots=True)
class CLibraryCode:
    """Code of kind c_library."""

    library: str | None
    """File name of the shared library; None where the machine that built it had no linker for the target."""
    symbol: str
    """How the names of its functions begin."""
    machine: str
    """Processor architecture as `uname -m` names it."""
    arena_bytes: int
    state_bytes: int
    max_steps: int
    """Steps whose spikes can be read after a call."""
    states: tuple[StateSpec, ...]
    """Where they lie in the state."""
    spikes: tuple[tuple[str, tuple[int, ...]], ...]
    """Name and shape [C, H, W] of each layer of neurons whose spikes can be read."""


def read_c_library_code(artifact: Artifact) -> CLibraryCode:
    """Check and return the code section of a C library.

    Raises:
        ArtifactError: a field is missing or wrong, or a file is not there.
    """
    fields = code_fields(artifact)
    code = CLibraryCode(
        library=None if fields.optional_text("library") is None else named_file(fields, "library", artifact),
        symbol=fields.text("symbol"),
        machine=fields.text("machine"),
        arena_bytes=fields.integer("arena_bytes", least=1),
        state_bytes=fields.integer("state_bytes", least=1),
        max_steps=fields.integer("max_steps", least=1),
        states=tuple(native_state(section) for section in fields.sections("states")),
        spikes=tuple((section.text("layer"), section.shape("shape")) for section in fields.sections("spikes")),
    )
    if not code.symbol.isidentifier():
        fields.refuse("symbol", "a C identifier")
    check_apart(fields, "states", [(state.offset, state.bytes) for state in code.states], code.state_bytes)
    return code
