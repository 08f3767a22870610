"""N:M storage of int8 weights: N values of each group of M, and metadata that say where in the group they stand.

    values    int8 [G·N]: entry n of group g is values[g·N + n]
    metadata  uint8: position of each entry in its group, `pattern.index_bits` bits each, least significant bit first,
              padded to a whole byte, then one zero byte so that a reader may always load two bytes at once

Groups come in the order [O, kh, kw, I/M] of `Pattern.groups`, G in number. Positions ascend within a group; a group
with fewer than N non-zeros stores zeros at the first positions that are free. Outputs that share a mask have their
positions in common: metadata have those of the groups [⌈O/V⌉, kh, kw, I/M]. Positions of a staggered pattern are known
(Pattern.mask_of): there are no metadata then.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from spikenm_compile.errors import ArtifactError, PatternError
from spikenm_compile.pattern import Pattern

Int8 = npt.NDArray[np.int8]
UInt8 = npt.NDArray[np.uint8]

_WEIGHT_DIMS = 4


def pack(weight: Int8, pattern: Pattern) -> tuple[Int8, UInt8]:
    """Pack int8 `weight` [O, I, kh, kw] into (values, metadata).

    Raises:
        PatternError: the weight is not int8 with four dimensions, or does not hold the pattern.
    """
    if weight.dtype != np.int8 or weight.ndim != _WEIGHT_DIMS:
        raise PatternError(
            f"a weight of dtype {weight.dtype} and shape {list(weight.shape)} cannot be packed; "
            "int8 [O, I, kh, kw] is supported; quantise or reshape it first"
        )
    groups = _groups(weight, pattern)
    if pattern.staggered:
        return _pack_staggered(weight, groups, pattern), np.zeros(0, np.uint8)
    used = _groups(_any_of_slab(weight, pattern), pattern)
    most = int(np.count_nonzero(used, axis=1).max(initial=0))
    if most > pattern.n:
        raise PatternError(
            f"a weight of shape {list(weight.shape)} has {most} non-zeros in one group of {pattern.m}, "
            f"but pattern {pattern} allows {pattern.n}; project the weight to the pattern first"
        )
    positions = _positions(used, pattern)
    values = np.take_along_axis(groups, _of_outputs(positions, pattern, weight.shape[0]), axis=1).reshape(-1)
    return values, _write_bits(positions.reshape(-1), pattern.index_bits)


def _any_of_slab(weight: Int8, pattern: Pattern) -> Int8:
    """[O, I, kh, kw] to [O/V, I, kh, kw]: 1 where a weight of the slab is not zero."""
    padded = np.pad(weight != 0, ((0, -weight.shape[0] % pattern.v), (0, 0), (0, 0), (0, 0)))
    used: Int8 = padded.reshape(-1, pattern.v, *weight.shape[1:]).astype(np.int8).max(axis=1)
    return used


def _of_outputs(positions: npt.NDArray[np.intp], pattern: Pattern, outputs: int) -> npt.NDArray[np.intp]:
    """Positions of the slabs' groups to those of the outputs' groups, [G, N]."""
    slabs = num_slabs(outputs, pattern)
    of_slabs = positions.reshape(slabs, len(positions) // max(1, slabs), pattern.n)
    return np.repeat(of_slabs, pattern.v, axis=0)[:outputs].reshape(-1, pattern.n)


def num_slabs(outputs: int, pattern: Pattern) -> int:
    """Sets of outputs that have their positions in common."""
    return -(-outputs // pattern.v)


def _pack_staggered(weight: Int8, groups: Int8, pattern: Pattern) -> Int8:
    is_kept = _kept(weight.shape, pattern)
    if groups[~is_kept].any():
        raise PatternError(
            f"a weight of shape {list(weight.shape)} has non-zeros that pattern {pattern} does not keep; "
            f"project the weight to the pattern first"
        )
    return groups[is_kept]


def _kept(shape: tuple[int, ...], pattern: Pattern) -> npt.NDArray[np.bool_]:
    """Which members of each group [G, M] a staggered pattern keeps."""
    return np.ascontiguousarray(np.moveaxis(pattern.mask_of(shape), 1, -1)).reshape(-1, pattern.m)


def unpack(values: Int8, metadata: UInt8, pattern: Pattern, shape: tuple[int, ...]) -> Int8:
    """Inverse of `pack`: the int8 weight of `shape` [O, I, kh, kw].

    Raises:
        ArtifactError: values or metadata of the wrong dtype or length, or positions that are outside of their group or
            do not ascend.
        PatternError: `shape` does not split into groups.
    """
    entries = _num_entries(shape, pattern)
    _check_array("values", values, np.dtype(np.int8), entries)
    _check_array("metadata", metadata, np.dtype(np.uint8), metadata_bytes(shape, pattern))
    groups = np.zeros((entries // pattern.n, pattern.m), np.int8)
    if pattern.staggered:
        groups[_kept(shape, pattern)] = values
        return _ungroup(groups, shape)
    stored = entries // max(1, shape[0]) * num_slabs(shape[0], pattern)
    positions = _read_bits(metadata, stored, pattern.index_bits).reshape(-1, pattern.n)
    if (positions >= pattern.m).any() or (np.diff(positions, axis=1) <= 0).any():
        raise ArtifactError(
            f"packed metadata hold positions that are not ascending numbers below {pattern.m}; "
            f"pattern {pattern} is expected; copy or build the artifact again"
        )
    np.put_along_axis(groups, _of_outputs(positions, pattern, shape[0]), values.reshape(-1, pattern.n), axis=1)
    return _ungroup(groups, shape)


def packed_bytes(shape: tuple[int, ...], pattern: Pattern) -> int:
    """Bytes that values and metadata of a weight of `shape` [O, I, kh, kw] take.

    Raises:
        PatternError: `shape` does not split into groups.
    """
    return _num_entries(shape, pattern) + metadata_bytes(shape, pattern)


def metadata_bytes(shape: tuple[int, ...], pattern: Pattern) -> int:
    """Bytes that the metadata of a weight of `shape` [O, I, kh, kw] take.

    Raises:
        PatternError: `shape` does not split into groups.
    """
    if pattern.staggered:
        return 0
    entries = _num_entries((num_slabs(shape[0], pattern), *shape[1:]), pattern)
    return -(-entries * pattern.index_bits // 8) + 1


def _num_entries(shape: tuple[int, ...], pattern: Pattern) -> int:
    if len(shape) != _WEIGHT_DIMS or not pattern.divides(shape[1]):
        raise PatternError(
            f"a weight of shape {list(shape)} does not split into groups of {pattern.m} input channels; "
            f"pattern {pattern} needs [O, I, kh, kw] with I a multiple of {pattern.m}; store this layer dense"
        )
    return math.prod(shape) // pattern.m * pattern.n


def _check_array(name: str, array: npt.NDArray[np.generic], dtype: np.dtype[np.generic], length: int) -> None:
    if array.dtype != dtype or array.shape != (length,):
        raise ArtifactError(
            f"packed {name} are {array.dtype}{list(array.shape)}; {dtype}[{length}] is expected; "
            "copy or build the artifact again"
        )


def _groups(weight: Int8, pattern: Pattern) -> Int8:
    """[O, I, kh, kw] to [G, M]."""
    _num_entries(weight.shape, pattern)
    return np.ascontiguousarray(np.moveaxis(weight, 1, -1)).reshape(-1, pattern.m)


def _ungroup(groups: Int8, shape: tuple[int, ...]) -> Int8:
    """[G, M] to [O, I, kh, kw]."""
    outputs, inputs, height, width = shape
    return np.ascontiguousarray(np.moveaxis(groups.reshape(outputs, height, width, inputs), -1, 1))


def _positions(groups: Int8, pattern: Pattern) -> npt.NDArray[np.intp]:
    """Ascending positions [G, N] of the non-zeros, filled up with the first free ones."""
    nonzeros_first = np.argsort(groups == 0, axis=1, kind="stable")
    return np.sort(nonzeros_first[:, : pattern.n], axis=1)


def _write_bits(numbers: npt.NDArray[np.intp], bits: int) -> UInt8:
    single = (numbers[:, None] >> np.arange(bits) & 1).astype(np.uint8)
    return np.append(np.packbits(single, bitorder="little"), np.uint8(0))


def _read_bits(stream: UInt8, count: int, bits: int) -> npt.NDArray[np.intp]:
    single = np.unpackbits(stream, count=count * bits, bitorder="little").reshape(count, bits)
    return single.astype(np.intp) @ (1 << np.arange(bits))
