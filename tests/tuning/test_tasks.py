"""What there is to measure."""

from __future__ import annotations

from layer_call_examples import call
from tuned_layers import tasks

from spikenm_compile.costs.trials import Kernel
from spikenm_compile.ops import SPIKES, IntConv2d
from spikenm_compile.pattern import Pattern
from spikenm_compile.tuning.tasks import kernels_of

FAMILIES = ("staggered-rows", "event-rows", "dense-rows")


def test_equal_layers_are_one_task_with_inputs_of_the_first() -> None:
    first, second = tasks()
    assert (first.name, second.name) == ("conv1", "conv2")
    assert second.shape == (32, 6, 6)
    assert [x.shape for x in second.inputs] == [(4, 32, 6, 6)] * 3
    assert 0 < sum(int(x.sum()) for x in second.inputs) < 3 * 4 * 32 * 36
    assert len(first.inputs[0]) == 1  # what does not change with time is read once
    assert first.call.num_steps == 1


def test_the_usual_kernel_comes_first_and_widths_make_a_difference() -> None:
    _, second = tasks()
    assert second.kernels == (
        *(Kernel(family, 64) for family in ("event-rows", "dense-rows")),
        *(Kernel(family, 16) for family in ("event-rows", "dense-rows")),
    )


def conv(outputs: int, pattern: str) -> IntConv2d:
    import torch

    zeros = torch.zeros(outputs)
    made = IntConv2d(torch.ones(outputs, 64, 3, 3, dtype=torch.int8), zeros, zeros, levels=SPIKES)
    made.pattern = Pattern.parse(pattern)
    return made


def test_tiles_of_staggered_rows_are_no_wider_than_their_slabs() -> None:
    found = kernels_of(conv(256, "1:2@stagger"), call("1:2@stagger", outputs=256), FAMILIES, 128)
    widths = {f: [k.tile_width for k in found if k.family == f] for f in FAMILIES}
    assert found[0] == Kernel("staggered-rows", 128)
    assert widths["staggered-rows"] == [128, 16, 32, 64]
    assert widths["event-rows"] == [128, 16, 32, 64]


def test_neurons_of_two_states_have_half_the_usual_width() -> None:
    found = kernels_of(conv(256, "2:4"), call(outputs=256, num_states=2), FAMILIES, 128)
    assert found[0] == Kernel("event-rows", 64)
    assert Kernel("event-rows", 128) in found
