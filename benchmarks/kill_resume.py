"""Kill a training of the digits at random moments, resume it, and compare the final weights with an untouched run.

Exit status 1 if any resumed training ends with other weights than the untouched one, bit for bit. The victim is a
process of its own (a fork, which need not import anything) that is killed with SIGKILL while it computes or writes;
checkpoints are frequent so that many kills meet one being written.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Sequence
from multiprocessing import get_context
from multiprocessing.context import ForkProcess
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from spikenm_compile import transform
from spikenm_compile.training.checkpoint import read_checkpoint
from spikenm_compile.training.digits import ImageData, digits_net, load_digits
from spikenm_compile.training.settings import Settings
from spikenm_compile.training.step import Progress
from spikenm_compile.training.trainer import run_training

SETTINGS = Settings(epochs=10, batch_size=32, checkpoint_every=5, log_every=5, evaluate_every=0, threads=1)
NUM_IMAGES = 192
"""60 steps."""
FINAL = "final.safetensors"
MOST_SECONDS = 0.05
"""Between a step and the kill: about one step, and one checkpoint."""
FORK = get_context("fork")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all points; 0 if every one ended with the same weights."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=50, help="trainings to kill (default %(default)s)")
    parser.add_argument("--kills", type=int, default=1, help="times each is killed (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default %(default)s)")
    options = parser.parse_args(arguments)
    return compare(options.points, options.kills, random.Random(options.seed))


def compare(points: int, kills: int, moments: random.Random) -> int:
    """Kill, resume and compare `points` trainings; 1 if any differs."""
    torch.set_num_threads(1)  # a fork has no threads of its parent
    with TemporaryDirectory() as scratch:
        expected = _finished(Path(scratch) / "untouched")
        failed = 0
        for point in range(points):
            run_dir = Path(scratch) / f"point-{point}"
            found = [_kill(run_dir, moments) for _ in range(kills)]
            actual = _finished(run_dir)
            same = actual.keys() == expected.keys() and all(torch.equal(actual[k], expected[k]) for k in expected)
            failed += not same
            print(f"point {point + 1:3}: {'; '.join(found)}: {'the same' if same else 'OTHER'} weights", flush=True)
    print(f"{points - failed} of {points} resumed trainings end with the weights of the untouched one")
    return 1 if failed else 0


def train_in(run_dir: Path, reached: Synchronized[int]) -> None:
    """The victim: train in `run_dir`, from its checkpoint where there is one, and save the final weights."""
    torch.manual_seed(0)
    data, model = load_digits(), digits_net(num_steps=2)
    few = ImageData(data.train_images[:NUM_IMAGES], data.train_labels[:NUM_IMAGES], data.test_images, data.test_labels)
    transform(model, "2:4", total_steps=SETTINGS.total_steps(NUM_IMAGES), report=None)

    def tell(progress: Progress) -> None:
        reached.value = progress.step

    run_training(model, few, SETTINGS, run_dir, (tell,), resume=True)
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, run_dir / FINAL)


def _start(run_dir: Path) -> tuple[ForkProcess, Synchronized[int]]:
    """A process that trains in `run_dir`, and the step that it has reached."""
    reached = FORK.Value("i", 0)
    victim = FORK.Process(target=train_in, args=(run_dir, reached))
    victim.start()
    return victim, reached


def _finished(run_dir: Path) -> dict[str, Tensor]:
    """The weights at the end of the training."""
    victim, _ = _start(run_dir)
    victim.join()
    if victim.exitcode:
        raise RuntimeError("the training failed; its own message stands above")
    weights: dict[str, Tensor] = load_file(run_dir / FINAL)
    return weights


def _kill(run_dir: Path, moments: random.Random) -> str:
    """Let it train until some moment after some step, and kill it; says how far its checkpoint had come."""
    step = moments.randrange(SETTINGS.total_steps(NUM_IMAGES))
    victim, reached = _start(run_dir)
    while reached.value < step and victim.is_alive():
        time.sleep(0.001)
    victim.join(moments.uniform(0.0, MOST_SECONDS))
    victim.kill()
    victim.join()
    checkpoint = read_checkpoint(run_dir)
    unfinished = " and another half written" if list(run_dir.glob("*.unfinished")) else ""
    kept = "no checkpoint" if checkpoint is None else f"the checkpoint of step {checkpoint.step}"
    return f"killed after step {reached.value} with {kept}{unfinished}"


if __name__ == "__main__":
    sys.exit(main())
