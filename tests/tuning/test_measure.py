"""Layers compiled on their own compute what they compute in their network."""

from __future__ import annotations

import threading
from dataclasses import replace
from multiprocessing import Pipe

import pytest
import torch
from native_calls import plain_calls
from tuned_layers import tasks

from spikenm_compile.costs.trials import Kernel, Timing, Trial
from spikenm_compile.errors import PassError, ToolError
from spikenm_compile.graph import Region, run_steps
from spikenm_compile.lowering.layout import Bits, Bytes
from spikenm_compile.targets.cpu import Cpu, detect
from spikenm_compile.tuning import measure
from spikenm_compile.tuning.measure import Measurer
from spikenm_compile.tuning.native_layer import NativeLayer, encode
from spikenm_compile.tuning.one_layer import conv_of, one_layer, plan_layer
from spikenm_compile.tuning.tasks import Task
from spikenm_compile.tuning.worker import Worker, serve


@pytest.mark.parametrize("kernel", [Kernel("staggered-rows", 16), Kernel("event-rows", 64), Kernel("dense-rows", 24)])
def test_a_layer_alone_gives_the_spikes_of_the_reference(kernel: Kernel) -> None:
    _, task = tasks("2:4@stagger")
    conv_of(task.layer).kernel, conv_of(task.layer).tile_width = kernel.family, kernel.tile_width
    lowered = one_layer(task.layer, task.shape, 4)
    layer = NativeLayer(lowered, detect())
    layout = Bits(6, 6, 32, 0)
    for levels in (*task.inputs, task.inputs[0]):  # each call begins anew
        layer.set_input(layer.encode(levels.astype("float32")))
        layer()
        expected = run_steps(lowered, torch.tensor(levels).float()[:, None]).output[:, 0]
        assert layer.output() == encode(expected.numpy(), layout).tobytes()
        assert 0.01 < float(expected.mean()) < 0.99


def test_bytes_keep_their_sign_and_their_halo() -> None:
    found = encode(torch.tensor([[[[-3.0, 200.0]]]]).numpy(), Bytes(1, 2, 1, 1))
    assert found.reshape(3, 4).tolist() == [[0] * 4, [0, 253, 200, 0], [0] * 4]


def test_a_program_of_one_layer_has_its_own_kernels_only() -> None:
    _, task = tasks()
    conv_of(task.layer).kernel = "event-rows"
    names = [c.function for c in plain_calls(plan_layer(one_layer(task.layer, task.shape, 4), 64).program, Region.STEP)]
    assert [name.split("_", 2)[2] for name in names] == ["events", "conv2"]


def test_kernels_are_timed_in_turns_with_the_usual_one(monkeypatch: pytest.MonkeyPatch) -> None:
    _, task = tasks()
    times = iter([[8.0], [3.0, 6.0]])
    monkeypatch.setattr(measure, "least_times", lambda layers, num_inputs: next(times))
    measurer = Measurer(replace(task, inputs=task.inputs[:1]), detect())
    assert measurer(task.kernels[0]) == Timing(1.0, 8.0)
    assert measurer(task.kernels[1]) == Timing(0.5, 3.0)


class Picky:
    """Measures event rows only."""

    def __init__(self, task: Task, _cpu: Cpu) -> None:
        self.task = task

    def __call__(self, kernel: Kernel) -> Timing:
        if kernel.family != "event-rows":
            raise PassError(f"no {kernel.family} for {self.task.name}")
        return Timing(1.0, 2.0)


def test_a_worker_answers_with_times_and_with_sentences(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = tasks()
    monkeypatch.setattr("signal.signal", lambda *_: None)  # of a thread
    ours, theirs = Pipe()
    server = threading.Thread(target=serve, args=(theirs, detect(), Picky))
    server.start()
    answers = list[Timing | str]()
    for asked in ((first, Kernel("dense-rows", 64)), (None, Kernel("dense-rows", 8)), (second, second.kernels[0])):
        ours.send(asked)
        answers.append(ours.recv())
    ours.close()
    server.join()
    assert answers == ["no dense-rows for conv1", "no dense-rows for conv1", Timing(1.0, 2.0)]


class Toolless:
    """Has nothing to measure with."""

    def __init__(self, task: Task, _cpu: Cpu) -> None:
        self.task = task

    def __call__(self, kernel: Kernel) -> Timing:
        raise ToolError(f"no board for {kernel.family}")


@pytest.mark.long
def test_a_missing_tool_is_no_trial() -> None:
    _, task = tasks()
    with Worker(detect(), Toolless) as worker, pytest.raises(ToolError, match="no board for event-rows"):
        worker(task, task.kernels[0])


@pytest.mark.long
def test_a_process_that_dies_costs_one_trial() -> None:
    _, task = tasks()
    with Worker(detect()) as worker:
        assert worker(task, task.kernels[0]).timing is not None
        assert worker._process is not None
        worker._process.kill()
        assert worker(task, task.kernels[0]) == Trial(
            task.key, task.kernels[0], None, "the process that measured it died"
        )
        assert worker(task, task.kernels[0]).timing is not None
    with Worker(detect(), patience=0.0) as worker:
        assert worker(task, task.kernels[0]).failure == "took more than 0 seconds"
