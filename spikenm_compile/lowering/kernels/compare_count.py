"""Whether there are many spikes in a call."""

from __future__ import annotations

from tvm import tirx

from spikenm_compile.lowering import tir
from spikenm_compile.lowering.layout import Bits
from spikenm_compile.lowering.tir import T


def build_compare_count(name: str, spikes: Bits, most: int) -> list[tirx.PrimFunc]:
    """Kernel `(spikes, is_many, num_steps)`: is_many = 1 where more than `most` spikes a step are set, else 0."""
    functions = list[tirx.PrimFunc]()
    with tir.kernel(name, [tir.Param("spikes", "uint64"), tir.Param("is_many", "uint8")], functions) as (
        (words, is_many),
        num_steps,
    ):
        count = tir.variable("int32", T.int32(0))
        with T.serial(num_steps * spikes.step) as i:
            tir.store(count, 0, count[0] + T.cast(T.popcount(words[i]), "int32"))
        tir.store(is_many, 0, T.cast(count[0] > num_steps * most, "uint8"))
    return functions
