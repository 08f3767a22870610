"""Lift: a captured graph, in whatever form it spells time, to a step graph (see `spikenm_compile.graph`)."""

from __future__ import annotations

from torch import Tensor
from torch.fx import GraphModule

from spikenm_compile.errors import CaptureError
from spikenm_compile.frontend.inline.recognize import recognize_neurons
from spikenm_compile.frontend.readings import LAYOUT, readings
from spikenm_compile.frontend.readout import result_node
from spikenm_compile.frontend.state_output import emit_read_states
from spikenm_compile.frontend.time_lifter import TimeLifter


def lift(captured: GraphModule, example_inputs: Tensor) -> GraphModule:
    """The step graph of a captured model, with eval semantics.

    Multi-step models ([T, B, ...], or a static input repeated T times), single-step models called in a python loop
    over time, and mixtures. Where the model's neurons take [B, T, ...] or [B·T, ...], so may its input and output; the
    step graph has the steps first, as everywhere. Layers are plain torch modules that share the model's parameters.
    `meta["num_steps"]` of the result is the T that the model has with this example, `meta["layout"]` says where the
    model's input has time; the graph itself is right for every T.

    Args:
        captured: what `capture` gave.
        example_inputs: one input of the model, as it takes it: with time, or without where it is the same at each
            step. A batch of two or more keeps sizes apart that would otherwise look alike.

    Raises:
        CaptureError: the steps are not copies of one another, or use what a step graph does not have.
    """
    inputs = captured.graph.find_nodes(op="placeholder")
    if len(inputs) != 1 or not isinstance(example_inputs, Tensor):
        raise CaptureError(
            f"the model has {len(inputs)} inputs; a step graph has one input tensor; concatenate the inputs or compile "
            "the parts one by one"
        )
    recognition = recognize_neurons(captured)
    try:
        return _first_that_fits(recognition.graph_module, example_inputs)
    except CaptureError as error:
        if recognition.failures:
            raise CaptureError(recognition.failures[0]) from error
        raise


def _first_that_fits(captured: GraphModule, example: Tensor) -> GraphModule:
    """Every way to read the input in time; if none fits, the reading that got furthest explains."""
    failures: list[tuple[int, CaptureError]] = []
    for reading in readings(captured, example):
        lifter = TimeLifter(captured, reading)
        try:
            value = lifter.read()
            if not lifter.modules.neurons.found_any:
                raise CaptureError(
                    "the model has no spiking neuron; a step graph is one time step of spiking neurons; add neurons of "
                    "a supported library or of spikenm_compile.neurons"
                )
            node = result_node(lifter.time, lifter.modules.neurons.main_output(value), lifter.input)
            step_graph = lifter.time.builder.finish(node, lifter.time.num_steps)
            step_graph.meta[LAYOUT] = reading.layout
            emit_read_states(step_graph)
            return step_graph
        except CaptureError as error:
            failures.append((lifter.nodes_read, error))
    raise max(failures, key=lambda failure: failure[0])[1]
