"""Balanced assignment of channels, outputs and taps to residue classes: what a learned phase mask is made of.

    m[o, t, i] = 1  where  c_i = (p_t + d_o) mod K,       K = M/N

    c_i    class of input channel i: each class N times in every group of M, so that N:M holds
    d_o    phase of output o: each K-th of the outputs the same, so that a kernel finds them side by side
    p_t    phase of tap t, its index in the kernel row by row; t mod K where taps are not free

Given scores s[o, t, i] the mask of largest Σ m · s is sought one kind at a time, the two others held: each of the three
is a sum over channels, outputs or taps alone, and is solved exactly. The sum never falls, so that this ends, in a
maximum that none of the three kinds alone can leave; several starts make it a good one. Derived in this project.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Classes = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float64]

MOST_ROUNDS = 50
"""Of the alternation; it ends after a handful."""


@dataclass(frozen=True, slots=True)
class Phases:
    """A learned phase mask: residue classes modulo `modulus`."""

    modulus: int
    """K."""
    channels: Classes
    """c [I]."""
    outputs: Classes
    """d [O]."""
    taps: Classes
    """p [T]."""

    def mask(self) -> npt.NDArray[np.bool_]:
        """m [O, T, I]."""
        reached = (self.outputs[:, None] + self.taps) % self.modulus
        return reached[:, :, None] == self.channels


def staggered_phases(outputs: int, taps: int, inputs: int, n: int, m: int) -> Phases:
    """Those of the pattern N:M@stagger."""
    modulus = m // n
    group, member = np.divmod(np.arange(inputs), m)
    return Phases(
        modulus, (member - group) % modulus, np.arange(outputs) * modulus // outputs, np.arange(taps) % modulus
    )


def balanced(scores: Scores, room: Classes) -> Classes:
    """Assign each row of `scores` [rows, K] to a class, at most room[k] rows to class k, with the largest sum.

    Every row starts in its best class. While a class is too full, one row too many leaves it along the cheapest chain
    of moves that ends in a class with room (successive shortest paths: the assignment stays the best one of its
    class sizes, so that the last is the best of all).
    """
    classes = scores.argmax(1)
    while True:
        excess = np.bincount(classes, minlength=len(room)) - room
        if not (excess > 0).any():
            return classes
        cost, mover = _moves(scores, classes)
        for row, to in _cheapest_chain(cost, mover, excess):
            classes[row] = to


def _moves(scores: Scores, classes: Classes) -> tuple[Scores, Classes]:
    """Cost of the cheapest move from class a to class b, [K, K], and the row that moves."""
    modulus = scores.shape[1]
    loss = scores[np.arange(len(scores)), classes][:, None] - scores
    cost, mover = np.full((modulus, modulus), np.inf), np.zeros((modulus, modulus), np.int64)
    for a in np.unique(classes):
        rows = np.flatnonzero(classes == a)
        best = loss[rows].argmin(0)
        cost[a], mover[a] = loss[rows[best], np.arange(modulus)], rows[best]
    return cost, mover


def _cheapest_chain(cost: Scores, mover: Classes, excess: Classes) -> list[tuple[int, int]]:
    """(row, class it moves to) along the cheapest way from a class that is too full to one with room."""
    modulus = len(excess)
    distance, before = np.where(excess > 0, 0.0, np.inf), np.full(modulus, -1)
    for _ in range(modulus - 1):  # Bellman-Ford: some moves gain
        through = distance[:, None] + cost
        best = through.argmin(0)
        reached = through[best, np.arange(modulus)]
        is_shorter = reached < distance - 1e-12 * np.abs(cost[np.isfinite(cost)]).max()
        if not is_shorter.any():
            break
        distance, before = np.where(is_shorter, reached, distance), np.where(is_shorter, best, before)
    end = int(np.where(excess < 0, distance, np.inf).argmin())
    chain = []
    while before[end] >= 0:
        chain.append((int(mover[before[end], end]), end))
        end = int(before[end])
    return chain


def better_phases(
    scores: Scores, phases: Phases, m: int, *, order_outputs: bool = True, free_taps: bool = False
) -> Phases:
    """Phases of a larger Σ m · scores [O, T, I], from `phases` on, until no kind alone can be improved."""
    total = scores[phases.mask()].sum()
    for _ in range(MOST_ROUNDS):
        phases = _with_best_channels(scores, phases, m)
        if order_outputs:
            phases = _with_best_outputs(scores, phases)
        if free_taps:
            phases = _with_best_taps(scores, phases)
        before, total = total, scores[phases.mask()].sum()
        if total <= before + 1e-9 * abs(before):
            break
    return phases


def channel_scores(scores: Scores, phases: Phases) -> Scores:
    """Sum of `scores` [O, T, I] that each class would give each channel, [I, K]."""
    reached = (phases.outputs[:, None] + phases.taps) % phases.modulus
    return np.stack([scores[reached == k].sum(0) for k in range(phases.modulus)], -1)


def output_scores(scores: Scores, phases: Phases) -> Scores:
    """Sum of `scores` that each phase would give each output, [O, K]."""
    wanted = (phases.channels - phases.taps[:, None]) % phases.modulus
    return np.stack([scores[:, wanted == k].sum(1) for k in range(phases.modulus)], -1)


def tap_scores(scores: Scores, phases: Phases) -> Scores:
    """Sum of `scores` that each phase would give each tap, [T, K]."""
    wanted = (phases.channels - phases.outputs[:, None]) % phases.modulus
    by_tap = scores.transpose(1, 0, 2)
    return np.stack([by_tap[:, wanted == k].sum(1) for k in range(phases.modulus)], -1)


def _with_best_channels(scores: Scores, phases: Phases, m: int) -> Phases:
    room = np.full(phases.modulus, m // phases.modulus)
    of_groups = channel_scores(scores, phases).reshape(-1, m, phases.modulus)
    channels = np.concatenate([balanced(group, room) for group in of_groups])
    return Phases(phases.modulus, channels, phases.outputs, phases.taps)


def _with_best_outputs(scores: Scores, phases: Phases) -> Phases:
    room = np.bincount(phases.outputs, minlength=phases.modulus)
    outputs = balanced(output_scores(scores, phases), room)
    return Phases(phases.modulus, phases.channels, outputs, phases.taps)


def _with_best_taps(scores: Scores, phases: Phases) -> Phases:
    return Phases(phases.modulus, phases.channels, phases.outputs, tap_scores(scores, phases).argmax(1))
