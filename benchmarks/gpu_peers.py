"""What the CUDA artifacts are measured against: cuDNN with a fused LIF, and cuSPARSELt on a layer's matrix product."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from spikenm_compile.neurons import LIF
from spikenm_compile.training.networks.blocks import Spiking

WARM_UP = 5


def lif_over_steps(current: Tensor, v_threshold: float) -> Tensor:
    """LIF with tau 2, no decay of the input and a hard reset to 0, over [T, ...]: torch.compile makes it one kernel."""
    v = torch.zeros_like(current[0])
    spikes = []
    for t in range(current.shape[0]):
        v = v * 0.5 + current[t]
        fired = v >= v_threshold
        v = torch.where(fired, 0.0, v)
        spikes.append(fired.to(current.dtype))
    return torch.stack(spikes)


class FusedLif(nn.Module):
    """LIF in one pass over the current."""

    def __init__(self, step: Callable[[Tensor, float], Tensor], v_threshold: float) -> None:
        super().__init__()
        self.step, self.v_threshold = step, v_threshold

    def forward(self, current: Tensor) -> Tensor:
        """[T, ...] to spikes."""
        return self.step(current, self.v_threshold)


def peer_of(model: nn.Module, dtype: torch.dtype, device: str, *, compiled: bool = True) -> nn.Module:
    """The network as one would run it in PyTorch: batch norm folded, channels last, LIF fused; changed in place."""
    step = torch.compile(lif_over_steps, dynamic=False) if compiled else lif_over_steps
    for module in list(model.modules()):
        if isinstance(module, Spiking):
            module.conv = fuse_conv_bn_eval(module.conv, module.norm)
            module.norm = nn.Identity()  # type: ignore[assignment]
            assert isinstance(module.lif, LIF)
            module.lif = FusedLif(step, 1.0)
    return model.to(device, dtype, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def microseconds(call: Callable[[], Any], runs: int) -> float:
    """Median GPU time of `call`, replayed as a CUDA graph."""
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    with torch.cuda.stream(stream), torch.no_grad():
        for _ in range(WARM_UP):
            call()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            call()
        times = []
        for _ in range(runs):
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
            begin.record()
            graph.replay()
            end.record()
            end.synchronize()
            times.append(float(begin.elapsed_time(end)) * 1000)
    return statistics.median(times)


def cusparselt(outputs: int, reduction: int, columns: int, runs: int) -> dict[str, float]:
    """Microseconds of a convolution's matrix product in fp16, dense and 2:4, without the unfolding of its input."""
    weight = torch.randn(outputs, reduction, device="cuda", dtype=torch.float16)
    kept = torch.tensor([1, 1, 0, 0], device="cuda", dtype=torch.bool).tile(outputs, reduction // 4)
    x = torch.randn(reduction, columns, device="cuda", dtype=torch.float16)
    sparse = torch.sparse.to_sparse_semi_structured(weight * kept)
    return {
        "cuBLAS fp16 matrix product": microseconds(lambda: torch.mm(weight, x), runs),
        "cuSPARSELt fp16 2:4 matrix product": microseconds(lambda: torch.mm(sparse, x), runs),
    }
