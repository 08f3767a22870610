"""The log of trials."""

from __future__ import annotations

from pathlib import Path

import pytest
from layer_call_examples import CALL, call

from spikenm_compile.costs.trials import (
    Kernel,
    Machine,
    Timing,
    Trial,
    append_trial,
    bucket_of,
    key_of,
    line_of,
    read_trials,
)
from spikenm_compile.errors import InputError

MACHINE = Machine("x86-64-v4", "a CPU", ("maker 1", "other 2"))
GOOD = Trial(key_of(CALL, MACHINE), Kernel("event-rows", 64), Timing(0.75, 41.5))
BAD = Trial(key_of(call("2:4@stagger"), MACHINE), Kernel("staggered-rows", 8), None, "killed by signal 9")


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "tune.jsonl"
    for trial in (GOOD, BAD, GOOD):
        append_trial(path, trial)
    assert read_trials(path) == (GOOD, BAD, GOOD)


@pytest.mark.parametrize("length", [1, 40, -1])
def test_a_line_that_a_killed_writer_began_is_lost_alone(tmp_path: Path, length: int) -> None:
    path = tmp_path / "tune.jsonl"
    path.write_text(line_of(BAD) + line_of(GOOD)[:length])
    assert read_trials(path) == (BAD,)
    append_trial(path, GOOD)
    assert read_trials(path) == (BAD, GOOD)


def test_a_line_that_is_no_trial_is_named(tmp_path: Path) -> None:
    path = tmp_path / "tune.jsonl"
    path.write_text(line_of(GOOD) + '{"layer": 1}\n')
    with pytest.raises(
        InputError, match=r"line 2 of tune log '.*tune.jsonl' is no trial \(KeyError: 'machine'\); lines"
    ):
        read_trials(path)


def test_a_log_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"tune log '.*none.jsonl' cannot be read"):
        read_trials(tmp_path / "none.jsonl")


def test_densities_of_a_bucket_are_close() -> None:
    assert bucket_of(0.125) == bucket_of(0.13) != bucket_of(0.18)
    assert bucket_of(1.0) == 0
    assert bucket_of(0.0) < bucket_of(1e-9)


def test_a_key_tells_apart_what_times_depend_on() -> None:
    others = [
        call(outputs=129),
        call("2:4@stagger"),
        call(largest_weight=63),
        call(num_steps=5),
        call(density=0.25),
        call(neuron="alif"),
    ]
    keys = {key_of(c, MACHINE) for c in [CALL, *others]} | {key_of(CALL, Machine("x86-64-v4", "a CPU", ()))}
    assert len(keys) == len(others) + 2
    assert key_of(call(largest_weight=120), MACHINE) == key_of(CALL, MACHINE)
