"""The manifest of an artifact: what it is, what it takes and gives, its layers, its code, and the sha256 of its files.

On disk it is JSON with sorted names, but for `digest`, which comes first: the sha256 of the manifest's own bytes with
the digest's 64 characters written as zeros. So no byte of it can change unnoticed.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from spikenm_compile.artifact.fields import Fields
from spikenm_compile.errors import ArtifactError

MANIFEST_NAME = "manifest.json"
SCHEMA_VERSION = 2
"""Version of the fields below; it grows when their meaning changes."""

PREFIX = b'{\n  "digest": "'
"""How every manifest begins: the 64 characters of the digest follow."""

_NO_DIGEST = b"0" * 64
_KINDS = ("conv", "linear")
WHOLE_KINDS = ("onnx-whole", "cuda")
"""Kinds of code that take no single step."""
INT8, FLOAT32 = "int8", "float32"
ARITHMETICS = (INT8, FLOAT32)
"""int8: whole numbers, bit for bit its reference. float32: as PyTorch computes, up to rounding."""


@dataclass(frozen=True, slots=True)
class InputSpec:
    """What a model takes."""

    shape: tuple[int, ...]
    """Shape of one sample of one step, without batch and time."""
    per_step: bool
    """Whether each step has its own value: [T, B, *shape], else [B, *shape]."""
    levels: str
    """How the values are quantised, for people."""


@dataclass(frozen=True, slots=True)
class OutputSpec:
    """What a model gives."""

    shape: tuple[int, ...]
    """Shape of one sample of one step, without batch and time."""
    per_step: bool
    """Whether each step has its own value: [T, B, *shape], else [B, *shape]."""


@dataclass(frozen=True, slots=True)
class LayerReport:
    """What became of one layer of weights."""

    name: str
    kind: str
    """conv or linear."""
    shape: tuple[int, ...]
    """Shape of the weight as it is stored, [O, I, kh, kw]."""
    pattern: str | None
    """N:M, or None where the layer is dense."""
    nonzeros: int
    weights: int
    bytes_packed: int
    bytes_dense: int
    kernel: str
    """Kernel family."""
    why: str
    """Why this pattern and this kernel, for people."""
    density: float | None = None
    """Mean share of its inputs that are not zero, measured on the calibration inputs; None: not measured."""
    microseconds: float | None = None
    """Time of one call of T steps on one core, measured where `why` says so, else predicted; None: not known."""
    savings: str = ""
    """What other patterns would save of it, for people."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """Everything that is known of an artifact without its files."""

    producer: str
    """Program and version that built it."""
    name: str
    target: str
    pattern: str | None
    """Pattern N:M that was asked for, or None."""
    num_steps: int
    """T that the model was built with: the default of a run."""
    input: InputSpec
    output: OutputSpec
    layers: tuple[LayerReport, ...]
    code: Mapping[str, object]
    """What the runtime needs; `kind` says which (artifact.code)."""
    arithmetic: str = INT8
    """What it computes in, one of `ARITHMETICS`."""
    why: str | None = None
    """Why it computes in float32, for people; None: it computes in whole numbers."""
    files: Mapping[str, str] = field(default_factory=dict)
    """File name -> sha256, 64 hexadecimal characters. Filled in when the artifact is written."""
    digest: str = ""
    """sha256 of the manifest itself. Filled in when the artifact is written."""

    @property
    def is_whole(self) -> bool:
        """Whether it runs whole sequences of its own T only, and takes no single step."""
        return self.code["kind"] in WHOLE_KINDS


def to_bytes(manifest: Manifest) -> bytes:
    """The manifest as it stands on disk, with its digest; the same content always gives the same bytes."""
    content = asdict(replace(manifest, code={}, files={}))
    del content["digest"]
    content |= {"schema_version": SCHEMA_VERSION, "code": manifest.code, "files": manifest.files}
    text = json.dumps(_json_value(content), indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    blank = PREFIX + _NO_DIGEST + b'",\n' + text.removeprefix("{\n").encode() + b"\n"
    return PREFIX + hashlib.sha256(blank).hexdigest().encode() + blank[len(PREFIX) + len(_NO_DIGEST) :]


def read_manifest(path: Path) -> Manifest:
    """Read and check a manifest.

    Raises:
        ArtifactError: the file is missing, was altered, has another schema version, or a field of the wrong type.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ArtifactError(
            f"artifact '{path.parent}' has no readable {path.name} ({error.strerror}); "
            "give the directory that build wrote, or build it again"
        ) from error
    digest = _check_digest(path, content)
    try:
        fields = Fields(json.loads(content), str(path))
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{path} is not JSON ({error}); build the artifact again") from error
    version = fields.integer("schema_version")
    if version != SCHEMA_VERSION:
        raise ArtifactError(
            f"{path} has schema version {version}; this program reads version {SCHEMA_VERSION}; "
            f"{'install a newer spikenm-compile' if version > SCHEMA_VERSION else 'build the artifact again'}"
        )
    return _manifest(fields, digest)


def _check_digest(path: Path, content: bytes) -> str:
    """The digest, which must be right."""
    start, end = len(PREFIX), len(PREFIX) + len(_NO_DIGEST)
    found = content[start:end]
    blank = content[:start] + _NO_DIGEST + content[end:]
    if found != hashlib.sha256(blank).hexdigest().encode():
        raise ArtifactError(
            f"{path} was altered or truncated: its digest does not fit its content; copy or build the artifact again"
        )
    return found.decode()


def _manifest(fields: Fields, digest: str) -> Manifest:
    manifest = Manifest(
        producer=fields.text("producer"),
        name=fields.text("name"),
        target=fields.text("target"),
        pattern=fields.optional_text("pattern"),
        num_steps=fields.integer("num_steps", least=1),
        input=_input(fields.section("input")),
        output=_output(fields.section("output")),
        layers=tuple(_layer(layer) for layer in fields.sections("layers")),
        code=fields.mapping("code"),
        arithmetic=fields.text("arithmetic"),
        why=fields.optional_text("why"),
        files=_files(fields.section("files")),
        digest=digest,
    )
    if manifest.arithmetic not in ARITHMETICS:
        fields.refuse("arithmetic", f"one of {', '.join(ARITHMETICS)}")
    fields.section("code").text("kind")
    fields.text("digest")
    fields.finish()
    return manifest


def _input(fields: Fields) -> InputSpec:
    spec = InputSpec(fields.shape("shape"), fields.flag("per_step"), fields.text("levels"))
    fields.finish()
    return spec


def _output(fields: Fields) -> OutputSpec:
    spec = OutputSpec(fields.shape("shape"), fields.flag("per_step"))
    fields.finish()
    return spec


def _layer(fields: Fields) -> LayerReport:
    report = LayerReport(
        name=fields.text("name"),
        kind=fields.text("kind"),
        shape=fields.shape("shape"),
        pattern=fields.optional_text("pattern"),
        nonzeros=fields.integer("nonzeros"),
        weights=fields.integer("weights"),
        bytes_packed=fields.integer("bytes_packed"),
        bytes_dense=fields.integer("bytes_dense"),
        kernel=fields.text("kernel"),
        why=fields.text("why"),
        density=fields.optional_number("density"),
        microseconds=fields.optional_number("microseconds"),
        savings=fields.text("savings"),
    )
    if report.kind not in _KINDS:
        fields.refuse("kind", f"one of {', '.join(_KINDS)}")
    fields.finish()
    return report


def _files(fields: Fields) -> dict[str, str]:
    files = {name: fields.text(name) for name in fields.names()}
    for name, digest in files.items():
        if not is_plain_name(name):
            fields.refuse(name, "a plain file name, without folders,")
        if len(digest) != 64 or set(digest) - set("0123456789abcdef"):
            fields.refuse(name, "a sha256 of 64 hexadecimal characters")
    return files


def is_plain_name(name: str) -> bool:
    """Whether `name` is a file directly inside the artifact, on every system."""
    return name not in ("", ".", "..", MANIFEST_NAME) and not any(c in '/\\:"' or ord(c) < 32 for c in name)


def _json_value(value: object) -> object:
    """Tuples as lists; numbers that JSON cannot write as text."""
    if isinstance(value, Mapping):
        return {str(key): _json_value(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_json_value(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
