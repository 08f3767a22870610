"""Record in a graph what plain fx would run once during the trace and lose: surrogate gradients and state resets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.autograd.function import Function, _SingleLevelFunction
from torch.fx import Proxy
from torch.utils import _pytree as pytree

Record = Callable[[Any, tuple[Any, ...]], Any]
"""Records a call of `function(*arguments)`."""


class AutogradFunction(nn.Module):
    """A `torch.autograd.Function` as a module, so that it is one node of a graph and its backward stays."""

    def __init__(self, function: type[Function]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *args: Any) -> Any:
        """What the function gives."""
        return self.function.apply(*args)  # type: ignore[no-untyped-call]

    def extra_repr(self) -> str:
        """Name of the function."""
        return self.function.__name__


class StateCall(nn.Module):
    """`function(module, *arguments)`, which sets the state of a module of the model, as one node of a graph.

    A function node would run when a pickled graph is loaded, and be gone: loading traces the generated code again.

    Args:
        function: one of the functions below.
        arguments: the module, which stays the model's own and is no submodule of this one, and what else it takes.
        path: of the module, for print.
    """

    def __init__(self, function: Callable[..., Any], arguments: tuple[Any, ...], path: str) -> None:
        super().__init__()
        self.function = function
        self.arguments = arguments
        self.path = path

    def forward(self) -> Any:
        """What the function gives."""
        return self.function(*self.arguments)

    def extra_repr(self) -> str:
        """The call."""
        return ", ".join([f"{self.function.__name__}({self.path}", *map(repr, self.arguments[1:])]) + ")"


def call_reset(module: nn.Module, method: str = "reset") -> None:
    """Call `module.reset()`, or what its library calls it: a reset that the model's forward does, as a graph node."""
    reset: Callable[[], None] = getattr(module, method)
    reset()


def call_initial(module: nn.Module, method: str) -> Any:
    """Call `module.method()`, which sets the state anew and returns it, as a graph node."""
    return getattr(module, method)()


def call_detach(module: nn.Module) -> None:
    """Cut the gradient through the state of a module that keeps it in buffers, as a graph node."""
    for name in sorted(module._non_persistent_buffers_set):
        buffer = module._buffers[name]
        if buffer is not None:
            buffer.detach_()


@contextmanager
def recorded_functions(is_recording: Callable[[], bool], record: Record) -> Iterator[None]:
    """Inside, `Function.apply` on proxies calls `record(function class, arguments)`.

    The hook sits on the class that `Function.apply` resolves `super()` to: users bind `spike = Surrogate.apply` at
    import, long before a trace, and a patched `Function.apply` would not be seen by them.
    """

    def apply(cls: type[Function], *args: Any, **kwargs: Any) -> Any:
        traced = is_recording() and any(isinstance(leaf, Proxy) for leaf in pytree.tree_leaves(args))
        if traced:
            return record(cls, args)
        return super(_SingleLevelFunction, cls).apply(*args, **kwargs)  # type: ignore[misc]

    setattr(_SingleLevelFunction, "apply", classmethod(apply))  # noqa: B010  the class itself has none
    try:
        yield
    finally:
        delattr(_SingleLevelFunction, "apply")


@contextmanager
def recorded_resets(
    model: nn.Module, stateful: tuple[type[nn.Module], ...], is_recording: Callable[[], bool], record: Record
) -> Iterator[None]:
    """Inside, `reset()` of a stateful module of `model` calls `record(call_reset, (module,))`."""
    shadowed = [m for m in model.modules() if isinstance(m, stateful) and callable(getattr(m, "reset", None))]
    for module in shadowed:
        module.__dict__["reset"] = _recorder(module, is_recording, record)
    try:
        yield
    finally:
        for module in shadowed:
            del module.__dict__["reset"]


def _recorder(module: nn.Module, is_recording: Callable[[], bool], record: Record) -> Callable[[], None]:
    reset: Callable[[], None] = getattr(module, "reset")  # noqa: B009

    def recorded() -> None:
        if is_recording():
            record(call_reset, (module,))
        else:
            reset()

    return recorded
