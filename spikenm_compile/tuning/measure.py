"""Time one kernel of a layer in turns with the usual one."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

from spikenm_compile.costs.trials import Kernel, Timing
from spikenm_compile.errors import PassError
from spikenm_compile.targets.cpu import Cpu
from spikenm_compile.tuning.native_layer import NativeLayer
from spikenm_compile.tuning.one_layer import layer_with_kernel
from spikenm_compile.tuning.stopwatch import least_times
from spikenm_compile.tuning.tasks import Levels, Task


class Measurer:
    """Times the kernels of one task; the usual kernel is compiled once."""

    def __init__(self, task: Task, cpu: Cpu) -> None:
        self._task, self._cpu = task, cpu

    def __call__(self, kernel: Kernel) -> Timing:
        """The time of a kernel.

        Raises:
            PassError: there is no such kernel of the layer, or it does not compute what the usual one does.
            ToolError: it cannot be linked.
        """
        usual = self._usual
        if kernel == self._task.kernels[0]:
            return Timing(1.0, self._times([usual])[0])
        tried = self._compile(kernel)
        for number in range(len(self._task.inputs)):
            if tried.result(number) != usual.result(number):
                raise differs(kernel, self._task)
        time, usual_time = self._times([tried, usual])
        return Timing(time / usual_time, time)

    @functools.cached_property
    def _usual(self) -> OnInputs:
        return self._compile(self._task.kernels[0])

    def _compile(self, kernel: Kernel) -> OnInputs:
        task = self._task
        lowered = layer_with_kernel(task.layer, task.shape, task.call.num_steps, kernel)
        return OnInputs(NativeLayer(lowered, self._cpu), self._task.inputs)

    def _times(self, layers: Sequence[OnInputs]) -> list[float]:
        return least_times(layers, len(self._task.inputs))


def differs(kernel: Kernel, task: Task) -> PassError:
    """The error of a kernel that is wrong, or of the usual one."""
    return PassError(
        f"kernel {kernel} of layer '{task.name}' computes something else than {task.kernels[0]}; kernels agree bit for "
        "bit, so please report this layer"
    )


class OnInputs:
    """A compiled layer with the inputs that it is timed on."""

    def __init__(self, layer: NativeLayer, inputs: Sequence[Levels]) -> None:
        self._layer = layer
        self._inputs = [layer.encode(levels.astype(np.float32)) for levels in inputs]

    def set_input(self, index: int) -> None:
        """One of them."""
        self._layer.set_input(self._inputs[index])

    def __call__(self) -> None:
        """One call of all steps."""
        self._layer()

    def result(self, index: int) -> bytes:
        """What the layer gives for an input."""
        self.set_input(index)
        self()
        return self._layer.output()
