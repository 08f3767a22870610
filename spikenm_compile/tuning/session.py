"""Measure what a log does not know yet, one line of the log after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from spikenm_compile.costs.advice import format_time
from spikenm_compile.costs.trials import Kernel, Trial, append_trial, read_trials
from spikenm_compile.report.table import format_table
from spikenm_compile.tuning.tasks import Task

Measure = Callable[[Task, Kernel], Trial]


def missing(tasks: Sequence[Task], log: Path) -> list[tuple[Task, Kernel]]:
    """Trials that the log does not have, those that failed included: what failed once is not tried again.

    Raises:
        InputError: the log holds something else.
    """
    known = {(trial.key, trial.kernel) for trial in (read_trials(log) if log.exists() else ())}
    return [(task, kernel) for task in tasks for kernel in task.kernels if (task.key, kernel) not in known]


def run_trials(
    left: Sequence[tuple[Task, Kernel]], log: Path, measure: Measure, advance: Callable[[str], None]
) -> None:
    """Measure each, and have it in the log before the next begins."""
    log.parent.mkdir(parents=True, exist_ok=True)
    for task, kernel in left:
        advance(f"{task.name}, {kernel.family}, tiles of {kernel.tile_width}")
        append_trial(log, measure(task, kernel))


def format_winners(tasks: Sequence[Task], log: Path) -> str:
    """A table of the best kernel of each layer, and how much it saves of the usual one's time."""
    header = ("layer", "active", "kernel", "tile", "time", "usual kernel", "saves", "failed")
    return format_table(header, [_row(task, read_trials(log)) for task in tasks])


def _row(task: Task, trials: Sequence[Trial]) -> tuple[object, ...]:
    own = [trial for trial in trials if trial.key == task.key]
    timed = sorted((t.timing, t.kernel.family, t.kernel.tile_width) for t in own if t.timing is not None)
    usual, failed = task.kernels[0], sum(t.timing is None for t in own)
    about = (task.name, f"{100 * task.call.density:.1f} %")
    if not timed:
        return (*about, "-", "-", "-", usual.family, "-", failed)
    timing, family, width = timed[0]
    saves = f"{100 * (1 - timing.ratio):.0f} %"
    return (
        *about,
        family,
        width,
        format_time(timing.microseconds),
        f"{usual.family} {usual.tile_width}",
        saves,
        failed,
    )
