import os
import signal
from pathlib import Path

import pytest
from training_runs import same_state, tiny_run

from spikenm_compile.training.checkpoint import read_checkpoint
from spikenm_compile.training.interrupt import noted_interrupts
from spikenm_compile.training.settings import Settings
from spikenm_compile.training.step import Progress

SETTINGS = Settings(epochs=3, batch_size=8, checkpoint_every=0)


@pytest.fixture(autouse=True)
def _handled() -> None:
    """A background job has Ctrl-C ignored from the start, and hands that down."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_training_keeps_what_it_has_and_says_how_to_go_on(tmp_path: Path, number: int) -> None:
    def interrupt(reached: Progress) -> None:
        if reached.step == 6:
            os.kill(os.getpid(), number)

    with pytest.raises(KeyboardInterrupt, match=r"stopped after step 7 of 15; the checkpoint in '.*' goes on"):
        tiny_run(SETTINGS, tmp_path, observers=(interrupt,))
    checkpoint = read_checkpoint(tmp_path)
    assert checkpoint is not None
    assert checkpoint.step == 7
    assert same_state(tiny_run(SETTINGS), tiny_run(SETTINGS, tmp_path, resume=True))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_without_a_directory_nothing_waits() -> None:
    def interrupt(reached: Progress) -> None:
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tiny_run(SETTINGS, observers=(interrupt,))


def test_a_second_interrupt_stops_at_once() -> None:
    with noted_interrupts() as is_interrupted:
        assert not is_interrupted()
        os.kill(os.getpid(), signal.SIGINT)
        assert is_interrupted()
        with pytest.raises(KeyboardInterrupt, match="stopped at once"):
            os.kill(os.getpid(), signal.SIGINT)
