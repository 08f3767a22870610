"""Named arrays in one safetensors file: u64 header length, JSON header, data, all little endian.

The data start at a multiple of 64 bytes. The format allows no gaps between tensors, so larger elements come first:
that keeps each tensor aligned to its element.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from spikenm_compile.artifact.fields import Fields
from spikenm_compile.errors import ArtifactError

DTYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "I64": np.dtype("<i8"),
    "U64": np.dtype("<u8"),
    "F32": np.dtype("<f4"),
    "I32": np.dtype("<i4"),
    "U32": np.dtype("<u4"),
    "I16": np.dtype("<i2"),
    "U16": np.dtype("<u2"),
    "I8": np.dtype("i1"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
"""Name in the file -> element type."""

_METADATA = "__metadata__"
_ALIGNMENT = 64
_LENGTH_BYTES = 8
_MAX_HEADER_BYTES = 100_000_000
"""The limit of the safetensors library: a larger length is not a header."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """Where one tensor lies in the data, in bytes."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    begin: int
    end: int


def write_tensors(
    path: Path, tensors: Mapping[str, npt.NDArray[Any]], metadata: Mapping[str, str] | None = None
) -> None:
    """Write `tensors` and text `metadata`; the same content always gives the same bytes.

    Raises:
        ArtifactError: a dtype that is not in DTYPES, or a tensor named as the metadata are.
    """
    header: dict[str, object] = {_METADATA: dict(sorted(metadata.items()))} if metadata else {}
    chunks: list[bytes] = []
    offset = 0
    for name in sorted(tensors, key=lambda n: (-tensors[n].dtype.itemsize, n)):
        dtype = _dtype_name(path, name, tensors[name].dtype)
        chunks.append(tensors[name].astype(DTYPES[dtype], copy=False).tobytes())
        end = offset + len(chunks[-1])
        header[name] = {"dtype": dtype, "shape": list(tensors[name].shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(_LENGTH_BYTES + len(text)) % _ALIGNMENT)
    path.write_bytes(b"".join([len(text).to_bytes(_LENGTH_BYTES, "little"), text, *chunks]))


def read_tensors(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Read every tensor of a safetensors file into arrays of their own.

    Raises:
        ArtifactError: the file cannot be read, or any length, offset, shape, dtype or value in it is wrong.
    """
    header, data = _read(path)
    return {entry.name: _array(path, entry, data) for entry in _entries(path, header, len(data))}


def read_metadata(path: Path) -> dict[str, str]:
    """Read the text metadata of a safetensors file; empty where there are none.

    Raises:
        ArtifactError: as for `read_tensors`.
    """
    header, _ = _read(path)
    if _METADATA not in header:
        return {}
    fields = Fields(header, str(path)).section(_METADATA)
    return {name: fields.text(name) for name in fields.names()}


def _dtype_name(path: Path, tensor: str, dtype: np.dtype[Any]) -> str:
    if tensor == _METADATA:
        raise ArtifactError(f"{path}: no tensor may be named {_METADATA}, which holds the metadata; rename the tensor")
    for name, known in DTYPES.items():
        if dtype.newbyteorder("<") == known:
            return name
    raise ArtifactError(
        f"{path}: tensor '{tensor}' has dtype {dtype}; supported: {', '.join(DTYPES)}; convert it to one of these"
    )


def _read(path: Path) -> tuple[dict[str, object], bytes]:
    """Header and data of the file."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read ({error.strerror}); copy or build the artifact again") from error
    if len(content) < _LENGTH_BYTES:
        raise _broken(path, f"it has {len(content)} bytes, too few for a safetensors file")
    length = int.from_bytes(content[:_LENGTH_BYTES], "little")
    if length > min(len(content) - _LENGTH_BYTES, _MAX_HEADER_BYTES):
        raise _broken(path, f"its header says {length} bytes, but the file has {len(content)}")
    start = _LENGTH_BYTES + length
    try:
        header = json.loads(content[_LENGTH_BYTES:start].decode(), object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError) as error:
        raise _broken(path, f"its header is not JSON ({error})") from error
    if not isinstance(header, dict):
        raise _broken(path, "its header is not a JSON object")
    return header, content[start:]


def _without_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name occurs twice")
    return found


def _entries(path: Path, header: dict[str, object], data_bytes: int) -> list[_Entry]:
    """The tensors in the order of the data, which they cover without gap or overlap."""
    fields = Fields(header, str(path))
    entries = [_entry(path, name, fields.section(name)) for name in header if name != _METADATA]
    entries.sort(key=lambda entry: (entry.begin, entry.end))
    expected = 0
    for entry in entries:
        if entry.begin != expected:
            raise _broken(path, f"tensor '{entry.name}' begins at byte {entry.begin} of the data, not at {expected}")
        expected = entry.end
    if expected != data_bytes:
        raise _broken(path, f"its header describes {expected} bytes of data, but {data_bytes} are there")
    return entries


def _entry(path: Path, name: str, fields: Fields) -> _Entry:
    dtype_name, shape, offsets = fields.text("dtype"), fields.integers("shape"), fields.integers("data_offsets")
    fields.finish()
    if dtype_name not in DTYPES:
        raise _broken(path, f"tensor '{name}' has dtype {dtype_name}; supported: {', '.join(DTYPES)}")
    if len(offsets) != 2:
        fields.refuse("data_offsets", "a list of two whole numbers")
    dtype = DTYPES[dtype_name]
    needed = math.prod(shape) * dtype.itemsize
    if offsets[1] - offsets[0] != needed:
        raise _broken(
            path,
            f"tensor '{name}' {dtype_name}{list(shape)} takes {needed} bytes, but spans {offsets[0]} to {offsets[1]}",
        )
    return _Entry(name, dtype, shape, *offsets)


def _array(path: Path, entry: _Entry, data: bytes) -> npt.NDArray[Any]:
    raw = (
        np.frombuffer(data, np.uint8, entry.end - entry.begin, entry.begin)
        if entry.end > entry.begin
        else np.empty(0, np.uint8)
    )
    if entry.dtype == np.bool_ and (raw > 1).any():
        raise _broken(path, f"tensor '{entry.name}' is BOOL and holds bytes other than 0 and 1")
    return raw.copy().view(entry.dtype).reshape(entry.shape)


def _broken(path: Path, what: str) -> ArtifactError:
    return ArtifactError(f"{path}: {what}; the file is damaged: copy or build the artifact again")
