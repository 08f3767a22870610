"""What follows the sum in a fused kernel: current, neuron, spikes as bits. The equations are those of neurons.py.

    current = float32(sum) · scale + bias;    h = charge(current, v);    spike = h ≥ v_threshold;    v = reset(h, spike)

Resets are written as a choice where the reference multiplies by 0 and 1: the same number for every finite h.
"""

from __future__ import annotations

from spikenm_compile.lowering import tir
from spikenm_compile.lowering.tir import Buffer, Expr
from spikenm_compile.neurons import Charge, Fire, Neuron

BYTE_TO_BIT = 0x0102040810204080
"""Product of this and eight bytes that are 0 or 1 has byte i as bit 56 + i: eight spikes to one byte, no carry."""


def current(total: Expr, scale: Expr, bias: Expr, count: int) -> Expr:
    """Float32 current of an integer sum; float32(Σ) · scale, rounded, + bias, rounded."""
    return tir.fence(tir.cast("float32", count, total) * scale, count) + bias


def charge(x: Expr, v: Expr, neuron: Neuron, count: int) -> Expr:
    """Membrane potential at fire, in the evaluation order of neurons.charge."""
    c = tir.constant("float32", count, neuron.coefficient)
    leak = v - tir.constant("float32", count, neuron.v_rest)
    if neuron.charge is Charge.INTEGRATE:
        return v + x
    if neuron.charge is Charge.DECAY_INPUT_DIV:
        return v + tir.fence((x - leak) / c, count)
    if neuron.charge is Charge.DECAY_DIV:
        return v - tir.fence(leak / c, count) + x
    if neuron.charge is Charge.DECAY_INPUT_MUL:
        return v + tir.fence((x - leak) * c, count)
    return v - tir.fence(leak * c, count) + x


def fires(h: Expr, neuron: Neuron, count: int) -> Expr:
    """Condition of a spike."""
    threshold = tir.constant("float32", count, neuron.v_threshold)
    return h >= threshold if neuron.fire is Fire.AT_LEAST else h > threshold


def reset(h: Expr, spike: Expr, neuron: Neuron, count: int) -> Expr:
    """Membrane potential after the step."""
    if neuron.v_reset is None:
        return tir.select(spike, h - tir.constant("float32", count, neuron.v_threshold), h)
    return tir.select(spike, tir.constant("float32", count, neuron.v_reset), h)


def neuron_step(x: Expr, v: Buffer, flags: Buffer, neuron: Neuron, count: int) -> None:
    """One step of `count` neurons: updates the potentials `v` and leaves one byte per spike in `flags`."""
    at = tir.lanes(0, count)
    h = tir.local(count, "float32")
    tir.store(h, at, charge(x, v[at], neuron, count))
    spike = fires(h[at], neuron, count)
    tir.store(flags, at, tir.select(spike, tir.constant("uint8", count, 1), tir.constant("uint8", count, 0)))
    tir.store(v, at, reset(h[at], spike, neuron, count))


def flags_size(count: int) -> int:
    """Bytes of the flags of `count` neurons: whole groups of eight."""
    return -(-count // 8) * 8


def clear_flags(flags: Buffer, count: int) -> None:
    """Zero the flags behind the last neuron, once before the loop."""
    size = flags_size(count)
    tir.store(flags, tir.lanes(0, size), tir.constant("uint8", size, 0))


def store_bits(flags: Buffer, count: int, spikes: Buffer, byte: Expr) -> None:
    """Write `count` spikes as bits from byte index `byte` of `spikes` (uint8) on."""
    for group in range(flags_size(count) // 8):
        word = tir.T.reinterpret("uint64", flags[tir.lanes(group * 8, 8)])
        packed = tir.T.shift_right(word * tir.T.uint64(BYTE_TO_BIT), tir.T.uint64(56))
        tir.store(spikes, byte + group, tir.T.cast(packed, "uint8"))
