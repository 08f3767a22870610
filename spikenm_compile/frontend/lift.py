"""Lift: a captured graph, in whatever form it spells time, to a step graph (see `spikenm_compile.graph`)."""

from __future__ import annotations

from torch import Tensor
from torch.fx import GraphModule

from spikenm_compile.errors import CaptureError
from spikenm_compile.frontend.readout import result_node
from spikenm_compile.frontend.time_lifter import TimeLifter


def lift(captured: GraphModule, example_inputs: Tensor) -> GraphModule:
    """The step graph of a captured model, with eval semantics.

    Multi-step models ([T, B, ...], or a static input repeated T times), single-step models called in a python loop
    over time, and mixtures. Layers are plain torch modules that share the model's parameters. `meta["num_steps"]` of
    the result is the T that the model has with this example; the graph itself is right for every T.

    Args:
        captured: what `capture` gave.
        example_inputs: one input of the model: [T, B, ...], or [B, ...] where it is the same at each step. A batch of
            two or more keeps sizes apart that would otherwise look alike.

    Raises:
        CaptureError: the steps are not copies of one another, or use what a step graph does not have.
    """
    inputs = captured.graph.find_nodes(op="placeholder")
    if len(inputs) != 1 or not isinstance(example_inputs, Tensor):
        raise CaptureError(
            f"the model has {len(inputs)} inputs; a step graph has one input tensor; concatenate the inputs or compile "
            "the parts one by one"
        )
    return _first_that_fits(captured, example_inputs)


def _first_that_fits(captured: GraphModule, example: Tensor) -> GraphModule:
    """Read dimension 0 of the input as time, then as batch; if neither fits, the reading that got further explains."""
    failures: list[tuple[int, CaptureError]] = []
    for per_step in (True, False):
        lifter = TimeLifter(captured, example, per_step=per_step)
        try:
            value = lifter.read()
            if not lifter.modules.has_neurons:
                raise CaptureError(
                    "the model has no spiking neuron; a step graph is one time step of spiking neurons; add neurons of "
                    "a supported library or of spikenm_compile.neurons"
                )
            return lifter.time.builder.finish(result_node(lifter.time, value), lifter.time.num_steps)
        except CaptureError as error:
            failures.append((lifter.nodes_read, error))
    raise max(failures, key=lambda failure: failure[0])[1]
