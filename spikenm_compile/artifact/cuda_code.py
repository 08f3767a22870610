"""The `code` section of kind cuda: kernels in launch order, and the memory that they work in.

Every argument of a kernel is a place: a space and an offset in bytes, a multiple of 256.

    weights   constants in the order that the kernels read them: tensor `weights` of the file `weights`
    arena     all else; zero at first. An offset is that of one sample: for a batch of B the buffer starts at B · offset
    input     the user's float32 [B, ...], or [T, B, ...] where the input is per step
    output    the user's float32 [B, ...], or [T, B, ...] where the output is per step
    batch     no memory: the number of samples, int32

States are filled with their first value before the first kernel, and hold the last afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass

from spikenm_compile.artifact.code import StateSpec, code_fields, listed_file
from spikenm_compile.artifact.directory import Artifact
from spikenm_compile.artifact.fields import Fields
from spikenm_compile.errors import ToolError

WEIGHTS, ARENA, INPUT, OUTPUT, BATCH = SPACES = ("weights", "arena", "input", "output", "batch")
WEIGHTS_TENSOR = "weights"
ALIGNMENT = 256
MAX_THREADS = 1024
WORD_BITS = 32
WORD_BYTES = 4


@dataclass(frozen=True, slots=True)
class Place:
    """Where a buffer starts."""

    space: str
    offset: int


@dataclass(frozen=True, slots=True)
class Launch:
    """One kernel of the network."""

    kernel: str
    blocks: int
    """Blocks in x for each `samples` samples."""
    samples: int
    rows: int
    """Blocks in y."""
    block: int
    """Threads."""
    shared_bytes: int
    """Dynamic shared memory."""
    arguments: tuple[Place, ...]
    layer: str
    """What it computes, for people."""
    description: str
    """How, for people."""

    def grid(self, batch: int) -> tuple[int, int, int]:
        """Blocks for a batch."""
        return -(-batch // self.samples) * self.blocks, self.rows, 1


@dataclass(frozen=True, slots=True)
class SpikeWords:
    """Spikes of one layer in the arena: uint32 [B][y + 2·halo][x + 2·halo][t][⌈channels / 32⌉]."""

    layer: str
    offset: int
    height: int
    width: int
    channels: int
    halo: int

    def word_shape(self, num_steps: int) -> tuple[int, int, int, int]:
        """Shape in words of one sample."""
        return self.height + 2 * self.halo, self.width + 2 * self.halo, num_steps, -(-self.channels // WORD_BITS)


@dataclass(frozen=True, slots=True)
class CudaCode:
    """Code of kind cuda."""

    source: str
    """File name of the kernels as CUDA C++."""
    binary: str | None
    """File name of the fat binary; None: it was built without a compiler."""
    missing: str | None
    """Why there is no binary, and what to do."""
    toolkit: tuple[int, int]
    """(major, minor) of the compiler's release; (0, 0) without a binary."""
    architectures: tuple[str, ...]
    """That the binary holds machine code for."""
    weights: str
    """File name of the constants."""
    weights_bytes: int
    arena_bytes: int
    """Of one sample."""
    launches: tuple[Launch, ...]
    states: tuple[StateSpec, ...]
    """Float32 [B][height][width][channels] in the arena."""
    spikes: tuple[SpikeWords, ...]


def read_cuda_code(artifact: Artifact) -> CudaCode:
    """Check and return the code section of a CUDA artifact.

    Raises:
        ArtifactError: a field is missing or wrong, something lies outside of its memory, or a file is not there.
    """
    fields = code_fields(artifact)
    weights_bytes, arena_bytes = fields.integer("weights_bytes"), fields.integer("arena_bytes")
    limits = {WEIGHTS: weights_bytes, ARENA: arena_bytes, INPUT: 1, OUTPUT: 1, BATCH: 1}
    code = CudaCode(
        source=listed_file(fields, "source", artifact),
        binary=None if fields.optional_text("binary") is None else listed_file(fields, "binary", artifact),
        missing=fields.optional_text("missing"),
        toolkit=_release(fields),
        architectures=fields.texts("architectures"),
        weights=listed_file(fields, "weights", artifact),
        weights_bytes=weights_bytes,
        arena_bytes=arena_bytes,
        launches=tuple(_launch(section, limits) for section in fields.sections("launches")),
        states=tuple(_state(section, arena_bytes) for section in fields.sections("states")),
        spikes=tuple(_spikes(section) for section in fields.sections("spikes")),
    )
    _check_spikes(fields, code, artifact.manifest.num_steps)
    return code


def binary_of(artifact: Artifact, code: CudaCode) -> bytes:
    """The fat binary.

    Raises:
        ToolError: the artifact was built without a compiler.
    """
    if code.binary is None:
        raise ToolError(
            f"artifact '{artifact.path}' holds {code.source} and no compiled kernels, since it was built with "
            f"{code.missing}; then build it again"
        )
    return (artifact.path / code.binary).read_bytes()


def _release(fields: Fields) -> tuple[int, int]:
    release = fields.integers("toolkit")
    if len(release) != 2:
        fields.refuse("toolkit", "two numbers")
    return release[0], release[1]


def _launch(fields: Fields, limits: dict[str, int]) -> Launch:
    launch = Launch(
        kernel=fields.text("kernel"),
        blocks=fields.integer("blocks", least=1),
        samples=fields.integer("samples", least=1),
        rows=fields.integer("rows", least=1),
        block=fields.integer("block", least=1),
        shared_bytes=fields.integer("shared_bytes"),
        arguments=tuple(_place(section, limits) for section in fields.sections("arguments")),
        layer=fields.text("layer"),
        description=fields.text("description"),
    )
    if launch.block > MAX_THREADS:
        fields.refuse("block", f"at most {MAX_THREADS}")
    fields.finish()
    return launch


def _place(fields: Fields, limits: dict[str, int]) -> Place:
    place = Place(fields.text("space"), fields.integer("offset"))
    if place.space not in limits:
        fields.refuse("space", f"one of {', '.join(SPACES)}")
    if place.offset % ALIGNMENT or place.offset >= limits[place.space]:
        fields.refuse("offset", f"a multiple of {ALIGNMENT} below {limits[place.space]}")
    fields.finish()
    return place


def _state(fields: Fields, arena_bytes: int) -> StateSpec:
    state = StateSpec(fields.text("name"), fields.shape("shape"), fields.number("init"), fields.integer("offset"))
    if state.offset % ALIGNMENT or state.offset + state.bytes > arena_bytes:
        fields.refuse("offset", f"a multiple of {ALIGNMENT} of a state inside an arena of {arena_bytes} bytes")
    fields.finish()
    return state


def _spikes(fields: Fields) -> SpikeWords:
    spikes = SpikeWords(
        layer=fields.text("layer"),
        offset=fields.integer("offset"),
        height=fields.integer("height", least=1),
        width=fields.integer("width", least=1),
        channels=fields.integer("channels", least=1),
        halo=fields.integer("halo"),
    )
    fields.finish()
    return spikes


def _check_spikes(fields: Fields, code: CudaCode, num_steps: int) -> None:
    for spikes in code.spikes:
        height, width, steps, words = spikes.word_shape(num_steps)
        if spikes.offset + height * width * steps * words * WORD_BYTES > code.arena_bytes:
            fields.refuse("spikes", f"a list of layers inside an arena of {code.arena_bytes} bytes")
