"""The compiler on one page: transform -> (the user trains) -> fold -> lower -> compile_model.

transform      capture the model, give layers between spiking neurons a mask learner      (in place)
fold           masks become exact zeros; the model is an ordinary one again                 (in place)
lower          capture, lift to one time step, fold batch norm, quantise, choose kernels    (a new graph)
compile_model  lower, build for a target, write the artifact; in float32 what has no integer form (planning)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from torch import Tensor, nn
from torch.fx import GraphModule

from spikenm_compile.artifact.directory import Artifact
from spikenm_compile.errors import PassError
from spikenm_compile.float_package import Description, write_step_package, write_whole_package
from spikenm_compile.frontend.capture import capture
from spikenm_compile.frontend.inline.recognize import recognize_neurons
from spikenm_compile.frontend.readings import LAYOUT, steps_first
from spikenm_compile.frontend.whole_network import WholeNetwork
from spikenm_compile.learning.choice import caution, describe_rounding, format_choices
from spikenm_compile.learning.fold import fold_masks
from spikenm_compile.learning.learners import learner_class
from spikenm_compile.learning.options import MaskOptions
from spikenm_compile.package import write_package
from spikenm_compile.passes.insert_mask_learners import InsertMaskLearners
from spikenm_compile.pattern import Pattern
from spikenm_compile.planning import (
    AUTO,
    Plan,
    Request,
    capture_folded,
    instead,
    integer_form,
    make_plan,
    step_form,
    way_out,
)
from spikenm_compile.targets import get_target
from spikenm_compile.targets.base import Emit, no_emit
from spikenm_compile.weight_types import WeightType


def transform(
    model: nn.Module,
    pattern: str | Pattern | None = "2:4",
    *,
    example_inputs: Tensor | tuple[Tensor, ...] | None = None,
    total_steps: int | None = None,
    layers: Mapping[str, Pattern | str | None] | None = None,
    weight_type: WeightType | None = None,
    weight_types: Mapping[str, WeightType] | None = None,
    options: MaskOptions | None = None,
    report: Callable[[str], None] | None = print,
) -> nn.Module:
    """Let the layers between spiking neurons learn, while the model trains, which weights to keep.

    Args:
        model: the spiking network; changed in place. Its parameters, keys, resets and training loop stay as they are.
        pattern: N:M of the layers, for example "2:4"; "4:2:4": 4 outputs share a mask; "2:8@stagger": a fixed mask.
            None: no masks, for whole numbers alone.
        example_inputs: one input; needed only where the model's Python code asks for a shape.
        total_steps: optimiser steps that the training will take: the mask noise falls over them, and for the last 30 %
            the masks stand still. Without it the noise stays and `fold` takes the masks as they are.
        layers: layer name -> its own pattern, or None to leave it dense.
        weight_type: "int8", "int7" or "int4": while the masks stand still, weights are rounded as they will be
            deployed, and what `fold` leaves are the very integers that the network was trained with. All layers take
            part, the first one with int8. `lower` keeps these integers, whatever `weight_type` it is given.
        weight_types: layer name -> its own type.
        options: how masks are learned (learner, noise, distillation, seed, ...); `total_steps` and
            `weight_type` replace its own.
        report: gets the table of what was chosen for each layer and why; None: nobody.

    Returns:
        The model itself.

    Raises:
        PatternError: the pattern cannot be read, or no layer can hold it.
        InputError: an unknown type of weights, or a layer that is not there.
        CaptureError: the model cannot be captured.
    """
    captured = recognize_neurons(capture(model, example_inputs)).graph_module
    options = options or MaskOptions()
    if total_steps is not None:
        options = replace(options, schedule=replace(options.schedule, total_steps=total_steps))
    if weight_type is not None:
        options = replace(options, weight_type=weight_type)
    parsed = None if pattern is None else Pattern.parse(pattern)
    insert = InsertMaskLearners(parsed, options, layers or {}, weight_types or {})
    choices = insert.choose(captured)
    insert.apply(captured)
    if report is not None:
        learners = dict.fromkeys(learner_class(c.pattern, options) for c in choices if c.pattern is not None)
        lines = [format_choices(choices), *(learner.describe(options) for learner in learners)]
        report("\n".join([*lines, *filter(None, [describe_rounding(choices, options), caution(choices, options)])]))
    return model


def fold(model: nn.Module) -> nn.Module:
    """Turn the masks into exact zeros, in place: at most N of every M weights stay, and the model is ordinary again.

    Raises:
        PatternError: the model has no masks.
    """
    return fold_masks(model)


def lift_model(model: nn.Module, example_inputs: Tensor, *, emit: Emit = no_emit) -> GraphModule:
    """One time step of `model` in float32, as a step graph (spikenm_compile.graph).

    Raises:
        CaptureError: the model cannot be captured or its steps cannot be told apart.
        PassError: the model still has mask learners.
    """
    captured = capture_folded(model, example_inputs, emit)
    with way_out():
        return step_form(captured, example_inputs, emit)


def lower(
    model: nn.Module,
    example_inputs: Tensor,
    *,
    pattern: str | Pattern = "2:4",
    target: str = "native",
    calibration: Tensor | None = None,
    weight_type: str = "int8",
    tune_log: str | Path | None = None,
    emit: Emit = no_emit,
) -> GraphModule:
    """The lowered graph: one time step in whole numbers, which every target computes bit for bit.

    Args:
        model: a folded, or any other, spiking network.
        example_inputs: a batch of inputs as the model takes it: [B, ...], or with time where it changes with time.
        pattern: tried on layers that `fold` has not marked.
        target: whose kernel families are chosen from.
        calibration: inputs whose range the input quantiser covers; by default the example inputs.
        weight_type: "int8", "int7" or "int4" for the weights of layers that read spikes; "auto": the smallest that is
            close to the weights.
        tune_log: a log that `python -m spikenm_compile tune` wrote: layers that it knows get their quickest kernel.
        emit: gets name and text of each level.

    Raises:
        CaptureError, PassError: see `lift_model`; a layer that has no integer form.
    """
    captured = capture_folded(model, example_inputs, emit)
    request = Request(
        captured,
        example_inputs,
        Pattern.parse(pattern),
        target,
        calibration,
        weight_type=weight_type,
        tune_log=None if tune_log is None else Path(tune_log),
        emit=emit,
    )
    with way_out():
        return integer_form(request)


def compile_model(
    model: nn.Module,
    example_inputs: Tensor,
    out: str | Path,
    *,
    target: str = "native",
    pattern: str | Pattern = "2:4",
    calibration: Tensor | None = None,
    arithmetic: str = AUTO,
    weight_type: str = "int8",
    tune_log: str | Path | None = None,
    name: str | None = None,
    emit: Emit = no_emit,
    report: Callable[[str], None] | None = print,
) -> Artifact:
    """Build `model` for `target` and write the artifact to the directory `out`.

    Args:
        model: see `lower`.
        example_inputs: see `lower`; its first samples become the artifact's test vectors.
        out: the directory; an artifact that is there is replaced once the new one is complete.
        target: a name of spikenm_compile.targets.
        pattern: see `lower`.
        calibration: see `lower`.
        arithmetic: "int8": whole numbers, or an error. "float32": as PyTorch computes. "auto": whole numbers, and
            float32 where the model has no integer form and the target can compute it.
        weight_type: see `lower`.
        tune_log: see `lower`.
        name: of the network, by default its class.
        emit: gets name and text of each level.
        report: gets the sentence that stopped the integer path where float32 is built instead; None: nobody.

    Raises:
        TargetError: the target is unknown.
        ToolError: a tool that the target needs is missing.
        ArtifactError: `out` is something else than an artifact.
        InputError: the target does not have that arithmetic, or the type of weights is unknown.
        CaptureError, PassError: see `lower`; in float32, the exporter does not take the model.
    """
    chosen, parsed, name = get_target(target), Pattern.parse(pattern), name or type(model).__name__
    captured = capture_folded(model, example_inputs, emit)
    log = None if tune_log is None else Path(tune_log)
    request = Request(captured, example_inputs, parsed, target, calibration, arithmetic, weight_type, log, emit)
    plan = make_plan(request)
    if isinstance(plan.form, GraphModule) and plan.why is None:
        samples = steps_first(plan.form.meta[LAYOUT], example_inputs)
        try:
            return write_package(plan.form, chosen, Path(out), name=name, pattern=parsed, samples=samples, emit=emit)
        except PassError as error:
            plan = instead(request, error)
    if report is not None:
        report(f"built in float32, not in whole numbers: {plan.why}")
    return _write_float(plan, request, Path(out), name)


def _write_float(plan: Plan, request: Request, out: Path, name: str) -> Artifact:
    about = Description(name, request.target, request.pattern, str(plan.why), plan.layers)
    if isinstance(plan.form, WholeNetwork):
        return write_whole_package(plan.form, out, about, request.emit)
    return write_step_package(plan.form, request.example_inputs, out, about, request.emit)
