"""Models whose neurons are code in forward: captured, lifted, built."""

from __future__ import annotations

import pytest
import torch
from frontend.inline.inline_zoo import ZOO, example, make

from spikenm_compile.frontend.capture import capture
from spikenm_compile.frontend.lift import lift
from spikenm_compile.frontend.readings import LAYOUT, steps_first
from spikenm_compile.graph import run_steps


@pytest.mark.parametrize("num_steps", [2, 3, 4])
@pytest.mark.parametrize("name", ZOO)
@torch.no_grad()
def test_captured_and_lifted_equal_the_model(name: str, num_steps: int) -> None:
    if num_steps != 4 and ZOO[name][2] in ("", "T4"):
        pytest.skip("this model fixes T itself")
    model, x = make(name), example(name, num_steps=num_steps)
    captured = capture(model, x)
    assert torch.equal(captured(x), model(x))
    assert torch.equal(captured(x), model(x))
    step_graph = lift(captured, x)
    assert step_graph.meta["num_steps"] == num_steps
    fired = False
    for batch, steps, seed in ((3, num_steps, 0), (2, num_steps, 1), (5, 7, 2)):
        if ZOO[name][2] in ("", "T4"):
            steps = 4
        sample = example(name, batch=batch, num_steps=steps, seed=seed)
        expected = model(sample)
        fired |= bool(expected.any())
        actual = run_steps(step_graph, steps_first(step_graph.meta[LAYOUT], sample), steps).output
        assert torch.equal(actual, expected)
    assert fired
