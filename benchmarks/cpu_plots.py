"""Pictures of the results: lines with their fits, networks as times of ONNX Runtime, layers over density."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.cpu_lines import fits_of
from benchmarks.cpu_networks import COLD, PEERS, WARM
from benchmarks.cpu_ratios import at, best, int8_peer, over
from benchmarks.cpu_results import Results, Row
from benchmarks.cpu_workloads import GOALS, NETWORKS, VARIANTS
from spikenm_compile.errors import ToolError

HIDDEN = ("c64-128@32/2", "c64-128@16", "c128-256@16/2", "c128-256@8", "c256-512@8/2", "c256-512@4")
"""Layers whose times are not drawn over density: they look like their neighbours'."""
COLOURS = 64
"""Of a picture."""
DRAWN = tuple(str(variant) for variant in GOALS)
Draw = Callable[[Any, Sequence[Row]], None]
"""Figure and rows."""


def write_plots(folder: Path) -> None:
    """Write a picture beside each file of results that it shows.

    Raises:
        ToolError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
        from PIL import Image
    except ImportError as error:
        raise ToolError("matplotlib is not installed; it draws the pictures; pip install matplotlib") from error
    for name, draw in PICTURES.items():
        rows = Results(folder / f"{name}.jsonl").rows
        if rows:
            figure = Figure(figsize=(8.4, 6.4), layout="constrained")
            draw(figure, rows)
            drawn = io.BytesIO()
            figure.savefig(drawn, dpi=80)
            # few colours make a small file
            Image.open(drawn).convert("RGB").quantize(COLOURS).save(folder / f"{name}.png", optimize=True)


def _grid(figure: Any, count: int) -> list[Any]:
    """So many axes in two columns."""
    every = list(figure.subplots(-(-count // 2), 2, squeeze=False).flat)
    for spare in every[count:]:
        spare.set_visible(False)
    return every[:count]


def _lines(figure: Any, rows: Sequence[Row]) -> None:
    fits = fits_of(rows)
    places = dict.fromkeys(row.place for row in rows)
    for axes, axis in zip(_grid(figure, len(places)), places, strict=True):
        for (place, line), fit in fits.items():
            if place == axis:
                points = sorted((r.x, r.times.median) for r in at(rows, axis) if r.what == line)
                x = [point[0] for point in points]
                (drawn,) = axes.plot(*zip(*points, strict=True), "o", markersize=4)
                label = f"{line}, R² {fit.r2:.3f}"
                axes.plot(x, [fit.slope * v + fit.intercept for v in x], color=drawn.get_color(), label=label)
        axes.set(xlabel=axis, ylabel="microseconds", ylim=(0, None))
        axes.grid(alpha=0.3)
        axes.legend(fontsize="x-small")


def _networks(figure: Any, rows: Sequence[Row]) -> None:
    places = [f"{network} {how}" for network in NETWORKS for how in (WARM, COLD)]
    names = [name for v in VARIANTS if any(row.what == (name := str(v)) for row in rows)]
    axes = figure.subplots()
    for number, place in enumerate(places):
        here = at(rows, place)
        ratios = [over(row, int8_peer(here)) for name in names for row in here if row.what == name]
        if len(ratios) == len(names):
            axes.barh([y + 0.2 * number for y in range(len(names))], ratios, 0.2, label=place)
    axes.set_yticks([y + 0.3 for y in range(len(names))], names, fontsize="x-small")
    axes.set(xlabel="times ONNX Runtime int8", ylim=(len(names), -0.5))
    axes.axvline(1.0, color="black", linewidth=0.8)
    axes.grid(axis="x", alpha=0.3)
    axes.legend(fontsize="small")


def _layers(figure: Any, rows: Sequence[Row]) -> None:
    measured = dict.fromkeys(row.place for row in rows)
    places = [place for place in measured if place not in HIDDEN] or list(measured)
    for axes, place in zip(_grid(figure, len(places)), places, strict=True):
        densities = sorted({row.x for row in at(rows, place)})
        for name in DRAWN:
            found = [best(at(rows, place, x), (name,)) for x in densities]
            known = [(100 * row.x, row.times.median) for row in found if row is not None]
            if known:
                axes.plot(*zip(*known, strict=True), "o-", markersize=3, linewidth=1, label=name)
        peers = [int8_peer(at(rows, place, x)) for x in densities]
        known = [(100 * row.x, row.times.median) for row in peers if row is not None]
        axes.plot(*zip(*known, strict=True), "k--", label=PEERS[0])
        axes.set(title=place, xlabel="per cent spikes", ylabel="microseconds", ylim=(0, None))
        axes.grid(alpha=0.3)
        axes.legend(fontsize="xx-small")


PICTURES: dict[str, Draw] = {"lines": _lines, "networks": _networks, "layers": _layers}
"""Part -> its picture."""
