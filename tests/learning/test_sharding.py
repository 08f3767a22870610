"""Masks of a model that two processes keep in parts (FSDP2) are those of one process."""

import socket
from pathlib import Path

import pytest
import torch
import torch.distributed
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn

from spikenm_compile.learning import LEARNER_NAMES, MaskOptions, Schedule, attach_mask, tell_loss
from spikenm_compile.learning.options import LearnerName
from spikenm_compile.learning.sharding import local, mean_over_processes, rows_of, whole
from spikenm_compile.pattern import Pattern

STEPS = 6
CASES: list[tuple[LearnerName, str]] = [
    *((name, "2:8") for name in LEARNER_NAMES),
    ("spikenm", "4:2:8"),
    ("asp", "4:2:8"),
]


def network(learner: LearnerName, pattern: str) -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 10), nn.ReLU(), nn.Linear(10, 3))
    attach_mask(model[0], Pattern.parse(pattern), MaskOptions(Schedule(STEPS, noise=0.5), learner=learner), "a")
    return model


def trained(model: nn.Module, rank: int, processes: int) -> list[Tensor]:
    """Parameters after a training on this process's part of each batch."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.02)
    generator = torch.Generator().manual_seed(1)
    for _ in range(STEPS):
        x = torch.rand(8, 16, generator=generator).chunk(processes)[rank]
        optimizer.zero_grad()
        loss = model(x).square().mean()
        loss.backward()
        tell_loss(model, loss)
        optimizer.step()
    return [whole(p.detach()) for p in model.parameters()]


def process(rank: int, port: int, out: str) -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    mesh = init_device_mesh("cpu", (2,))
    results = []
    for learner, pattern in CASES:
        model = network(learner, pattern)
        for module in (model[0], model):
            fully_shard(module, mesh=mesh)
        results.append(trained(model, rank, 2))
    if rank == 0:
        torch.save(results, out)
    torch.distributed.destroy_process_group()


@pytest.mark.long
def test_masks_of_a_sharded_model_are_those_of_one_process(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    out = tmp_path / "parameters"
    spawn(process, (port, str(out)), nprocs=2)  # type: ignore[no-untyped-call]
    for (learner, pattern), sharded in zip(CASES, torch.load(out), strict=True):
        for one, other in zip(trained(network(learner, pattern), 0, 1), sharded, strict=True):
            torch.testing.assert_close(one, other, msg=f"{learner} {pattern}")


def test_plain_tensors_go_through() -> None:
    tensor = torch.ones(3, 2)
    assert whole(tensor) is tensor
    assert local(tensor) is tensor
    assert rows_of(tensor, torch.zeros(3, 2)) is tensor
    assert mean_over_processes(tensor) is tensor
