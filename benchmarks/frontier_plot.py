"""The picture of the frontier: accuracy against microseconds, of ours by type of weights and of ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.frontier_measure import CONVOLUTIONS, OURS
from benchmarks.frontier_tables import Deployed, frontier_of
from spikenm_compile.errors import ToolError
from spikenm_compile.weight_types import WEIGHT_TYPES

COLOURS = dict(zip(WEIGHT_TYPES, ("tab:blue", "tab:orange", "tab:green"), strict=True))
MARKERS = {"dense": "o", "2:4": "s", "1:8": "D", "2:4@stagger": "<", "1:4@stagger": "v", "1:8@stagger": ">"}
PEERS = {
    "float32": "dense, ONNX Runtime float32",
    "int8": "dense, ONNX Runtime int8",
    CONVOLUTIONS: "its convolutions alone",
}


def plot(networks: Sequence[Deployed], path: Path) -> None:
    """Write the picture.

    Raises:
        ToolError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ToolError("matplotlib is not installed; it draws the pictures; pip install matplotlib") from error
    figure = Figure(figsize=(7.2, 4.8), layout="constrained")
    axes = figure.subplots()
    for kind, colour in COLOURS.items():
        for pattern, marker in MARKERS.items():
            same = [n for n in networks if (n.side, n.weight_type, n.pattern) == (OURS, kind, pattern)]
            x, y = [n.microseconds for n in same], [n.accuracy for n in same]
            axes.scatter(x, y, s=18, c=colour, marker=marker, label=f"{pattern}, {kind}" if same else None)
    best = frontier_of(n for n in networks if n.side == OURS)
    axes.step([n.microseconds for n in best], [n.accuracy for n in best], "k-", where="post", lw=0.8, label="our best")
    for number, (side, label) in enumerate(PEERS.items(), start=3):
        line = sorted((n for n in networks if n.side == side), key=lambda n: int(n.net))
        x, y = [n.microseconds for n in line], [n.accuracy for n in line]
        axes.plot(x, y, f"C{number}--" if side == CONVOLUTIONS else f"C{number}-", marker="x", lw=1, label=label)
    axes.set(xscale="log", xlabel="microseconds for one sample, one thread", ylabel="accuracy on event digits, points")
    axes.grid(which="both", alpha=0.3)
    axes.legend(fontsize="xx-small", ncols=2, loc="lower right")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100, metadata={"Software": None})
