"""What layers read while samples run."""

from __future__ import annotations

import torch
from step_graphs import StepGraphBuilder
from torch import Tensor

from spikenm_compile.observation import MOST_SAMPLES, observe_inputs
from spikenm_compile.ops import IntConv2d, Levels


def layer() -> IntConv2d:
    return IntConv2d(torch.ones(3, 2, 1, 1, dtype=torch.int8), torch.ones(3), torch.zeros(3), levels=Levels(0, 3))


def seen(*, per_step: bool, samples: Tensor) -> list[Tensor]:
    b = StepGraphBuilder((2, 1, 1), per_step=per_step)
    graph = b.output(b.mean(b.neuron("lif", b.layer("conv", layer(), b.x))))
    graph.meta["num_steps"] = 3
    found = list[Tensor]()
    observe_inputs(graph, samples, lambda _, levels: found.append(levels))
    observe_inputs(graph, samples, lambda *_: None)  # the first observer is gone
    return found


def test_each_step_is_shown_in_order() -> None:
    x = torch.randint(0, 4, (3, 2, 2, 1, 1)).float()
    assert torch.equal(torch.stack(seen(per_step=True, samples=x)), x)


def test_few_samples_are_run() -> None:
    x = torch.rand(MOST_SAMPLES + 4, 2, 1, 1).round()
    shown = seen(per_step=False, samples=x)
    assert len(shown) == 3
    assert all(torch.equal(levels, x[:MOST_SAMPLES]) for levels in shown)
