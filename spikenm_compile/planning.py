"""What a model is built as: whole numbers where it has an integer form, else float32 where the target has that."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn
from torch.fx import GraphModule

from spikenm_compile.artifact.manifest import ARITHMETICS, FLOAT32, INT8, LayerReport
from spikenm_compile.costs.advice import Advisor
from spikenm_compile.costs.trials import Trial, read_trials
from spikenm_compile.errors import CaptureError, InputError, PassError
from spikenm_compile.float_package import float_layers
from spikenm_compile.frontend.capture import capture
from spikenm_compile.frontend.lift import lift
from spikenm_compile.frontend.readings import LAYOUT, steps_first
from spikenm_compile.frontend.whole_network import WholeNetwork, whole_network
from spikenm_compile.graph import SHAPE, format_captured, format_graph, the_input
from spikenm_compile.learning.attach import learning_layers
from spikenm_compile.learning.mask import MaskLearner
from spikenm_compile.lowering.exact import check_exact
from spikenm_compile.ops import NeuronStep
from spikenm_compile.package import layer_reports
from spikenm_compile.passes.base import run_pipeline
from spikenm_compile.passes.pipelines import lowering
from spikenm_compile.passes.quantize_inputs import choose_levels
from spikenm_compile.pattern import Pattern
from spikenm_compile.targets import FLOAT_TARGETS, get_target
from spikenm_compile.targets.base import Emit, no_emit
from spikenm_compile.targets.this_machine import tuned_machine
from spikenm_compile.weight_types import check_weight_type

AUTO = "auto"
"""Whole numbers, and float32 where the model has no integer form and the target can compute it."""
ON_REQUEST = "float32 was asked for"


@dataclass(frozen=True, eq=False)
class Request:
    """What is to be built of what.

    Raises:
        InputError: an unknown arithmetic, or one that the target does not have; an unknown type of weights.
    """

    captured: GraphModule
    """Of a folded model."""
    example_inputs: Tensor
    pattern: Pattern
    """Tried on layers that `fold` has not marked."""
    target: str
    calibration: Tensor | None = None
    """Inputs whose range the input quantiser covers; None: the example inputs."""
    arithmetic: str = AUTO
    weight_type: str = "int8"
    """Integers that the weights become (weight_types)."""
    tune_log: Path | None = None
    """Trials that kernels are chosen by (costs.trials); None: by predicted times, where the target has them."""
    emit: Emit = no_emit
    """Gets name and text of each level."""

    def __post_init__(self) -> None:
        check_weight_type(self.weight_type)
        known = (AUTO, *ARITHMETICS)
        if self.arithmetic not in known:
            raise InputError(f"arithmetic '{self.arithmetic}' is unknown; known are {', '.join(known)}; choose one")
        if self.arithmetic == FLOAT32 and self.target not in FLOAT_TARGETS:
            raise InputError(
                f"target '{self.target}' computes in whole numbers; float32 is computed by {', '.join(FLOAT_TARGETS)}; "
                f"choose it with --target, or leave the arithmetic to {AUTO}"
            )


@dataclass(frozen=True, eq=False)
class Plan:
    """What a model becomes."""

    form: GraphModule | WholeNetwork
    """The lowered graph; in float32, the step graph, or the whole network where no step can be told apart."""
    layers: tuple[LayerReport, ...]
    why: str | None
    """Why it is computed in float32, None: in whole numbers."""


def capture_folded(model: nn.Module, example_inputs: Tensor, emit: Emit = no_emit) -> GraphModule:
    """The captured model.

    Raises:
        CaptureError: the model cannot be captured.
        PassError: the model still has mask learners.
    """
    learning = next(learning_layers(model), None)
    if learning is not None:
        name, _, learner = learning
        what = "mask" if isinstance(learner, MaskLearner) else "whole numbers"
        raise PassError(
            f"layer '{name}' still learns its {what}; only folded models are lowered: call fold(model) first"
        )
    captured = capture(model, example_inputs)
    emit("captured.txt", format_captured(captured))
    return captured


def step_form(captured: GraphModule, example_inputs: Tensor, emit: Emit = no_emit) -> GraphModule:
    """One time step in float32.

    Raises:
        CaptureError: the steps cannot be told apart.
    """
    step_graph = lift(captured, example_inputs)
    emit("step-graph.txt", format_graph(step_graph))
    return step_graph


def integer_form(request: Request) -> GraphModule:
    """The lowered graph.

    Raises:
        CaptureError, PassError: there is none.
    """
    step_graph = step_form(request.captured, request.example_inputs, request.emit)
    levels = choose_levels(request.example_inputs if request.calibration is None else request.calibration)
    families, samples = get_target(request.target).families, _samples(request, step_graph)
    advisor = advisor_for(request.target, request.tune_log)
    passes = lowering(levels, request.pattern, families, request.weight_type, samples, advisor)

    def after(name: str, graph_module: GraphModule) -> None:
        request.emit(f"{name}.txt", format_graph(graph_module))

    return run_pipeline(passes, step_graph, after)


def advisor_for(target: str, tune_log: Path | None = None) -> Advisor:
    """What is known of the times of a target's kernels.

    Raises:
        InputError: a log for a target whose kernels are not chosen by time, or one that cannot be read.
    """
    cpu = get_target(target).known_cpu
    if tune_log is None:
        return Advisor(None if cpu is None else cpu.costs)
    if cpu is None:
        raise InputError(
            f"target '{target}' has no kernels to choose from by time; tune logs are for native and the C libraries, "
            "so leave the log out"
        )
    trials: dict[str, list[Trial]] = {}
    for trial in read_trials(tune_log):
        trials.setdefault(trial.key, []).append(trial)
    return Advisor(cpu.costs, tuned_machine(cpu, list(trials)), trials)


def _samples(request: Request, step_graph: GraphModule) -> Tensor:
    """Inputs of the step graph: the calibration inputs, or the examples where these are not of the model's shape."""
    layout, shape = step_graph.meta[LAYOUT], the_input(step_graph).meta[SHAPE]
    given, example = request.calibration, request.example_inputs
    fits = given is not None and given.dim() == example.dim() and given.shape[given.dim() - len(shape) :] == shape
    if given is None or not fits or (layout is not None and layout.is_flat and given.shape[0] % (layout.length or 1)):
        return steps_first(layout, example)
    return steps_first(layout, given)


def make_plan(request: Request) -> Plan:
    """Choose.

    Raises:
        CaptureError, PassError: the model has no form in the arithmetic that is asked for.
    """
    if request.arithmetic == FLOAT32:
        return _float_plan(request, ON_REQUEST)
    try:
        lowered = integer_form(request)
        for module in lowered.modules():
            if isinstance(module, NeuronStep):
                check_exact(module)
    except (CaptureError, PassError) as error:
        return instead(request, error)
    return Plan(lowered, layer_reports(lowered), None)


def instead(request: Request, error: CaptureError | PassError) -> Plan:
    """The plan in float32 after `error` stopped the integer path.

    Raises:
        CaptureError, PassError: `error` itself where whole numbers are insisted on, or the target has nothing else.
    """
    if request.arithmetic == INT8 or request.target not in FLOAT_TARGETS:
        with way_out():
            raise error
    return _float_plan(request, str(error))


@contextmanager
def way_out() -> Iterator[None]:
    """What stops the integer path may be computed in float32: its error says so, unless it names such a target."""
    try:
        yield
    except (CaptureError, PassError) as error:
        if not any(name in str(error) for name in FLOAT_TARGETS):
            targets = ", ".join(f"--target {name}" for name in FLOAT_TARGETS)
            error.args = (f"{error}; {targets} computes it in float32",)
        raise


def _float_plan(request: Request, why: str) -> Plan:
    """One time step where the model lifts, else the whole of it."""
    layers = float_layers(request.captured, request.pattern)
    try:
        step_graph = step_form(request.captured, request.example_inputs, request.emit)
    except CaptureError:
        return Plan(whole_network(request.captured, request.example_inputs), layers, why)
    return Plan(step_graph, layers, why)
