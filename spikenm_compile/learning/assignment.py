"""Balanced assignment of channels, outputs and taps to residue classes (phases.py) of the largest sum of scores.

Given scores s [O, T, I] the mask m of the largest Σ m · s is sought one kind at a time, the two others held: each of
the three is a sum over channels, outputs or taps alone, and is solved exactly. The sum never falls, so that this ends,
in a maximum that no kind alone can leave. Several starts make it a good one. Derived in this project.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from spikenm_compile.phases import Classes, Phases

Scores = npt.NDArray[np.float64]

MOST_ROUNDS = 50
"""Of the alternation, which ends after a handful."""

SMALLEST_GAIN = 1e-9
"""Relative gain of a round that is worth another."""


def best_phases(scores: Scores, starts: list[Phases], m: int) -> Phases:
    """The best of what `better_phases` makes of `starts`; the first of equals."""
    found = [better_phases(scores, start, m) for start in starts]
    return found[int(np.argmax([sum_of(scores, phases) for phases in found]))]


def better_phases(scores: Scores, phases: Phases, m: int) -> Phases:
    """Phases with Σ m · scores [O, T, I] at least that of `phases`, which no kind alone can improve.

    Each class stays as often in every group of `m` channels and among the outputs; taps are free.
    """
    total = sum_of(scores, phases)
    for _ in range(MOST_ROUNDS):
        phases = _with_best_channels(scores, phases, m)
        phases = _with_best_outputs(scores, phases)
        phases = replace(phases, taps=tap_scores(scores, phases).argmax(1))
        before, total = total, sum_of(scores, phases)
        if total <= before + SMALLEST_GAIN * abs(before):
            break
    return phases


def sum_of(scores: Scores, phases: Phases) -> float:
    """Σ m · scores."""
    return float(scores[phases.mask()].sum())


def balanced(scores: Scores, room: Classes) -> Classes:
    """Assign each row of `scores` [rows, K] to a class, room[k] of them to class k, with the largest sum.

    Every row starts in its best class. While a class is too full, one row too many leaves it along the cheapest chain
    of moves that ends in a class with room (successive shortest paths: at any time the assignment is the best one for
    its class sizes, and so the last one is the best of all).
    """
    classes: Classes = scores.argmax(1)
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
    """(row, class that it moves to) along the cheapest way from a class that is too full to one with room."""
    modulus = len(excess)
    distance, before = np.where(excess > 0, 0.0, np.inf), np.full(modulus, -1)
    rounding = 1e-12 * float(np.abs(cost[np.isfinite(cost)]).max())
    for _ in range(modulus - 1):  # Bellman-Ford, since some moves gain
        through = distance[:, None] + cost
        best = through.argmin(0)
        reached = through[best, np.arange(modulus)]
        is_shorter = reached < distance - rounding
        if not is_shorter.any():
            break
        distance, before = np.where(is_shorter, reached, distance), np.where(is_shorter, best, before)
    end = int(np.where(excess < 0, distance, np.inf).argmin())
    chain = []
    while before[end] >= 0:
        chain.append((int(mover[before[end], end]), end))
        end = int(before[end])
    return chain


def channel_scores(scores: Scores, phases: Phases) -> Scores:
    """Sum of `scores` [O, T, I] that each class would give each channel, [I, K]."""
    reached = (phases.outputs[:, None] + phases.taps) % phases.modulus
    return scores.reshape(-1, scores.shape[2]).T @ _one_hot(reached, phases.modulus)


def output_scores(scores: Scores, phases: Phases) -> Scores:
    """Sum of `scores` that each phase would give each output, [O, K]."""
    wanted = (phases.channels - phases.taps[:, None]) % phases.modulus
    return scores.reshape(len(scores), -1) @ _one_hot(wanted, phases.modulus)


def tap_scores(scores: Scores, phases: Phases) -> Scores:
    """Sum of `scores` that each phase would give each tap, [T, K]."""
    wanted = (phases.channels - phases.outputs[:, None]) % phases.modulus
    return scores.transpose(1, 0, 2).reshape(scores.shape[1], -1) @ _one_hot(wanted, phases.modulus)


def _one_hot(classes: Classes, modulus: int) -> Scores:
    """Rows of 0.0 and 1.0, [*classes, K]."""
    return np.equal(classes.reshape(-1, 1), np.arange(modulus)).astype(np.float64)


def _with_best_channels(scores: Scores, phases: Phases, m: int) -> Phases:
    room = np.full(phases.modulus, m // phases.modulus)
    groups = channel_scores(scores, phases).reshape(-1, m, phases.modulus)
    return replace(phases, channels=np.concatenate([balanced(group, room) for group in groups]))


def _with_best_outputs(scores: Scores, phases: Phases) -> Phases:
    room = np.bincount(phases.outputs, minlength=phases.modulus)
    return replace(phases, outputs=balanced(output_scores(scores, phases), room))


def shuffled(phases: Phases, m: int, random: np.random.Generator) -> Phases:
    """Random channels inside their groups, and random outputs."""
    channels = random.permuted(phases.channels.reshape(-1, m), axis=1).flatten()
    return replace(phases, channels=channels, outputs=random.permutation(phases.outputs))


def split(phases: Phases, modulus: int, m: int, random: np.random.Generator) -> Phases:
    """Phases modulo a multiple `modulus` of K, whose mask is inside that of `phases`: parts of a class at random."""
    return Phases(
        modulus,
        np.concatenate([_split(group, phases.modulus, modulus, random) for group in phases.channels.reshape(-1, m)]),
        _split(phases.outputs, phases.modulus, modulus, random),
        phases.taps,
    )


def _split(classes: Classes, old: int, new: int, random: np.random.Generator) -> Classes:
    """Class a becomes a, a + old, a + 2·old, …: equally often, to one."""
    parts = classes.copy()
    for a in range(old):
        rows = random.permutation(np.flatnonzero(classes == a))
        parts[rows] += old * (np.arange(len(rows)) % (new // old))
    return parts
