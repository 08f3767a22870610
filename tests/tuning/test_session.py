"""A log that grows line by line, whatever stops the measuring."""

from __future__ import annotations

from pathlib import Path

import pytest
from tuned_layers import tasks

from spikenm_compile.costs.trials import Kernel, Timing, Trial, line_of, read_trials
from spikenm_compile.tuning.session import format_winners, missing, run_trials
from spikenm_compile.tuning.tasks import Task


class Bench:
    """Measures without a machine, until it is stopped."""

    def __init__(self, stop_at: int = 99) -> None:
        self.stop_at, self.done = stop_at, list[tuple[str, Kernel]]()

    def __call__(self, task: Task, kernel: Kernel) -> Trial:
        if len(self.done) == self.stop_at:
            raise KeyboardInterrupt
        self.done.append((task.name, kernel))
        if kernel.family == "dense-rows":
            return Trial(task.key, kernel, None, "died")
        return Trial(task.key, kernel, Timing(kernel.tile_width / 64, kernel.tile_width / 2))


def test_an_interrupted_session_goes_on_where_it_was(tmp_path: Path) -> None:
    log, work = tmp_path / "logs" / "tune.jsonl", tasks()
    whole, first, second = Bench(), Bench(stop_at=3), Bench()
    run_trials(missing(work, tmp_path / "other.jsonl"), tmp_path / "other.jsonl", whole, lambda _: None)
    with pytest.raises(KeyboardInterrupt):
        run_trials(missing(work, log), log, first, lambda _: None)
    with log.open("a") as file:
        file.write(line_of(read_trials(log)[0])[:50])  # as if it had been killed
    assert len(read_trials(log)) == 3
    run_trials(missing(work, log), log, second, lambda _: None)
    assert first.done + second.done == whole.done
    assert log.read_text() == (tmp_path / "other.jsonl").read_text()
    assert missing(work, log) == []


def test_each_trial_is_announced(tmp_path: Path) -> None:
    announced = list[str]()
    run_trials(missing(tasks(), tmp_path / "a")[-1:], tmp_path / "a", Bench(), announced.append)
    assert announced == ["conv2, dense-rows, tiles of 16"]


def test_the_best_kernel_of_each_layer(tmp_path: Path) -> None:
    log, work = tmp_path / "tune.jsonl", tasks()
    run_trials(missing(work, log), log, Bench(), lambda _: None)
    *_, second = format_winners(work, log).splitlines()
    assert second.split() == ["conv2", "25.0", "%", "event-rows", "16", "8.0", "µs", "event-rows", "64", "75", "%", "2"]


def test_a_layer_without_a_time_has_no_best_kernel(tmp_path: Path) -> None:
    log, work = tmp_path / "tune.jsonl", tasks()
    run_trials([(work[0], k) for k in work[0].kernels if k.family == "dense-rows"], log, Bench(), lambda _: None)
    assert format_winners(work[:1], log).splitlines()[-1].split()[3:5] == ["-", "-"]
