"""How values in time combine: which step a result belongs to, and when T copies of a call are one."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from torch import nn
from torch.fx import Node

from spikenm_compile.errors import CaptureError
from spikenm_compile.frontend.step_builder import StepBuilder
from spikenm_compile.frontend.values import Final, Flat, Moved, Reduce, Running, Sequence, Static, Step, Value
from spikenm_compile.graph import Region

Emit = Callable[[Region], Node]


class Time:
    """A step graph under construction and the number of steps T it has."""

    def __init__(self, builder: StepBuilder, num_steps: int | None) -> None:
        self.builder = builder
        self._num_steps = num_steps
        self._names: dict[Any, str] = {}

    @property
    def num_steps(self) -> int:
        """T, 1 until a loop or a sequence says otherwise."""
        return self._num_steps or 1

    def note_length(self, length: int) -> None:
        """A sequence of `length` steps was met.

        Raises:
            CaptureError: another length was met before.
        """
        if self._num_steps not in (None, length):
            raise CaptureError(
                f"a sequence of {length} time steps meets one of {self._num_steps}; all must have the same number of "
                "steps; give example_inputs with as many steps as the model takes"
            )
        self._num_steps = length

    def name_for(self, kind: type[nn.Module], *settings: Any) -> str:
        """Name of the layer that stands for a function called with these settings, always the same for the same."""
        key = (kind, *settings)
        if key not in self._names:
            self._names[key] = f"{kind.__name__.lower()}_{len(self._names)}"
        return self._names[key]

    def shape(self, value: Value) -> tuple[int, ...]:
        """Shape that the value has in the captured graph."""
        step = self.builder.shape(value.node)
        if isinstance(value, Sequence):
            return (*step[: value.dim], value.length, *step[value.dim :])
        if isinstance(value, Flat):
            return (value.length * step[0], *step[1:])
        if isinstance(value, Moved):
            in_front = self.shape(value.value)
            first = int(isinstance(value.value, Sequence))  # of the samples; time stands one before them
            return tuple(in_front[first + axis] for axis in value.axes)
        return step

    def settled(self, value: Value) -> Value:
        """A running reduction that takes part in other arithmetic: of all steps it is final, of one it is that step.

        Raises:
            CaptureError: the reduction is not over yet, or the samples do not stand in front.
        """
        if isinstance(value, Moved):
            raise CaptureError(
                f"a value {list(self.shape(value))} with the samples in dimension {value.axes.index(0)} is given to a "
                "layer or a readout; they take [B, ...], or [T, B, ...]; bring the samples to the front with permute"
            )
        if not isinstance(value, Running):
            return value
        if value.count == self.num_steps:
            return Final(self.builder.accumulate(value.reduce, value.node))
        if value.count == 1:
            return Step(value.node, 0)
        raise CaptureError(
            f"the {value.reduce.value} over {value.count} of {self.num_steps} steps is used before the last step; only "
            "the reduction over all steps may be used; read it out after the loop"
        )

    def like(self, values: list[Value]) -> Value:
        """A value in time that stands for what a stateless call on `values` gives.

        Raises:
            CaptureError: the values are of different steps or layouts.
        """
        moving = [v for v in values if not isinstance(v, Static)]
        finals = [v for v in moving if isinstance(v, Final)]
        if finals and all(self._is_last(v) for v in moving):
            return finals[0]
        kinds = {(type(v), getattr(v, "t", None), getattr(v, "length", None), getattr(v, "dim", None)) for v in moving}
        if len(kinds) > 1:
            steps = sorted(v.t for v in moving if isinstance(v, Step))
            what = f"values of the steps {steps}" if len(steps) > 1 else "values of all steps and of single ones"
            raise CaptureError(
                f"one operation combines {what}; a step may use values of its own time only; sum, mean, max and the "
                "last step are the supported ways over time, and a neuron keeps state from step to step"
            )
        return moving[0] if moving else values[0]

    def _is_last(self, value: Value) -> bool:
        return isinstance(value, Final) or (isinstance(value, Step) and value.t == self.num_steps - 1)

    def apply(self, values: list[Value], target: Any, args: tuple[Any, ...], emit: Emit, name: str) -> Value:
        """The value of a stateless call on `values`, made by `emit` unless an equal call was met before.

        Raises:
            CaptureError: a call that step 0 does not make, so that the steps are not copies of one.
        """
        pattern = self.like(values)
        if isinstance(pattern, Final):
            return Final(emit(Region.AFTER))
        is_new = self.builder.find(target, args, {}) is None
        if is_new and isinstance(pattern, Step) and pattern.t > 0:
            if pattern.t == self.num_steps - 1:
                return Final(emit(Region.AFTER))  # after the loop: a readout of the last step
            raise CaptureError(
                f"step {pattern.t} computes '{name}', which step 0 does not; all time steps must compute the same; "
                "move what is done once out of the loop"
            )
        return with_node(pattern, emit(Region.STEP))

    def function(self, function: Callable[..., Any], values: list[Value], args: tuple[Any, ...], name: str) -> Value:
        """`function(*args)`, where `args` holds nodes of one step for the `values`."""
        return self.apply(values, function, args, lambda region: self.builder.call(function, args, region), name)

    def layer(self, name: str, module: nn.Module, value: Value) -> Value:
        """A plain layer on one step's value."""
        node = value.node
        return self.apply([value], name, (node,), lambda region: self.builder.layer(name, module, node, region), name)

    def mean(self, sums: Running) -> Final:
        """Sum over all steps divided by their number."""
        total = self.builder.accumulate(sums.reduce, sums.node)
        return Final(self.builder.call(operator.truediv, (total, self.builder.num_steps), Region.AFTER))

    def running(self, reduce: Reduce, left: Value, right: Value) -> Running | None:
        """`left` extended by one step, where that is what their combination means; else None."""
        if isinstance(right, Running) or (isinstance(right, Step) and isinstance(left, Step) and right.t < left.t):
            left, right = right, left
        if isinstance(left, Step) and left.t == 0 and isinstance(right, Step) and right.t == 1:
            left = Running(left.node, 1, reduce)
        if not isinstance(left, Running) or not isinstance(right, Step) or right.t != left.count:
            return None
        if left.node is not right.node or (left.reduce is not reduce and left.count > 1):
            raise CaptureError(
                f"the {reduce.value} over time takes '{right.node.name}' at step {right.t} and '{left.node.name}' "
                "before; all time steps must compute the same; accumulate one value in one way"
            )
        return Running(left.node, left.count + 1, reduce)


def with_node(value: Value, node: Node) -> Value:
    """The same place in time, another node."""
    if isinstance(value, Sequence):
        return Sequence(node, value.length, value.dim)
    if isinstance(value, Flat):
        return Flat(node, value.length, value.dim)
    if isinstance(value, Step):
        return Step(node, value.t)
    assert not isinstance(value, Running | Moved)
    return type(value)(node)
