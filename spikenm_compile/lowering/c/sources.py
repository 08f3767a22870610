"""The C functions that networks are made of: one file each in sources/, put into kernels.c where it is needed."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent / "sources"

NEEDS: dict[str, tuple[str, ...]] = {
    "base": (),
    "float_of": (),
    "absolute": ("float_of",),
    "is_whole": ("absolute",),
    "round_half_even": ("is_whole",),
    "truncate": ("is_whole",),
    "larger": (),
    "smaller": (),
    "kind": (),
    "value_at": ("kind",),
    "set_value": ("kind",),
    "apply": (),
    "quantize": ("round_half_even", "larger", "smaller"),
    "convert": ("value_at", "set_value"),
    "pack_spikes": ("value_at",),
    "and_spikes": (),
    "not_spikes": (),
    "join": ("apply", "value_at", "set_value"),
    "accumulate": ("apply", "value_at"),
    "with_scalar": ("apply",),
    "pool": (),
    "max_pool_spikes": ("pool",),
    "max_pool_floats": ("pool", "float_of"),
    "sum_pool": ("pool", "value_at"),
    "neurons": (),
    "fire": ("neurons",),
    "convolve": ("neurons",),
    "add_dense_row": ("convolve",),
    "add_kept": ("convolve",),
    "add_sparse_row": ("add_kept",),
    "add_long_sparse_row": ("add_kept",),
    "add_spikes": ("convolve",),
    "add_unsigned_levels": ("convolve",),
    "add_signed_levels": ("convolve",),
}
"""File -> the files that it needs before it; in the order in which they are written."""


def kernel_sources(used: Iterable[str]) -> str:
    """The text of the used files and of all that they need."""
    wanted, waiting = {"base"}, list(used)
    while waiting:
        name = waiting.pop()
        if name not in wanted:
            wanted.add(name)
            waiting += NEEDS[name]
    return "".join((FOLDER / f"{name}.c").read_text() for name in NEEDS if name in wanted)


@cache
def identifiers() -> frozenset[str]:
    """Every global name of all files, and words of the language with them."""
    text = "".join((FOLDER / f"{name}.c").read_text() for name in NEEDS)
    return frozenset(re.findall(r"\b[A-Za-z_]\w+", re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)))
