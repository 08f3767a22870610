"""Memory for time: what a segment of the model keeps for its gradient is computed again when the gradient is due.

    forward    a segment keeps its input and the states its neurons had; the rest is forgotten
    backward   the segment runs once more from there, and then its gradient is taken; one segment at a time

(Chen et al., arXiv 1604.06174; here segments carry states.) An input of spikes or counts is kept in one byte each.
Segments are

    a block                a module that has neurons and weights: convolution, norm, neuron
    a neuron               where it stands alone in the code of the whole model
    a run of a Sequential  its layers up to the next block or neuron

The second run sees the states, attributes and buffers of the first and leaves no trace: batch norm counts a batch once,
states are what they were. Gradients are the same bit for bit where the layers are deterministic.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from spikenm_compile.frontend.adapters import is_neuron
from spikenm_compile.learning.attach import CONVOLUTIONS
from spikenm_compile.learning.learner import WeightLearner

Forward = Callable[..., Any]

TORCH_OWN = frozenset(vars(nn.Module())) | {"forward"}
"""Attributes that every module has; states are among the others, and among the buffers."""


@contextmanager
def recomputed(model: nn.Module) -> Iterator[None]:
    """Let the segments of `model` forget their insides for as long as the context is open."""
    with ExitStack() as patches:
        for module, forward in list(_segments(model, is_root=True)):
            patches.enter_context(_patched(module, forward))
        yield


@contextmanager
def _patched(module: nn.Module, forward: Forward) -> Iterator[None]:
    """Another forward, of this one object."""
    before = vars(module).get("forward")
    vars(module)["forward"] = forward
    try:
        yield
    finally:
        if before is None:
            del vars(module)["forward"]
        else:
            vars(module)["forward"] = before


def _segments(module: nn.Module, *, is_root: bool = False) -> Iterator[tuple[nn.Module, Forward]]:
    """(module, what its forward becomes) of every segment inside of `module`."""
    if not _has_neurons(module):
        return
    if is_neuron(module) or (_is_block(module) and not is_root):
        yield module, _checkpointed(module.forward, [module])
        return
    if _is_sequential(module):
        yield module, _runs_of(list(module.children()))
    for child in module.children():
        if not (_is_sequential(module) and _ends_run(child)):
            yield from _segments(child)


def _runs_of(layers: list[nn.Module]) -> Forward:
    """Forward of a Sequential, cut behind each neuron or block; what holds them deeper inside has its own segments."""
    runs: list[Forward] = []
    run: list[nn.Module] = []
    for layer in layers:
        if _ends_run(layer):
            runs.append(_checkpointed(_chain([*run, layer]), [*run, layer]))
            run = []
        elif _has_neurons(layer):
            runs += [*([_checkpointed(_chain(run), run)] if run else []), layer]
            run = []
        else:
            run.append(layer)
    return _chain([*runs, *run])


def _chain(calls: Iterable[Forward]) -> Forward:
    steps = tuple(calls)

    def run(x: Any) -> Any:
        for step in steps:
            x = step(x)
        return x

    return run


def _checkpointed(forward: Forward, segment: Iterable[nn.Module]) -> Forward:
    """`forward`, that computes its insides again in the backward pass; `segment` holds the modules it changes."""
    modules = [module for part in segment for module in part.modules() if not isinstance(module, WeightLearner)]

    def unpacked(packed: Tensor, token: Tensor, *args: Any, **kwargs: Any) -> Any:
        return forward(_Unpack.apply(packed, token), *args, **kwargs)  # type: ignore[no-untyped-call]

    def run(x: Tensor, *args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(x, *args, **kwargs)
        again = _AsItWas(modules)
        options = {"use_reentrant": False, "context_fn": lambda: (nullcontext(), again), **kwargs}
        packed = x.detach().to(torch.uint8)
        if not torch.equal(packed, x):
            return checkpoint(forward, x, *args, **options)
        return checkpoint(unpacked, packed, _Token.apply(x), *args, **options)  # type: ignore[no-untyped-call]

    return run


class _Token(torch.autograd.Function):
    """Carries the gradient of its input, and takes no memory."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.new_zeros(()).expand_as(x)

    @staticmethod
    def backward(ctx: Any, *grad: Tensor) -> Tensor:
        return grad[0]


class _Unpack(torch.autograd.Function):
    """Whole numbers as floats again; their gradient goes to the token."""

    @staticmethod
    def forward(ctx: Any, packed: Tensor, token: Tensor) -> Tensor:
        return packed.to(token.dtype)

    @staticmethod
    def backward(ctx: Any, *grad: Tensor) -> tuple[None, Tensor]:
        return None, grad[0]


class _AsItWas:
    """A context in which modules are as they were when it was made; behind it they are again what they are now."""

    def __init__(self, modules: list[nn.Module]) -> None:
        self.modules = modules
        self.past = [_Attributes(module) for module in modules]
        self.present: list[_Attributes] = []

    def __enter__(self) -> None:
        self.present = [_Attributes(module, is_copied=False) for module in self.modules]
        for module, past in zip(self.modules, self.past, strict=True):
            past.put_copy(module)

    def __exit__(self, *_error: object) -> None:
        for module, present in zip(self.modules, self.present, strict=True):
            present.put(module)
        self.present = []


class _Attributes:
    """What a module may change while it runs. Dictionaries and buffers are copied, since layers write into them."""

    def __init__(self, module: nn.Module, *, is_copied: bool = True) -> None:
        own = {name: value for name, value in vars(module).items() if name not in TORCH_OWN}
        self.values = {name: dict(value) if type(value) is dict else value for name, value in own.items()}
        self.buffers = {name: _copy(b) if is_copied else b for name, b in module._buffers.items()}

    def put(self, module: nn.Module) -> None:
        """Make the module what it was."""
        for name in [name for name in vars(module) if name not in TORCH_OWN and name not in self.values]:
            del vars(module)[name]
        vars(module).update(self.values)
        module._buffers.update(self.buffers)

    def put_copy(self, module: nn.Module) -> None:
        """As `put`, with this record untouched by what the module does next: a graph may be walked twice."""
        self.put(module)
        vars(module).update({name: dict(v) for name, v in self.values.items() if type(v) is dict})
        module._buffers.update({name: _copy(buffer) for name, buffer in self.buffers.items()})


def _copy(buffer: Tensor | None) -> Tensor | None:
    """What layers write into is copied; a state with a gradient is replaced, never written into."""
    return buffer if buffer is None or buffer.requires_grad else buffer.clone()


def _has_neurons(module: nn.Module) -> bool:
    return any(is_neuron(part) for part in module.modules())


def _is_sequential(module: nn.Module) -> bool:
    return type(module).forward is nn.Sequential.forward


def _ends_run(layer: nn.Module) -> bool:
    return is_neuron(layer) or _is_block(layer)


def _is_block(module: nn.Module) -> bool:
    """Whether `module` has neurons of its own, and weights."""
    has_weights = any(isinstance(part, (*CONVOLUTIONS, nn.Linear)) for part in module.modules())
    return not _is_sequential(module) and has_weights and any(is_neuron(child) for child in module.children())
