"""`tune`, and the build that reads its log; without a machine."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from spikenm_compile.cli import main
from spikenm_compile.compiler import lower
from spikenm_compile.costs.trials import Kernel, Timing, Trial, read_trials
from spikenm_compile.errors import InputError
from spikenm_compile.network import carried_network
from spikenm_compile.ops import IntConv2d
from spikenm_compile.planning import advisor_for
from spikenm_compile.targets.cpu import Cpu
from spikenm_compile.tuning.tasks import Task


class FakeWorker:
    """Finds the narrowest dense rows quickest."""

    def __init__(self, cpu: Cpu, make_measurer: object) -> None:
        self.cpu, self.make_measurer = cpu, make_measurer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, t: TracebackType | None) -> None:
        """Nothing to stop."""

    def __call__(self, task: Task, kernel: Kernel) -> Trial:
        time = kernel.tile_width * (1.0 if kernel.family == "dense-rows" else 10.0)
        return Trial(task.key, kernel, Timing(time / 1280, time))


def test_a_build_takes_what_tune_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("spikenm_compile.tuning.command.Worker", FakeWorker)
    log = tmp_path / "tune.jsonl"
    assert main(["tune", "--log", str(log)]) == 0
    first = capsys.readouterr().out.splitlines()[-1]
    assert main(["tune", "--log", str(log)]) == 0
    second = capsys.readouterr().out.splitlines()[-1]
    count = len(read_trials(log))
    assert count >= 8
    assert first.startswith(f"{count} kernels measured, 0 known before: {log}; use it with build --tune-log")
    assert second.startswith(f"0 kernels measured, {count} known before")
    network = carried_network()
    lowered = lower(network.model, network.example_inputs, tune_log=log)
    convs = {m.layer: m for m in lowered.modules() if isinstance(m, IntConv2d)}
    assert (convs["block2.conv"].kernel, convs["block2.conv"].tile_width) == ("dense-rows", 16)
    assert "; dense rows in tiles of 16: 16 µs measured at 2" in convs["block2.conv"].why
    assert convs["block1.conv"].tile_width is None  # one kernel takes it, and its outputs make one tile


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("onnx", "target 'onnx' has no kernels to choose from by time"),
        ("cortex-m", "target 'cortex-m' has no kernels to choose from by time"),
        ("armv7-neon", "kernels for armv7-neon do not run on this machine"),
    ],
)
def test_what_cannot_be_tuned(target: str, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", "--target", target, "--log", str(tmp_path / "log")]) == 1
    assert reason in capsys.readouterr().err
    assert not (tmp_path / "log").exists()


def test_a_log_is_refused_where_kernels_are_not_chosen_by_time(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"target 'cuda' has no kernels to choose from by time; tune logs are for native"
    ):
        advisor_for("cuda", tmp_path / "log")
