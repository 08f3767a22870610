"""Firing rates of a model's spiking neurons, measured by hooks while the model runs.

    r = Σ spikes / (neurons · samples · steps)         of each neuron module, over its calls since the last `take`

One call of a multi-step neuron holds all steps, of a single-step neuron one: the sums do not tell the difference. The
rates are differentiable through the surrogate gradients of the neurons. Neurons that emit their potential are left out,
as they do not fire; a neuron that emits counts has its spikes per step. Neurons written as code in `forward` are no
modules and cannot be seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn

from spikenm_compile.errors import CaptureError, InputError
from spikenm_compile.frontend.adapters import canonical, is_neuron, returned


class FiringRates:
    """Hooks on all spiking neurons of `model`; usable in a with statement, which removes them.

    Args:
        model: any model that runs; a neuron inside of another counts with the outer one.
        training_only: measure only the calls of neurons in training mode, and not those of an evaluation in between.

    Raises:
        InputError: the model has no spiking neuron.
    """

    def __init__(self, model: nn.Module, *, training_only: bool = False) -> None:
        self.training_only = training_only
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}
        self._handles = [module.register_forward_hook(self._hook(name)) for name, module in firing_modules(model)]
        if not self._handles:
            raise InputError(
                f"{type(model).__name__} has no module that is a spiking neuron, so that no firing rate can be "
                "measured; neurons of SpikingJelly, snnTorch, Norse, sinabs, spikenm_compile.neurons and those given "
                "to spikenm_compile.register_neuron are seen; use these"
            )

    def take(self) -> dict[str, Tensor]:
        """Rate of each neuron module that was called since the last time, as scalars; the measurement starts anew."""
        rates = {name: total / self._counts[name] for name, total in self._sums.items()}
        self._sums, self._counts = {}, {}
        return rates

    def remove(self) -> None:
        """Take the hooks away; the model is as it was."""
        for handle in self._handles:
            handle.remove()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    def _hook(self, name: str) -> Any:
        @torch.compiler.disable  # type: ignore[untyped-decorator]  # it keeps sums from call to call
        def count(module: nn.Module, args: Any, output: Any) -> None:
            if (self.training_only and not module.training) or _is_running_backward():
                return
            spikes = spikes_in(module, output)
            self._sums[name] = self._sums.get(name, 0.0) + spikes.sum()
            self._counts[name] = self._counts.get(name, 0) + spikes.numel()

        return count


def firing_modules(model: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """(name, module) of every outermost neuron that emits spikes."""
    if is_neuron(model):
        if _emits_spikes(model):
            yield prefix, model
        return
    for name, child in model.named_children():
        yield from firing_modules(child, f"{prefix}.{name}" if prefix else name)


def spikes_in(module: nn.Module, output: Any) -> Tensor:
    """The spikes in what a call of a neuron returned, which may be a tuple with states in it."""
    mark = object()
    form = returned(module, mark, lambda name: None)
    spikes = output
    if isinstance(output, tuple):  # where only running the neuron can tell, all libraries have spikes first
        spikes = output[form.index(mark) if isinstance(form, tuple) else 0]
    assert isinstance(spikes, Tensor)
    return spikes


def _emits_spikes(neuron: nn.Module) -> bool:
    try:
        return canonical(neuron).levels is not None
    except CaptureError:  # it can be trained, only not compiled: all such neurons fire but those that say so
        return "NonSpiking" not in type(neuron).__name__


def _is_running_backward() -> bool:
    """Whether this call is a recomputation by activation checkpointing, whose first run was counted."""
    return torch._C._current_graph_task_id() != -1
