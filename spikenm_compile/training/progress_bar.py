"""A training on the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from spikenm_compile.console import progress
from spikenm_compile.training.step import Progress
from spikenm_compile.training.trainer import Observer


@contextmanager
def progress_bar(title: str, total_steps: int) -> Iterator[Observer]:
    """An observer that moves a bar on stderr; a resumed training starts where it was. Not on a terminal: nothing."""
    with progress(title, total_steps) as advance:
        shown = 0

        def show(reached: Progress) -> None:
            nonlocal shown
            for _ in range(reached.step - shown):
                advance(f"loss {reached.loss:.3f}")
            shown = reached.step

        yield show
