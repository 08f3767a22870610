"""Phases: staggered masks whose residue classes are free, and finding them again in a weight.

    m[o, t, i] = 1  where  c_i = (p_t + d_o) mod K,       K = M/N

    c_i    class of input channel i: each class N times in every group of M, so that N:M holds
    d_o    phase of output o: K slabs of outputs of equal size, to one output
    p_t    phase of tap t, its index in the kernel row by row

With outputs in the order of d, channels in the order of c inside their groups and p_t = t mod K this is N:M@stagger
(pattern.py): every spike meets, at every tap, exactly one slab of outputs. A kernel needs the three short lists only.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from spikenm_compile.pattern import Pattern

Classes = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Phases:
    """A mask of residue classes modulo `modulus`."""

    modulus: int
    """K."""
    channels: Classes
    """c [I]."""
    outputs: Classes
    """d [O]."""
    taps: Classes
    """p [T]."""

    def mask(self) -> Mask:
        """The mask m [O, T, I]."""
        reached = (self.outputs[:, None] + self.taps) % self.modulus
        mask: Mask = np.equal(reached[:, :, None], self.channels)
        return mask

    def mask_of(self, shape: tuple[int, ...]) -> Mask:
        """The mask of a weight of `shape` [O, I, *kernel]."""
        return self.mask().transpose(0, 2, 1).reshape(shape)


def staggered_phases(shape: tuple[int, ...], pattern: Pattern) -> Phases:
    """Those of N:M@stagger on a weight of `shape` [O, I, *kernel]."""
    outputs, inputs, *kernel = shape
    modulus = pattern.m // pattern.n
    group, member = np.divmod(np.arange(inputs), pattern.m)
    slabs, taps = np.arange(outputs) * modulus // outputs, np.arange(math.prod(kernel)) % modulus
    return Phases(modulus, (member - group) % modulus, slabs, taps)


def find_phases(weight: npt.NDArray[np.generic], pattern: Pattern) -> Phases | None:
    """The phases of a folded `weight` [O, I, *kernel], or None where it has none; N must divide M.

    Channels that one output reads at one tap are of one class, and so on from output to output: this gives the classes
    as sets. Their numbers follow from the taps: between two taps all outputs move on by the same number. Zeros beside
    the mask do not matter as long as they do not tear a class apart. Many numberings describe one mask; t mod K is
    preferred for the taps.
    """
    used = np.not_equal(weight, 0).reshape(*weight.shape[:2], -1).transpose(0, 2, 1)
    modulus = pattern.m // pattern.n
    rows, channels = _joined(used)
    names = [name for name in dict.fromkeys(rows.T.flatten().tolist()) if name >= 0]
    if len(names) != modulus:
        return None
    index = np.full(weight.shape[1] + 1, -1)  # the last entry is that of -1: reads nothing
    index[names] = np.arange(modulus)
    of_row, of_channel = index[rows], index[channels]
    for numbers, taps in _numberings(of_row, modulus):
        found = Phases(modulus, numbers[of_channel], _outputs(of_row, numbers, taps), taps)
        if (of_channel >= 0).all() and _is_balanced(found, pattern) and not (used & ~found.mask()).any():
            return found
    return None


def _joined(used: Mask) -> tuple[Classes, Classes]:
    """Which set each row (o, t) and each channel belongs to, [O, T] and [I]: its smallest channel; -1: all zero."""
    nothing = used.shape[2]
    channels = np.where(used.any((0, 1)), np.arange(nothing), nothing)
    while True:
        rows = np.where(used, channels, nothing).min(2)
        joined = np.where(used, rows[:, :, None], nothing).min((0, 1))
        if (joined == channels).all():
            return np.where(rows < nothing, rows, -1), np.where(channels < nothing, channels, -1)
        channels = joined


def _numberings(rows: Classes, modulus: int) -> Iterator[tuple[Classes, Classes]]:
    """(numbers [K] of the sets, p [T]) under which every output moves on by p_t - p_s from tap s to tap t."""
    waiting = [(0, np.arange(modulus), np.zeros(modulus, np.int64), np.zeros(rows.shape[1], np.int64))]
    while waiting:
        tap, chains, numbers, taps = waiting.pop()
        if tap == rows.shape[1]:
            if (placed := _placed(chains, numbers, modulus)) is not None:
                yield placed, taps
            continue
        for phase in _candidates(rows, tap, chains, numbers, taps, modulus):
            tried = np.concatenate([taps[:tap], [phase], taps[tap + 1 :]])
            joined = _join(rows, tap, chains.copy(), numbers.copy(), tried, modulus)
            if joined is not None:
                waiting.append((tap + 1, *joined, tried))


def _steps(rows: Classes, tap: int) -> Iterator[tuple[int, int, int]]:
    """(earlier tap s, set there, set at `tap`) of the outputs that read at both; each once."""
    seen = set()
    for row in rows[rows[:, tap] >= 0, : tap + 1].tolist():
        earlier = next((s for s in range(tap) if row[s] >= 0), None)
        if earlier is not None:
            seen.add((earlier, row[earlier], row[tap]))
    yield from sorted(seen)


def _candidates(rows: Classes, tap: int, chains: Classes, numbers: Classes, taps: Classes, modulus: int) -> list[int]:
    """Phases that `tap` can have; the preferred one last, where it is tried first."""
    steps = list(_steps(rows, tap))
    if tap == 0 or not steps:
        return [0 if tap == 0 else tap % modulus]
    for earlier, a, b in steps:
        if chains[a] == chains[b]:
            return [int(taps[earlier] + numbers[b] - numbers[a]) % modulus]
    return sorted(range(modulus), key=lambda phase: (phase == tap % modulus, -phase))


def _join(
    rows: Classes, tap: int, chains: Classes, numbers: Classes, taps: Classes, modulus: int
) -> tuple[Classes, Classes] | None:
    """Chains of sets whose numbers hang together through the taps up to `tap`; None: they contradict one another."""
    for earlier, a, b in _steps(rows, tap):
        gap = (numbers[a] + taps[tap] - taps[earlier] - numbers[b]) % modulus
        if chains[a] == chains[b]:
            if gap:
                return None
            continue
        moved = chains == chains[b]
        numbers[moved] = (numbers[moved] + gap) % modulus
        chains[moved] = chains[a]
    is_unique = len(set(zip(chains.tolist(), numbers.tolist(), strict=True))) == modulus
    return (chains, numbers) if is_unique else None


def _placed(chains: Classes, numbers: Classes, modulus: int) -> Classes | None:
    """Numbers of all sets, each once: chains that do not hang together are put into each other's gaps."""
    placed = numbers.copy()
    taken: set[int] = set()
    for chain in dict.fromkeys(chains.tolist()):
        own = numbers[chains == chain]
        fits = (k for k in range(modulus) if len(set((own + k) % modulus) - taken) == len(own))
        shift = next(fits, None)
        if shift is None:
            return None
        placed[chains == chain] = (own + shift) % modulus
        taken |= set(placed[chains == chain].tolist())
    return placed


def _outputs(rows: Classes, numbers: Classes, taps: Classes) -> Classes:
    """Phase d [O] of each output from the first tap at which it reads; outputs that read nothing fill the slabs."""
    modulus = len(numbers)
    first = (rows >= 0).argmax(1)
    reads = rows[np.arange(len(rows)), first] >= 0
    phases: Classes = (numbers[rows[np.arange(len(rows)), first]] - taps[first]) % modulus
    for silent in np.flatnonzero(~reads):
        phases[silent] = np.bincount(phases[reads], minlength=modulus).argmin()
        reads[silent] = True
    return phases


def _is_balanced(phases: Phases, pattern: Pattern) -> bool:
    """Whether each class is N times in every group, and slabs are of equal size, to one output."""
    groups = phases.channels.reshape(-1, pattern.m)
    slabs = np.bincount(phases.outputs, minlength=phases.modulus)
    return all((groups == k).sum(1).max() <= pattern.n for k in range(phases.modulus)) and int(np.ptp(slabs)) <= 1
