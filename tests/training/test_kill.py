import os
import random
import signal
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path

import pytest
from training_runs import same_state, tiny_run

from benchmarks.kill_resume import compare
from spikenm_compile.training.checkpoint import read_checkpoint
from spikenm_compile.training.settings import Settings

SETTINGS = Settings(epochs=4, batch_size=4, checkpoint_every=1, evaluate_every=0, threads=1)
"""40 steps."""


def train_until(run_dir: Path, rename: int) -> None:
    """Train, and be killed instead of giving a file its name for the `rename`-th time."""
    left = rename

    def rename_or_die(source: Path, target: Path, replace: Callable[[Path, Path], None] = os.replace) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(source, target)

    os.replace = rename_or_die  # type: ignore[assignment]
    tiny_run(SETTINGS, run_dir, resume=True)


@pytest.mark.parametrize("rename", [8, 15])
def test_a_training_killed_while_it_writes_goes_on_from_the_checkpoint_before(tmp_path: Path, rename: int) -> None:
    """The first rename is the log's; then each checkpoint has two, of tensors and of JSON."""
    victim = get_context("fork").Process(target=train_until, args=(tmp_path, rename))
    victim.start()
    victim.join()
    assert victim.exitcode == -signal.SIGKILL
    assert list(tmp_path.glob("*.unfinished"))
    found = read_checkpoint(tmp_path)
    assert found is not None
    assert found.step == (rename - 2) // 2
    assert same_state(tiny_run(SETTINGS), tiny_run(SETTINGS, tmp_path, resume=True))
    assert not list(tmp_path.glob("*.unfinished"))


@pytest.mark.long
def test_digits_killed_at_random_moments() -> None:
    assert compare(points=4, kills=2, moments=random.Random(1)) == 0
