"""The log for TensorBoard: `tensorboard --logdir RUN_DIR`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spikenm_compile.errors import ToolError


class Board:
    """Writes lines of the log as scalars below run_dir/tensorboard.

    Raises:
        ToolError: TensorBoard is not installed.
    """

    def __init__(self, run_dir: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ToolError(
                "tensorboard is not installed, and the settings ask for it; "
                "use pip install 'spikenm-compile[train]', or leave tensorboard off: metrics.jsonl says the same"
            ) from error
        self._writer = SummaryWriter(str(run_dir / "tensorboard"))

    def add(self, line: Mapping[str, Any]) -> None:
        """One line of the log."""
        for name, value in line.items():
            if name not in ("step", "epoch"):
                for tag, scalar in _scalars(name, value):
                    self._writer.add_scalar(tag, scalar, line["step"])

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()


def _scalars(name: str, value: Any) -> list[tuple[str, float]]:
    if isinstance(value, Mapping):
        return [(f"{name}/{inner}", number) for inner, number in value.items()]
    return [(name, value)]
