"""SpikingJelly's model zoo: how its models are imported, brought to life, and compared in every form they take here."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from spikingjelly.activation_based import functional
from torch import Tensor, nn
from torch.fx import GraphModule

from spikenm_compile.errors import PatternError
from spikenm_compile.frontend.capture import capture
from spikenm_compile.frontend.lift import lift
from spikenm_compile.graph import run_steps, spike_nodes, verify_graph
from spikenm_compile.passes.fold_batchnorm import FoldBatchNorm
from spikenm_compile.passes.insert_mask_learners import InsertMaskLearners
from spikenm_compile.pattern import Pattern

_STUBS = ("torchvision", "torchvision.models", "torchvision.models.utils")


@contextmanager
def torchvision_stub() -> Iterator[None]:
    """A block in which SpikingJelly's models can be imported: with the one name of torchvision that they ask for."""
    added = {name: types.ModuleType(name) for name in _STUBS if name not in sys.modules}
    if _STUBS[-1] in added:
        added[_STUBS[-1]].load_state_dict_from_url = None  # type: ignore[attr-defined]
    sys.modules.update(added)
    try:
        yield
    finally:
        for name in added:
            del sys.modules[name]


def settle(model: nn.Module, x: Tensor) -> nn.Module:
    """Batch norms that saw one batch, so that neurons spike in every layer; in eval mode and reset."""
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return model.eval()
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        model.train()(x)
    functional.reset_net(model)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return model.eval()


def steps_of(x: Tensor) -> int | None:
    """T of an input [T, B, C, H, W]; None of one image [B, C, H, W]."""
    return x.shape[0] if x.dim() == 5 else None


@torch.no_grad()
def check_zoo_model(
    model: nn.Module, example: Tensor, *, maskable: int, bn_pairs: int, any_steps: bool = True
) -> GraphModule:
    """Check a model of the zoo in every form; gives its step graph.

    The captured graph and the step graph are `torch.equal` to the model on three inputs, one of another batch size and
    one of another T where the input has time; the captured graph also in a second call without a reset.

    Args:
        model: with settled batch norms, see `settle`.
        example: [B, C, H, W], or [T, B, C, H, W].
        maskable: number of layers that learn a 2:4 mask.
        bn_pairs: number of batch norms that fold into the layer before them.
        any_steps: whether the model takes inputs of another T.
    """
    captured = capture(model.eval(), example)
    step_graph = lift(captured, example)
    verify_graph(step_graph)
    for x in [example, *other_inputs(example, any_steps=any_steps)]:
        check_captured(model, captured, x)
        _check_steps(model, step_graph, x)
    assert _num_spiking(step_graph, example) >= len(spike_nodes(step_graph)) // 2
    assert num_maskable(captured) == maskable
    assert num_bn_pairs(step_graph) == bn_pairs
    return step_graph


def other_inputs(example: Tensor, *, any_steps: bool) -> list[Tensor]:
    """Another input, one with one more sample, and one with one more step where the input has time."""
    *leading, batch, channels, height, width = example.shape
    shapes = [example.shape, (*leading, batch + 1, channels, height, width)]
    if leading and any_steps:
        shapes[0] = (leading[0] + 1, *example.shape[1:])
    return [torch.rand(shape) * 2 for shape in shapes]


def num_maskable(captured: GraphModule) -> int:
    """Number of layers between spiking neurons that can hold a 2:4 pattern."""
    try:
        choices = InsertMaskLearners(Pattern(2, 4)).choose(captured)
    except PatternError:
        return 0
    return sum(choice.pattern is not None for choice in choices)


def num_bn_pairs(step_graph: GraphModule) -> int:
    """Number of batch norms that fold into the layer before them; they are folded in `step_graph`."""
    before = len(step_graph.graph.find_nodes(op="call_module"))
    FoldBatchNorm().apply(step_graph)
    return before - len(step_graph.graph.find_nodes(op="call_module"))


def _output(result: object) -> Tensor:
    """The output of a model that may return (output, None, ...)."""
    output = result[0] if isinstance(result, tuple) else result
    assert isinstance(output, Tensor)
    return output


def check_captured(model: nn.Module, captured: GraphModule, x: Tensor) -> None:
    """Two calls without a reset between them, then one behind a reset."""
    results = []
    for one in (model, captured):
        functional.reset_net(model)
        calls = [_output(one(x)), _output(one(x))]
        functional.reset_net(model)
        results.append([*calls, _output(one(x))])
    functional.reset_net(model)
    for expected, actual in zip(*results, strict=True):
        assert expected.any()
        assert torch.equal(actual, expected)


def _check_steps(model: nn.Module, step_graph: GraphModule, x: Tensor) -> None:
    functional.reset_net(model)
    expected = _output(model(x))
    functional.reset_net(model)
    num_steps = None if steps_of(x) else step_graph.meta["num_steps"]
    assert torch.equal(run_steps(step_graph, x, num_steps).output, expected)


def _num_spiking(step_graph: GraphModule, x: Tensor) -> int:
    """Number of layers of neurons that spike at all."""
    spikes = run_steps(step_graph, x, None if steps_of(x) else step_graph.meta["num_steps"]).spikes
    return sum(bool(s.any()) for s in spikes.values())
