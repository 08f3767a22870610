"""Several processes that train one model, started by torchrun: who has which samples, and how gradients meet.

Each batch is split into `accumulate` parts and each part into equal shares, one per process, so that the same settings
mean the same training on any number of processes, up to the order of floating-point sums. What sees one share only is
different: batch norm normalises by the share (as DistributedDataParallel does). All processes draw the same masks,
since mask noise is a function of seed, layer and step.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from spikenm_compile.errors import InputError
from spikenm_compile.learning import masked_layers
from spikenm_compile.learning.learners.spikenm import SpikeNM


@dataclass(frozen=True, slots=True)
class World:
    """The processes of this training."""

    rank: int
    size: int

    @property
    def is_first(self) -> bool:
        """Whether this process writes files."""
        return self.rank == 0

    def share_of(self, part: Tensor) -> Tensor:
        """Samples of one part that this process computes."""
        return part.chunk(self.size)[self.rank]

    def mean(self, value: float) -> float:
        """Mean over all processes of what each has."""
        return self.sum(value) / self.size

    def any(self, value: bool) -> bool:
        """Whether some process says so."""
        return self.sum(float(value)) > 0.0

    def sum(self, value: float) -> float:
        """Sum over all processes of what each has."""
        if self.size == 1:
            return value
        total = torch.tensor(value, dtype=torch.float64, device="cuda" if dist.get_backend() == "nccl" else "cpu")
        dist.all_reduce(total)
        return float(total)


@contextmanager
def process_group() -> Iterator[World]:
    """Join the processes that torchrun has started, for as long as the context is open; alone without torchrun.

    GPUs talk through NCCL, each process on the one of its local rank, CPUs through Gloo.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        yield World(0, 1)
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield this_world()
    finally:
        dist.destroy_process_group()


def this_world() -> World:
    """The processes of the process group, or this one alone."""
    if dist.is_available() and dist.is_initialized():
        return World(dist.get_rank(), dist.get_world_size())
    return World(0, 1)


def check_shares(world: World, batch_size: int, accumulate: int) -> None:
    """Refuse batches that do not split into equal shares.

    Raises:
        InputError: they do not.
    """
    if batch_size % (accumulate * world.size):
        raise InputError(
            f"a batch of {batch_size} in {accumulate} parts does not split over {world.size} processes; "
            "choose a batch_size that is a multiple of accumulate times processes"
        )


def distribute(model: nn.Module, world: World, mode: str) -> nn.Module:
    """What computes the forward pass such that gradients are the mean over all processes.

    "ddp": each process holds the whole model. "fsdp": each holds a share of every parameter, of its optimiser state
    and of its credit, split along the output channels; the model itself is changed.

    Raises:
        InputError: FSDP2 does not take the model.
    """
    if world.size == 1:
        return model
    if mode == "ddp":
        return DistributedDataParallel(model)
    try:
        fully_shard(model)
    except ValueError as error:
        raise InputError(f"FSDP2 does not take this model: {error}; train it with distributed='ddp'") from error
    shard_credits(model)
    return model


def shard_credits(model: nn.Module) -> None:
    """Split the credit of each mask as its logits are split."""
    for _, _, learner in masked_layers(model):
        if isinstance(learner, SpikeNM) and learner.credit is not None and isinstance(learner.logits, DTensor):
            split = learner.logits
            learner.credit = distribute_tensor(learner.credit, split.device_mesh, split.placements)


def summing(runner: nn.Module, is_last: bool) -> AbstractContextManager[None]:
    """Let gradients of a part stay in this process unless it is the last one."""
    if isinstance(runner, FSDPModule):
        runner.set_requires_gradient_sync(is_last)
    elif isinstance(runner, DistributedDataParallel) and not is_last:
        return runner.no_sync()
    return nullcontext()


def agree_on_buffers(model: nn.Module, world: World) -> None:
    """Give all processes the buffers of the first one: running means of batch norm see one share each."""
    if world.size > 1:
        for buffer in model.buffers():
            if not isinstance(buffer, DTensor):
                dist.broadcast(buffer, 0)
