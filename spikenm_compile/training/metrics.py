"""The log of a training: one JSON object per line in metrics.jsonl, and TensorBoard where it is wanted.

    step, epoch, loss, lr, seconds     of one step; seconds are the mean over the steps since the line before
    accuracy                           share of the test samples, on the lines where it was measured
    sigma, eid_weight                  noise and distillation of the masks at this step
    flips                              layer -> share of the kept weights that were replaced since the line before
    entropy                            layer -> mean entropy of softmax(π) over the groups, in units of log M
    firing_rates                       neuron -> spikes per neuron and time step in this step; not of compiled models

A resumed training cuts off the lines after its checkpoint before it goes on. In a distributed training the first
process writes; firing rates are of its own samples, everything else is of all.
"""

from __future__ import annotations

import json
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import Any, Self, TextIO

from spikenm_compile.training.checkpoint import replace_file
from spikenm_compile.training.mask_watch import MaskWatch
from spikenm_compile.training.rate_watch import RateWatch
from spikenm_compile.training.step import Job, Progress
from spikenm_compile.training.tensorboard import Board

NAME = "metrics.jsonl"


class MetricsLog:
    """Appends to the log of one training.

    Args:
        run_dir: directory of the log.
        job: the training.
        step: steps done; later lines are cut off.
    """

    def __init__(self, run_dir: Path, job: Job, step: int) -> None:
        self._job = job
        self._masks = MaskWatch(job.model)
        self._rates = RateWatch(job)
        self._since = step, perf_counter()
        self._file: TextIO | None = None
        self._board: Board | None = None
        if job.world.is_first:
            path = run_dir / NAME
            lines = [line for line in read_metrics(run_dir) if line["step"] <= step]
            replace_file(path, "".join(json.dumps(line) + "\n" for line in lines))
            self._file = path.open("a")
            self._board = Board(run_dir) if job.settings.tensorboard else None
        self._watch_if_due(step + 1)

    def note(self, reached: Progress) -> None:
        """Write a line where one is due. All processes have to call it together."""
        if self._is_due(reached.step) or reached.accuracy is not None:
            self._append({**self._line(reached), **self._rates.look()})
        self._watch_if_due(reached.step + 1)

    def _watch_if_due(self, step: int) -> None:
        if self._file is not None and self._is_due(step):
            self._rates.watch()

    def _is_due(self, step: int) -> bool:
        return step % self._job.settings.log_every == 0 or step == self._job.total_steps

    def _append(self, line: dict[str, Any]) -> None:
        if self._file is None:
            return
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        if self._board is not None:
            self._board.add(line)

    def _line(self, reached: Progress) -> dict[str, Any]:
        step, time = self._since
        self._since = reached.step, perf_counter()
        line: dict[str, Any] = {"step": reached.step, "epoch": reached.epoch, "loss": reached.loss, "lr": reached.lr}
        if reached.accuracy is not None:
            line["accuracy"] = reached.accuracy
        return {
            **line,
            "seconds": (self._since[1] - time) / (reached.step - step),
            **self._masks.look(reached.step - 1),
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._rates.stop()
        if self._file is not None:
            self._file.close()
        if self._board is not None:
            self._board.close()


def read_metrics(run_dir: Path) -> list[dict[str, Any]]:
    """The lines of a log; a last line that a kill has cut short is left out."""
    path = run_dir / NAME
    if not path.exists():
        return []
    lines = path.read_text().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]
