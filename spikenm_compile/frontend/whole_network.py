"""A captured network as one operation on whole sequences: what is left of it where no time step can be told apart.

Which dimension is the batch is found out by trying: doubling it gives the output twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule
from torch.utils import _pytree as pytree

from spikenm_compile.errors import CaptureError
from spikenm_compile.frontend.adapters import is_multi_step, is_neuron, layout, reset_states
from spikenm_compile.frontend.snapshot import restored

MOSTLY = 0.99
"""Share of values that must agree for two outputs to be the same: a spike may flip by rounding."""


@dataclass(frozen=True, eq=False)
class WholeNetwork:
    """A network with eval semantics that takes an input of fixed sizes, but perhaps for the batch."""

    captured: GraphModule
    """As it was captured; whatever is done with it here, its modules stay as they are."""
    example: Tensor
    num_steps: int
    """T that the network has with the example."""
    batch: tuple[int, int] | None
    """The batch dimension of the input and of the output; None: no dimension is the batch."""

    def __call__(self, x: Tensor) -> Tensor:
        """The output from the initial state."""
        with _at_rest(self.captured):
            return _run(self.captured, x)

    @property
    def traced(self) -> Tensor:
        """The example as an exporter needs it: it takes a size of one for a constant."""
        batch = None if self.batch is None else self.batch[0]
        is_single = batch is not None and self.example.shape[batch] == 1
        return torch.cat([self.example, self.example], batch) if is_single else self.example  # type: ignore[arg-type]

    def candidates(self) -> Iterator[AbstractContextManager[nn.Module]]:
        """The network without state, as it is, and with what its neurons decide by as plain numbers."""
        yield _exportable(self.captured, plain_numbers=False)
        yield _exportable(self.captured, plain_numbers=True)


class _OneOutput(nn.Module):
    """A network without what it returns beside its output."""

    def __init__(self, network: GraphModule) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """The output."""
        return _first_tensor(self.network(x))


def whole_network(captured: GraphModule, example: Tensor) -> WholeNetwork:
    """The captured network with eval semantics, as one operation.

    Raises:
        CaptureError: the network does not run on the example, or returns no tensor.
    """
    with _at_rest(captured):
        calls = _Calls(captured)
        try:
            output = _run(captured, example)
        except Exception as error:  # whatever the user's model and its libraries raise
            reason = str(error).strip().split("\n")[0].rstrip(".")
            raise CaptureError(
                f"the network does not run on its example of shape {list(example.shape)}: {reason}; the example must "
                "fit the model; check example_inputs"
            ) from error
        finally:
            calls.remove()
        batch = _batch(captured, example, output)
    per_step = batch is not None and batch[0] == 1
    return WholeNetwork(captured, example, example.shape[0] if per_step else calls.num_steps, batch)


@contextmanager
def _at_rest(network: GraphModule) -> Iterator[None]:
    """Inside, the network is in eval mode; afterwards its modules are as they were."""
    with restored(network):
        network.eval()
        yield


@contextmanager
def _exportable(network: GraphModule, *, plain_numbers: bool) -> Iterator[nn.Module]:
    with _at_rest(network):
        reset_states(network)
        if plain_numbers:
            _use_plain_numbers(network)
        yield _OneOutput(network).eval()


def _run(network: GraphModule, x: Tensor) -> Tensor:
    reset_states(network)
    with torch.no_grad():
        return _first_tensor(network(x))


def _first_tensor(value: Any) -> Tensor:
    """The output of a network that may return its states beside it."""
    tensors = [leaf for leaf in pytree.tree_leaves(value) if isinstance(leaf, Tensor)]
    if not tensors:
        raise CaptureError(f"the network returns a {type(value).__name__}; a tensor is supported; return the output")
    return tensors[0]


def _use_plain_numbers(network: GraphModule) -> None:
    """Buffers of neurons that hold one number become that number: no exporter follows `if self.buffer > 1`."""
    for module in network.modules():
        if is_neuron(module):
            for name, buffer in list(module._buffers.items()):
                if buffer is not None and buffer.numel() == 1 and buffer.is_floating_point():
                    del module._buffers[name]
                    module.__dict__[name] = float(buffer)


def _batch(network: GraphModule, x: Tensor, output: Tensor) -> tuple[int, int] | None:
    """(dimension of the input, dimension of the output) that is the batch: steps first where neurons take them so."""
    neurons = [m for m in network.modules() if is_neuron(m) and is_multi_step(m)]
    steps_first = any(layout(m).dim == 0 for m in neurons)
    for dimension in (1, 0) if steps_first else (0, 1):
        if dimension < x.dim():
            found = _twice(network, x, dimension, output)
            if found is not None:
                return dimension, found
    return None


def _twice(network: GraphModule, x: Tensor, dimension: int, output: Tensor) -> int | None:
    """The dimension in which the output comes twice when x does; None: in none."""
    try:
        doubled = _run(network, torch.cat([x, x], dimension))
    except Exception:  # another size is not for this network, says whatever part of it meets it first
        return None
    for found in range(output.dim()):
        expected = torch.cat([output, output], found)
        if doubled.shape == expected.shape and _mostly_equal(doubled, expected):
            return found
    return None


def _mostly_equal(a: Tensor, b: Tensor) -> bool:
    same = torch.isclose(a.float(), b.float(), rtol=1e-3, atol=1e-4, equal_nan=True)
    return bool(same.float().mean() >= MOSTLY)


class _Calls:
    """Watches the neurons of a network to find its number of steps."""

    def __init__(self, network: nn.Module) -> None:
        self._lengths: list[int] = []
        self._calls: Counter[nn.Module] = Counter()
        neurons = [module for module in network.modules() if is_neuron(module)]
        self._handles = [module.register_forward_pre_hook(self._note) for module in neurons]

    @property
    def num_steps(self) -> int:
        """Steps of a sequence, or calls of a neuron of one step; 1 without neurons."""
        return max([*self._lengths, *self._calls.values()], default=1)

    def remove(self) -> None:
        """Watch no longer."""
        for handle in self._handles:
            handle.remove()

    def _note(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        if args and is_multi_step(module):
            place = layout(module)
            x: Tensor = args[0]
            self._lengths.append(place.length or 1 if place.is_flat else x.shape[place.dim])
        else:
            self._calls[module] += 1
