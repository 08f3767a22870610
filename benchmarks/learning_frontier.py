"""Accuracy against weights and work: kinds of masks on networks of several widths, beside narrower dense networks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping

from benchmarks.learning_networks import channels_of
from benchmarks.learning_plans import asp, spikenm, sr_ste, variant
from benchmarks.learning_runs import Run
from benchmarks.learning_statistics import markdown, shared, spread_text, summary
from benchmarks.learning_store import Store
from benchmarks.learning_tries import CHOSEN, QUICKEST
from spikenm_compile.pattern import Pattern

PATTERNS = ("2:4", "1:4", "2:8", "1:8")
WIDTHS = {32: 3, 64: 2, 128: 1}
"""Width -> number of splits."""
PIXELS = (8 * 8, 4 * 4, 4 * 4, 2 * 2, 1)
"""Output places of the four convolutions and the classifier."""


def dense(net: str) -> Run:
    """A dense network."""
    return variant("event", "dense", "", net, **QUICKEST)


def narrow(width: int, pattern: str) -> Run:
    """The dense network with about the weights and the work of `pattern` at `width`."""
    shrink = math.sqrt(Pattern.parse(pattern).density)
    first, others = round(width / 2 * shrink), round(width * shrink)
    return dense(str(others) if 2 * first == others else f"{first}-{others}-{others}")


KINDS: Mapping[str, Callable[[int, str], Run]] = {
    "learned": lambda width, pattern: spikenm("event", pattern, str(width), **CHOSEN),
    "learned, V = 4": lambda width, pattern: spikenm("event", f"4:{pattern}", str(width), **CHOSEN),
    "SR-STE": lambda width, pattern: sr_ste("event", pattern, str(width), **CHOSEN),
    "staggered": lambda width, pattern: variant("event", "staggered", f"{pattern}@stagger", str(width), **QUICKEST),
    "learned phases": lambda width, pattern: variant("event", "phase", pattern, str(width), **QUICKEST),
    "ASP, V = all": lambda width, pattern: asp("event", f"{width}:{pattern}", str(width), **QUICKEST),
    "narrower dense": narrow,
}
"""Columns of the table."""


def frontier() -> Iterator[Run]:
    """All kinds at all patterns and widths, each network once."""
    seen: set[Run] = set()
    for width in WIDTHS:
        wanted = [dense(str(width))]
        wanted += [make(width, pattern) for pattern in PATTERNS for make in KINDS.values()]
        for run in wanted:
            if run not in seen:
                seen.add(run)
                yield run


def splits_for(run: Run) -> int:
    """On how many splits a run is measured: fewer where the network is wide."""
    return next((count for width, count in WIDTHS.items() if channels_of(run)[-1] <= width), 1)


def density_of(run: Run) -> float:
    """Share of the weights of the pruned layers that stays."""
    return Pattern.parse(run.pattern).density if run.pattern else 1.0


def weights_of(run: Run) -> int:
    """Non-zero weights of the whole network."""
    return round(sum(_layers(run, (1,) * len(PIXELS))))


def work_of(run: Run) -> int:
    """Multiply-accumulates of one step where every spike is 1: dense work times density."""
    return round(sum(_layers(run, PIXELS)))


def _layers(run: Run, places: tuple[int, ...]) -> Iterator[float]:
    c1, c2, c3, c4 = channels_of(run)
    sizes = (9 * 2 * c1, 9 * c1 * c2, 9 * c2 * c3, 9 * c3 * c4, 10 * 4 * c4)
    density = density_of(run)
    pruned = (1.0, density, density, density, 1.0)
    return (size * share * place for size, share, place in zip(sizes, pruned, places, strict=True))


def frontier_tables(store: Store) -> Iterator[str]:
    """Kinds of masks by width."""
    for width in WIDTHS:
        full = dense(str(width))
        if not store.of(full):
            continue
        yield (
            f"Width {width}: dense {spread_text(summary(store.of(full)))} points, {weights_of(full)} weights, "
            f"{work_of(full)} multiply-accumulates a step."
        )
        rows = []
        for pattern in PATTERNS:
            runs = {kind: make(width, pattern) for kind, make in KINDS.items()}
            cost = f"{pattern}, {weights_of(runs['learned'])} weights, work {work_of(runs['learned'])}"
            rows.append([cost, *(spread_text(summary(shared(store.of(r), store.of(full)))) for r in runs.values())])
        yield markdown(["", *KINDS], rows)
