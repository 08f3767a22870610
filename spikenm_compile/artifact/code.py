"""The `code` section of a manifest, by kind: what a runtime must know to call what was built.

native, a shared library of plain C functions that compute one sample (0 is success):

    int32_t spikenm_prepare(const uint8_t *packed, uint8_t *params);
    int32_t spikenm_before | spikenm_steps | spikenm_after(
        const uint8_t *params, const float *input, uint8_t *state, uint8_t *arena, float *output, int32_t num_steps);

onnx, two models: one time step with explicit state, and a whole sequence. onnx-step, onnx-whole: artifact.float_code.

c_library, the functions of a header of its own: artifact.c_library.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from spikenm_compile.artifact.directory import Artifact
from spikenm_compile.artifact.fields import Fields
from spikenm_compile.artifact.manifest import MANIFEST_NAME

WEIGHTS_NAME = "weights.safetensors"
"""File that holds every tensor of an artifact."""

FLOAT_BYTES = 4
WORD_BITS = 64
WORD_BYTES = 8
PLANES = "planes"
"""Order of a state [H, W, C] whose values lie as [C][H][W]."""


@dataclass(frozen=True, slots=True)
class PackedTensor:
    """Where the bytes of one tensor go in the packed buffer."""

    tensor: str
    offset: int
    bytes: int


@dataclass(frozen=True, slots=True)
class StateSpec:
    """A float32 state: its shape for one sample, its first value, and for native code its place in bytes."""

    name: str
    shape: tuple[int, ...]
    init: float
    offset: int = 0
    is_planes: bool = False
    """Whether native code keeps [H, W, C] in the order [C][H][W]."""

    @property
    def bytes(self) -> int:
        """Size for one sample."""
        return math.prod(self.shape) * FLOAT_BYTES


@dataclass(frozen=True, slots=True)
class SpikesSpec:
    """Spikes of one layer as bits in the arena: u64 [t][y + 2·halo][x + 2·halo][⌈channels / 64⌉]."""

    layer: str
    offset: int
    """In bytes."""
    height: int
    width: int
    channels: int
    halo: int

    @property
    def word_shape(self) -> tuple[int, int, int]:
        """Shape in u64 words of one step."""
        return self.height + 2 * self.halo, self.width + 2 * self.halo, -(-self.channels // WORD_BITS)

    @property
    def bytes_per_step(self) -> int:
        """Size of one step."""
        return math.prod(self.word_shape) * WORD_BYTES


@dataclass(frozen=True, slots=True)
class NativeCode:
    """Code of kind native."""

    library: str
    """File name of the shared library."""
    machine: str
    """Processor architecture as `uname -m` names it."""
    cpu_features: tuple[str, ...]
    """Processor features that the library uses, as /proc/cpuinfo names them."""
    packed_bytes: int
    packed: tuple[PackedTensor, ...]
    params_bytes: int
    state_bytes: int
    arena_bytes: int
    max_steps: int
    """Most steps of one call."""
    states: tuple[StateSpec, ...]
    spikes: tuple[SpikesSpec, ...]


@dataclass(frozen=True, slots=True)
class OnnxCode:
    """Code of kind onnx."""

    step: str
    """File name of the model of one time step."""
    sequence: str
    """File name of the model of a whole sequence."""
    states: tuple[StateSpec, ...]
    spikes: tuple[str, ...]
    """Names of the spiking layers."""


def read_native_code(artifact: Artifact) -> NativeCode:
    """Check and return the code section of a native artifact.

    Raises:
        ArtifactError: a field is missing or wrong, something lies outside of its buffer, or a file is not there.
    """
    fields = code_fields(artifact)
    code = NativeCode(
        library=listed_file(fields, "library", artifact),
        machine=fields.text("machine"),
        cpu_features=fields.texts("cpu_features"),
        packed_bytes=fields.integer("packed_bytes"),
        packed=tuple(_packed(section) for section in fields.sections("packed")),
        params_bytes=fields.integer("params_bytes"),
        state_bytes=fields.integer("state_bytes"),
        arena_bytes=fields.integer("arena_bytes"),
        max_steps=fields.integer("max_steps", least=1),
        states=tuple(native_state(section) for section in fields.sections("states")),
        spikes=tuple(_spikes(section) for section in fields.sections("spikes")),
    )
    _check_packed(fields, code)
    _check_states(fields, code)
    _check_spikes(fields, code)
    return code


def read_onnx_code(artifact: Artifact) -> OnnxCode:
    """Check and return the code section of an ONNX artifact.

    Raises:
        ArtifactError: a field is missing or wrong, or a file is not there.
    """
    fields = code_fields(artifact)
    step, sequence = (listed_file(fields, name, artifact) for name in ("step", "sequence"))
    spikes = tuple(section.text("layer") for section in fields.sections("spikes"))
    return OnnxCode(step, sequence, onnx_states(fields), spikes)


def onnx_states(fields: Fields) -> tuple[StateSpec, ...]:
    """The states of an ONNX model of one step."""
    return tuple(StateSpec(s.text("name"), s.shape("shape"), s.number("init")) for s in fields.sections("states"))


def manifest_file(path: Path) -> str:
    """Name of the manifest of the artifact at `path`, for errors."""
    return str(path / MANIFEST_NAME)


def code_fields(artifact: Artifact) -> Fields:
    """The code section, to be checked."""
    return Fields(dict(artifact.manifest.code), manifest_file(artifact.path), "code")


def listed_file(fields: Fields, name: str, artifact: Artifact) -> str:
    """The name of a file, which the artifact must list."""
    file = fields.text(name)
    if file not in artifact.manifest.files:
        fields.refuse(name, "a file of the artifact")
    return file


def _packed(fields: Fields) -> PackedTensor:
    return PackedTensor(fields.text("tensor"), fields.integer("offset"), fields.integer("bytes"))


def native_state(fields: Fields) -> StateSpec:
    """A state with its place in bytes."""
    is_planes = "order" in fields.names()
    if is_planes and fields.text("order") != PLANES:
        fields.refuse("order", f"'{PLANES}' or absent")
    name, shape, init = fields.text("name"), fields.shape("shape"), fields.number("init")
    state = StateSpec(name, shape, init, fields.integer("offset"), is_planes)
    if state.offset % FLOAT_BYTES:
        fields.refuse("offset", f"a multiple of {FLOAT_BYTES}")
    return state


def _spikes(fields: Fields) -> SpikesSpec:
    spikes = SpikesSpec(
        layer=fields.text("layer"),
        offset=fields.integer("offset"),
        height=fields.integer("height", least=1),
        width=fields.integer("width", least=1),
        channels=fields.integer("channels", least=1),
        halo=fields.integer("halo"),
    )
    if spikes.offset % WORD_BYTES:
        fields.refuse("offset", f"a multiple of {WORD_BYTES}")
    return spikes


def _check_packed(fields: Fields, code: NativeCode) -> None:
    check_apart(fields, "packed", [(p.offset, p.bytes) for p in code.packed], code.packed_bytes)


def _check_states(fields: Fields, code: NativeCode) -> None:
    check_apart(fields, "states", [(s.offset, s.bytes) for s in code.states], code.state_bytes)


def _check_spikes(fields: Fields, code: NativeCode) -> None:
    """Layers may share memory where their values do not live at the same time, so that only the end is checked."""
    if any(s.offset + s.bytes_per_step * code.max_steps > code.arena_bytes for s in code.spikes):
        fields.refuse("spikes", f"a list of layers inside an arena of {code.arena_bytes} bytes")


def check_apart(fields: Fields, name: str, spans: list[tuple[int, int]], limit: int) -> None:
    """Spans (offset, bytes) neither overlap nor leave a buffer of `limit` bytes."""
    end = 0
    for offset, size in sorted(spans):
        if offset < end or offset + size > limit:
            fields.refuse(name, f"a list of parts that do not overlap, inside {limit} bytes,")
        end = offset + size
