"""Spikes of some neurons, 0.0 or 1.0, to bits in memory."""

from __future__ import annotations

from tvm import tirx

from spikenm_compile.lowering import tir
from spikenm_compile.lowering.tir import Buffer, Expr, T


def write_bits(spikes: Expr, count: int, memory: Buffer, byte: Expr) -> None:
    """Write `count` spikes as bits from byte index `byte` of `memory` (uint8) on, in whole bytes, filled with zeros."""
    num_bytes = -(-count // 8)
    is_spike = tirx.Not(tir.equal(spikes, tir.constant("float32", count, 0.0)))
    if count % 8:
        silent = tir.constant("bool", num_bytes * 8 - count, 0)
        is_spike = tir.join([is_spike, silent], range(num_bytes * 8))
    bits = T.reinterpret(tir.vector("uint8", num_bytes), T.cast(is_spike, f"uint1x{num_bytes * 8}"))
    tir.store(memory, tir.lanes(byte, num_bytes), bits)
