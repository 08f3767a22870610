"""Two Gloo processes against one. The networks have no batch norm and no dropout: both see the share of one process."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from training_runs import TinyNet, masked_net, samples

from spikenm_compile.errors import InputError
from spikenm_compile.learning import masked_layers
from spikenm_compile.learning.options import LearnerName
from spikenm_compile.learning.sharding import local, whole
from spikenm_compile.training.checkpoint import read_checkpoint
from spikenm_compile.training.distributed import process_group
from spikenm_compile.training.mask_watch import kept_weights
from spikenm_compile.training.metrics import read_metrics
from spikenm_compile.training.settings import Settings
from spikenm_compile.training.step import Progress
from spikenm_compile.training.trainer import run_training
from spikenm_compile.weight_types import WeightType

SETTINGS = Settings(epochs=3, batch_size=8, checkpoint_every=4, log_every=5)
"""15 steps."""


class Stop(Exception):  # noqa: N818
    pass


def plain_net(settings: Settings, learner: LearnerName = "spikenm", weight_type: WeightType | None = None) -> TinyNet:
    return masked_net(settings, norm=False, dropout=0.0, learner=learner, weight_type=weight_type)


def trained(
    settings: Settings, run_dir: Path | None = None, stop: int | None = None, name: LearnerName = "spikenm"
) -> tuple[nn.Module, list[Tensor]]:
    """The network and its mask at each step."""
    net, masks = plain_net(settings, name), []
    (_, layer, learner), *_ = masked_layers(net)

    def observe(reached: Progress) -> None:
        masks.append(kept_weights(layer, learner))
        if reached.step == stop:
            raise Stop

    try:
        run_training(net, samples(), settings, run_dir, (observe,), test=samples(30), resume=True)
    except Stop:
        return net, masks
    return net, masks


def in_two_processes(function: Callable[[], object], scratch: Path) -> list[Any]:
    """What `function` returns in each of two processes of one group."""
    rendezvous = scratch / f"rendezvous-{len(list(scratch.iterdir()))}"

    def join(rank: int) -> None:
        dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
        torch.save(function(), f"{rendezvous}-{rank}")
        dist.destroy_process_group()

    processes = [get_context("fork").Process(target=join, args=(rank,)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    return [torch.load(f"{rendezvous}-{rank}", weights_only=True) for rank in range(2)]


def close(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    """Equal up to the order of floating-point sums."""
    assert first.keys() == second.keys()
    return all(torch.allclose(first[k].double(), second[k].double(), rtol=1e-4, atol=1e-6) for k in first)


def state_and_masks(
    settings: Settings, run_dir: Path | None = None, stop: int | None = None, learner: LearnerName = "spikenm"
) -> object:
    net, masks = trained(settings, run_dir, stop, learner)
    return {name: whole(tensor) for name, tensor in net.state_dict().items()}, torch.stack(masks)


@pytest.mark.parametrize(
    "settings",
    [
        SETTINGS,
        replace(SETTINGS, accumulate=2),
        replace(SETTINGS, optimizer="SGD", lr=0.1),
        replace(SETTINGS, distributed="fsdp", accumulate=2),
    ],
    ids=["adamw", "in parts", "sgd", "fsdp in parts"],
)
def test_two_processes_train_as_one_and_have_the_same_masks(tmp_path: Path, settings: Settings) -> None:
    net, masks = trained(settings)
    first, second = in_two_processes(lambda: state_and_masks(settings), tmp_path)
    for state, seen in (first, second):
        assert close(net.state_dict(), state)
        assert torch.equal(torch.stack(masks), seen)
    assert all(torch.equal(first[0][k], second[0][k]) for k in first[0])


@pytest.mark.parametrize(
    ("learner", "mode"), [("sr-ste", "fsdp"), ("asp", "fsdp"), ("maskllm", "fsdp"), ("maskpro", "ddp")]
)
def test_every_learner_has_the_masks_of_one_process(tmp_path: Path, learner: LearnerName, mode: str) -> None:
    settings = replace(SETTINGS, distributed=mode)
    net, masks = trained(settings, name=learner)
    for state, seen in in_two_processes(lambda: state_and_masks(settings, learner=learner), tmp_path):
        assert close(net.state_dict(), state)
        assert torch.equal(torch.stack(masks), seen)


@pytest.mark.parametrize("mode", ["ddp", "fsdp"])
def test_processes_that_train_in_whole_numbers_agree_bit_for_bit(tmp_path: Path, mode: str) -> None:
    def run() -> object:
        net = plain_net(SETTINGS, weight_type="int4")
        run_training(net, samples(), replace(SETTINGS, distributed=mode))
        return {name: whole(tensor) for name, tensor in net.state_dict().items()}

    alone = plain_net(SETTINGS, weight_type="int4")
    run_training(alone, samples(), SETTINGS)
    first, second = in_two_processes(run, tmp_path)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert first["second.weight"].allclose(alone.second.weight, rtol=0.05, atol=2e-3)


def test_fsdp_keeps_half_of_weights_logits_credits_and_optimiser_state(tmp_path: Path) -> None:
    def run() -> object:
        net = plain_net(SETTINGS)
        run_training(net, samples(), replace(SETTINGS, distributed="fsdp"))
        return {name: local(tensor) for name, tensor in net.state_dict().items()}

    expected = {name: tensor.shape for name, tensor in plain_net(SETTINGS).state_dict().items()}
    for state in in_two_processes(run, tmp_path):
        for name in ("second.weight", "second.mask.logits", "second.mask.credit", "head.bias"):
            assert state[name].shape == (expected[name][0] // 2, *expected[name][1:])


@pytest.mark.parametrize("mode", ["ddp", "fsdp"])
def test_a_checkpoint_moves_between_one_process_and_two(tmp_path: Path, mode: str) -> None:
    two = replace(SETTINGS, distributed=mode)
    expected, _ = trained(SETTINGS)
    narrow, wide = tmp_path / "from-one", tmp_path / "from-two"
    trained(SETTINGS, narrow, stop=7)
    first, _ = in_two_processes(lambda: state_and_masks(two, narrow), tmp_path)
    assert close(expected.state_dict(), first[0])
    in_two_processes(lambda: state_and_masks(two, wide, stop=7), tmp_path)
    found = read_checkpoint(wide)
    assert found is not None
    assert found.step == 4
    assert close(expected.state_dict(), trained(SETTINGS, wide)[0].state_dict())
    assert [line["step"] for line in read_metrics(wide)] == [5, 10, 15]


def test_all_processes_report_the_same_loss_and_accuracy(tmp_path: Path) -> None:
    def run() -> object:
        seen: list[tuple[float, float]] = []
        observe = lambda p: seen.append((p.loss, p.accuracy or 0.0))  # noqa: E731
        run_training(plain_net(SETTINGS), samples(), SETTINGS, None, (observe,), test=samples(29))
        return torch.tensor(seen, dtype=torch.float64)

    expected = run()
    assert isinstance(expected, Tensor)
    first, second = in_two_processes(run, tmp_path)
    assert torch.equal(first, second)
    assert torch.allclose(first, expected, rtol=1e-4)


def test_batches_that_do_not_split_over_the_processes_are_refused(tmp_path: Path) -> None:
    def run() -> object:
        with pytest.raises(InputError, match="a batch of 9 in 1 parts does not split over 2 processes"):
            run_training(TinyNet(), samples(), Settings(batch_size=9))
        return 0

    assert in_two_processes(run, tmp_path) == [0, 0]


def test_without_torchrun_a_process_is_alone() -> None:
    with process_group() as world:
        assert (world.rank, world.size, world.is_first) == (0, 1, True)


PROGRAM = """
import sys
from pathlib import Path
from test_distributed import SETTINGS, trained
from spikenm_compile.training.distributed import process_group
with process_group() as world:
    assert world.size == 2
    trained(SETTINGS, Path(sys.argv[1]))
"""


@pytest.mark.long
def test_torchrun_starts_it(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    command = [*(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")]
    path = os.pathsep.join((os.getcwd(), str(Path(__file__).parent), str(Path(__file__).parent.parent)))
    environment = {**os.environ, "PYTHONPATH": path}
    subprocess.run([*command, str(tmp_path / "program.py"), str(tmp_path / "run")], env=environment, check=True)
    found = read_checkpoint(tmp_path / "run")
    assert found is not None
    expected = trained(SETTINGS)[0].state_dict()
    assert close(expected, {k.removeprefix("model/"): v for k, v in found.tensors.items() if k.startswith("model/")})
