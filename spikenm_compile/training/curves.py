"""The curves of a training as one PNG, from its log."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from spikenm_compile.errors import InputError, ToolError
from spikenm_compile.training.metrics import NAME, read_metrics

Line = Mapping[str, Any]
PANELS: tuple[tuple[str, str], ...] = (
    ("loss", "loss"),
    ("accuracy", "test accuracy"),
    ("flips", "share of the kept weights replaced since the line before"),
    ("entropy", "entropy of softmax(π) / log M"),
    ("firing_rates", "firing rate"),
)
"""(key of the log, title)."""


def draw_curves(run_dir: Path) -> Path:
    """Draw what the log of `run_dir` has to curves.png in it; returns its path.

    Raises:
        ToolError: matplotlib is not installed.
        InputError: there is no log.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ToolError(
            "matplotlib is not installed, and curves are drawn with it; use pip install 'spikenm-compile[train]', "
            f"or read {NAME}"
        ) from error
    lines = read_metrics(run_dir)
    panels = [(key, title) for key, title in PANELS if any(key in line for line in lines)]
    if not panels:
        raise InputError(f"'{run_dir}' has no lines in {NAME}; give the run_dir of a training")
    figure = Figure(figsize=(7.0, 2.4 * len(panels)), layout="constrained")
    for axes, (key, title) in zip(figure.subplots(len(panels), squeeze=False)[:, 0], panels, strict=True):
        _draw(axes.plot, key, lines)
        axes.set_title(title, fontsize="small")
        if any(isinstance(line.get(key), Mapping) for line in lines):
            axes.legend(fontsize="x-small", ncols=3)
    figure.axes[-1].set_xlabel("step")
    path = run_dir / "curves.png"
    FigureCanvasAgg(figure).print_png(path)  # type: ignore[no-untyped-call]
    return path


def _draw(plot: Callable[..., object], key: str, lines: Sequence[Line]) -> None:
    """One curve, or one for each name where the log has several."""
    for name in _names(key, lines):
        points = [(line["step"], _value(line[key], name)) for line in lines if key in line]
        steps, values = zip(*points, strict=True)
        plot(steps, values, label=name, linewidth=1.0, marker="." if len(points) < 30 else "")


def _names(key: str, lines: Sequence[Line]) -> list[str | None]:
    first = next(line[key] for line in lines if key in line)
    return list(first) if isinstance(first, Mapping) else [None]


def _value(value: Any, name: str | None) -> float:
    return float(value if name is None else value[name])
