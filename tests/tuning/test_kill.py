"""A real `tune` that is killed has lost no more than the trial that it was in."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_fixtures import PROGRAM, run, start

from spikenm_compile.costs.trials import read_trials


def wait_until(is_true: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < end, f"not within {seconds:.0f} seconds"
        time.sleep(0.02)


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_running(pid: int) -> bool:
    """Whether it is there and no zombie."""
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.long
def test_a_killed_tune_goes_on_from_its_log(tmp_path: Path) -> None:
    log = tmp_path / "tune.jsonl"
    with start(PROGRAM, "tune", "--log", str(log), cwd=tmp_path) as tune:
        wait_until(lambda: log.exists() and log.read_bytes().count(b"\n") >= 3, 120)
        seen, workers = log.read_bytes().count(b"\n"), children(tune.pid)
        os.kill(tune.pid, signal.SIGKILL)
        tune.wait()
    known = read_trials(log)
    assert len(known) in (seen, seen + 1)
    wait_until(lambda: not any(map(is_running, workers)), 60)
    assert read_trials(log) == known, "what was left of it wrote on"
    done = run(PROGRAM, "tune", "--log", str(log), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    trials = read_trials(log)
    assert trials[: len(known)] == known
    assert len({(trial.key, trial.kernel) for trial in trials}) == len(trials)
    assert f"{len(trials) - len(known)} kernels measured, {len(known)} known before" in done.stdout
