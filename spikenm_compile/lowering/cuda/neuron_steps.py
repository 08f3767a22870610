"""The equations of one neuron inside a kernel: states in registers over time, constants per channel, states in memory.

load     constants and states from memory     once before the steps
step     all equations, in order              at each step
save     states to memory                     once after them
"""

from __future__ import annotations

from tvm import tirx

from spikenm_compile.equations import Evaluator
from spikenm_compile.lowering.cuda import device
from spikenm_compile.lowering.cuda.cuda_algebra import CudaAlgebra
from spikenm_compile.lowering.cuda.device import Buffer, Expr
from spikenm_compile.lowering.cuda.tensors import Reals
from spikenm_compile.neurons import Neuron


def neuron_params(neuron: Neuron, *, keeps_states: bool = True) -> dict[str, str]:
    """Kernel parameters of neurons, name -> dtype."""
    states = neuron.states if keeps_states else ()
    names = [*(f"constant_{name}" for name in neuron.per_channel), *(f"state_{name}" for name in states)]
    return dict.fromkeys(names, "float32")


class NeuronSteps:
    """One neuron at a time of a thread.

    Args:
        neuron: the equations.
        buffers: of the kernel.
        size: of the layer.
    """

    def __init__(self, neuron: Neuron, buffers: dict[str, Buffer], size: Reals) -> None:
        self.neuron, self.buffers, self.size = neuron, buffers, size
        self.evaluate = Evaluator(CudaAlgebra())
        names = dict.fromkeys([*neuron.per_channel, *neuron.states, *(e.name for e in neuron.parsed)])
        self.locals = {name: device.local(f"n_{name}", 1, "float32") for name in names}

    def load(self, b: Expr, y: Expr, x: Expr, c: Expr) -> None:
        """Constants of channel c, and states of one neuron."""
        for name in self.neuron.per_channel:
            device.store(self.locals[name], 0, self.buffers[f"constant_{name}"][c])
        for name, first in self.neuron.states.items():
            kept = self.buffers.get(f"state_{name}")
            value = tirx.const(first, "float32") if kept is None else kept[self.size.at(b, y, x, 0) + c]
            device.store(self.locals[name], 0, value)

    def step(self, currents: tuple[Expr, ...]) -> Expr:
        """All equations on a current for each input; the value that is emitted."""
        values: dict[str, Expr] = {**dict(zip(self.neuron.inputs, currents, strict=True)), **self.neuron.scalars}
        for name in (*self.neuron.per_channel, *self.neuron.states):
            values[name] = self.locals[name][0]
        for equation in self.neuron.parsed:
            value = self.evaluate(equation.expression, values)
            # Each result is stored: computed once however often it is read, and a state is there at the next step.
            is_number = isinstance(value, float)
            device.store(self.locals[equation.name], 0, tirx.const(value, "float32") if is_number else value)
            values[equation.name] = value if is_number else self.locals[equation.name][0]
        return values[self.neuron.output]

    def save(self, b: Expr, y: Expr, x: Expr, c: Expr) -> None:
        """States of one neuron, where the kernel keeps them."""
        for name in self.neuron.states:
            kept = self.buffers.get(f"state_{name}")
            if kept is not None:
                device.store(kept, self.size.at(b, y, x, 0) + c, self.locals[name][0])
