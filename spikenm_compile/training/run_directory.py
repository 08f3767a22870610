"""What a training leaves in its directory: checkpoints and logs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from spikenm_compile.errors import CheckpointError, InputError
from spikenm_compile.learning import MaskLearner
from spikenm_compile.learning.attach import learning_layers
from spikenm_compile.learning.learner import WeightLearner
from spikenm_compile.training.checkpoint import Checkpoint, check_same, read_checkpoint, write_checkpoint
from spikenm_compile.training.interrupt import noted_interrupts
from spikenm_compile.training.metrics import MetricsLog
from spikenm_compile.training.state import collect_state, restore_state
from spikenm_compile.training.step import Job, Progress


class RunDirectory:
    """The directory of one training.

    Args:
        path: the directory; made where it is missing. All processes have to see it.
        job: the training.
    """

    def __init__(self, path: Path, job: Job) -> None:
        self.path = path
        self.job = job
        self._log: MetricsLog | None = None
        self._is_interrupted: Callable[[], bool] = lambda: False

    @contextmanager
    def opened(self, resume: bool) -> Iterator[int]:
        """Open the log; gives the number of steps that are done already, after their state has been restored.

        Raises:
            CheckpointError: there is a checkpoint, and it is not to be used or cannot be.
            InputError: `path` is a file.
        """
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"'{self.path}' is a file, and a training writes into a directory; give another run_dir")
        step = self._restored(resume)
        self.path.mkdir(parents=True, exist_ok=True)
        with MetricsLog(self.path, self.job, step) as self._log, noted_interrupts() as self._is_interrupted:
            yield step

    def note(self, reached: Progress) -> None:
        """Log a step, and write a checkpoint where one is due. All processes have to call it together.

        Raises:
            KeyboardInterrupt: a signal asked to stop; the checkpoint is written.
        """
        assert self._log is not None
        self._log.note(reached)
        every = self.job.settings.checkpoint_every
        stops = self.job.world.any(self._is_interrupted())
        if stops or reached.step == self.job.total_steps or (every and reached.step % every == 0):
            self._save(reached.step)
        if stops and reached.step < self.job.total_steps:
            raise KeyboardInterrupt(
                f"stopped after step {reached.step} of {reached.total_steps}; "
                f"the checkpoint in '{self.path}' goes on from there with resume"
            )

    def _save(self, step: int) -> None:
        tensors, numbers = collect_state(self.job.model, self.job.optimizer)
        if self.job.world.is_first:
            write_checkpoint(self.path, Checkpoint(step, describe(self.job), numbers, tensors))

    def _restored(self, resume: bool) -> int:
        checkpoint = read_checkpoint(self.path)
        if checkpoint is None:
            return 0
        if not resume:
            raise CheckpointError(
                f"'{self.path}' holds a training at step {checkpoint.step}, and it would be lost; "
                "resume it, give another run_dir, or remove this one"
            )
        check_same(checkpoint.training, describe(self.job), self.path)
        restore_state(self.job.model, self.job.optimizer, checkpoint.tensors, checkpoint.numbers)
        return checkpoint.step


def describe(job: Job) -> dict[str, Any]:
    """What decides the result of a training beside the data itself: JSON values."""
    return {
        "settings": job.settings.fixed(),
        "samples": len(job.samples),
        "steps": job.total_steps,
        "masks": {
            name: {"pattern": _pattern_of(learner), **asdict(learner.options)}
            for name, _, learner in learning_layers(job.model)
        },
    }


def _pattern_of(learner: WeightLearner) -> str:
    return str(learner.pattern) if isinstance(learner, MaskLearner) else "dense"
