"""C libraries in Python: runs, steps, streams of frames and events, against the lowered graph."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from edge_machines import machine
from edge_networks import NETWORKS, PATTERN

from spikenm_compile.errors import InputError
from spikenm_compile.graph import run_steps
from spikenm_compile.package import write_package
from spikenm_compile.runtime import load
from spikenm_compile.runtime.c_library import CLibraryModel
from spikenm_compile.runtime.stream import EVENT
from spikenm_compile.targets import get_target
from spikenm_compile.targets.c_library import CLibrary
from spikenm_compile.verification import verify


@pytest.fixture(scope="module")
def gestures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    machine("x86-64-v3")
    out = tmp_path_factory.mktemp("library") / "gestures"
    lowered, x = NETWORKS["gestures"]()
    write_package(lowered, get_target("x86-64-v3"), out, name="gestures", pattern=PATTERN, samples=x)
    return out


@pytest.fixture
def model(gestures: Path) -> CLibraryModel:
    loaded = load(gestures)
    assert isinstance(loaded, CLibraryModel)
    return loaded


def expected(x: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    with torch.no_grad():
        found: np.ndarray[tuple[int, ...], np.dtype[np.float32]] = run_steps(
            NETWORKS["gestures"]()[0], torch.from_numpy(x)
        ).output.numpy()
    return found


def test_verify_proves_it(gestures: Path) -> None:
    checks = verify(gestures)
    assert all(check.passed for check in checks)
    assert {check.form for check in checks} == {"sequence", "step"}


@pytest.mark.parametrize("threads", [1, 3])
def test_a_batch_of_sequences_longer_than_a_call(gestures: Path, threads: int) -> None:
    x = NETWORKS["gestures"]()[1].numpy()
    long = np.concatenate([x, x[::-1], x])
    loaded = load(gestures, threads=threads)
    assert np.array_equal(loaded.run(long), expected(long))
    trace = loaded.trace(long)
    assert list(trace.spikes) == ["lif4"]
    assert trace.spikes["lif4"].shape[:2] == (15, 6)
    assert np.array_equal(trace.output, expected(long))


def test_what_does_not_change_outlives_the_parts_of_a_run(tmp_path: Path) -> None:
    """A run in several parts on shared memory computes the first layer of an image once."""
    machine("x86-64-v3")
    target = get_target("x86-64-v3")
    assert isinstance(target, CLibrary)
    lowered, x = NETWORKS["digits"]()
    write_package(lowered, replace(target, max_steps=2), tmp_path / "a", name="digits", pattern=PATTERN, samples=x)
    with torch.no_grad():
        reference = run_steps(lowered, x, 7).output.numpy()
    assert np.array_equal(load(tmp_path / "a").run(x.numpy(), 7), reference)


def test_a_step_leaves_the_old_state_as_it_is(model: CLibraryModel) -> None:
    x = NETWORKS["gestures"]()[1].numpy()
    first = model.initial_state(6)
    before = first.memory.copy()
    one, second = model.step(x[0], first)
    again, _ = model.step(x[0], first)
    assert np.array_equal(first.memory, before)
    assert np.array_equal(one, again)
    assert np.array_equal(model.step(x[1], second)[0], expected(x[:2]))


def test_a_stream_of_frames(model: CLibraryModel) -> None:
    x = NETWORKS["gestures"]()[1].numpy()
    stream = model.stream()
    for _ in range(2):
        outputs = [stream.step(x[t, 0]) for t in range(len(x))]
        assert np.array_equal(outputs[-1], expected(x[:, :1])[0])
        stream.reset()
    assert not np.array_equal(outputs[0], outputs[-1])


def test_a_stream_of_events_is_their_counts(model: CLibraryModel) -> None:
    counts = np.zeros((4, 1, 2, 9, 9), np.float32)
    events = []
    for t, (y, x, c, n) in enumerate([(1, 2, 0, 3), (4, 4, 1, 9), (8, 8, 0, 1)]):
        counts[t if t < 2 else 3, 0, c, y, x] = n  # no event in window 2
        events += [(100 + 50 * (t if t < 2 else 3) + i, x, y, c) for i in range(n)]
    stream = model.stream(start_us=100, step_us=50)
    outputs = [*stream.push(np.array(events, EVENT)), *stream.until(299)]
    assert len(outputs) == 3
    outputs += stream.until(300)
    assert len(outputs) == 4
    for t, output in enumerate(outputs):
        assert np.array_equal(output, expected(counts[: t + 1])[0])
    assert np.array_equal(stream.flush(), expected(np.concatenate([counts, counts[2:3]]))[0])


@pytest.mark.parametrize(
    ("event", "message"),
    [
        ((120, 9, 0, 0), "gestures_events_push: an event lies outside of the input; x < GESTURES_INPUT_WIDTH"),
        ((120, 0, 0, 2), "an event lies outside of the input"),
        ((99, 0, 0, 0), "an event is older than the window that is being counted; sort events by time or leave it out"),
    ],
)
def test_events_that_are_refused(model: CLibraryModel, event: tuple[int, ...], message: str) -> None:
    stream = model.stream(start_us=100, step_us=50)
    with pytest.raises(InputError, match=message):
        list(stream.push(np.array([event], EVENT)))


def test_inputs_of_a_stream_are_checked(model: CLibraryModel) -> None:
    stream = model.stream()
    with pytest.raises(InputError, match=r"the frame is float64 \[2, 9, 9\]; a float32 array \[2, 9, 9\] is supported"):
        stream.step(np.zeros((2, 9, 9)))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="the frame is list; a float32 array"):
        stream.step([1.0])  # type: ignore[arg-type]
    with pytest.raises(InputError, match="the events are not a one-dimensional array of dtype EVENT"):
        list(stream.push(np.zeros((3, 4))))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="start_us=-1 and step_us=0 are not supported; give microseconds below"):
        stream.reset(start_us=-1)
