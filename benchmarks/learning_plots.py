"""Two pictures of the frontier: accuracy against weights, and against dense work times density."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.learning_frontier import KINDS, PATTERNS, WIDTHS, dense, weights_of, work_of
from benchmarks.learning_runs import DENSE, Run
from benchmarks.learning_statistics import shared, summary
from benchmarks.learning_store import Store
from spikenm_compile.errors import ToolError

AXES: dict[str, tuple[str, Callable[[Run], int]]] = {
    "frontier_weights.png": ("non-zero weights of the network", weights_of),
    "frontier_work.png": ("multiply-accumulates of a step × density", work_of),
}
COLOURS = {kind: f"C{number}" for number, kind in enumerate((DENSE, *KINDS))}
LINES = {0: "-", **dict(zip(WIDTHS, ("-", "--", ":"), strict=True))}
"""Width -> style of its line."""


def plot_frontier(store: Store, folder: Path) -> None:
    """Write the pictures.

    Raises:
        ToolError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ToolError("matplotlib is not installed; it draws the pictures; pip install matplotlib") from error
    for name, (label, cost) in AXES.items():
        figure = Figure(figsize=(6.4, 4.4), layout="constrained")
        axes = figure.subplots()
        for (kind, width), runs in _curves().items():
            label = f"{kind}, {width} wide" if width else kind
            look: dict[str, Any] = {"color": COLOURS[kind], "linestyle": LINES[width], "label": label}
            known = [(cost(run), summary(shared(store.of(run), range(max(WIDTHS.values()))))) for run in runs]
            points = sorted((x, found.mean, found.std) for x, found in known if found.n)
            if points:
                x, y, deviation = zip(*points, strict=True)
                axes.errorbar(x, y, deviation, marker="o", markersize=4, linewidth=1, capsize=2, **look)
        axes.set(xscale="log", xlabel=label, ylabel="accuracy on event digits, points")
        axes.grid(which="both", alpha=0.3)
        axes.legend(fontsize="small", ncols=2)
        folder.mkdir(parents=True, exist_ok=True)
        figure.savefig(folder / name, dpi=90, metadata={"Software": None})


def _curves() -> dict[tuple[str, int], list[Run]]:
    """A curve for each kind of mask and width; one, of width 0, for all dense networks."""
    curves = {(DENSE, 0): [dense(str(width)) for width in WIDTHS]}
    for kind, make in KINDS.items():
        for width in WIDTHS:
            runs = [make(width, pattern) for pattern in PATTERNS]
            if kind == "narrower dense":
                curves[DENSE, 0] += [run for run in runs if run not in curves[DENSE, 0]]
            else:
                curves[kind, width] = runs
    return curves
