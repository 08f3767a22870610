"""Buffers, values and launches of a CUDA program while it is planned. What each node does with them: nodes.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch.fx import GraphModule, Node

from spikenm_compile.errors import PassError
from spikenm_compile.graph import INIT, PER_STEP, REGION, Region, Role, placeholders, the_input
from spikenm_compile.levels import Levels
from spikenm_compile.lowering.cuda.build import build_kernel
from spikenm_compile.lowering.cuda.generated import GeneratedKernel, Gpu
from spikenm_compile.lowering.cuda.program import Launch, Place, Program, Space, unnamed
from spikenm_compile.lowering.cuda.specs import ConvertSpec, KernelSpec
from spikenm_compile.lowering.cuda.tensors import LevelBytes, Planes, Reals, SpikeWords, Tensor
from spikenm_compile.lowering.nodes import halo_of, size_of
from spikenm_compile.lowering.state_updates import going_round, in_place

BATCH = Place(Space.BATCH)


@dataclass(frozen=True)
class Value:
    """Where a node's value lies, and how."""

    tensor: Any
    """SpikeWords, LevelBytes, Reals or Planes."""
    place: Place


class Planner:
    """The program so far; `values` says where each node's value is.

    Args:
        lowered: the lowered graph.
        num_steps: T, which all kernels take at once.
        gpu: facts.
        batch: samples that tiles are chosen for; kernels take any number.
        keeps_states: whether the last states of neurons can be read; else most of them never reach memory.
    """

    def __init__(self, lowered: GraphModule, num_steps: int, gpu: Gpu, batch: int, *, keeps_states: bool) -> None:
        self.lowered, self.num_steps, self.gpu, self.batch = lowered, num_steps, gpu, batch
        self.keeps_states = keeps_states
        _refuse_cycles(lowered)
        self.program = Program()
        self.values: dict[Node, Value] = {}
        self.emitted: dict[Node, Value] = {}
        """What layers of neurons emit at each step, wherever a reader after the steps finds the last of it."""
        self.next_state = in_place(lowered)
        self._kernels: dict[Any, GeneratedKernel] = {}
        self._converted: dict[tuple[Place, Tensor], Value] = {}
        self._place_inputs()

    def _place_inputs(self) -> None:
        source = the_input(self.lowered)
        steps = self.num_steps if source.meta[PER_STEP] else 1
        self.values[source] = Value(Planes(*size_of(source), steps), Place(Space.INPUT))
        for state in placeholders(self.lowered, Role.STATE):
            reals = Reals(*size_of(state))
            place = self.program.allocate(reals.num_bytes(1))
            self.values[state] = Value(reals, place)
            shape = [reals.height, reals.width, reals.channels]
            entry = {"name": state.name, "offset": place.offset, "shape": shape, "init": state.meta[INIT]}
            self.program.states.append(entry)

    def launch(self, spec: KernelSpec, layer: str, places: Mapping[str, Place]) -> GeneratedKernel:
        """Add a launch of the kernel of `spec`, whose name is its kind; equal specs share one kernel."""
        kernel = self.kernel(spec)
        named = {"batch": BATCH, **places}
        self.program.launches.append(Launch(kernel, tuple(named[p] for p in kernel.parameters), layer))
        return kernel

    def kernel(self, spec: KernelSpec) -> GeneratedKernel:
        """The kernel of `spec`, made once."""
        key = unnamed(spec)
        if key not in self._kernels:
            numbered = replace(spec, name=f"k{len(self._kernels)}_{spec.name}")
            self._kernels[key] = build_kernel(numbered, self.gpu, self.batch)
        return self._kernels[key]

    def steps_of(self, node: Node) -> int:
        """T of a value that changes with time, 1 of one that does not."""
        return self.num_steps if node.meta[REGION] is Region.STEP else 1

    def new(self, tensor: Any) -> Value:
        """A buffer."""
        return Value(tensor, self.program.allocate(tensor.num_bytes(1)))

    def convert(self, value: Value, tensor: Any, first: int = 0) -> Value:
        """`value` laid out as `tensor`: converted once if it lies in another way."""
        if value.tensor == tensor:
            return value
        key = (value.place, tensor)
        if first or key not in self._converted:
            converted = self.new(tensor)
            self.write(value, converted, first)
            if first:
                return converted
            self._converted[key] = converted
        return self._converted[key]

    def write(self, value: Value, target: Value, first: int = 0) -> None:
        """Convert `value` into `target`."""
        spec = ConvertSpec("convert", value.tensor, target.tensor, first)
        self.launch(spec, "layout", {"source": value.place, "out": target.place})

    def as_reals(self, value: Value) -> Value:
        """`value` as float32."""
        t = value.tensor
        return self.convert(value, Reals(t.height, t.width, t.channels, t.steps))

    def as_whole(self, value: Value, halo: int, levels: Levels) -> Value:
        """Whole numbers with at least that halo, as they lie or as bits or bytes."""
        t = value.tensor
        if isinstance(t, SpikeWords | LevelBytes) and t.halo >= halo:
            return value
        size = (t.height, t.width, t.channels, t.steps, halo)
        if isinstance(t, SpikeWords) or (not isinstance(t, LevelBytes) and levels.is_binary):
            return self.convert(value, SpikeWords(*size))
        return self.convert(value, LevelBytes(*size, signed=levels.low < 0))

    def settle(self, node: Node) -> None:
        """What is read after the steps is the value of the last."""
        value = self.values[node]
        if value.tensor.steps > 1:
            last = replace(value.tensor, steps=1)
            self.values[node] = self.convert(value, last, first=value.tensor.steps - 1)

    def halo(self, node: Node) -> int:
        """Widest padding that a reader of the node's value asks for."""
        return halo_of(self.lowered, node)

    def constants(self, neuron: Any, layer: str, channels: int) -> dict[str, Place]:
        """Constants per channel of a layer of neurons, by parameter.

        Raises:
            PassError: there are not as many values as channels.
        """
        for name, values in neuron.per_channel.items():
            if len(values) != channels:
                raise PassError(
                    f"layer '{layer}' has {len(values)} values of '{name}' and {channels} channels; one for each "
                    f"channel is supported, so give {channels} values or one number"
                )
        per_channel = neuron.per_channel.items()
        return {f"constant_{name}": self.program.constant(np.array(v, np.float32)) for name, v in per_channel}


def _refuse_cycles(lowered: GraphModule) -> None:
    round_states = going_round(lowered)
    if round_states:
        name = next(iter(round_states)).name
        raise PassError(
            f"the spikes of a layer go round to an earlier one ('{name}'); CUDA kernels compute all steps of a layer "
            "before the next layer starts; build for native or onnx, which go step by step"
        )
