"""Seconds and memory that it takes to capture a large network and to lift it to one time step.

SEW-ResNet50 at T = 4 on images of 224 × 224. The memory is the growth of the process's peak, next to what the model
itself takes: its parameters and buffers, and the activations of one forward pass, which capture does not compute.
"""

from __future__ import annotations

import resource
import sys
import time
import types

import torch
from torch import Tensor, nn

from spikenm_compile.frontend.capture import capture
from spikenm_compile.frontend.lift import lift

MOST_SECONDS, MOST_MEMORY = 20.0, 3.0
"""Bounds: seconds on two cores, and the growth of the peak as a multiple of the model's own bytes."""
MIB = 2**20


def sew_resnet50() -> nn.Module:
    """The model of SpikingJelly, in multi-step mode."""
    stub = types.ModuleType("torchvision.models.utils")
    stub.load_state_dict_from_url = None  # type: ignore[attr-defined]
    for name in ("torchvision", "torchvision.models"):
        sys.modules.setdefault(name, types.ModuleType(name))
    sys.modules.setdefault(stub.__name__, stub)
    from spikingjelly.activation_based import functional, neuron, surrogate
    from spikingjelly.activation_based.model import sew_resnet

    model: nn.Module = sew_resnet.sew_resnet50(
        cnf="ADD", spiking_neuron=neuron.IFNode, surrogate_function=surrogate.ATan(), detach_reset=True
    )
    functional.set_step_mode(model, "m")
    return model.eval()


def bytes_of(model: nn.Module) -> int:
    """Bytes of all parameters and buffers."""
    return sum(t.numel() * t.element_size() for t in (*model.parameters(), *model.buffers()))


def peak() -> int:
    """Largest resident size of the process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure(model: nn.Module, x: Tensor) -> tuple[float, int, int]:
    """(seconds, growth of the peak in bytes, nodes of the step graph)."""
    before, start = peak(), time.perf_counter()
    step_graph = lift(capture(model, x), x)
    return time.perf_counter() - start, peak() - before, len(step_graph.graph.nodes)


def main() -> int:
    torch.set_num_threads(2)
    model, x = sew_resnet50(), torch.rand(4, 2, 3, 224, 224)
    own = bytes_of(model)
    seconds, growth, nodes = measure(model, x)
    print(f"capture and lift   {seconds:.2f} s (at most {MOST_SECONDS:.0f}), {nodes} nodes")
    print(f"peak memory        {growth / MIB:.0f} MiB (at most {MOST_MEMORY:.0f} × {own / MIB:.0f} MiB of the model)")
    return int(seconds > MOST_SECONDS or growth > MOST_MEMORY * own)


if __name__ == "__main__":
    sys.exit(main())
